//! A LISP router of the simulated network: the machines of `proto` and, where it forwards, those of `dataplane`, as they
//! run on a real router.
//!
//! Everything that a router does runs through [`Router::handle`], [`Router::encapsulate`], [`Router::decapsulate`] and
//! [`Router::handle_timeout`]. A further machine of its own (as one for a redundant gateway) is a further field here, is
//! fed there, and is asked in [`Router::poll_timeout`] when it wants to be called.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;

use super::packet::{Content, Packet};
use crate::dataplane::{
    Arena, Coalescing, Counters, DataPlaneConfig, Datagram, Decapsulator, DropReason, Encapsulator, Instance,
    Outer, Piece, SendBatch, Totals, TunBatch, TunPacket, Turn, VnetHeader,
};
use crate::fib::{self, FibReader, FibWriter, Punt, Sender, Worker};
use crate::proto::config::ControlConfig;
use crate::proto::control::{ControlPlane, Input, Output, Transmit};
use crate::types::{CONTROL_PORT, InstanceId, Instant, Rloc};
use crate::wire::ip;

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

/// A running router. What it was told before a crash is given to its successor.
pub(super) struct Router {
    config: ControlConfig,
    addresses: Vec<IpAddr>,
    control: ControlPlane,
    /// Where packets are forwarded.
    data: Option<DataPlane>,
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
    /// Who sent last, for which EID and when: a real router's table of fixed size would be most of a simulated one.
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
        rng: StdRng,
        now: Instant,
        out: &mut Vec<Transmit>,
    ) -> Self {
        let forwards = config.itr.is_some() || config.etr.is_some();
        let mut router = Self {
            control: ControlPlane::new(config.clone(), rng, nonce_base(now), now),
            data: forwards.then(DataPlane::new),
            config,
            addresses,
            past: Totals::default(),
            largest_cache: 0,
        };
        router.set_up(now, true, out);
        router
    }

    /// The router dies and starts anew; its counters go on.
    pub(super) fn restart(&mut self, rng: StdRng, now: Instant, out: &mut Vec<Transmit>) {
        let mut past = self.totals();
        std::mem::swap(&mut self.past, &mut past);
        self.control = ControlPlane::new(self.config.clone(), rng, nonce_base(now), now);
        self.data = self.data.is_some().then(DataPlane::new);
        self.set_up(now, true, out);
    }

    /// Its interface to the underlay comes up or goes down.
    pub(super) fn set_up(&mut self, now: Instant, up: bool, out: &mut Vec<Transmit>) {
        let addresses = if up { std::mem::take(&mut self.addresses) } else { Vec::new() };
        self.handle(now, Input::Interface { name: "underlay", addresses: &addresses }, out);
        if up {
            self.addresses = addresses;
        }
    }

    pub(super) fn handle(&mut self, now: Instant, input: Input<'_>, out: &mut Vec<Transmit>) {
        self.control.handle(now, input);
        self.drain(now, out);
    }

    pub(super) fn handle_timeout(&mut self, now: Instant, out: &mut Vec<Transmit>) {
        self.control.handle_timeout(now);
        self.drain(now, out);
    }

    /// When [`Self::handle_timeout`] is to be called.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.control.poll_timeout()
    }

    /// Where a control message is to go, as a packet; `None` where no address of ours is of its family.
    pub(super) fn packet(&self, transmit: Transmit) -> Option<Packet> {
        let destination = transmit.destination.ip();
        let ours = || self.addresses.iter().copied().find(|a| a.is_ipv4() == destination.is_ipv4());
        Some(Packet {
            to: 0,
            source: transmit.source.or_else(ours)?,
            destination,
            ttl: TTL,
            tos: 0,
            content: Content::Control(CONTROL_PORT, transmit.destination.port()),
            bytes: transmit.payload,
        })
    }

    /// A packet from a host: what it becomes is added to `packets`.
    pub(super) fn encapsulate(
        &mut self,
        now: Instant,
        bytes: &[u8],
        workshop: &mut Workshop,
        packets: &mut Vec<Packet>,
        out: &mut Vec<Transmit>,
    ) {
        let Some(data) = &mut self.data else { return };
        let Workshop { arena, sent, .. } = workshop;
        arena.clear();
        sent.clear();
        let Some(room) = arena.slot(0).and_then(|slot| slot.get_mut(..bytes.len())) else { return };
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
            source: group.source,
            destination: group.remote,
            ttl: group.ttl,
            tos: group.tos,
            content: Content::Data,
            bytes: sent.pieces(group).flat_map(|piece| arena.get(piece)).copied().collect(),
        }));
        self.punted(now, punts, out);
    }

    /// Encapsulated data: what becomes of it for the site's hosts is added to `inner`.
    pub(super) fn decapsulate(
        &mut self,
        now: Instant,
        mut packet: Packet,
        workshop: &mut Workshop,
        inner: &mut Vec<Vec<u8>>,
        out: &mut Vec<Transmit>,
    ) {
        let Some(data) = &mut self.data else { return };
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
            if let Some(destination) = accepted {
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
            bytes.get(start..start + piece.len as usize).unwrap_or_default().iter().copied()
        };
        inner.extend(written.writes().iter().map(|write| written.pieces(write).flat_map(get).collect()));
        self.punted(now, punts, out);
    }

    fn punted(&mut self, now: Instant, punts: Vec<Punt>, out: &mut Vec<Transmit>) {
        for punt in punts {
            self.handle(now, Input::Punt(punt), out);
        }
    }

    fn drain(&mut self, now: Instant, out: &mut Vec<Transmit>) {
        while let Some(output) = self.control.poll_output() {
            match output {
                Output::Send(transmit) => out.push(transmit),
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
                | Output::Persist(_)
                | Output::LigReply { .. }
                | Output::Event(_) => {}
            }
        }
        if let Some(data) = &mut self.data {
            data.fib.publish();
        }
        self.largest_cache = self.largest_cache.max(self.control.map_cache_len());
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

/// Grows from one start to the next, as long as a router doesn't register more than a thousand times a millisecond.
fn nonce_base(now: Instant) -> u64 {
    now.as_nanos() / 1000 + 1
}
