//! What survives a restart.
//!
//! Owns: writing [records](crate::proto::persist::Record) down so that neither a crash nor a power cut loses
//! or mixes them, and reading them again. Must not know what they mean: that is `proto`'s. Everything here
//! blocks; the runtime calls it from a thread that may.
//!
//! [`Embedded`], a database in one file of the state directory, is what a router has by default. Each kind of
//! record has a table of its own, so that kinds which have many records stay out of the others' way. The
//! map-cache, which is written as a whole, has a file beside it: [`write_snapshot`].

mod embedded;
mod snapshot;

use std::path::PathBuf;

use thiserror::Error;

use crate::proto::persist::{Change, Record};

pub use embedded::{Embedded, FILE};
pub use snapshot::{SNAPSHOT_FILE, read_snapshot, remove_snapshot, set_snapshot_aside, write_snapshot};

/// A place that remembers.
pub trait Store: Send {
    /// Makes all of `changes` durable, or none. When this returns `Ok`, a power cut can't undo them.
    ///
    /// # Errors
    /// If that was not possible; it may be at another time, with the same changes.
    fn commit(&mut self, changes: &[Change]) -> Result<(), StoreError>;
}

/// A store, and what was in it.
#[derive(Debug)]
pub struct Opened<S> {
    /// The store.
    pub store: S,
    /// All its records.
    pub records: Vec<Record>,
    /// What was there could not be used, and something was lost with it.
    pub lost: Option<Lost>,
}

/// Earlier state that is not used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lost {
    /// Why it can't be trusted or understood.
    pub reason: String,
    /// Where it is kept for whoever wants to look at it; `None` where it is still in its place, as only a
    /// part of it is not used.
    pub set_aside: Option<PathBuf>,
}

/// Why something was not stored.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The directory can't be made or used.
    #[error("{}: {error}", path.display())]
    Io {
        /// The directory or file.
        path: PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
    /// Another process has the file.
    #[error("{}: another router uses it", path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// The database is not what it should be.
    #[error("{}: {reason}", path.display())]
    Database {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

impl StoreError {
    /// What to do about it, as a sentence's end.
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::Io { error, .. } => match error.kind() {
                std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
                    "make room on the disk"
                }
                std::io::ErrorKind::ReadOnlyFilesystem | std::io::ErrorKind::PermissionDenied => {
                    "make the directory writable for the router, or give another [router] state-dir"
                }
                _ => "check the directory that [router] state-dir names",
            },
            Self::InUse { .. } => "give each router its own [router] state-dir",
            Self::Database { .. } => {
                "check the disk; a restart starts with a fresh file if this one is damaged"
            }
        }
    }
}
