//! The vocabulary of LISP as plain values.
//!
//! Owns: EIDs and EID-prefixes, RLOCs and locators, mappings, the identifiers and the time that every other
//! module speaks of. Must not touch bytes on the wire, clocks or I/O.

mod eid;
mod ids;
mod mapping;
mod time;

pub use eid::{Eid, EidPrefix, Family, InstanceId};
pub use ids::{Nonce, SiteId, XtrId};
pub use mapping::{Action, Locator, LocatorChange, MapVersion, Mapping, Rloc};
pub use time::{Instant, Ttl};

/// UDP port of encapsulated data packets (RFC 9300 §5.3).
pub const DATA_PORT: u16 = 4341;
/// UDP port of control messages (RFC 9301 §5).
pub const CONTROL_PORT: u16 = 4342;
