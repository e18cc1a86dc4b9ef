//! The protocol machines, sans-IO.
//!
//! Owns: what each part of a LISP system does with messages, punts and time, a folder per part: [`xtr`],
//! [`mapping_system`], and [`control`], which demultiplexes to them. Must not touch sockets, threads, clocks or
//! files; nothing here is async.
//!
//! # The machines' contract
//! ```text
//! handle(now, Input) ; handle_timeout(now) ; poll_output() -> Option<Output> ; poll_timeout() -> Option<Instant>
//! ```
//! After every `handle` or `handle_timeout` the caller drains `poll_output` and then asks `poll_timeout` when to call
//! `handle_timeout` next. `now` never goes backwards. Calls that change nothing cost nothing and output nothing.
//! Randomness comes from the RNG given at construction.

pub mod config;
pub mod control;
pub mod mapping_system;
pub mod xtr;
