//! From the TUNs to the underlay.

use std::cell::Cell;
use std::io::{self, IoSlice};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;
use tokio::sync::mpsc;
use tracing::{debug, warn};

use super::super::clock::Clock;
use super::DataPlaneError;
use super::worker::ITR;
use crate::dataplane::{
    Arena, Count, Counters, DataPlaneConfig, DropReason, Encapsulator, IcmpReply, Piece, SendBatch,
    SendGroup, TunPacket, Turn, UdpChecksum, VnetHeader,
};
use crate::fib::{FibReader, LookupCache, Punt, Worker};
use crate::io::checksum;
use crate::io::icmp::IcmpSocket;
use crate::io::poll::{Interest, Poller};
use crate::io::tun::Tun;
use crate::io::udp::{SendErrorKind, SendSocket, SendTo};
use crate::types::{DATA_PORT, InstanceId, Instant};

/// Most errors taken from one socket's queue at a time, so that a flood of them can't hold up packets.
const ERRORS_AT_ONCE: usize = 64;

/// How long the control plane is not told again that there is no route to a locator.
const NO_ROUTE_PAUSE: Duration = Duration::from_millis(100);

/// Memory for the packets of one batch: a few super-packets, which the next levels of cache hold.
const ARENA: usize = 512 * 1024;
/// Most packets that a batch may be configured to have.
const MAX_BATCH: usize = 1024;
/// Most packets that one system call sends: what every kernel with UDP segmentation offload takes.
const MAX_SEGMENTS: u16 = 64;

/// Most bytes of memory that one direction of one queue takes, beside its sockets.
pub(super) const MEMORY: usize = Arena::SCRATCH
    + ARENA
    + MAX_BATCH * size_of::<TunPacket>()
    + SendBatch::MAX_BYTES
    + LookupCache::MAX_BYTES;

/// One queue's direction from the TUNs to the underlay.
pub(super) struct Itr {
    tuns: Vec<Source>,
    /// For IPv4 and IPv6.
    senders: [Vec<SendSocket>; 2],
    icmp: [Option<IcmpSocket>; 2],
    encapsulator: Encapsulator,
    arena: Arena,
    packets: Vec<TunPacket>,
    batch: usize,
    out: SendBatch,
    outlet: Outlet,
    /// Where the kernel had no route to, and when that was told.
    no_route: Cell<Option<(IpAddr, Instant)>>,
    clock: Clock,
    counters: Arc<Counters>,
}

struct Source {
    iid: InstanceId,
    tun: Arc<Tun>,
    /// There may be packets: the last read did not find the queue empty.
    busy: bool,
    gone: bool,
}

/// What goes to the control plane.
pub(super) struct Outlet {
    pub(super) fib: FibReader,
    pub(super) punts: mpsc::Sender<Punt>,
}

impl Itr {
    /// `segmentation`: the kernel cuts what is sent into datagrams.
    pub(super) fn new(
        config: &DataPlaneConfig,
        worker: Worker,
        clock: Clock,
        tuns: Vec<Arc<Tun>>,
        segmentation: bool,
        outlet: Outlet,
    ) -> Result<Self, DataPlaneError> {
        let senders = super::open_senders(config)?;
        let counters = Arc::new(Counters::default());
        let segmented = segmentation && config.udp_checksum == UdpChecksum::Computed;
        let max_segments = if segmented { MAX_SEGMENTS } else { 1 };
        let source = |(tun, instance): (Arc<Tun>, &crate::dataplane::Instance)| Source {
            iid: instance.iid,
            tun,
            busy: true,
            gone: false,
        };
        Ok(Self {
            tuns: tuns.into_iter().zip(&config.instances).map(source).collect(),
            senders,
            icmp: super::open_icmp(),
            encapsulator: Encapsulator::new(config, worker, checksum::fastest().0, Arc::clone(&counters)),
            arena: Arena::new(ARENA),
            packets: Vec::new(),
            batch: usize::from(config.batch).clamp(1, MAX_BATCH),
            out: SendBatch::new(config.source_ports.clamp(1, 64), max_segments),
            outlet,
            no_route: Cell::new(None),
            clock,
            counters,
        })
    }

    pub(super) fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }

    /// Has `poller` tell when there are packets or errors.
    pub(super) fn watch(&self, poller: &Poller) -> io::Result<()> {
        for (source, token) in self.tuns.iter().zip(ITR..) {
            poller.add(&*source.tun, token, Interest::Read)?;
        }
        for (sender, token) in self.senders.iter().flatten().zip(ITR + self.tuns.len() as u64..) {
            poller.add(sender, token, Interest::Errors)?;
        }
        Ok(())
    }

    /// The descriptor at `index`, TUNs first, is ready.
    pub(super) fn wake(&mut self, index: usize) {
        if let Some(source) = self.tuns.get_mut(index) {
            source.busy = true;
        } else if let Some(sender) = self.senders.iter().flatten().nth(index - self.tuns.len()) {
            take_errors(sender, &self.outlet, &self.counters);
        }
    }

    /// Whether there may be packets.
    pub(super) fn is_busy(&self) -> bool {
        self.tuns.iter().any(|t| t.busy && !t.gone)
    }

    /// Takes a batch from each TUN that may have something; how many bytes they had.
    pub(super) fn turn(&mut self, poller: &Poller) -> usize {
        (0..self.tuns.len()).map(|i| self.forward(i, poller)).sum()
    }

    /// Reads a batch from one TUN, and sends what becomes of it; how many bytes were read.
    fn forward(&mut self, tun: usize, poller: &Poller) -> usize {
        let Some(source) = self.tuns.get_mut(tun).filter(|s| s.busy && !s.gone) else { return 0 };
        let mut bytes = 0;
        self.arena.clear();
        self.packets.clear();
        self.out.clear();
        while self.packets.len() < self.batch {
            let before = if source.tun.offloads().is_some() { Tun::VNET_HEADER } else { 0 };
            let Some(slot) = self.arena.slot(before) else { break };
            match source.tun.read(slot) {
                Ok(len) => {
                    let vnet = match (before, slot.first_chunk()) {
                        (0, _) => Some(VnetHeader::default()),
                        (_, Some(header)) => VnetHeader::parse(header),
                        (_, None) => None,
                    };
                    self.counters.count(Count::TunReads, 1);
                    let Some((vnet, len)) = vnet.zip(len.checked_sub(before)) else {
                        self.counters.dropped(DropReason::Malformed, 1);
                        continue;
                    };
                    bytes += len;
                    let piece = self.arena.commit(len);
                    self.packets.push(TunPacket { piece, vnet });
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    source.busy = false;
                    break;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    let tun = source.tun.name();
                    warn!(tun, %error, "TUN device is gone: nothing is read from it any more");
                    source.gone = true;
                    let _ = poller.remove(&*source.tun);
                    break;
                }
            }
        }
        let iid = source.iid;
        let mut next = 0;
        while next < self.packets.len() {
            next = self.encapsulate(iid, next);
            self.send();
            self.out.clear();
            self.arena.clear_scratch();
        }
        bytes
    }

    /// Encapsulates packets from the `next` one on, as many as the batch holds; gives the one after them.
    fn encapsulate(&mut self, iid: InstanceId, next: usize) -> usize {
        let outlet = &self.outlet;
        let Some(guard) = outlet.fib.enter() else { return self.packets.len() };
        let turn = Turn::new(iid, &guard, &outlet.fib, self.clock.now());
        let punt = |punt| outlet.punts.try_send(punt).is_ok();
        let packets = self.packets.get(next..).unwrap_or_default();
        next + self.encapsulator.encapsulate(&turn, packets, &mut self.arena, &mut self.out, punt)
    }

    fn send(&self) {
        for group in self.out.groups() {
            let parts: SmallVec<[IoSlice<'_>; 130]> =
                self.out.pieces(group).map(|p| IoSlice::new(self.arena.get(p))).collect();
            self.send_group(group, &parts);
        }
        for reply in self.out.icmp() {
            self.send_icmp(reply, reply.message);
        }
    }

    fn send_group(&self, group: &SendGroup, parts: &[IoSlice<'_>]) {
        let pool = if group.remote.is_ipv4() { &self.senders[0] } else { &self.senders[1] };
        let segments = u64::from(group.segments);
        let Some(sender) = pool.get(usize::from(group.port)) else {
            self.counters.dropped(DropReason::SendFailed, segments);
            return;
        };
        let to = SendTo {
            remote: group.remote,
            port: DATA_PORT,
            source: group.source,
            ttl: group.ttl,
            tos: group.tos,
        };
        let segment = (group.segments > 1).then_some(group.segment);
        self.counters.count(Count::Sends, 1);
        let Err(mut error) = sender.send(&to, segment, parts) else { return };
        if !matches!(error.kind(), io::ErrorKind::WouldBlock) {
            // It may be an error that an earlier datagram caused, which the first call after it is told of.
            take_errors(sender, &self.outlet, &self.counters);
            if group.segments > 1 {
                self.send_singly(group, sender, &to, parts);
                return;
            }
            match sender.send(&to, None, parts) {
                Ok(()) => return,
                Err(again) => error = again,
            }
            take_errors(sender, &self.outlet, &self.counters);
        }
        self.not_sent(group, segments, &error);
    }

    /// A segmented send was refused, as it is by devices that can't compute checksums, and where the path MTU
    /// has become smaller: of that, the kernel tells the details only to a datagram of its own.
    #[cold]
    fn send_singly(&self, group: &SendGroup, sender: &SendSocket, to: &SendTo, parts: &[IoSlice<'_>]) {
        let mut rest = parts;
        for done in 0..group.segments {
            let mut len = 0;
            let count = rest
                .iter()
                .take_while(|p| {
                    let more = len < usize::from(group.segment);
                    len += if more { p.len() } else { 0 };
                    more
                })
                .count();
            let Some((packet, after)) = rest.split_at_checked(count) else { return };
            rest = after;
            self.counters.count(Count::Sends, 1);
            if let Err(error) = sender.send(to, None, packet) {
                take_errors(sender, &self.outlet, &self.counters);
                if error.raw_os_error() == Some(libc::EMSGSIZE) || error.kind() == io::ErrorKind::WouldBlock {
                    return self.not_sent(group, u64::from(group.segments - done), &error);
                }
                self.not_sent(group, 1, &error);
            }
        }
    }

    #[cold]
    fn not_sent(&self, group: &SendGroup, packets: u64, error: &io::Error) {
        if error.kind() == io::ErrorKind::WouldBlock {
            self.counters.dropped(DropReason::SendBufferFull, packets);
        } else {
            debug!(remote = %group.remote, source = %group.source, %error, "data packet could not be sent");
            self.counters.dropped(DropReason::SendFailed, packets);
            if let Some(libc::ENETUNREACH | libc::EHOSTUNREACH | libc::ENETDOWN) = error.raw_os_error() {
                self.no_route(group.remote);
            }
        }
    }

    /// The kernel has no route to a locator, which is as good as being told so by the underlay (RFC 9301
    /// §7). Said once in a while, not for every packet.
    #[cold]
    fn no_route(&self, remote: IpAddr) {
        let now = self.clock.now();
        let said = |(to, at): (IpAddr, Instant)| to == remote && now.saturating_since(at) < NO_ROUTE_PAUSE;
        if self.no_route.get().is_some_and(said) || !self.outlet.fib.knows(&remote) {
            return;
        }
        self.no_route.set(Some((remote, now)));
        let sent = self.outlet.punts.try_send(Punt::Unreachable { rloc: remote }).is_ok();
        self.counters.count(if sent { Count::Punts } else { Count::PuntsLost }, 1);
    }

    fn send_icmp(&self, reply: &IcmpReply, message: Piece) {
        let socket = if reply.destination.is_ipv4() { &self.icmp[0] } else { &self.icmp[1] };
        let sent = socket.as_ref().map(|s| s.send(reply.source, reply.destination, self.arena.get(message)));
        match sent {
            Some(Ok(())) => self.counters.count(Count::IcmpSent, 1),
            Some(Err(error)) => {
                debug!(destination = %reply.destination, %error, "ICMP error could not be sent");
                self.counters.count(Count::IcmpNotSent, 1);
            }
            None => self.counters.count(Count::IcmpNotSent, 1),
        }
    }
}

/// Reads what the underlay said about datagrams of this socket, and tells the control plane. Only locators in
/// use are believed to exist, and the kernel has checked that the error quotes a datagram of this socket.
fn take_errors(sender: &SendSocket, outlet: &Outlet, counters: &Counters) {
    for _ in 0..ERRORS_AT_ONCE {
        let Ok(Some(error)) = sender.next_error() else { return };
        let rloc = error.remote;
        if !outlet.fib.knows(&rloc) {
            counters.count(Count::UnderlayErrorsIgnored, 1);
            continue;
        }
        let punt = match error.kind {
            SendErrorKind::TooBig(mtu) => {
                let Some(mtu) = outlet.fib.lower_mtu(&rloc, mtu) else { continue };
                Punt::PathMtu { rloc, mtu }
            }
            SendErrorKind::Unreachable => Punt::Unreachable { rloc },
            SendErrorKind::Other => continue,
        };
        let what = if outlet.punts.try_send(punt).is_ok() { Count::Punts } else { Count::PuntsLost };
        counters.count(what, 1);
    }
}
