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

use super::Itr;

/// How long a path MTU learnt from the underlay is believed (RFC 1191 §6.3, RFC 8201 §4).
const PATH_MTU_LIFETIME: Duration = Duration::from_secs(600);
/// Path MTUs that are remembered.
const MAX_PATH_MTUS: usize = 4096;
/// Smaller path MTUs are not believed: no underlay needs them, and a forged ICMP message could ask for anything.
const MIN_PATH_MTU_IPV4: u16 = 552;
const MIN_PATH_MTU_IPV6: u16 = 1280;

impl Itr {
    pub(super) fn path_mtu(&mut self, cx: &mut Context, now: Instant, rloc: Rloc, mtu: u16) {
        let known = self.path_mtus.contains_key(&rloc);
        if !self.cache.uses(&rloc) || (!known && self.path_mtus.len() >= MAX_PATH_MTUS) {
            cx.drop(DropReason::PathMtuUnknown, None);
            return;
        }
        let least = match rloc {
            IpAddr::V4(_) => MIN_PATH_MTU_IPV4,
            IpAddr::V6(_) => MIN_PATH_MTU_IPV6,
        };
        let mtu = mtu.max(least);
        self.path_mtus.insert(rloc, (mtu, now + PATH_MTU_LIFETIME));
        cx.fib(FibUpdate::PathMtu { rloc, mtu: Some(mtu) });
    }
}
