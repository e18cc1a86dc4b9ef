//! What of the map-cache there is to tell the site's other xTRs.
//!
//! Owns: the notes, and the memory of what has no mapping any more. What is told of them, and how, is
//! [`crate::proto::xtr::synchronised`]'s business.

use std::collections::{BTreeMap, BTreeSet};

use crate::types::{EidPrefix, Instant, Rloc};

use super::MapCache;

/// EID-prefixes that are remembered to have no mapping any more, so that all of the site's xTRs hear of it.
const MAX_WITHDRAWN: usize = 1024;

/// What there is to tell the site's other xTRs.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    /// Entries that Map-Replies made or refreshed; whether there is anything new about them beside their
    /// lifetime.
    pub(crate) learnt: BTreeMap<EidPrefix, bool>,
    /// EID-prefixes of which the mapping system says that they have no mapping of their own any more.
    pub(crate) gone: BTreeSet<EidPrefix>,
    /// Locators that can be reached, or no longer.
    pub(crate) rlocs: BTreeSet<Rloc>,
}

impl MapCache {
    /// The mapping system says that there is no mapping of exactly `prefix` any more.
    pub(in crate::proto::xtr) fn note_gone(&mut self, prefix: EidPrefix, now: Instant) {
        if let Some(journal) = &mut self.journal {
            journal.learnt.remove(&prefix);
            journal.gone.insert(prefix);
            self.note_withdrawn(prefix, now);
        }
    }

    /// The mapping system said at `since` that there is no mapping of exactly `prefix`.
    pub(in crate::proto::xtr) fn note_withdrawn(&mut self, prefix: EidPrefix, since: Instant) {
        if self.withdrawn.len() >= MAX_WITHDRAWN
            && let Some(oldest) = self.withdrawn.iter().min_by_key(|(_, at)| **at).map(|(p, _)| *p)
        {
            self.withdrawn.remove(&oldest);
        }
        self.withdrawn.insert(prefix, since);
    }
}
