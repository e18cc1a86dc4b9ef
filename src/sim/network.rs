//! One run: the event loop, and what happens to packets, nodes and links.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use rand::RngExt as _;
use rand::rngs::StdRng;

use super::host::{Application, Host};
use super::lan::{Lan, Switch};
use super::link::{Direction, Refused};
use super::log::{Entry, Fingerprint};
use super::packet::{self, Content, Kind, Packet, Said};
use super::queue::EventQueue;
use super::random::{Popularity, Seed};
use super::router::{Out, Router, Workshop};
use super::scenario::{Broken, ChurnSpec, FaultSpec, LinkSpec, TrafficSpec};
use super::study::Observer;
use super::tally::{Figures, Lost, Tally, type_name};
use super::topology::{LinkId, NodeId, Topology};
use crate::proto::control::{Command, Input};
use crate::types::Instant;

/// Something that happens at a time.
#[derive(Debug)]
pub(super) enum Event {
    /// A packet comes to the end of a link, which must not have been cut since.
    Arrive {
        link: LinkId,
        cuts: u32,
        node: NodeId,
        packet: Box<Packet>,
    },
    /// A router's machines want to be called.
    Timer(NodeId),
    /// An application sends.
    Send(u32),
    /// A fault begins, or ends.
    Fault(usize, bool),
    /// A router of a fleet crashes; or one of those that did starts again.
    Churn(usize),
    Restart(NodeId),
}

/// A node.
pub(super) struct Node {
    pub(super) name: String,
    pub(super) group: String,
    pub(super) kind: Role,
    pub(super) up: bool,
    /// When its timer event is due.
    pub(super) timer: Option<Instant>,
    /// How often it was started.
    pub(super) starts: u32,
    pub(super) tally: Tally,
}

/// What a node does with packets.
pub(super) enum Role {
    Core,
    Switch(Switch),
    /// With its site, if it is a tunnel router.
    Router(Box<Router>, Option<usize>),
    Host(Host),
}

/// A link as it is now.
pub(super) struct Link {
    pub(super) spec: LinkSpec,
    /// From the first end to the second, and back.
    pub(super) directions: [Direction; 2],
    /// How many things keep it down: it may be cut by itself and as one of its end's.
    pub(super) down: u32,
    /// How often it was cut.
    pub(super) cuts: u32,
    /// Whether it is part of a site's LAN, that is whether broadcasts go by it.
    pub(super) lan: bool,
}

/// A run under way.
pub(super) struct Network {
    pub(super) now: Instant,
    pub(super) end: Instant,
    pub(super) seed: Seed,
    pub(super) queue: EventQueue<Event>,
    pub(super) nodes: Vec<Node>,
    pub(super) links: Vec<Link>,
    pub(super) topology: Topology,
    /// Addresses of routers, and whether that is on the LAN of their site.
    pub(super) owners: BTreeMap<IpAddr, (NodeId, bool)>,
    pub(super) sites: Vec<Lan>,
    pub(super) traffic: Vec<(TrafficSpec, Popularity)>,
    pub(super) applications: Vec<Application>,
    pub(super) faults: Vec<FaultSpec>,
    pub(super) churn: Vec<(ChurnSpec, StdRng)>,
    pub(super) workshop: Workshop,
    pub(super) fingerprint: Fingerprint,
    pub(super) events: u64,
    /// What was logged, for its count; empty where nobody wants it.
    pub(super) counts: BTreeMap<(NodeId, &'static str, &'static str), u64>,
}

/// Events between two calls of [`Observer::progress`].
const PROGRESS: u64 = 1 << 18;

impl Network {
    /// Runs to the end.
    pub(super) fn run(&mut self, observer: &mut dyn Observer) {
        while let Some((at, event)) = self.queue.pop(self.end) {
            self.now = at;
            self.events += 1;
            if self.events.is_multiple_of(PROGRESS) {
                observer.progress(at);
            }
            self.fingerprint.add(at.as_nanos());
            match event {
                Event::Arrive { link, cuts, node, packet } => self.arrive(link, cuts, node, packet, observer),
                Event::Timer(id) => self.timer(id, observer),
                Event::Send(application) => self.application(application, observer),
                Event::Fault(fault, begins) => self.fault(fault, begins, observer),
                Event::Churn(churn) => self.crash_one(churn, observer),
                Event::Restart(node) => self.restart(node, observer),
            }
        }
        self.now = self.end;
    }

    /// The figures of every group.
    pub(super) fn figures(&self) -> BTreeMap<String, Figures> {
        let mut groups: BTreeMap<String, Figures> = BTreeMap::new();
        for node in &self.nodes {
            let router = match &node.kind {
                Role::Router(router, _) => Some(&**router),
                _ => None,
            };
            let figures = groups.entry(node.group.clone()).or_default();
            node.tally.add_to(figures, router, matches!(node.kind, Role::Host(_)));
        }
        for figures in groups.values_mut() {
            let get = |name: &str| figures.get(name).copied().unwrap_or_default();
            if let Some(ppm) = (get("itr-dropped/no-mapping") * 1_000_000).checked_div(get("from-site")) {
                figures.insert("miss-rate-ppm".into(), ppm);
            }
        }
        groups
    }

    pub(super) fn note(
        &mut self,
        observer: &mut dyn Observer,
        id: NodeId,
        what: &'static str,
        kind: &'static str,
        len: usize,
    ) {
        self.fingerprint.add(u64::from(id) << 32 | len as u64);
        self.fingerprint.add_bytes(what.as_bytes());
        self.fingerprint.add_bytes(kind.as_bytes());
        if observer.wants_log() {
            let node = self.nodes.get(id as usize).map_or("", |n| &n.name);
            let count = self.counts.entry((id, what, kind)).or_default();
            *count += 1;
            observer.log(&Entry { at: self.now, node, what, kind, len, count: *count });
        }
    }

    pub(super) fn lose(&mut self, observer: &mut dyn Observer, id: NodeId, why: Lost, len: usize) {
        if let Some(node) = self.nodes.get_mut(id as usize) {
            node.tally.lost(why);
        }
        self.note(observer, id, "lost", why.name(), len);
    }

    /// A packet leaves `from`, by the link that leads to where it is to go.
    fn send(&mut self, from: NodeId, packet: Box<Packet>, observer: &mut dyn Observer) {
        let len = packet.len();
        if packet.to == from {
            return self.deliver(from, *packet, observer);
        }
        let Some(id) = self.topology.next(from, packet.to, packet.through()) else {
            return self.lose(observer, from, Lost::Route, len);
        };
        self.transmit(from, id, packet, observer);
    }

    /// A packet leaves `from` by a link.
    pub(super) fn transmit(
        &mut self,
        from: NodeId,
        id: LinkId,
        packet: Box<Packet>,
        observer: &mut dyn Observer,
    ) {
        let len = packet.len();
        let Some(link) = self.links.get_mut(id as usize) else { return };
        if link.down > 0 {
            return self.lose(observer, from, Lost::Link, len);
        }
        let (a, b) = link.spec.between;
        let (direction, node) = if from == a { (0, b) } else { (1, a) };
        let cuts = link.cuts;
        let Some(direction) = link.directions.get_mut(direction) else { return };
        match direction.offer(&link.spec.profile, self.now, len) {
            Ok(arrivals) => {
                let (last, copies) = arrivals.split_last().map_or((self.now, &[][..]), |(l, c)| (*l, c));
                for &at in copies {
                    let packet = packet.clone();
                    self.queue.push(at, Event::Arrive { link: id, cuts, node, packet });
                }
                self.queue.push(last, Event::Arrive { link: id, cuts, node, packet });
            }
            Err(Refused::Queue) => self.lose(observer, from, Lost::Queue, len),
            Err(Refused::Loss) => self.lose(observer, from, Lost::Loss, len),
        }
    }

    fn arrive(
        &mut self,
        link: LinkId,
        cuts: u32,
        id: NodeId,
        mut packet: Box<Packet>,
        observer: &mut dyn Observer,
    ) {
        let len = packet.len();
        if self.links.get(link as usize).is_none_or(|l| l.cuts != cuts || l.down > 0) {
            return self.lose(observer, id, Lost::Link, len);
        }
        let Some(node) = self.nodes.get(id as usize) else { return };
        if !node.up {
            return self.lose(observer, id, Lost::Node, len);
        }
        if matches!(packet.content, Content::Frame(_) | Content::Gateway(..)) {
            return self.on_lan(id, link, packet, observer);
        }
        if packet.to == id {
            return self.deliver(id, *packet, observer);
        }
        if let Role::Core = node.kind {
            if packet.ttl <= 1 {
                return self.lose(observer, id, Lost::Ttl, len);
            }
            packet.ttl -= 1;
        }
        self.send(id, packet, observer);
    }

    /// A packet is where it was to go.
    pub(super) fn deliver(&mut self, id: NodeId, packet: Packet, observer: &mut dyn Observer) {
        let len = packet.len();
        let (now, workshop) = (self.now, &mut self.workshop);
        let Some(node) = self.nodes.get_mut(id as usize) else { return };
        let mut out = Out::default();
        match (&mut node.kind, packet.content) {
            (Role::Router(router, _), Content::Control(from, to)) => {
                node.tally.received(&packet.bytes, len);
                let source = SocketAddr::new(packet.source, from);
                let destination = SocketAddr::new(packet.destination, to);
                router.handle(now, Input::Datagram { source, destination, payload: &packet.bytes }, &mut out);
                let kind = type_name(&packet.bytes);
                self.fingerprint.add_bytes(&packet.bytes);
                self.note(observer, id, "received", kind, len);
                self.act(id, out, observer);
            }
            (Role::Router(router, Some(site)), Content::Site) => {
                node.tally.from_site += 1;
                let mut packets = Vec::new();
                let punted = router.encapsulate(now, &packet.bytes, workshop, &mut packets, &mut out);
                let what = if packets.is_empty() { "itr-dropped" } else { "encapsulated" };
                if let Some(lan) = self.sites.get_mut(*site).filter(|lan| lan.gateways.len() > 1) {
                    if !packets.is_empty() {
                        lan.reached.insert(packet.destination);
                    } else if lan.reached.contains(&packet.destination) {
                        node.tally.dropped_known += 1;
                    }
                }
                self.note(observer, id, what, "data", len);
                for packet in packets {
                    self.launch(id, packet, observer);
                }
                if punted {
                    self.act(id, out, observer);
                }
            }
            (Role::Router(router, Some(site)), Content::Data) => {
                let site = *site;
                let mut inner = Vec::new();
                let punted = router.decapsulate(now, packet, workshop, &mut inner, &mut out);
                let what = if inner.is_empty() { "etr-dropped" } else { "decapsulated" };
                self.note(observer, id, what, "data", len);
                for bytes in inner {
                    self.give_host(id, site, bytes, observer);
                }
                if punted {
                    self.act(id, out, observer);
                }
            }
            (Role::Host(_), Content::Site) => self.heard(id, &packet.bytes, observer),
            _ => self.lose(observer, id, Lost::Host, len),
        }
    }

    /// What a router decided to send, and when it wants to be called again.
    pub(super) fn act(&mut self, id: NodeId, out: Out, observer: &mut dyn Observer) {
        for transmit in out.transmits {
            let Some(Node { kind: Role::Router(router, _), tally, .. }) = self.nodes.get_mut(id as usize)
            else {
                return;
            };
            let Some(packet) = router.packet(transmit) else { continue };
            let len = packet.len();
            tally.sent(&packet.bytes, len);
            let kind = type_name(&packet.bytes);
            self.fingerprint.add_bytes(&packet.bytes);
            self.note(observer, id, "sent", kind, len);
            self.launch(id, packet, observer);
        }
        self.act_on_lan(id, out.frames, &out.masters, observer);
        let Some(node) = self.nodes.get_mut(id as usize) else { return };
        if let Role::Router(router, _) = &node.kind
            && let Some(at) = router.poll_timeout()
            && node.timer.is_none_or(|timer| at < timer)
        {
            // Never in the past, whatever a machine says.
            let at = at.max(self.now);
            node.timer = Some(at);
            self.queue.push(at, Event::Timer(id));
        }
    }

    /// A packet of the underlay starts on its way.
    fn launch(&mut self, id: NodeId, mut packet: Packet, observer: &mut dyn Observer) {
        match self.owners.get(&packet.destination) {
            Some((owner, lan)) => {
                (packet.to, packet.lan) = (*owner, *lan);
                self.send(id, Box::new(packet), observer);
            }
            None => self.lose(observer, id, Lost::Route, packet.len()),
        }
    }

    /// A packet for a host of the site.
    fn give_host(&mut self, id: NodeId, site: usize, bytes: Vec<u8>, observer: &mut dyn Observer) {
        let Ok(inner) = crate::wire::ip::Inner::parse(&bytes) else { return };
        let host = self.sites.get(site).into_iter().flat_map(|lan| &lan.hosts).copied().find(|host| {
            let node = self.nodes.get(*host as usize);
            node.is_some_and(|n| matches!(&n.kind, Role::Host(h) if h.has(&inner.destination)))
        });
        match host {
            Some(host) => self.send(id, Box::new(site_packet(host, inner.destination, bytes)), observer),
            None => self.lose(observer, id, Lost::Host, bytes.len()),
        }
    }

    /// A host has a packet for somebody elsewhere.
    fn send_for_host(
        &mut self,
        id: NodeId,
        destination: IpAddr,
        bytes: Vec<u8>,
        observer: &mut dyn Observer,
    ) {
        let Some(node) = self.nodes.get_mut(id as usize) else { return };
        let Role::Host(host) = &node.kind else { return };
        node.tally.host_sent += 1;
        let Some(lan) = self.sites.get(host.site) else { return };
        if let Some(mac) = lan.virtual_router(&destination) {
            return self.send_to_gateway(id, mac, site_packet(id, destination, bytes), observer);
        }
        let Some(gateway) = lan.gateways.first() else {
            return self.lose(observer, id, Lost::Route, bytes.len());
        };
        self.send(id, Box::new(site_packet(*gateway, destination, bytes)), observer);
    }

    /// A host gets a packet: it answers it, or notes that it came.
    fn heard(&mut self, id: NodeId, bytes: &[u8], observer: &mut dyn Observer) {
        let now = self.now;
        let Some(node) = self.nodes.get_mut(id as usize) else { return };
        node.tally.host_received += 1;
        self.note(observer, id, "delivered", "data", bytes.len());
        let Some((inner, said)) = packet::read(bytes) else { return };
        if said.kind == Kind::Ping {
            let size = bytes.len().saturating_sub(inner.transport + 8);
            let answer = Said { kind: Kind::Pong, ..said };
            if let Some(bytes) = packet::build(inner.destination, inner.source, answer, size) {
                self.send_for_host(id, inner.source, bytes, observer);
            }
            return;
        }
        let Some(application) = self.applications.get_mut(said.application as usize) else { return };
        let gap = application.heard.map(|last| now.saturating_since(last));
        application.heard = Some(now);
        let Some(node) = self.nodes.get_mut(application.host as usize) else { return };
        match said.kind {
            Kind::Pong => node.tally.pings_answered += 1,
            _ => node.tally.datagrams_arrived += 1,
        }
        node.tally.longest_gap = node.tally.longest_gap.max(gap.unwrap_or_default());
    }

    fn application(&mut self, number: u32, observer: &mut dyn Observer) {
        let Some(application) = self.applications.get_mut(number as usize) else { return };
        let Some((spec, popularity)) = self.traffic.get(application.spec) else { return };
        if spec.stop.is_some_and(|stop| self.now >= Instant::ZERO + stop) {
            return;
        }
        let at = application.next(spec, self.now).max(self.now + Duration::from_nanos(1));
        self.queue.push(at, Event::Send(number));
        let id = application.host;
        let Some(Node { kind: Role::Host(host), tally, up: true, .. }) = self.nodes.get_mut(id as usize)
        else {
            return;
        };
        let local = self.sites.get(host.site).map_or(&[][..], |lan| &lan.prefixes);
        let Some(bytes) = application.packet(spec, popularity, host, local) else { return };
        let Some((inner, said)) = packet::read(&bytes) else { return };
        match said.kind {
            Kind::Datagram => tally.datagrams += 1,
            _ => tally.pings += 1,
        }
        self.send_for_host(id, inner.destination, bytes, observer);
    }

    fn timer(&mut self, id: NodeId, observer: &mut dyn Observer) {
        let now = self.now;
        let Some(node) = self.nodes.get_mut(id as usize) else { return };
        if node.timer != Some(now) {
            // Overtaken by an earlier one.
            return;
        }
        node.timer = None;
        let (true, Role::Router(router, _)) = (node.up, &mut node.kind) else { return };
        let mut out = Out::default();
        router.handle_timeout(now, &mut out);
        self.act(id, out, observer);
    }

    fn fault(&mut self, number: usize, begins: bool, observer: &mut dyn Observer) {
        let Some(fault) = self.faults.get(number) else { return };
        match fault.what {
            Broken::Link(link) => self.cut(link, begins, observer),
            Broken::Links(node, forget) => {
                let links: Vec<_> = self.topology.links_of(node).map(|(link, _)| link).collect();
                links.into_iter().for_each(|link| self.cut(link, begins, observer));
                if !begins && forget {
                    self.command(node, Command::ClearMapCache(None), observer);
                }
            }
            Broken::Stop(node) if begins => {
                self.stop(node, observer);
                self.crash(node, observer);
            }
            Broken::Node(node) if begins => self.crash(node, observer),
            Broken::Node(node) | Broken::Stop(node) => self.restart(node, observer),
        }
    }

    fn command(&mut self, id: NodeId, command: Command, observer: &mut dyn Observer) {
        let now = self.now;
        let Some(Node { kind: Role::Router(router, _), up: true, .. }) = self.nodes.get_mut(id as usize)
        else {
            return;
        };
        let mut out = Out::default();
        router.handle(now, Input::Command(command), &mut out);
        self.act(id, out, observer);
    }

    /// One more thing keeps a link down, or one less.
    fn cut(&mut self, id: LinkId, begins: bool, observer: &mut dyn Observer) {
        let Some(link) = self.links.get_mut(id as usize) else { return };
        let before = link.down;
        link.down = if begins { before + 1 } else { before.saturating_sub(1) };
        if begins {
            link.cuts += 1;
            link.directions.iter_mut().for_each(Direction::reset);
        }
        if (before == 0) == (link.down == 0) {
            return;
        }
        let (a, b) = link.spec.between;
        self.note(observer, a, if begins { "link-cut" } else { "link-restored" }, "fault", 0);
        for end in [a, b] {
            self.forget_port(end, id);
            self.carrier(end, observer);
        }
    }

    /// A router's interface to the underlay is up as long as any link to a core router is; the one to its
    /// site, as long as any link of the LAN is.
    fn carrier(&mut self, id: NodeId, observer: &mut dyn Observer) {
        let (mut underlay, mut lan) = (None, None);
        for (link, other) in self.topology.links_of(id) {
            let Some(link) = self.links.get(link as usize) else { continue };
            let is_core = matches!(self.nodes.get(other as usize).map(|n| &n.kind), Some(Role::Core));
            let interface = match (is_core, link.lan) {
                (true, _) => &mut underlay,
                (false, true) => &mut lan,
                (false, false) => continue,
            };
            *interface = Some(interface.unwrap_or(false) || link.down == 0);
        }
        let now = self.now;
        let Some(Node { kind: Role::Router(router, _), up: true, .. }) = self.nodes.get_mut(id as usize)
        else {
            return;
        };
        let mut out = Out::default();
        if let Some(up) = underlay {
            router.set_up(now, up, &mut out);
        }
        if let Some(up) = lan {
            router.set_lan(now, up, &mut out);
        }
        self.act(id, out, observer);
    }

    /// A router that is shut down has a last word.
    fn stop(&mut self, id: NodeId, observer: &mut dyn Observer) {
        let Some(Node { kind: Role::Router(router, _), up: true, .. }) = self.nodes.get_mut(id as usize)
        else {
            return;
        };
        let mut out = Out::default();
        router.stop(&mut out);
        self.act(id, out, observer);
    }

    fn crash(&mut self, id: NodeId, observer: &mut dyn Observer) {
        let Some(node) = self.nodes.get_mut(id as usize).filter(|n| n.up) else { return };
        node.up = false;
        node.tally.crashes += 1;
        self.note(observer, id, "crashed", "fault", 0);
    }

    fn restart(&mut self, id: NodeId, observer: &mut dyn Observer) {
        let now = self.now;
        let Some(node) = self.nodes.get_mut(id as usize).filter(|n| !n.up) else { return };
        node.up = true;
        node.starts += 1;
        node.timer = None;
        let mut out = Out::default();
        if let Role::Router(router, _) = &mut node.kind {
            let rng = self.seed.rng(&format!("node {}, start {}", node.name, node.starts));
            router.restart(rng, now, &mut out);
        }
        self.note(observer, id, "started", "fault", 0);
        self.act(id, out, observer);
        // It may have been cut off meanwhile.
        self.carrier(id, observer);
    }

    fn crash_one(&mut self, number: usize, observer: &mut dyn Observer) {
        let Some((spec, rng)) = self.churn.get_mut(number) else { return };
        self.queue.push(self.now + spec.interval, Event::Churn(number));
        if spec.nodes.is_empty() {
            return;
        }
        let Some(&id) = spec.nodes.get(rng.random_range(0..spec.nodes.len())) else { return };
        let down = spec.down;
        if self.nodes.get(id as usize).is_some_and(|n| n.up) {
            self.crash(id, observer);
            self.queue.push(self.now + down, Event::Restart(id));
        }
    }
}

fn site_packet(to: NodeId, destination: IpAddr, bytes: Vec<u8>) -> Packet {
    Packet { to, lan: true, source: destination, destination, ttl: 64, tos: 0, content: Content::Site, bytes }
}
