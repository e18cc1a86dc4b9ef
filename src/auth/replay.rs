//! Protection against replayed messages: the nonce of each sender must grow (RFC 9301 §5.6, "Nonce").

use std::collections::BTreeMap;

use crate::types::Nonce;

/// Which nonces are accepted from a sender after the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NoncePolicy {
    /// Greater ones only, as RFC 9301 §5.6 asks.
    #[default]
    Increasing,
    /// The same one again, too: for routers that never change theirs. Whoever records one of their messages can then
    /// send it again, until the nonce grows.
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

/// The last nonce of each sender. What a sender is, is the caller's to say: RFC 9301 §5.6 means the pair of xTR-ID and
/// key. Offer nonces of authentic messages only.
#[derive(Clone, Debug)]
pub struct LastNonces<S> {
    last: BTreeMap<S, Nonce>,
    capacity: usize,
}

impl<S: Ord> LastNonces<S> {
    /// Remembers at most `capacity` senders. Further ones are refused, since forgetting one would open it to replay.
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
