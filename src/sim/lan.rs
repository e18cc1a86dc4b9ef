//! A site's LAN: virtual routers' frames, the switches that learn from them, and what hosts send to a virtual
//! router.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use smallvec::SmallVec;

use super::network::{Network, Node, Role};
use super::packet::{Content, FrameKind, Mac, Packet};
use super::router::Out;
use super::study::Observer;
use super::tally::Lost;
use super::topology::{LinkId, NodeId};
use crate::types::Family;

/// A site as its hosts see it.
pub(super) struct Lan {
    pub(super) prefixes: Vec<IpNet>,
    pub(super) hosts: Vec<NodeId>,
    /// Its tunnel routers.
    pub(super) gateways: Vec<NodeId>,
    /// The MAC addresses of its virtual routers.
    pub(super) virtual_routers: Vec<Mac>,
    /// Destinations that any of several tunnel routers has sent packets to.
    pub(super) reached: BTreeSet<IpAddr>,
}

impl Lan {
    /// The virtual router that packets to `destination` are sent to; `None` = they go to the first tunnel
    /// router.
    pub(super) fn virtual_router(&self, destination: &IpAddr) -> Option<Mac> {
        // RFC 9568 §7.3.
        let part = match Family::of(destination) {
            Family::Ipv4 => 1,
            Family::Ipv6 => 2,
        };
        self.virtual_routers.iter().copied().find(|[.., family, _]| *family == part)
    }
}

/// A switch.
#[derive(Debug, Default)]
pub(super) struct Switch {
    /// By which link each virtual router was heard last.
    learnt: BTreeMap<Mac, LinkId>,
}

impl Network {
    /// A host sends to a virtual router.
    pub(super) fn send_to_gateway(
        &mut self,
        id: NodeId,
        mac: Mac,
        mut packet: Packet,
        observer: &mut dyn Observer,
    ) {
        let links = self.ports(id, None);
        packet.content = Content::Gateway(mac, links.len() > 1);
        if links.is_empty() {
            return self.lose(observer, id, Lost::Link, packet.len());
        }
        self.flood(id, &links, &packet, observer);
    }

    /// Something that goes by MAC address came in by a link.
    pub(super) fn on_lan(
        &mut self,
        id: NodeId,
        link: LinkId,
        mut packet: Box<Packet>,
        observer: &mut dyn Observer,
    ) {
        let (now, len) = (self.now, packet.len());
        let Some(node) = self.nodes.get_mut(id as usize) else { return };
        match (&mut node.kind, packet.content) {
            (Role::Switch(switch), Content::Frame(_)) => {
                if let Some(mac) = packet.sender() {
                    switch.learnt.insert(mac, link);
                }
                let links = self.ports(id, Some(link));
                self.flood(id, &links, &packet, observer);
            }
            (Role::Switch(switch), Content::Gateway(mac, _)) => match switch.learnt.get(&mac) {
                Some(port) if *port == link => {}
                Some(port) => {
                    let port = *port;
                    self.transmit(id, port, packet, observer);
                }
                None => {
                    packet.content = Content::Gateway(mac, true);
                    let links = self.ports(id, Some(link));
                    self.flood(id, &links, &packet, observer);
                }
            },
            (Role::Router(router, Some(_)), Content::Frame(kind @ FrameKind::Advertisement)) => {
                if !router.is_virtual() {
                    return;
                }
                node.tally.vrrp_received.0 += 1;
                node.tally.vrrp_received.1 += len as u64;
                let mut out = Out::default();
                router.frame(now, &packet.bytes, &mut out);
                self.fingerprint.add_bytes(&packet.bytes);
                self.note(observer, id, "received", kind.name(), len);
                self.act(id, out, observer);
            }
            (Role::Router(router, Some(_)), Content::Gateway(mac, flooded)) => {
                if router.answers(&mac) {
                    packet.content = Content::Site;
                    self.deliver(id, *packet, observer);
                } else if !flooded {
                    self.lose(observer, id, Lost::Gateway, len);
                }
            }
            // Heard by everybody, meant for others.
            _ => {}
        }
    }

    /// What a router's virtual routers decided.
    pub(super) fn act_on_lan(
        &mut self,
        id: NodeId,
        frames: Vec<(FrameKind, Vec<u8>)>,
        masters: &[bool],
        observer: &mut dyn Observer,
    ) {
        for &master in masters {
            if let Some(node) = self.nodes.get_mut(id as usize) {
                node.tally.became_master += u64::from(master);
            }
            let what = if master { "became-master" } else { "was-master" };
            self.note(observer, id, what, "vrrp", 0);
        }
        for (kind, bytes) in frames {
            let nobody = IpAddr::from([0; 4]);
            let content = Content::Frame(kind);
            let packet = Packet {
                to: id,
                lan: true,
                source: nobody,
                destination: nobody,
                ttl: 255,
                tos: 0,
                content,
                bytes,
            };
            let len = packet.len();
            if let Some(Node { tally, .. }) = self.nodes.get_mut(id as usize)
                && kind == FrameKind::Advertisement
            {
                tally.vrrp_sent.0 += 1;
                tally.vrrp_sent.1 += len as u64;
            }
            self.fingerprint.add_bytes(&packet.bytes);
            self.note(observer, id, "sent", kind.name(), len);
            let links = self.ports(id, None);
            self.flood(id, &links, &packet, observer);
        }
    }

    /// A switch forgets what it learnt by a link that went down.
    pub(super) fn forget_port(&mut self, id: NodeId, link: LinkId) {
        if let Some(Node { kind: Role::Switch(switch), .. }) = self.nodes.get_mut(id as usize) {
            switch.learnt.retain(|_, port| *port != link);
        }
    }

    /// The links of a node that belong to a LAN and are up, but for the one that something came by.
    fn ports(&self, id: NodeId, came: Option<LinkId>) -> SmallVec<[LinkId; 8]> {
        let is_port = |link: &LinkId| self.links.get(*link as usize).is_some_and(|l| l.lan && l.down == 0);
        self.topology
            .links_of(id)
            .map(|(link, _)| link)
            .filter(|link| Some(*link) != came && is_port(link))
            .collect()
    }

    fn flood(&mut self, id: NodeId, links: &[LinkId], packet: &Packet, observer: &mut dyn Observer) {
        for link in links {
            self.transmit(id, *link, Box::new(packet.clone()), observer);
        }
    }
}
