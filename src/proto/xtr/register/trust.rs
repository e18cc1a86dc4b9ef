//! Prefixes that may move: whether one is still ours to register.
//!
//! Owns: until when each is, without the mapping system being asked again.

use std::time::Duration;

use crate::proto::context::Context;
use crate::types::{EidPrefix, Instant};

use super::Registrar;

/// Where no Map-Notify has come for this many registration periods, somebody else may have had the last word
/// meanwhile: a prefix that may move is asked for before it is registered again. Shorter than registrations
/// last (RFC 9301 §5.6).
const DOUBTED_AFTER: (u32, u32) = (3, 2);
/// If nobody can be asked, registering is tried for so long.
const TRIED_FOR: Duration = Duration::from_millis(500);

impl Registrar {
    /// The prefixes that are to be registered now, but may be somebody else's since a Map-Server was heard
    /// last.
    pub(crate) fn doubted(&self, now: Instant) -> Vec<EidPrefix> {
        let due = self.servers.iter().flat_map(|s| &s.bundles).filter(|b| b.may_be_lost() && b.wake <= now);
        let prefixes = due.flat_map(|b| b.prefixes.iter().copied());
        let mut doubted: Vec<EidPrefix> =
            prefixes.filter(|prefix| self.trusted.get(prefix).is_some_and(|until| *until <= now)).collect();
        doubted.sort_unstable();
        doubted.dedup();
        doubted
    }

    /// A prefix has just come here: that is the last word until a Map-Server was heard.
    pub(crate) fn claim(&mut self, prefix: &EidPrefix) {
        self.trusted.remove(prefix);
    }

    /// The mapping system says that a prefix is not somebody else's or, if not `answered`, nobody says
    /// anything.
    pub(crate) fn trust(&mut self, cx: &Context, now: Instant, prefix: EidPrefix, answered: bool) {
        let time = if answered { trusted_for(cx) } else { TRIED_FOR };
        self.trusted.insert(prefix, now + time);
    }
}

/// For how long a Map-Server's word that a prefix is ours holds.
pub(super) fn trusted_for(cx: &Context) -> Duration {
    cx.timers.register_interval.saturating_mul(DOUBTED_AFTER.0) / DOUBTED_AFTER.1
}
