//! The machines together, in virtual time, and each against the RFC's sections.

mod ddt;
mod etr;
mod hostile;
mod hostile_ddt;
mod hostile_sync;
mod itr;
mod map_cache;
mod map_resolver;
mod map_server;
mod mobility;
mod path;
mod pending;
mod persist;
mod probe;
mod proxy;
mod registration;
mod resolvers;
mod signals;
mod smr;
mod snapshot;
