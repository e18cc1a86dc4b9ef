//! From the underlay to the TUNs.

use std::io::{self, IoSlice};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use smallvec::SmallVec;
use tokio::sync::mpsc;
use tracing::{debug, warn};

use super::super::clock::Clock;
use super::worker::ETR;
use crate::dataplane::{
    Coalescing, Count, Counters, DataPlaneConfig, Datagram, Decapsulator, DropReason, Outer, Piece, Space,
    TunBatch,
};
use crate::fib::{FibReader, Punt, Senders};
use crate::io::checksum;
use crate::io::poll::{Interest, Poller};
use crate::io::tun::Tun;
use crate::io::udp::{ReceiveBatch, ReceiveSocket};
use crate::types::Instant;

/// Room for one datagram, or for as many as the kernel joins.
const SLOT: usize = 65_536;
/// Most slots where the kernel joins datagrams: each may hold 64 KiB then, and the next levels of cache are
/// to hold all.
const JOINED_SLOTS: usize = 8;

/// Most slots where each has one datagram.
const SINGLE_SLOTS: usize = 64;

const fn most_slots(joined: bool) -> usize {
    if joined { JOINED_SLOTS } else { SINGLE_SLOTS }
}

/// Most bytes of memory that one direction of one queue takes, beside its sockets.
pub(super) const fn memory(joined: bool) -> usize {
    let slots = most_slots(joined);
    slots * (SLOT + ReceiveBatch::SLOT) + TunBatch::MAX_BYTES + Senders::BYTES
}

/// One queue's direction from the underlay to the TUNs.
pub(super) struct Etr {
    sockets: Vec<Source>,
    tuns: Vec<Arc<Tun>>,
    decapsulator: Decapsulator,
    slots: usize,
    out: TunBatch,
    clock: Clock,
    fib: FibReader,
    punts: mpsc::Sender<Punt>,
    senders: Arc<Senders>,
    /// The last sender that was noted, and at which tick of the coarse clock: most packets come from the same
    /// one.
    noted: (Instant, IpAddr, Option<Space>),
    counters: Arc<Counters>,
}

struct Source {
    socket: ReceiveSocket,
    /// There may be datagrams: the last call did not find the queue empty.
    busy: bool,
}

/// What it receives into; stays on the thread that made it.
pub(super) struct Buffers {
    batch: ReceiveBatch,
    bytes: Vec<u8>,
}

impl Etr {
    pub(super) fn new(
        config: &DataPlaneConfig,
        clock: Clock,
        fib: FibReader,
        tuns: Vec<Arc<Tun>>,
        sockets: Vec<ReceiveSocket>,
        punts: mpsc::Sender<Punt>,
    ) -> Self {
        let counters = Arc::new(Counters::default());
        let offloads = tuns.iter().map(|t| t.offloads()).collect::<Option<Vec<_>>>();
        let coalescing = match &offloads {
            None => Coalescing::Off,
            Some(all) if all.iter().all(|o| o.udp) => Coalescing::TcpAndUdp,
            Some(_) => Coalescing::Tcp,
        };
        let joined = sockets.iter().any(ReceiveSocket::joins);
        Self {
            sockets: sockets.into_iter().map(|socket| Source { socket, busy: true }).collect(),
            tuns,
            decapsulator: Decapsulator::new(config, coalescing, checksum::fastest().0, Arc::clone(&counters)),
            slots: usize::from(config.batch).clamp(1, most_slots(joined)),
            out: TunBatch::new(),
            clock,
            fib,
            punts,
            senders: Arc::default(),
            noted: (Instant::ZERO, IpAddr::V4(Ipv4Addr::UNSPECIFIED), None),
            counters,
        }
    }

    pub(super) fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }

    /// Who it got data packets from.
    pub(super) fn senders(&self) -> Arc<Senders> {
        Arc::clone(&self.senders)
    }

    /// Has `poller` tell when there are datagrams.
    pub(super) fn watch(&self, poller: &Poller) -> io::Result<()> {
        let sockets = (ETR..).zip(&self.sockets);
        sockets.into_iter().try_for_each(|(token, source)| poller.add(&source.socket, token, Interest::Read))
    }

    /// Memory to receive into.
    pub(super) fn buffers(&self) -> Buffers {
        // Pages that no datagram reaches into are never touched, and so cost no memory.
        Buffers { batch: ReceiveBatch::new(self.slots), bytes: vec![0; self.slots * SLOT] }
    }

    /// The socket at `index` has something to read.
    pub(super) fn wake(&mut self, index: usize) {
        if let Some(source) = self.sockets.get_mut(index) {
            source.busy = true;
        }
    }

    /// Whether there may be datagrams.
    pub(super) fn is_busy(&self) -> bool {
        self.sockets.iter().any(|s| s.busy)
    }

    /// Takes a batch from each socket that may have something; how many bytes they had.
    pub(super) fn turn(&mut self, buffers: &mut Buffers) -> usize {
        (0..self.sockets.len()).map(|i| self.receive(i, buffers)).sum()
    }

    /// Receives a batch from one socket, and writes what becomes of it; how many bytes were received.
    fn receive(&mut self, socket: usize, Buffers { batch, bytes }: &mut Buffers) -> usize {
        let Some(source) = self.sockets.get_mut(socket).filter(|s| s.busy) else { return 0 };
        match source.socket.receive(batch, bytes) {
            Ok(()) => source.busy = batch.is_full(),
            Err(error) => {
                source.busy = error.kind() == io::ErrorKind::Interrupted;
                if !matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) {
                    warn!(%error, "receiving data packets failed");
                }
                return 0;
            }
        }
        self.counters.count(Count::Receives, 1);
        let mut len = 0;
        let now = self.clock.about_now();
        self.out.clear();
        {
            let Some(guard) = self.fib.enter() else { return 0 };
            self.decapsulator.begin(if guard.checks().is_some() { self.clock.now() } else { now });
            for received in batch.received() {
                len += received.len;
                let datagram = Datagram {
                    piece: Piece { offset: received.offset as u32, len: received.len as u32 },
                    segment: received.segment.unwrap_or(0),
                    outer: Outer { remote: received.remote.ip(), ttl: received.ttl, tos: received.tos },
                };
                let accepted = self.decapsulator.decapsulate(&guard, &datagram, bytes, &mut self.out);
                let Some(packet) = accepted else { continue };
                let sender = (now, datagram.outer.remote, packet.space(bytes));
                if sender != self.noted
                    && let Some(eid) = packet.destination(bytes)
                {
                    self.senders.note(sender.1, eid, now);
                    self.noted = sender;
                }
            }
            self.decapsulator.finish(bytes, &mut self.out);
        }
        self.decapsulator.punts(|punt| self.punts.try_send(punt).is_ok());
        self.write(bytes);
        len
    }

    fn write(&self, bytes: &[u8]) {
        for write in self.out.writes() {
            let get = |p: Piece| {
                let start = p.offset as usize;
                bytes.get(start..start + p.len as usize).unwrap_or_default()
            };
            let Some(tun) = self.tuns.get(usize::from(write.instance)) else { continue };
            let vnet = write.vnet.to_bytes();
            let before = tun.offloads().map(|_| IoSlice::new(&vnet));
            let pieces = self.out.pieces(write).map(|p| IoSlice::new(get(p)));
            let parts: SmallVec<[IoSlice<'_>; 66]> = before.into_iter().chain(pieces).collect();
            self.counters.count(Count::TunWrites, 1);
            let Err(error) = tun.write(&parts) else { continue };
            let reason = match error.kind() {
                io::ErrorKind::WouldBlock => DropReason::TunFull,
                _ => DropReason::TunFailed,
            };
            debug!(tun = tun.name(), %error, "decapsulated packet could not be written");
            self.counters.dropped(reason, u64::from(write.packets));
        }
    }
}
