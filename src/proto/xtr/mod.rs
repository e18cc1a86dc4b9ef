//! The tunnel router: its database, map-cache, ITR and ETR.
//!
//! Owns: everything about the site's own mappings and what it knows of others'. Must not know the mapping system's side,
//! but for the arithmetic of prefixes.

pub(crate) mod database;
pub(crate) mod etr;
pub(crate) mod itr;
pub(crate) mod map_cache;
pub(crate) mod pending;
pub(crate) mod register;

pub use database::Entry as DatabaseEntry;
pub use map_cache::Entry as MapCacheEntry;
pub use pending::Pending;
pub use register::RegistrationState;
