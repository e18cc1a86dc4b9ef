use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::types::{Action, Eid, EidPrefix, Instant, Rloc};

/// One way to a site: a remote locator and the local address that packets to it leave from.
#[derive(Clone, Debug)]
pub struct Path {
    /// The remote locator: outer destination.
    pub rloc: Rloc,
    /// Outer source, one of our own locators of the same family.
    pub source: Rloc,
    /// Lowest wins. Paths with priority 255, and dead ones, are never put here.
    pub priority: u8,
    /// Share among the paths of equal priority; all 0 = evenly.
    pub weight: u8,
    /// Counters of this path, shared with the map-cache entry that it came from.
    pub stats: Arc<Stats>,
}

/// What happens to packets whose destination EID matches a prefix.
#[derive(Clone, Debug)]
pub enum FibAction {
    /// Encapsulate towards one of these paths. Never empty.
    Forward(Vec<Path>),
    /// There are no locators.
    Negative(Action),
    /// The prefix is one of this site's own: decapsulated packets to it are delivered, packets from it encapsulated.
    Local,
}

/// A change of the FIB, from control plane to data plane. Idempotent; later ones win.
#[derive(Clone, Debug)]
pub enum FibUpdate {
    /// Add or replace the entry of `prefix`.
    Set {
        /// Which entry.
        prefix: EidPrefix,
        /// Its new action.
        action: FibAction,
        /// Its counters: the same `Arc` over all updates of one map-cache entry, so that counting goes on.
        stats: Arc<Stats>,
    },
    /// Remove the entry of exactly `prefix`, if there is one.
    Remove {
        /// Which entry.
        prefix: EidPrefix,
    },
    /// Packets to `rloc` may be at most `mtu` bytes on the underlay, outer headers included. `None`: no known limit.
    PathMtu {
        /// Remote locator.
        rloc: Rloc,
        /// Bytes.
        mtu: Option<u16>,
    },
    /// A pending resolution of `eid` ended without an entry: its next packet may be punted again.
    Unpend {
        /// The destination that was punted.
        eid: Eid,
    },
}

/// A packet that needs the control plane's attention. The packet itself is never handed over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Punt {
    /// No entry covers `destination`, or a send-map-request entry does. Punted once per destination until the FIB
    /// covers it or [`FibUpdate::Unpend`] says so.
    Miss {
        /// Inner source.
        source: IpAddr,
        /// Inner destination, with its instance.
        destination: Eid,
    },
    /// The underlay said that datagrams to `rloc` may be at most `mtu` bytes.
    PathMtu {
        /// Remote locator.
        rloc: Rloc,
        /// Bytes, outer IP header included.
        mtu: u16,
    },
    /// The underlay said that `rloc` is unreachable (ICMP net, host or port unreachable).
    Unreachable {
        /// Remote locator.
        rloc: Rloc,
    },
}

/// Counters of a FIB entry or of a path: written by the data plane, read by the control plane at any time.
#[derive(Debug, Default)]
pub struct Stats {
    packets: AtomicU64,
    bytes: AtomicU64,
    last_used: AtomicU64,
}

impl Stats {
    /// Counts packets, and bytes of inner packets, at `now`.
    pub fn record(&self, packets: u64, bytes: u64, now: Instant) {
        self.packets.fetch_add(packets, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.last_used.store(now.as_nanos(), Ordering::Relaxed);
    }

    /// Packets so far.
    pub fn packets(&self) -> u64 {
        self.packets.load(Ordering::Relaxed)
    }

    /// Bytes of inner packets so far.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// When a packet was last counted; `None` before the first.
    pub fn last_used(&self) -> Option<Instant> {
        match self.last_used.load(Ordering::Relaxed) {
            0 => None,
            nanos => Some(Instant::from_nanos(nanos)),
        }
    }
}
