use std::net::IpAddr;
use std::sync::Arc;

use super::Stats;
use crate::types::{Action, Eid, EidPrefix, Rloc};

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
