//! The forwarding information base: THE contract between control plane and data plane.
//!
//! Owns: the table prefix → action per instance ID and family with its wait-free read side, the updates that change
//! it, the punts that come back, and the per-entry counters. Must not know TTLs, nonces or messages.

mod contract;

pub use contract::*;
