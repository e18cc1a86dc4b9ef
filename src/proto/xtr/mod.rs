//! The tunnel router: its database, map-cache, ITR and ETR.
//!
//! Owns: everything about the site's own mappings and what it knows of others'. Must not know the mapping system's side,
//! but for the arithmetic of prefixes.

pub(crate) mod database;
mod echo_nonce;
pub(crate) mod etr;
mod hearsay;
pub(crate) mod itr;
mod locator_status;
pub(crate) mod map_cache;
pub(crate) mod missing_locators;
pub(crate) mod mobility;
pub(crate) mod pending;
pub(crate) mod probe;
pub(crate) mod proxy;
pub(crate) mod reachability;
pub(crate) mod register;
pub(crate) mod resolvers;
pub(crate) mod restored;
pub(crate) mod signals;
pub(crate) mod smr;
pub(crate) mod synchronised;
mod versions;

pub use database::Entry as DatabaseEntry;
pub use map_cache::{Entry as MapCacheEntry, Source as MapCacheSource};
pub use mobility::{Away, Here};
pub use pending::Pending;
pub use reachability::{Cause, RemoteRloc, RlocWay, Verdict, WayState};
pub use register::RegistrationState;
pub use resolvers::Health as ResolverHealth;
pub use restored::Restored;
