//! The nonces of Map-Registers, each greater than all before it, also over restarts (RFC 9301 §5.6).
//!
//! Owns: which ones may be used, as far as the disk remembers that they were.

use crate::proto::context::Context;
use crate::proto::persist::{Change, Record};

use super::Registrar;

/// Nonces that are reserved at once: as many Map-Registers as one write to the disk covers.
const NONCE_BLOCK: u64 = 4096;

/// How far nonces are reserved.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reserved {
    /// On the disk.
    durable: u64,
    /// Asked for.
    asked: u64,
}

impl Registrar {
    /// An earlier life had reserved the nonces below `below`, if any; from now on, reservations are remembered.
    pub(crate) fn restored(&mut self, below: Option<u64>) {
        self.next_nonce = self.next_nonce.max(below.unwrap_or(0));
        self.first_nonce = self.next_nonce;
        self.reserved = Some(Reserved { durable: self.next_nonce, asked: self.next_nonce });
    }

    /// The nonces below `below` may be used.
    pub(crate) fn reserved(&mut self, below: u64) {
        if let Some(reserved) = &mut self.reserved {
            reserved.durable = reserved.durable.max(below);
        }
    }

    /// Reserves nonces in time.
    pub(super) fn reserve(&mut self, cx: &mut Context) {
        let idle = self.servers.iter().all(|s| s.bundles.is_empty()) && self.withdrawals.is_empty();
        let Some(reserved) = &mut self.reserved else { return };
        if !idle && reserved.asked.saturating_sub(self.next_nonce) < NONCE_BLOCK / 2 {
            let below = self.next_nonce.saturating_add(NONCE_BLOCK);
            reserved.asked = below;
            cx.persist(|| Change::Put(Record::RegisterNonce { below }));
        }
    }

    /// Whether the next nonce may be used.
    pub(super) fn may_send(&self) -> bool {
        self.reserved.is_none_or(|reserved| self.next_nonce < reserved.durable)
    }
}
