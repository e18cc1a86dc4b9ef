//! The forwarding information base: THE contract between control plane and data plane.
//!
//! Owns: the table prefix → action per instance ID and family with its wait-free read side, the updates
//! that change it, the punts that come back, and the per-entry counters. Must not know TTLs, nonces or
//! messages.

mod cache;
mod choice;
mod contract;
mod instance;
mod pending;
mod senders;
mod site;
mod stats;
mod table;

pub use cache::LookupCache;
pub use choice::{Choice, EntryPath};
pub use contract::*;
pub use instance::InstanceFib;
pub use pending::Miss;
pub use senders::{Sender, Senders};
pub use site::{HeaderNonce, HeaderOptions, Notice, Site, SiteState, SourceCheck, Stale};
pub use stats::{Stats, Worker};
pub use table::{Entry, EntryAction, FibGuard, FibReader, FibWriter, Way, new};
