//! The nonces of Map-Registers, each greater than all before it, also over restarts (RFC 9301 §5.6).
//!
//! Owns: which ones may be used, as far as the disk remembers that they were.

use crate::proto::context::Context;
use crate::proto::persist::{Change, Record};
use crate::types::Nonce;

/// Nonces that are reserved at once: as many Map-Registers as one write to the disk covers.
const NONCE_BLOCK: u64 = 4096;

/// The nonces.
#[derive(Debug)]
pub(super) struct Nonces {
    first: u64,
    next: u64,
    /// Nonces from here on may not be used yet, lest a restart use them again; `None` = nobody remembers
    /// anything.
    reserved: Option<Reserved>,
}

/// How far nonces are reserved.
#[derive(Clone, Copy, Debug)]
struct Reserved {
    /// On the disk.
    durable: u64,
    /// Asked for.
    asked: u64,
}

impl Nonces {
    /// From `base` on, which must be greater than every nonce used before by this xTR.
    pub(super) const fn new(base: u64) -> Self {
        Self { first: base, next: base, reserved: None }
    }

    /// An earlier life had reserved the nonces below `below`, if any; from now on, reservations are
    /// remembered.
    pub(super) fn restored(&mut self, below: Option<u64>) {
        self.next = self.next.max(below.unwrap_or(0));
        self.first = self.next;
        self.reserved = Some(Reserved { durable: self.next, asked: self.next });
    }

    /// The nonces below `below` may be used.
    pub(super) fn reserved(&mut self, below: u64) {
        if let Some(reserved) = &mut self.reserved {
            reserved.durable = reserved.durable.max(below);
        }
    }

    /// Reserves nonces in time.
    pub(super) fn reserve(&mut self, cx: &mut Context) {
        let Some(reserved) = &mut self.reserved else { return };
        if reserved.asked.saturating_sub(self.next) < NONCE_BLOCK / 2 {
            let below = self.next.saturating_add(NONCE_BLOCK);
            reserved.asked = below;
            cx.persist(|| Change::Put(Record::RegisterNonce { below }));
        }
    }

    /// Whether the next nonce may be used.
    pub(super) fn may_send(&self) -> bool {
        self.reserved.is_none_or(|reserved| self.next < reserved.durable)
    }

    /// The next nonce, which is used up by [`Self::advance`].
    pub(super) const fn next(&self) -> Nonce {
        Nonce(self.next)
    }

    pub(super) const fn advance(&mut self) {
        self.next = self.next.wrapping_add(1);
    }

    /// Whether this router used `nonce` since it was started.
    pub(super) fn used(&self, nonce: Nonce) -> bool {
        (self.first..self.next).contains(&nonce.0)
    }
}
