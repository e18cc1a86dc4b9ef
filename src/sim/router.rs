//! A LISP router of the simulated network: the machines of `proto` and, where it forwards, those of
//! `dataplane`, as they run on a real router, and its virtual routers.
//!
//! Everything that a router does runs through [`Router::handle`], [`Router::encapsulate`],
//! [`Router::decapsulate`] and [`Router::handle_timeout`], and for VRRP through [`Router::set_lan`] and
//! [`Router::frame`]. What comes of it is put into [`Out`].

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use smallvec::SmallVec;

use super::packet::{Content, ETHERNET, FrameKind, Mac, Packet};
use super::scenario::LAN;
use crate::dataplane::{
    Arena, Coalescing, Counters, DataPlaneConfig, Datagram, Decapsulator, DropReason, Encapsulator, Instance,
    Outer, Piece, SendBatch, Totals, TunBatch, TunPacket, Turn, VnetHeader,
};
use crate::fib::{self, FibReader, FibWriter, Punt, Sender, Worker};
use crate::proto::config::ControlConfig;
use crate::proto::control::{ControlPlane, Input, Output, Transmit};
use crate::proto::redundancy::vrrp::{self, InterfaceState, Key, VirtualRouterConfig, Vrrp};
use crate::types::{CONTROL_PORT, InstanceId, Instant, Rloc};
use crate::wire::ip;
use crate::wire::vrrp::{advertisement_frame, announcement_frame, virtual_mac};

/// Outer TTL of control messages.
const TTL: u8 = 64;
/// Source ports of data packets.
const PORTS: u16 = 16;
/// Those who sent within this time hear of changed mappings (RFC 9301 §6.1).
const SENT_LATELY: Duration = Duration::from_secs(60);

/// Memory for packets under work, which all routers share, as only one works at a time.
pub(super) struct Workshop {
    arena: Arena,
    sent: SendBatch,
    written: TunBatch,
}

impl Workshop {
    pub(super) fn new() -> Self {
        Self { arena: Arena::new(0), sent: SendBatch::new(PORTS, 1), written: TunBatch::new() }
    }
}

/// What a router wants done.
#[derive(Debug, Default)]
pub(super) struct Out {
    /// Control messages to send.
    pub(super) transmits: Vec<Transmit>,
    /// Frames to send to its site's LAN.
    pub(super) frames: Vec<(FrameKind, Vec<u8>)>,
    /// Whether virtual routers of it became masters, or are none any longer.
    pub(super) masters: Vec<bool>,
}

/// What a router is told about virtual routers.
#[derive(Debug, Default)]
pub(super) struct Virtual {
    pub(super) routers: Vec<VirtualRouterConfig>,
    /// Its interface to the site, as long as that is up.
    pub(super) lan: InterfaceState,
}

/// A running router. What it was told before a crash is given to its successor.
pub(super) struct Router {
    config: ControlConfig,
    addresses: Vec<IpAddr>,
    control: ControlPlane,
    /// Where packets are forwarded.
    data: Option<DataPlane>,
    virtual_: Virtual,
    vrrp: Vrrp,
    /// The MAC addresses of virtual routers that it is the master of.
    masters: BTreeSet<Mac>,
    /// Of lives before this one.
    past: Totals,
    /// The most entries that the map-cache ever had.
    pub(super) largest_cache: usize,
}

struct DataPlane {
    fib: FibWriter,
    reader: FibReader,
    encapsulator: Encapsulator,
    decapsulator: Decapsulator,
    /// Who sent last, for which EID and when: a real router's table of fixed size would be most of a
    /// simulated one.
    senders: BTreeMap<Rloc, Sender>,
    counters: Arc<Counters>,
}

impl DataPlane {
    fn new() -> Self {
        let config = DataPlaneConfig {
            instances: vec![Instance { iid: InstanceId::DEFAULT, tun: "lisp0".into() }],
            source_ports: PORTS,
            ..DataPlaneConfig::default()
        };
        let fib = fib::new(config.pending_limit);
        let counters = Arc::new(Counters::default());
        Self {
            reader: fib.reader(),
            fib,
            senders: BTreeMap::new(),
            encapsulator: Encapsulator::new(&config, Worker::ONLY, ip::sum, Arc::clone(&counters)),
            decapsulator: Decapsulator::new(&config, Coalescing::Off, ip::sum, Arc::clone(&counters)),
            counters,
        }
    }
}

impl DataPlane {
    /// Who sent lately; the others are forgotten.
    fn senders(&mut self, now: Instant) -> Vec<Sender> {
        self.senders.retain(|_, sender| sender.last >= now - SENT_LATELY);
        self.senders.values().cloned().collect()
    }
}

impl Router {
    /// Starts a router whose underlay addresses are these, all up. What it wants to send is added to `out`.
    pub(super) fn start(
        config: ControlConfig,
        addresses: Vec<IpAddr>,
        virtual_: Virtual,
        rng: StdRng,
        now: Instant,
        out: &mut Out,
    ) -> Self {
        let forwards = config.itr.is_some() || config.etr.is_some();
        let mut router = Self {
            control: ControlPlane::new(config.clone(), rng, nonce_base(now), now),
            data: forwards.then(DataPlane::new),
            config,
            addresses,
            vrrp: Vrrp::new(virtual_.routers.clone()),
            virtual_,
            masters: BTreeSet::new(),
            past: Totals::default(),
            largest_cache: 0,
        };
        router.set_up(now, true, out);
        router.set_lan(now, true, out);
        router
    }

    /// The router dies and starts anew; its counters go on.
    pub(super) fn restart(&mut self, rng: StdRng, now: Instant, out: &mut Out) {
        let mut past = self.totals();
        std::mem::swap(&mut self.past, &mut past);
        self.control = ControlPlane::new(self.config.clone(), rng, nonce_base(now), now);
        self.data = self.data.is_some().then(DataPlane::new);
        self.vrrp = Vrrp::new(self.virtual_.routers.clone());
        self.masters.clear();
        self.set_up(now, true, out);
        self.set_lan(now, true, out);
    }

    /// It is shut down in order.
    pub(super) fn stop(&mut self, out: &mut Out) {
        self.vrrp.shutdown();
        self.drain_vrrp(out);
    }

    /// Its interface to the underlay comes up or goes down.
    pub(super) fn set_up(&mut self, now: Instant, up: bool, out: &mut Out) {
        let addresses = if up { std::mem::take(&mut self.addresses) } else { Vec::new() };
        self.handle(now, Input::Interface { name: "underlay", addresses: &addresses }, out);
        if up {
            self.addresses = addresses;
        }
    }

    /// Its interface to the site comes up or goes down.
    pub(super) fn set_lan(&mut self, now: Instant, up: bool, out: &mut Out) {
        if self.is_virtual() {
            let state = if up { self.virtual_.lan } else { InterfaceState::default() };
            self.vrrp.handle(now, vrrp::Input::Interface { name: LAN, state });
            self.drain_vrrp(out);
        }
    }

    /// An advertisement came in from the site.
    pub(super) fn frame(&mut self, now: Instant, frame: &[u8], out: &mut Out) {
        let packet = frame.get(ETHERNET..).unwrap_or_default();
        self.vrrp.handle(now, vrrp::Input::Packet { interface: LAN, packet });
        self.drain_vrrp(out);
    }

    /// Whether it has virtual routers.
    pub(super) const fn is_virtual(&self) -> bool {
        !self.virtual_.routers.is_empty()
    }

    /// Whether it is the master of the virtual router with this MAC address.
    pub(super) fn answers(&self, mac: &Mac) -> bool {
        self.masters.contains(mac)
    }

    pub(super) fn handle(&mut self, now: Instant, input: Input<'_>, out: &mut Out) {
        self.control.handle(now, input);
        self.drain(now, out);
    }

    pub(super) fn handle_timeout(&mut self, now: Instant, out: &mut Out) {
        self.control.handle_timeout(now);
        self.drain(now, out);
        if self.is_virtual() {
            self.vrrp.handle_timeout(now);
            self.drain_vrrp(out);
        }
    }

    /// When [`Self::handle_timeout`] is to be called.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let vrrp = self.vrrp.poll_timeout();
        self.control.poll_timeout().into_iter().chain(vrrp).min()
    }

    /// Where a control message is to go, as a packet; `None` where no address of ours is of its family.
    pub(super) fn packet(&self, transmit: Transmit) -> Option<Packet> {
        let destination = transmit.destination.ip();
        let ours = || self.addresses.iter().copied().find(|a| a.is_ipv4() == destination.is_ipv4());
        Some(Packet {
            to: 0,
            lan: false,
            source: transmit.source.or_else(ours)?,
            destination,
            ttl: TTL,
            tos: 0,
            content: Content::Control(CONTROL_PORT, transmit.destination.port()),
            bytes: transmit.payload,
        })
    }

    /// A packet from a host: what it becomes is added to `packets`. Whether the control machines had to do
    /// with it.
    pub(super) fn encapsulate(
        &mut self,
        now: Instant,
        bytes: &[u8],
        workshop: &mut Workshop,
        packets: &mut Vec<Packet>,
        out: &mut Out,
    ) -> bool {
        let Some(data) = &mut self.data else { return false };
        let Workshop { arena, sent, .. } = workshop;
        arena.clear();
        sent.clear();
        let Some(room) = arena.slot(0).and_then(|slot| slot.get_mut(..bytes.len())) else { return false };
        room.copy_from_slice(bytes);
        let packet = TunPacket { piece: arena.commit(bytes.len()), vnet: VnetHeader::default() };
        let mut punts = Vec::new();
        if let Some(guard) = data.reader.enter() {
            let turn = Turn::new(InstanceId::DEFAULT, &guard, &data.reader, now);
            data.encapsulator.encapsulate(&turn, &[packet], arena, sent, |punt| {
                punts.push(punt);
                true
            });
        }
        packets.extend(sent.groups().iter().map(|group| Packet {
            to: 0,
            lan: false,
            source: group.source,
            destination: group.remote,
            ttl: group.ttl,
            tos: group.tos,
            content: Content::Data,
            bytes: sent.pieces(group).map(|p| arena.get(p)).collect::<SmallVec<[&[u8]; 4]>>().concat(),
        }));
        self.punted(now, punts, out)
    }

    /// Encapsulated data: what becomes of it for the site's hosts is added to `inner`. Whether the control
    /// machines had to do with it.
    pub(super) fn decapsulate(
        &mut self,
        now: Instant,
        mut packet: Packet,
        workshop: &mut Workshop,
        inner: &mut Vec<Vec<u8>>,
        out: &mut Out,
    ) -> bool {
        let Some(data) = &mut self.data else { return false };
        let written = &mut workshop.written;
        written.clear();
        let bytes = &mut packet.bytes;
        let datagram = Datagram {
            piece: Piece { offset: 0, len: bytes.len() as u32 },
            segment: 0,
            outer: Outer { remote: packet.source, ttl: Some(packet.ttl), tos: packet.tos },
        };
        if let Some(guard) = data.reader.enter() {
            data.decapsulator.begin(now);
            let accepted = data.decapsulator.decapsulate(&guard, &datagram, bytes, written);
            if let Some(destination) = accepted.and_then(|packet| packet.destination(bytes)) {
                let rloc = packet.source;
                data.senders.insert(rloc, Sender { rloc, destination, last: now });
            }
            data.decapsulator.finish(bytes, written);
        }
        let mut punts = Vec::new();
        data.decapsulator.punts(|punt| {
            punts.push(punt);
            true
        });
        let get = |piece: Piece| {
            let start = piece.offset as usize;
            bytes.get(start..start + piece.len as usize).unwrap_or_default()
        };
        let join = |write| written.pieces(write).map(get).collect::<SmallVec<[&[u8]; 2]>>().concat();
        inner.extend(written.writes().iter().map(join));
        self.punted(now, punts, out)
    }

    fn punted(&mut self, now: Instant, punts: Vec<Punt>, out: &mut Out) -> bool {
        let any = !punts.is_empty();
        for punt in punts {
            self.handle(now, Input::Punt(punt), out);
        }
        any
    }

    fn drain(&mut self, now: Instant, out: &mut Out) {
        while let Some(output) = self.control.poll_output() {
            match output {
                Output::Send(transmit) => out.transmits.push(transmit),
                Output::Fib(update) => {
                    if let Some(data) = &mut self.data {
                        data.fib.apply(update);
                    }
                }
                // Scenarios give addresses; a name would be one that nobody knows.
                Output::Resolve { name } => {
                    self.control.handle(now, Input::Resolved { name: &name, addresses: &[] });
                }
                Output::ListSenders => {
                    let senders = self.data.as_mut().map_or_else(Vec::new, |data| data.senders(now));
                    self.control.handle(now, Input::Senders(&senders));
                }
                // There is no network but this one to forward natively to; what is counted tells the rest.
                Output::Native { .. }
                | Output::NativeException { .. }
                | Output::DynamicEid { .. }
                | Output::Probe { .. }
                | Output::Persist(_)
                | Output::LigReply { .. }
                | Output::Event(_) => {}
            }
        }
        if let Some(data) = &mut self.data {
            data.fib.publish();
        }
        self.largest_cache = self.largest_cache.max(self.control.map_cache_len());
        if self.is_virtual() {
            let reachable = !self.control.local_rlocs().is_empty();
            self.vrrp.handle(now, vrrp::Input::Locators { reachable });
            self.drain_vrrp(out);
        }
    }

    fn drain_vrrp(&mut self, out: &mut Out) {
        let mac = |key: &Key| virtual_mac(key.family, key.vrid);
        while let Some(output) = self.vrrp.poll_output() {
            match output {
                vrrp::Output::Send { key, source, message } => {
                    // Fails only for messages that are longer than any with as many addresses as are allowed.
                    if let Ok(frame) = advertisement_frame(mac(&key), source, &message) {
                        out.frames.push((FrameKind::Advertisement, frame));
                    }
                }
                vrrp::Output::Take(key) => {
                    self.masters.insert(mac(&key));
                    out.masters.push(true);
                }
                vrrp::Output::Leave(key) => {
                    self.masters.remove(&mac(&key));
                    out.masters.push(false);
                }
                vrrp::Output::Announce(key) => {
                    let config = self.vrrp.router(&key).map(|router| router.config());
                    let addresses = config.map(|c| c.addresses.as_slice()).unwrap_or_default();
                    let frames = addresses.iter().map(|address| announcement_frame(mac(&key), *address));
                    out.frames.extend(frames.map(|frame| (FrameKind::Announcement, frame)));
                }
                vrrp::Output::Event(_) => {}
            }
        }
    }

    /// What the data plane counted, in this life and those before.
    pub(super) fn totals(&self) -> Totals {
        let mut totals = self.past.clone();
        if let Some(data) = &self.data {
            totals.add(&data.counters.totals());
        }
        totals
    }
}

/// Whether a reason is one for packets from the site: the ITR's.
pub(super) fn is_itr(reason: DropReason) -> bool {
    reason <= DropReason::SendFailed
}

/// Grows from one start to the next, as long as a router doesn't register more than a thousand times a
/// millisecond.
fn nonce_base(now: Instant) -> u64 {
    now.as_nanos() / 1000 + 1
}
