//! Packets in → packets out: encapsulation, decapsulation, path choice, MTU, segmentation and coalescing,
//! counters.
//!
//! Everything works on batches in an [`Arena`]: packets are read into it, headers are written around them,
//! and what leaves is a list of [`Piece`]s of it, so that no payload is ever copied. Must not touch proto,
//! auth or sockets: what to read and write is `runtime`'s to do.

mod alike;
mod batch;
#[cfg(test)]
mod cache_tests;
mod coalesce;
mod config;
mod counters;
mod cut;
mod decap;
pub mod ecn;
mod encap;
mod flow;
mod fragment;
mod glance;
#[cfg(test)]
mod group_tests;
mod header;
#[cfg(test)]
mod header_tests;
mod limiter;
#[cfg(test)]
mod stream_tests;
#[cfg(test)]
mod testing;
mod vnet;

pub use batch::{Arena, IcmpReply, Piece, SendBatch, SendGroup, TunBatch, TunPacket, TunWrite};
pub use config::{DataPlaneConfig, DscpMode, Instance, Offload, UdpChecksum};
pub use counters::{Count, Counters, DropReason, Totals};
pub use decap::{Accepted, Coalescing, Datagram, Decapsulator, Outer, Space};
pub use encap::{Encapsulator, Turn};
pub use flow::flow_hash;
pub use vnet::{Gso, VnetHeader};
