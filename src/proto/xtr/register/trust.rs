//! Prefixes that may move: whether one is still ours to register.
//!
//! Owns: until when each is, without the mapping system being asked again.

use std::time::Duration;

use crate::proto::context::Context;
use crate::types::{EidPrefix, Instant};

use super::Registrar;

/// Where no Map-Notify has come for this many registration periods, or none to the last Map-Register,
/// somebody else may have had the last word meanwhile: a prefix that may move is asked for before it is
/// registered again. Shorter than registrations last (RFC 9301 §5.6).
const DOUBTED_AFTER: (u32, u32) = (3, 2);
/// What the mapping system said when it was asked holds for so long, though no Map-Server confirms anything.
const ASKED_FOR: Duration = Duration::from_secs(30);
/// If nobody can be asked, registering is tried for so long.
const TRIED_FOR: Duration = Duration::from_millis(500);

/// For how long a prefix that may move is registered again without asking.
#[derive(Clone, Copy, Debug)]
pub(super) struct Trust {
    until: Instant,
    /// A Map-Server said so, so that it ends as soon as one does not answer.
    heard: bool,
}

impl Trust {
    /// A Map-Server has just confirmed the prefix.
    pub(super) fn heard(cx: &Context, now: Instant) -> Self {
        Self { until: now + trusted_for(cx), heard: true }
    }
}

impl Registrar {
    /// The prefixes that are to be registered now, but may be somebody else's since a Map-Server was heard
    /// last.
    pub(crate) fn doubted(&self, now: Instant) -> Vec<EidPrefix> {
        let due = self.servers.iter().flat_map(|s| &s.bundles).filter(|b| b.may_be_lost() && b.wake <= now);
        let prefixes = due.flat_map(|b| b.prefixes.iter().map(move |prefix| (*prefix, b.unanswered > 0)));
        let doubted = prefixes.filter(|(prefix, unanswered)| {
            let trust = self.trusted.get(prefix);
            trust.is_some_and(|trust| trust.until <= now || (trust.heard && *unanswered))
        });
        let mut doubted: Vec<EidPrefix> = doubted.map(|(prefix, _)| prefix).collect();
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
        let time = if answered { trusted_for(cx).min(ASKED_FOR) } else { TRIED_FOR };
        self.trusted.insert(prefix, Trust { until: now + time, heard: false });
    }

    /// No locator of ours is up any more: nobody can tell us what happens meanwhile.
    pub(crate) fn cut_off(&mut self, now: Instant) {
        for trust in self.trusted.values_mut() {
            trust.until = trust.until.min(now);
        }
    }
}

/// For how long a Map-Server's word that a prefix is ours holds.
fn trusted_for(cx: &Context) -> Duration {
    cx.timers.register_interval.saturating_mul(DOUBTED_AFTER.0) / DOUBTED_AFTER.1
}
