//! What is counted of a node, and under which names the figures are shown.

use std::collections::BTreeMap;
use std::time::Duration;

use super::router::{Router, is_itr};
use crate::dataplane::{Count, DropReason};
use crate::wire::{CACHE_SYNC, CACHE_SYNC_ACK};

/// Figures of a group of nodes, by name. Names don't change; `control-sent/map-request` is a part of
/// `control-sent`.
pub type Figures = BTreeMap<String, u64>;

/// Why the network, not a router's data plane, lost a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lost {
    /// A link's queue was full.
    Queue,
    /// A link lost it.
    Loss,
    /// A link was cut.
    Link,
    /// The node was down.
    Node,
    /// There is no way to its destination.
    Route,
    /// Its TTL was used up.
    Ttl,
    /// No host has its destination address.
    Host,
    /// The router that it was sent to is the site's gateway no longer.
    Gateway,
}

impl Lost {
    pub(super) const ALL: [Self; 8] =
        [Self::Queue, Self::Loss, Self::Link, Self::Node, Self::Route, Self::Ttl, Self::Host, Self::Gateway];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Queue => "queue-full",
            Self::Loss => "link-loss",
            Self::Link => "link-cut",
            Self::Node => "node-down",
            Self::Route => "no-route",
            Self::Ttl => "ttl-expired",
            Self::Host => "no-host",
            Self::Gateway => "not-gateway",
        }
    }
}

/// Message types are 4 bits, and those of map-cache synchronisation are told apart.
const TYPES: usize = 18;

/// What one node did.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    /// Control messages sent, and their bytes as IP packets, by type.
    sent: [(u64, u64); TYPES],
    received: [(u64, u64); TYPES],
    /// Packets that were lost here.
    lost: [u64; Lost::ALL.len()],
    /// Packets that came from hosts of the site.
    pub(super) from_site: u64,
    /// Packets that hosts sent and got.
    pub(super) host_sent: u64,
    pub(super) host_received: u64,
    /// Of applications on this host.
    pub(super) pings: u64,
    pub(super) pings_answered: u64,
    pub(super) datagrams: u64,
    pub(super) datagrams_arrived: u64,
    /// The longest time between two packets of one application that arrived one after the other.
    pub(super) longest_gap: Duration,
    /// Packets of the site dropped whose destination a tunnel router of it had sent packets to before.
    pub(super) dropped_known: u64,
    pub(super) crashes: u64,
    /// VRRP advertisements, and their bytes as IP packets.
    pub(super) vrrp_sent: (u64, u64),
    pub(super) vrrp_received: (u64, u64),
    /// How often a virtual router of it became master.
    pub(super) became_master: u64,
}

impl Tally {
    pub(super) fn sent(&mut self, payload: &[u8], len: usize) {
        count(&mut self.sent, payload, len);
    }

    pub(super) fn received(&mut self, payload: &[u8], len: usize) {
        count(&mut self.received, payload, len);
    }

    pub(super) fn lost(&mut self, why: Lost) {
        if let Some(n) = self.lost.get_mut(why as usize) {
            *n += 1;
        }
    }

    /// Adds everything to the figures of the node's group.
    pub(super) fn add_to(&self, figures: &mut Figures, router: Option<&Router>, is_host: bool) {
        let mut add = |name: &str, n: u64| *figures.entry(name.to_owned()).or_default() += n;
        for why in Lost::ALL {
            let n = self.lost.get(why as usize).copied().unwrap_or_default();
            if n > 0 {
                add(&format!("lost/{}", why.name()), n);
            }
        }
        add("lost", self.lost.iter().sum());
        if is_host {
            add("sent", self.host_sent);
            add("received", self.host_received);
            for (name, sent, arrived) in [
                ("pings", self.pings, self.pings_answered),
                ("datagrams", self.datagrams, self.datagrams_arrived),
            ] {
                if sent > 0 {
                    add(&format!("{name}-sent"), sent);
                    add(&format!("{name}-{}", if name == "pings" { "answered" } else { "arrived" }), arrived);
                    add(&format!("{name}-lost"), sent.saturating_sub(arrived));
                }
            }
        }
        let Some(router) = router else {
            if is_host {
                most(figures, "longest-gap-ms", self.longest_gap.as_millis() as u64);
            }
            return;
        };
        for (direction, counted) in [("sent", &self.sent), ("received", &self.received)] {
            let (packets, bytes) = counted.iter().fold((0, 0), |(p, b), n| (p + n.0, b + n.1));
            add(&format!("control-{direction}"), packets);
            add(&format!("control-{direction}-bytes"), bytes);
            for (number, (packets, bytes)) in counted.iter().enumerate().filter(|(_, n)| n.0 > 0) {
                let name = name(number);
                add(&format!("control-{direction}/{name}"), *packets);
                add(&format!("control-{direction}-bytes/{name}"), *bytes);
            }
        }
        let totals = router.totals();
        add("from-site", self.from_site);
        add("itr-dropped-known", self.dropped_known);
        add("encapsulated", totals.counted(Count::EncapsulatedPackets));
        add("decapsulated", totals.counted(Count::DecapsulatedPackets));
        add("crashes", self.crashes);
        if router.is_virtual() {
            add("vrrp-sent", self.vrrp_sent.0);
            add("vrrp-sent-bytes", self.vrrp_sent.1);
            add("vrrp-received", self.vrrp_received.0);
            add("vrrp-received-bytes", self.vrrp_received.1);
            add("vrrp-became-master", self.became_master);
        }
        for &reason in DropReason::ALL {
            let who = if is_itr(reason) { "itr-dropped" } else { "etr-dropped" };
            let n = totals.dropped(reason);
            add(who, n);
            if n > 0 {
                add(&format!("{who}/{reason}"), n);
            }
        }
        most(figures, "map-cache-largest", router.largest_cache as u64);
    }
}

/// Figures of which a group has that of its member with the most.
fn most(figures: &mut Figures, name: &str, n: u64) {
    let entry = figures.entry(name.to_owned()).or_default();
    *entry = (*entry).max(n);
}

fn count(counted: &mut [(u64, u64); TYPES], payload: &[u8], len: usize) {
    if let Some((packets, bytes)) = counted.get_mut(number(payload)) {
        *packets += 1;
        *bytes += len as u64;
    }
}

/// The type of a control message, for people; an encapsulated one counts as what it carries, which can only
/// be a Map-Request (RFC 9301 §5.8).
pub(super) fn type_name(payload: &[u8]) -> &'static str {
    name(number(payload))
}

fn number(payload: &[u8]) -> usize {
    let Some(&[first, second]) = payload.first_chunk() else { return 0 };
    match (first >> 4, u16::from_be_bytes([first & 0xf, second])) {
        (15, CACHE_SYNC) => 16,
        (15, CACHE_SYNC_ACK) => 17,
        (number, _) => usize::from(number),
    }
}

fn name(number: usize) -> &'static str {
    match number {
        1 => "map-request",
        2 => "map-reply",
        3 => "map-register",
        4 => "map-notify",
        5 => "map-notify-ack",
        6 => "map-referral",
        7 => "info",
        8 => "map-request-encapsulated",
        15 => "shared-extension",
        16 => "cache-sync",
        17 => "cache-sync-ack",
        _ => "other",
    }
}
