//! From the underlay to the TUNs.

use std::io::{self, IoSlice};
use std::sync::Arc;

use smallvec::SmallVec;
use tracing::{debug, warn};

use super::{DataPlaneError, STOP};
use crate::dataplane::{
    Coalescing, Count, Counters, DataPlaneConfig, Datagram, Decapsulator, DropReason, Outer, Piece, TunBatch,
};
use crate::fib::FibReader;
use crate::io::checksum;
use crate::io::poll::{Interest, Poller};
use crate::io::tun::Tun;
use crate::io::udp::{ReceiveBatch, ReceiveSocket};

/// How many busy turns pass before the thread looks for the stop signal.
const TURNS_BETWEEN_LOOKS: u32 = 32;
/// Room for one datagram, or for as many as the kernel joins.
const SLOT: usize = 65_536;
/// Most slots where the kernel joins datagrams: each may hold 64 KiB then, and the next levels of cache are to hold all.
const JOINED_SLOTS: usize = 8;

/// One ETR thread.
pub(super) struct Etr {
    sockets: Vec<Source>,
    tuns: Vec<Arc<Tun>>,
    decapsulator: Decapsulator,
    slots: usize,
    out: TunBatch,
    fib: FibReader,
    poller: Poller,
    counters: Arc<Counters>,
}

struct Source {
    socket: ReceiveSocket,
    /// There may be datagrams: the last call did not find the queue empty.
    busy: bool,
}

impl Etr {
    pub(super) fn new(
        config: &DataPlaneConfig,
        fib: FibReader,
        tuns: Vec<Arc<Tun>>,
        poller: Poller,
    ) -> Result<Self, DataPlaneError> {
        let counters = Arc::new(Counters::default());
        let offloads = tuns.iter().map(|t| t.offloads()).collect::<Option<Vec<_>>>();
        let coalescing = match &offloads {
            None => Coalescing::Off,
            Some(all) if all.iter().all(|o| o.udp) => Coalescing::TcpAndUdp,
            Some(_) => Coalescing::Tcp,
        };
        let mut sockets = Vec::new();
        for (i, socket) in super::open_receivers(config, false, offloads.is_some())?.into_iter().enumerate() {
            poller
                .add(&socket, i as u64, Interest::Read)
                .map_err(DataPlaneError::system("watch the data sockets"))?;
            sockets.push(Source { socket, busy: true });
        }
        Ok(Self {
            sockets,
            tuns,
            decapsulator: Decapsulator::new(config, coalescing, checksum::fastest().0, Arc::clone(&counters)),
            slots: usize::from(config.batch).clamp(1, if offloads.is_some() { JOINED_SLOTS } else { 64 }),
            out: TunBatch::new(),
            fib,
            poller,
            counters,
        })
    }

    pub(super) fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }

    /// Runs until the stop signal.
    pub(super) fn run(mut self) -> io::Result<()> {
        let mut batch = ReceiveBatch::new(self.slots);
        // Pages that no datagram reaches into are never touched, and so cost no memory.
        let mut bytes = vec![0; self.slots * SLOT];
        let mut ready = Vec::new();
        let mut turns = 0u32;
        loop {
            let idle = !self.sockets.iter().any(|s| s.busy);
            if idle || turns >= TURNS_BETWEEN_LOOKS {
                turns = 0;
                self.poller.wait(idle, &mut ready)?;
                if ready.iter().any(|r| r.token == STOP) {
                    return Ok(());
                }
                for source in ready.iter().filter_map(|r| usize::try_from(r.token).ok()) {
                    if let Some(source) = self.sockets.get_mut(source) {
                        source.busy = true;
                    }
                }
            }
            turns += 1;
            for i in 0..self.sockets.len() {
                self.turn(i, &mut batch, &mut bytes);
            }
        }
    }

    /// Receives a batch from one socket, and writes what becomes of it.
    fn turn(&mut self, socket: usize, batch: &mut ReceiveBatch, bytes: &mut [u8]) {
        let Some(source) = self.sockets.get_mut(socket).filter(|s| s.busy) else { return };
        match source.socket.receive(batch, bytes) {
            Ok(()) => source.busy = batch.is_full(),
            Err(error) => {
                source.busy = error.kind() == io::ErrorKind::Interrupted;
                if !matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) {
                    warn!(%error, "receiving data packets failed");
                }
                return;
            }
        }
        self.counters.count(Count::Receives, 1);
        self.out.clear();
        {
            let Some(guard) = self.fib.enter() else { return };
            for received in batch.received() {
                let datagram = Datagram {
                    piece: Piece { offset: received.offset as u32, len: received.len as u32 },
                    segment: received.segment.unwrap_or(0),
                    outer: Outer { remote: received.remote.ip(), ttl: received.ttl, tos: received.tos },
                };
                self.decapsulator.decapsulate(&guard, &datagram, bytes, &mut self.out);
            }
            self.decapsulator.finish(bytes, &mut self.out);
        }
        self.write(bytes);
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
