//! A network of LISP routers in virtual time.
//!
//! Owns: clock, event queue, links, faults, hosts and their traffic; scenarios and how they are read; runs,
//! cases and the figures that come of them. The routers in it are those of [`proto`](crate::proto) and
//! [`dataplane`](crate::dataplane), unchanged. Must not touch sockets, files, threads or clocks.
//!
//! A run is a function of scenario, case and seed: everything random is drawn from generators that are seeded
//! by these, events of one time happen in the order in which they were scheduled, and nothing depends on the
//! addresses of things in memory or on floating-point arithmetic that differs from machine to machine. So a
//! run can be repeated event for event, which its [`Fingerprint`] shows.
//!
//! What is simplified: routing in the underlay is static and knows nothing of faults; no ARP or neighbour
//! discovery delays a first packet; and switches learn nothing but where virtual routers are, from what these
//! send.

mod build;
mod host;
mod lan;
mod link;
mod log;
mod network;
mod packet;
mod queue;
mod random;
mod router;
pub mod scenario;
mod study;
mod tally;
#[cfg(test)]
mod tests;
mod topology;

use std::net::IpAddr;

use ipnet::IpNet;

pub use link::LinkProfile;
pub use log::{Entry, Fingerprint};
pub use random::Share;
pub use scenario::{Scenario, SiteSpec};
pub use study::{CaseResult, Observer, RunResult, Study, Summary, run};
pub use tally::Figures;
pub use topology::{LinkId, NodeId};

/// The address that a host sends from: of a longer prefix than one address, the first one after the
/// network's.
fn host_address(net: &IpNet) -> IpAddr {
    match net {
        IpNet::V4(n) if n.prefix_len() < 32 => IpAddr::V4((n.network().to_bits() + 1).into()),
        IpNet::V6(n) if n.prefix_len() < 128 => IpAddr::V6((n.network().to_bits() + 1).into()),
        other => other.addr(),
    }
}
