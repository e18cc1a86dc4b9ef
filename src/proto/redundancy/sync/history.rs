//! Which messages of another xTR's session are still believed, and in what order they were sent.
//!
//! Owns: the nonces that were there, and what was withdrawn by which, as long as an earlier message may still
//! come.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::auth::replay::ReplayWindow;
use crate::types::{EidPrefix, Instant, Nonce};

/// What comes so long after a later message was sent by another way, or by somebody who held it back. Told
/// again, it has another nonce.
const LATE: Duration = Duration::from_secs(5);
/// Withdrawn EID-prefixes that are remembered.
const MOST_GONE: usize = 1 << 14;

/// The messages of one session.
#[derive(Debug)]
pub(super) struct History {
    window: ReplayWindow,
    /// The greatest nonce.
    greatest: Nonce,
    /// When the last message was accepted.
    last: Instant,
    /// Nonces up to this come too late.
    floor: Nonce,
    /// The greatest nonce that there was at some time, not much more than [`LATE`] ago.
    mark: (Instant, Nonce),
    /// By which message a mapping was withdrawn.
    gone: BTreeMap<EidPrefix, Nonce>,
}

impl History {
    /// Accepts nonces greater than `last`.
    pub(super) const fn after(last: Nonce, now: Instant) -> Self {
        Self {
            window: ReplayWindow::after(last),
            greatest: last,
            last: now,
            floor: last,
            mark: (now, last),
            gone: BTreeMap::new(),
        }
    }

    /// Whether a message is believed; then its nonce won't be again.
    pub(super) fn accept(&mut self, nonce: Nonce, now: Instant) -> bool {
        if now.saturating_since(self.last) >= LATE {
            self.raise(self.greatest, now);
        } else if now.saturating_since(self.mark.0) >= LATE {
            self.raise(self.mark.1, now);
        }
        if nonce <= self.floor || self.window.accept(nonce).is_err() {
            return false;
        }
        self.greatest = self.greatest.max(nonce);
        self.last = now;
        true
    }

    /// A message says that a mapping is gone.
    pub(super) fn withdrawn(&mut self, prefix: EidPrefix, nonce: Nonce, now: Instant) {
        if self.gone.len() >= MOST_GONE {
            // More than can be remembered: then nothing may overtake anything.
            self.raise(self.greatest, now);
        }
        let by = self.gone.entry(prefix).or_insert(nonce);
        *by = (*by).max(nonce);
    }

    /// Whether a message that withdrew a mapping was sent after this one.
    pub(super) fn is_overtaken(&self, prefix: &EidPrefix, nonce: Nonce) -> bool {
        self.gone.get(prefix).is_some_and(|by| *by > nonce)
    }

    fn raise(&mut self, floor: Nonce, now: Instant) {
        self.floor = floor;
        self.mark = (now, self.greatest);
        self.gone.retain(|_, by| *by > floor);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::testing::prefix;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn messages_may_overtake_each_other_for_some_seconds() {
        let start = Instant::from_secs(100);
        let mut history = History::after(Nonce(10), start);
        assert!(!history.accept(Nonce(10), start));
        assert!(history.accept(Nonce(14), start));
        assert!(history.accept(Nonce(12), start + 4 * SECOND));
        assert!(!history.accept(Nonce(12), start + 4 * SECOND), "a second time");
        // What was held back, in a conversation that goes on …
        for second in 5..12 {
            assert!(history.accept(Nonce(20 + second), start + second as u32 * SECOND));
        }
        assert!(!history.accept(Nonce(13), start + 12 * SECOND));
        // … or that rests.
        assert!(history.accept(Nonce(40), start + 12 * SECOND));
        assert!(!history.accept(Nonce(39), start + 18 * SECOND));
        assert!(history.accept(Nonce(41), start + 18 * SECOND));
    }

    #[test]
    fn what_was_withdrawn_is_remembered_as_long_as_it_matters() {
        let start = Instant::from_secs(100);
        let p = prefix("10.2.0.0/16");
        let mut history = History::after(Nonce(0), start);
        assert!(history.accept(Nonce(5), start));
        history.withdrawn(p, Nonce(5), start);
        assert!(history.is_overtaken(&p, Nonce(4)) && !history.is_overtaken(&p, Nonce(6)));
        assert!(!history.is_overtaken(&prefix("10.2.0.0/17"), Nonce(4)));
        assert!(history.accept(Nonce(6), start + 20 * SECOND));
        assert!(history.gone.is_empty() && !history.accept(Nonce(4), start + 20 * SECOND));
        // However many there are, none is forgotten whose mapping could still come.
        assert!(history.accept(Nonce(8), start + 20 * SECOND));
        for n in 0..=MOST_GONE as u32 {
            let net = ipnet::Ipv4Net::new_assert((0x0a00_0000 + n).into(), 32);
            history.withdrawn(EidPrefix::new(p.iid, net.into()), Nonce(8), start + 20 * SECOND);
        }
        assert!(history.gone.len() <= MOST_GONE);
        assert!(!history.accept(Nonce(7), start + 20 * SECOND));
    }
}
