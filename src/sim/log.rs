//! The event log: everything that happens, in order, as a fingerprint and, on request, as text.

use std::fmt;

use crate::types::Instant;

/// One line of the log. Times are in seconds since the start of the simulation.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// When.
    pub at: Instant,
    /// Which node.
    pub node: &'a str,
    /// What happened there, as `sent`, `received`, `delivered`, `dropped`.
    pub what: &'a str,
    /// Of what kind, or why.
    pub kind: &'a str,
    /// Length of the IP packet in bytes; 0 where there is none.
    pub len: usize,
    /// How many of this kind it makes at this node, with it.
    pub count: u64,
}

impl fmt::Display for Entry<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.at.as_nanos();
        let (secs, rest) = (nanos / 1_000_000_000, nanos % 1_000_000_000);
        write!(
            f,
            "{secs}.{rest:09}\t{}\t{}\t{}\t{}\t{}",
            self.node, self.what, self.kind, self.len, self.count
        )
    }
}

/// A digest of every event of a run. Equal for equal runs; that it differs for others is likely, not
/// guaranteed against somebody who wants it not to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint(u64);

impl Fingerprint {
    pub(super) const fn new() -> Self {
        Self(0x6c69_7370_2d73_696d)
    }

    pub(super) fn add(&mut self, word: u64) {
        self.0 = (self.0 ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
    }

    pub(super) fn add_bytes(&mut self, bytes: &[u8]) {
        self.add(bytes.len() as u64);
        let (words, rest) = bytes.as_chunks();
        for word in words {
            self.add(u64::from_le_bytes(*word));
        }
        if !rest.is_empty() {
            let mut word = [0; 8];
            word.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
            self.add(u64::from_le_bytes(word));
        }
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}
