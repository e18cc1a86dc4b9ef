//! Protection against replayed messages: the nonce of each sender must grow (RFC 9301 §5.6, "Nonce").

use std::collections::BTreeMap;

use crate::types::Nonce;

/// Which nonces are accepted from a sender after the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NoncePolicy {
    /// Greater ones only, as RFC 9301 §5.6 asks.
    #[default]
    Increasing,
    /// The same one again, too: for routers that never change theirs. Whoever records one of their messages
    /// can then send it again, until the nonce grows.
    AllowRepeats,
}

/// A nonce that is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplayError {
    /// Not greater than the last one.
    #[error("nonce {nonce} is not greater than the last one, {last}: replayed, or the sender lost its nonce")]
    Replayed {
        /// The message's nonce.
        nonce: Nonce,
        /// The last nonce that was accepted from the sender.
        last: Nonce,
    },
    /// The nonce of a new sender cannot be remembered, as there are too many.
    #[error("{0} senders are remembered already")]
    TooManySenders(usize),
}

impl ReplayError {
    /// A short name of the kind of error, fit for a counter.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Replayed { .. } => "replayed",
            Self::TooManySenders(_) => "replay-too-many-senders",
        }
    }
}

/// The last nonce of each sender. What a sender is, is the caller's to say: RFC 9301 §5.6 means the pair of
/// xTR-ID and key. Offer nonces of authentic messages only.
#[derive(Clone, Debug)]
pub struct LastNonces<S> {
    last: BTreeMap<S, Nonce>,
    capacity: usize,
}

impl<S: Ord> LastNonces<S> {
    /// Remembers at most `capacity` senders. Further ones are refused, since forgetting one would open it to
    /// replay.
    pub const fn new(capacity: usize) -> Self {
        Self { last: BTreeMap::new(), capacity }
    }

    /// Accepts and remembers `nonce`, or says why not; then nothing changes.
    pub fn accept(&mut self, sender: S, nonce: Nonce, policy: NoncePolicy) -> Result<(), ReplayError> {
        let full = self.last.len() >= self.capacity;
        match self.last.get_mut(&sender) {
            Some(last) => {
                let replayed = match policy {
                    NoncePolicy::Increasing => nonce <= *last,
                    NoncePolicy::AllowRepeats => nonce < *last,
                };
                if replayed {
                    return Err(ReplayError::Replayed { nonce, last: *last });
                }
                *last = nonce;
            }
            None if full => return Err(ReplayError::TooManySenders(self.capacity)),
            None => {
                self.last.insert(sender, nonce);
            }
        }
        Ok(())
    }

    /// The last nonce that was accepted from `sender`.
    pub fn get(&self, sender: &S) -> Option<Nonce> {
        self.last.get(sender).copied()
    }

    /// Accepts any nonce from `sender` next: its key was changed, or an operator asks for it.
    pub fn forget(&mut self, sender: &S) {
        self.last.remove(sender);
    }

    /// All senders in order, to be stored; give them back by [`LastNonces::accept`] after a restart.
    pub fn iter(&self) -> impl Iterator<Item = (&S, Nonce)> {
        self.last.iter().map(|(sender, nonce)| (sender, *nonce))
    }
}

/// The nonces that came from one sender whose messages may overtake each other: each is accepted once, also
/// if greater ones came before it, but for those that are more than 63 behind the greatest (as RFC 4303
/// §3.4.3 has it for sequence numbers).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplayWindow {
    greatest: Nonce,
    /// Bit n: `greatest` − n was there.
    seen: u64,
}

impl ReplayWindow {
    /// Accepts nonces greater than `last`.
    pub const fn after(last: Nonce) -> Self {
        Self { greatest: last, seen: u64::MAX }
    }

    /// Accepts a nonce, which then won't be accepted again. Offer nonces of authentic messages only.
    ///
    /// # Errors
    /// If it was there before, or is too old to tell; then nothing changes.
    pub fn accept(&mut self, nonce: Nonce) -> Result<(), ReplayError> {
        let replayed = ReplayError::Replayed { nonce, last: self.greatest };
        if let Some(ahead) = nonce.0.checked_sub(self.greatest.0).filter(|ahead| *ahead > 0) {
            let shift = u32::try_from(ahead).unwrap_or(u32::MAX);
            self.seen = self.seen.checked_shl(shift).unwrap_or(0) | 1;
            self.greatest = nonce;
            return Ok(());
        }
        let behind = u32::try_from(self.greatest.0.saturating_sub(nonce.0)).unwrap_or(u32::MAX);
        let bit = 1u64.checked_shl(behind).ok_or(replayed)?;
        if self.seen & bit != 0 {
            return Err(replayed);
        }
        self.seen |= bit;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nonces_must_grow_per_sender() {
        let mut nonces = LastNonces::new(2);
        assert_eq!(nonces.accept("a", Nonce(5), NoncePolicy::Increasing), Ok(()));
        let replayed = |nonce, last| Err(ReplayError::Replayed { nonce: Nonce(nonce), last: Nonce(last) });
        assert_eq!(nonces.accept("a", Nonce(5), NoncePolicy::Increasing), replayed(5, 5));
        assert_eq!(nonces.accept("a", Nonce(4), NoncePolicy::AllowRepeats), replayed(4, 5));
        assert_eq!(nonces.accept("a", Nonce(5), NoncePolicy::AllowRepeats), Ok(()));
        assert_eq!(nonces.accept("b", Nonce(1), NoncePolicy::Increasing), Ok(()));
        assert_eq!(nonces.accept("a", Nonce(6), NoncePolicy::Increasing), Ok(()));
        assert_eq!(nonces.iter().collect::<Vec<_>>(), [(&"a", Nonce(6)), (&"b", Nonce(1))]);
    }

    #[test]
    fn a_window_takes_each_nonce_once_in_any_order() {
        let mut window = ReplayWindow::after(Nonce(100));
        let mut accept = |n| window.accept(Nonce(n)).is_ok();
        assert!([0, 37, 99, 100].into_iter().all(|n| !accept(n)), "nothing from before");
        assert!(accept(103) && accept(101) && accept(102));
        assert!((100..=103).all(|n| !accept(n)));
        assert!(accept(166) && accept(104) && !accept(103), "63 behind is the last that can be told");
        assert!(accept(1000) && accept(999) && !accept(936) && accept(937) && !accept(937));
        assert!(accept(u64::MAX) && !accept(u64::MAX) && !accept(1001) && accept(u64::MAX - 63));
    }

    #[test]
    fn a_flood_of_senders_neither_grows_the_table_nor_forgets_anybody() {
        let mut nonces = LastNonces::new(1);
        assert_eq!(nonces.accept(1, Nonce(9), NoncePolicy::Increasing), Ok(()));
        assert_eq!(nonces.accept(2, Nonce(9), NoncePolicy::Increasing), Err(ReplayError::TooManySenders(1)));
        assert!(nonces.accept(1, Nonce(9), NoncePolicy::Increasing).is_err());
        nonces.forget(&1);
        assert_eq!(nonces.accept(2, Nonce(1), NoncePolicy::Increasing), Ok(()));
        assert_eq!(nonces.get(&2), Some(Nonce(1)));
    }
}
