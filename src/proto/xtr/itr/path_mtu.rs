//! Path MTUs that the underlay told (RFC 1191, RFC 8201).
//!
//! Owns: which of them are believed, and for how long.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use crate::fib::FibUpdate;
use crate::proto::context::Context;
use crate::proto::stats::DropReason;
use crate::types::{Instant, Rloc};

/// How long a path MTU learnt from the underlay is believed (RFC 1191 §6.3, RFC 8201 §4).
const PATH_MTU_LIFETIME: Duration = Duration::from_secs(600);
/// Path MTUs that are remembered.
const MAX_PATH_MTUS: usize = 4096;
/// Smaller path MTUs are not believed: no underlay needs them, and a forged ICMP message could ask for
/// anything.
const MIN_PATH_MTU_IPV4: u16 = 552;
const MIN_PATH_MTU_IPV6: u16 = 1280;

/// The path MTUs.
#[derive(Debug, Default)]
pub(super) struct PathMtus {
    /// Each until when it is believed.
    known: BTreeMap<Rloc, (u16, Instant)>,
}

impl PathMtus {
    /// To `rloc`, if the underlay told.
    pub(super) fn of(&self, rloc: &Rloc) -> Option<u16> {
        self.known.get(rloc).map(|(mtu, _)| *mtu)
    }

    /// The underlay says that packets to `rloc` may have `mtu` bytes; `used`: it is a locator of the
    /// map-cache.
    pub(super) fn told(&mut self, cx: &mut Context, now: Instant, rloc: Rloc, mtu: u16, used: bool) {
        let known = self.known.contains_key(&rloc);
        if !used || (!known && self.known.len() >= MAX_PATH_MTUS) {
            cx.drop(DropReason::PathMtuUnknown, None);
            return;
        }
        let least = match rloc {
            IpAddr::V4(_) => MIN_PATH_MTU_IPV4,
            IpAddr::V6(_) => MIN_PATH_MTU_IPV6,
        };
        let mtu = mtu.max(least);
        self.known.insert(rloc, (mtu, now + PATH_MTU_LIFETIME));
        cx.fib(FibUpdate::PathMtu { rloc, mtu: Some(mtu) });
    }

    /// Forgets those that have been believed long enough.
    pub(super) fn handle_timeout(&mut self, cx: &mut Context, now: Instant) {
        let forgotten: Vec<Rloc> =
            self.known.iter().filter(|(_, (_, until))| *until <= now).map(|(rloc, _)| *rloc).collect();
        for rloc in forgotten {
            self.known.remove(&rloc);
            cx.fib(FibUpdate::PathMtu { rloc, mtu: None });
        }
    }

    /// Forgets all of them.
    pub(super) fn stop(&mut self, cx: &mut Context) {
        for (rloc, _) in std::mem::take(&mut self.known) {
            cx.fib(FibUpdate::PathMtu { rloc, mtu: None });
        }
    }

    pub(super) fn next(&self) -> Option<Instant> {
        self.known.values().map(|(_, until)| *until).min()
    }
}
