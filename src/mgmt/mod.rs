//! The control socket, and the views and tables behind `show`.
//!
//! Owns: the protocol between `eidolon show` and a running router ([`protocol`]), its two ends ([`client`],
//! [`server`], over a [`socket`]), the snapshots that travel over it ([`view`]) and how they look
//! ([`table`]). Works on snapshots, never on live mutable state.

pub mod client;
mod ddt;
mod dynamic;
pub mod protocol;
pub mod server;
pub mod socket;
pub mod table;
pub mod view;

#[cfg(test)]
mod tests;
