//! Which remote locators the site's other xTRs say are down, so that all members choose the same.
//!
//! Owns: who says so, and what follows where this router knows nothing better; and which locators it says are
//! down itself. When that is told is [`crate::proto::redundancy::sync`]'s business. Must not send anything.
//!
//! What a member says holds until it says the contrary, or tells all that it has and this is not among it;
//! and as long as any member says so. It is remembered also of locators that no mapping has yet, as messages
//! may overtake each other. What the sites say of their locators in locator-status-bits (RFC 9300 §10) is
//! not told: it is in the packets that each router has from them, and no longer holds where none come.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use crate::proto::context::{Context, is_unicast};
use crate::proto::stats::DropReason;
use crate::types::{Instant, Rloc};

use super::database::{Database, LocalRlocs};
use super::itr::Itr;
use super::map_cache::Serial;
use super::reachability::{Cause, MAX_REMOTES, Reachability, WayState};
use super::synchronised::Teller;

/// So long is what our own probes found out believed rather than what another xTR says.
const OWN_WORD: Duration = Duration::from_secs(30);
/// Where nothing is probed, so long does a word count for locators that come into use later.
const UNPROBED_WORD: Duration = Duration::from_secs(30);

/// Who says of which locator that it is down.
#[derive(Debug, Default)]
pub(super) struct Hearsay {
    down: BTreeMap<Rloc, BTreeMap<IpAddr, Word>>,
}

#[derive(Clone, Copy, Debug)]
struct Word {
    serial: Serial,
    at: Instant,
}

impl Hearsay {
    /// Whether there was room for it.
    fn note(&mut self, rloc: Rloc, by: &Teller, now: Instant) -> bool {
        if !self.down.contains_key(&rloc) && self.down.len() >= MAX_REMOTES {
            return false;
        }
        let word = self.down.entry(rloc).or_default().entry(by.address);
        let new = Word { serial: by.serial, at: now };
        word.and_modify(|word| word.serial = word.serial.max(by.serial)).or_insert(new);
        true
    }

    /// `by` says the contrary, if not earlier.
    fn retract(&mut self, rloc: &Rloc, by: &Teller) {
        let Some(words) = self.down.get_mut(rloc) else { return };
        if words.get(&by.address).is_some_and(|word| word.serial < by.serial) {
            words.remove(&by.address);
        }
        if words.is_empty() {
            self.down.remove(rloc);
        }
    }

    fn retain(&mut self, keep: impl Fn(IpAddr, &Word) -> bool) {
        self.down.retain(|_, words| {
            words.retain(|by, word| keep(*by, word));
            !words.is_empty()
        });
    }

    fn says(&self, rloc: &Rloc) -> bool {
        self.down.contains_key(rloc)
    }
}

impl Reachability {
    /// Of the locators that came into use, those that other xTRs say are down.
    pub(super) fn suspects(&self) -> Vec<Rloc> {
        let hearsay = &self.hearsay;
        if hearsay.down.is_empty() {
            return Vec::new();
        }
        self.fresh.iter().filter(|rloc| hearsay.says(rloc)).copied().collect()
    }
}

impl Itr {
    /// The locators that this router found to be down.
    pub(crate) fn found_down(&self, database: &Database) -> impl Iterator<Item = Rloc> {
        let local = database.rlocs();
        let down = self.cache.reach.iter().filter(move |(rloc, remote)| {
            let told = remote.ways.iter().any(|way| way.state == WayState::Down(Cause::Peer));
            remote.site.is_none() && !told && self.cache.is_down(rloc, local)
        });
        down.map(|(rloc, _)| *rloc)
    }

    /// Whether a locator can be reached, as far as this router knows.
    pub(crate) fn is_reached(&self, rloc: &Rloc, database: &Database) -> bool {
        !self.cache.is_down(rloc, database.rlocs())
    }

    /// Takes in whether another xTR of the site can reach a locator. Our own probes know better, where they
    /// do.
    ///
    /// # Errors
    /// If it isn't used, and why.
    pub(crate) fn told_of_locator(
        &mut self,
        cx: &mut Context,
        now: Instant,
        (rloc, up): (Rloc, bool),
        by: Teller,
        database: &Database,
    ) -> Result<(), DropReason> {
        let reach = &mut self.cache.reach;
        if up {
            reach.hearsay.retract(&rloc, &by);
            self.relieve(cx, now, &[rloc], database);
            return Ok(());
        }
        if !is_unicast(&rloc) || !reach.hearsay.note(rloc, &by, now) {
            return Err(DropReason::SyncLocator);
        }
        if !self.cache.uses(&rloc) {
            return Ok(());
        }
        let local = database.rlocs();
        let reach = &self.cache.reach;
        let source = reach.verdict(&rloc, local).ok_or(DropReason::SyncLocator)?.source;
        let own_word = reach.get(&rloc).and_then(|remote| remote.way(&source)).is_some_and(|way| {
            let answered = way.last_answered.is_some_and(|at| now.saturating_since(at) < OWN_WORD);
            way.state == WayState::Up && answered
        });
        if own_word || !self.suspect(cx, now, rloc, local) {
            return Err(DropReason::SyncLocator);
        }
        Ok(())
    }

    /// Heeds what was said of locators before they came into use, where this router has found out nothing
    /// itself.
    pub(super) fn heed(&mut self, cx: &mut Context, now: Instant, suspects: Vec<Rloc>, local: &LocalRlocs) {
        for rloc in suspects {
            let reach = &self.cache.reach;
            let Some(words) = reach.hearsay.down.get(&rloc) else { continue };
            let fresh = |word: &Word| now.saturating_since(word.at) < UNPROBED_WORD;
            let counts = reach.prober.retries().is_some() || words.values().any(fresh);
            let unknown = reach.get(&rloc).is_none_or(|remote| {
                let untried =
                    |state, answered: Option<Instant>| state == WayState::Unprobed && answered.is_none();
                remote.ways.iter().all(|way| untried(way.state, way.last_answered))
            });
            if counts && unknown {
                self.suspect(cx, now, rloc, local);
            }
        }
    }

    /// A member has told all that it has, from message `first` on: locators that were not among it are not
    /// down any more, as far as it knows.
    pub(crate) fn told_all_locators(
        &mut self,
        cx: &mut Context,
        now: Instant,
        by: IpAddr,
        first: Serial,
        database: &Database,
    ) {
        let reach = &mut self.cache.reach;
        reach.hearsay.retain(|said_by, word| said_by != by || word.serial >= first);
        let told = reach
            .remotes
            .iter()
            .filter(|(_, remote)| remote.ways.iter().any(|way| way.state == WayState::Down(Cause::Peer)));
        let told: Vec<Rloc> = told.map(|(rloc, _)| *rloc).collect();
        self.relieve(cx, now, &told, database);
    }

    /// A member is not there any more: what it said counts no longer for locators that come into use from now
    /// on.
    pub(crate) fn forget_words(&mut self, by: IpAddr) {
        self.cache.reach.hearsay.retain(|said_by, _| said_by != by);
    }

    /// Somebody says that `rloc` is down.
    fn suspect(&mut self, cx: &mut Context, now: Instant, rloc: Rloc, local: &LocalRlocs) -> bool {
        // What follows is no news to whom it came from.
        let journal = self.cache.journal.take();
        let used = self.unreachable(cx, now, rloc, Cause::Peer, local);
        self.cache.journal = journal;
        used
    }

    /// Those of `rlocs` that were down because somebody said so, and of which nobody says so any more, count
    /// as others that nothing is known of.
    fn relieve(&mut self, cx: &mut Context, now: Instant, rlocs: &[Rloc], database: &Database) {
        let reach = &mut self.cache.reach;
        let retries = reach.prober.retries();
        for rloc in rlocs.iter().filter(|rloc| !reach.hearsay.says(rloc)) {
            let Some(remote) = reach.remotes.get_mut(rloc) else { continue };
            for way in remote.ways.iter_mut().filter(|way| way.state == WayState::Down(Cause::Peer)) {
                if retries.is_some_and(|retries| way.unanswered > retries) {
                    // Our own probes have found the same meanwhile.
                    way.enter(WayState::Down(Cause::Probes), now);
                } else {
                    way.enter(WayState::Unprobed, now);
                    way.unanswered = 0;
                }
            }
            reach.touched.insert(*rloc);
        }
        // Nor is this news to whom it came from.
        let journal = self.cache.journal.take();
        self.cache.act_on_verdicts(cx, database.rlocs());
        self.cache.journal = journal;
    }
}
