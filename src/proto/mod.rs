//! The protocol machines, sans-IO.
//!
//! Owns: what each part of a LISP system does with messages, punts and time, a folder per part: [`xtr`],
//! [`mapping_system`], [`redundancy`], and [`control`], which demultiplexes to them. Must not touch sockets,
//! threads, clocks or files; nothing here is async.
//!
//! # The machines' contract
//! ```text
//! handle(now, Input) ; handle_timeout(now)
//! poll_output() -> Option<Output> ; poll_timeout() -> Option<Instant>
//! ```
//! After every `handle` or `handle_timeout` the caller drains `poll_output` and then asks `poll_timeout` when
//! to call `handle_timeout` next. `now` never goes backwards. Calls that change nothing cost nothing and
//! output nothing. Randomness comes from the RNG given at construction.
//!
//! # How the machines hang together
//! [`control::ControlPlane`] owns every machine and one `Context` (outputs, counters, RNG, resolved names,
//! rate limits), which it lends to the machine that an input is for. Machines never call each other, except
//! that the Map-Resolver asks the Map-Server of the same process.

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

pub mod config;
pub mod control;
pub mod event;
pub mod mapping_system;
pub mod persist;
pub mod redundancy;
pub mod stats;
pub mod xtr;

mod context;
mod eid_table;
mod names;
pub(crate) mod rate;
mod request;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
