//! Locators of our own that have never been up: an address that the machine does not have, an interface that
//! is not there.
//!
//! Owns: which ones the operator is still to hear of, and when. That a locator goes down or comes back is told
//! by whoever sees it change; one that is missing from the start changes nothing.

use std::time::Duration;

use crate::proto::config::LocatorSource;
use crate::proto::context::Context;
use crate::proto::event::Event;
use crate::types::Instant;

use super::database::Database;

/// How long after the start, or a reload, a locator may take: interfaces come up one after the other.
const DELAY: Duration = Duration::from_secs(3);

/// The note of them.
#[derive(Debug, Default)]
pub(crate) struct MissingLocators {
    /// As configured last.
    known: Vec<LocatorSource>,
    /// Not up so far, and not told yet.
    waiting: Vec<LocatorSource>,
    due: Option<Instant>,
}

impl MissingLocators {
    /// Takes the configured locators in. Those that were there before are not waited for again.
    pub(crate) fn configure(&mut self, now: Instant, database: &Database) {
        let all = database.own_sources();
        self.waiting.retain(|source| all.contains(source));
        for source in all.iter().filter(|source| !self.known.contains(source)) {
            self.waiting.push(source.clone());
            self.due = Some(now + DELAY);
        }
        self.known = all;
        self.changed(database);
    }

    /// Our addresses changed.
    pub(crate) fn changed(&mut self, database: &Database) {
        self.waiting.retain(|source| database.address_of(source).is_none());
        if self.waiting.is_empty() {
            self.due = None;
        }
    }

    /// Says what is to be said.
    pub(crate) fn handle_timeout(&mut self, cx: &mut Context, now: Instant) {
        if self.due.is_some_and(|due| due <= now) {
            self.due = None;
            for source in self.waiting.drain(..) {
                cx.event(Event::OwnLocatorMissing { source });
            }
        }
    }

    /// When there is something to say.
    pub(crate) const fn next(&self) -> Option<Instant> {
        self.due
    }
}
