//! What a router must not forget over a restart, as data.
//!
//! Owns: the kinds of records, and what tells two records of a kind apart. Writing them down is the
//! runtime's, by way of `store`; what they mean is the machine's that asks for it.
//!
//! A machine says what to remember by [`Output::Persist`](super::control::Output::Persist), as often as it
//! likes: a later record replaces the one with the same [`Key`]. After a restart the records come back by
//! [`Input::Restored`](super::control::Input::Restored). What is sent meanwhile does not wait for the disk,
//! except where a machine asks for that with [`Record::is_awaited`].

use serde::{Deserialize, Serialize};

use crate::types::{EidPrefix, Mapping, Nonce};

pub use super::event::Registrant;

/// Something to remember.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Record {
    /// Every nonce that this router's Map-Registers had or may have before the next restart is smaller than
    /// `below` (RFC 9301 §5.6). One record covers a block of nonces, so that they need not be written one by
    /// one.
    RegisterNonce {
        /// The first nonce that is not reserved.
        below: u64,
    },
    /// Map-Server: the last nonce of an xTR of a site with one of the site's keys (RFC 9301 §5.6).
    LastNonce {
        /// The site's name.
        site: String,
        /// Which xTR.
        registrant: Registrant,
        /// The key's id.
        key_id: u8,
        /// The nonce.
        nonce: Nonce,
    },
    /// Map-Server: the start of the authentication data of a Map-Register that was taken in, so that nobody
    /// can send it again from another address.
    RecentRegister {
        /// The site's name.
        site: String,
        /// Its place among those that are remembered; the oldest is overwritten.
        slot: u16,
        /// Counts the site's Map-Registers: the greater, the later.
        serial: u64,
        /// First bytes of the authentication data.
        digest: [u8; 12],
    },
    /// The mapping of one of our own EID-prefixes as it was last told to anybody, with its Map-Version number
    /// (RFC 9302 §6).
    OwnMapping(Mapping),
    /// A part of what is registered here is at another site.
    Away(EidPrefix),
    /// An EID-prefix came to this site by command.
    Moved {
        /// Which.
        prefix: EidPrefix,
        /// The priority that was given.
        priority: Option<u8>,
    },
}

/// What tells records apart.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Key {
    /// Of [`Record::RegisterNonce`]; there is one.
    RegisterNonce,
    /// Of [`Record::LastNonce`].
    LastNonce {
        /// The site's name.
        site: String,
        /// Which xTR.
        registrant: Registrant,
        /// The key's id.
        key_id: u8,
    },
    /// Of [`Record::RecentRegister`].
    RecentRegister {
        /// The site's name.
        site: String,
        /// The place.
        slot: u16,
    },
    /// Of [`Record::OwnMapping`].
    OwnMapping(EidPrefix),
    /// Of [`Record::Away`].
    Away(EidPrefix),
    /// Of [`Record::Moved`].
    Moved(EidPrefix),
}

/// A step from one state to the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Remember this, in place of what has the same key.
    Put(Record),
    /// Forget what has this key.
    Remove(Key),
}

impl Record {
    /// What tells it apart from others.
    pub fn key(&self) -> Key {
        match self {
            Self::RegisterNonce { .. } => Key::RegisterNonce,
            Self::LastNonce { site, registrant, key_id, .. } => {
                Key::LastNonce { site: site.clone(), registrant: *registrant, key_id: *key_id }
            }
            Self::RecentRegister { site, slot, .. } => {
                Key::RecentRegister { site: site.clone(), slot: *slot }
            }
            Self::OwnMapping(mapping) => Key::OwnMapping(mapping.eid),
            Self::Away(prefix) => Key::Away(*prefix),
            Self::Moved { prefix, .. } => Key::Moved(*prefix),
        }
    }

    /// Whether a machine waits until this is on the disk, and hears of it by
    /// [`Input::Persisted`](super::control::Input::Persisted).
    pub const fn is_awaited(&self) -> bool {
        matches!(self, Self::RegisterNonce { .. })
    }
}

impl Change {
    /// The key of what is changed.
    pub fn key(&self) -> Key {
        match self {
            Self::Put(record) => record.key(),
            Self::Remove(key) => key.clone(),
        }
    }

    /// The record, where somebody waits for it to be written.
    pub const fn awaited(&self) -> Option<&Record> {
        match self {
            Self::Put(record) if record.is_awaited() => Some(record),
            _ => None,
        }
    }
}
