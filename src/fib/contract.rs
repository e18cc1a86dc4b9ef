use std::net::IpAddr;
use std::sync::Arc;

use super::{HeaderOptions, Site, Stats};
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
    /// The prefix is one of this site's own: decapsulated packets to it are delivered, packets from it
    /// encapsulated.
    Local,
}

/// What a proxy tunnel router does for an EID-prefix (RFC 6832).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proxy {
    /// Proxy-ITR (§5): packets to the prefix are encapsulated, whoever sent them.
    Ingress,
    /// Proxy-ETR (§6): decapsulated packets from the prefix are forwarded, wherever they go.
    Egress,
}

/// What EID-prefixes that may move need of the data plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dynamic {
    /// It has moved to another site: though it lies in a prefix of this one, it is not local. Packets to it
    /// that still come here are sent on, whoever sent them.
    Away,
    /// Hosts in it may turn up: the control plane is told of packets that they send.
    Watched,
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
    /// Be, or no longer be, a proxy for `prefix`. Independent of the prefix's entry.
    Proxy {
        /// Which EIDs.
        prefix: EidPrefix,
        /// In which direction.
        proxy: Proxy,
        /// Whether from now on, or no longer.
        present: bool,
    },
    /// Treat `prefix` as one that may move, or no longer. Independent of the prefix's entry.
    Dynamic {
        /// Which EIDs.
        prefix: EidPrefix,
        /// In which way.
        what: Dynamic,
        /// Whether from now on, or no longer.
        present: bool,
    },
    /// Packets to `rloc` may be at most `mtu` bytes on the underlay, outer headers included. `None`: no known
    /// limit.
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
    /// What LISP headers say, and which checks received packets pass, from now on.
    Options(HeaderOptions),
    /// What LISP headers say of the site of `prefix` or are checked against, until it is said anew or the
    /// prefix is removed. For every entry that is set while [`HeaderOptions::any`] holds.
    Site {
        /// Which entry.
        prefix: EidPrefix,
        /// What is known.
        site: Arc<Site>,
    },
    /// Packets to `rloc` ask for this nonce (24 bits) to be echoed, or for none any more. Takes effect at
    /// once.
    EchoRequest {
        /// Remote locator.
        rloc: Rloc,
        /// The nonce, which no other locator has at the moment.
        nonce: Option<u32>,
    },
}

/// A packet that needs the control plane's attention. The packet itself is never handed over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Punt {
    /// No entry covers `destination`, or a send-map-request entry does. Punted once per destination until the
    /// FIB covers it or [`FibUpdate::Unpend`] says so.
    Miss {
        /// Inner source.
        source: IpAddr,
        /// Inner destination, with its instance.
        destination: Eid,
    },
    /// A host of the site sends from an EID that is [watched](Dynamic::Watched) and not local. Once in some
    /// seconds for each EID, and for a bounded number of them.
    NewSource {
        /// The EID, with its instance.
        source: Eid,
    },
    /// A data packet came for an EID that is [away](Dynamic::Away), and was sent on: who sent it does not
    /// know that yet. Once in some seconds for each sender.
    Redirected {
        /// Inner destination, with its instance.
        destination: Eid,
        /// Outer source.
        rloc: Rloc,
    },
    /// The underlay said that datagrams to `rloc` may be at most `mtu` bytes.
    PathMtu {
        /// Remote locator.
        rloc: Rloc,
        /// Bytes, outer IP header included.
        mtu: u16,
    },
    /// The underlay said that `rloc` is unreachable (ICMP net, host or port unreachable), or our kernel has
    /// no route.
    Unreachable {
        /// Remote locator.
        rloc: Rloc,
    },
    /// A data packet came from an EID that no entry covers, and an option wants to know: the source check, or
    /// gleaning. Once in some seconds for each EID, and for a bounded number of them.
    Unverified {
        /// Inner source, with its instance.
        source: Eid,
        /// Inner destination: one of our EIDs.
        destination: IpAddr,
        /// Outer source, which the underlay may have let somebody forge.
        rloc: Rloc,
    },
    /// The locator-status-bits of a site changed, says a packet from a locator of its mapping. At most once a
    /// second for each site.
    LocatorStatus {
        /// Inner source, with its instance.
        source: Eid,
        /// Outer source.
        rloc: Rloc,
        /// One bit for each of the mapping's first 32 locators, or 8 in an instance other than the default
        /// one: the first one's is the least significant; set = up. Those of locators that it can't speak of
        /// are set.
        status: u32,
    },
    /// A packet was sent to one of our EIDs after an old version of its mapping. At most once in three
    /// seconds for each site that sends.
    StaleVersion {
        /// Inner source, with its instance.
        source: Eid,
        /// Inner destination: one of our EIDs.
        destination: IpAddr,
        /// Outer source.
        rloc: Rloc,
    },
    /// The mapping of `source` has a newer version than the one that we know. At most once a second for each
    /// site.
    NewVersion {
        /// Inner source, with its instance.
        source: Eid,
    },
    /// Packets go to `rloc` and others come from its site, but for a while none has shown that those arrive.
    /// At most once in the interval of [`HeaderOptions::echo_nonce`] for each locator.
    EchoDue {
        /// Remote locator.
        rloc: Rloc,
        /// An EID of the site, with its instance.
        eid: Eid,
    },
    /// The nonce that packets to `rloc` asked for came back. Once for each [`FibUpdate::EchoRequest`].
    Echoed {
        /// Remote locator.
        rloc: Rloc,
    },
}

impl Punt {
    /// Whether it is about the LISP header, or the outer source, of a received packet: what [`HeaderOptions`]
    /// has watched for.
    pub const fn is_of_header(&self) -> bool {
        !matches!(
            self,
            Self::Miss { .. }
                | Self::PathMtu { .. }
                | Self::Unreachable { .. }
                | Self::NewSource { .. }
                | Self::Redirected { .. }
        )
    }
}
