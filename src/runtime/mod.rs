//! Threads, event loops, clock, signals, FIB publication, kernel integration. Takes no protocol decisions.

pub mod clock;
