//! From the underlay to the site.

use std::net::IpAddr;
use std::sync::Arc;

use super::alike::Mask;
use super::batch::{Piece, TunBatch};
use super::coalesce::Coalescer;
use super::counters::{Count, Counters, DropReason};
use super::header::{Checks, Subject};
use super::{DataPlaneConfig, DscpMode, ecn, flow_hash};
use crate::fib::{EntryAction, FibGuard, HeaderOptions, InstanceFib, Punt};
use crate::types::{Action, Eid, InstanceId, Instant};
use crate::wire::data;
use crate::wire::ip::{self, IPV4_HEADER, IPV6_HEADER, Inner, SumFn};

/// What the outer headers of received data packets said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outer {
    /// Who sent it.
    pub remote: IpAddr,
    /// TTL or hop limit; `None` where the kernel did not tell.
    pub ttl: Option<u8>,
    /// TOS or traffic class.
    pub tos: u8,
}

/// One or more data packets that came from the underlay together: same outer headers, and all of the same
/// length but the last, which may be shorter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Datagram {
    /// UDP payloads, one behind the other.
    pub piece: Piece,
    /// UDP payload bytes of each packet but the last; 0 = there is only one.
    pub segment: u16,
    /// The outer headers.
    pub outer: Outer,
}

/// A packet that was not dropped: where its LISP header begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted(usize);

/// What tells the packets of one sender apart, as the control plane wants to know of them: instance, and
/// family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// The instance's part of the LISP header, or none.
    instance: Option<[u8; 3]>,
    /// The inner packet's IP version.
    version: u8,
}

impl Accepted {
    /// Its instance and family, as [`Decapsulator::decapsulate`] left it in `bytes`.
    #[inline]
    pub fn space(self, bytes: &[u8]) -> Option<Space> {
        let &[flags, _, _, _, a, b, c, _, inner] =
            bytes.get(self.0..)?.first_chunk::<{ data::HEADER + 1 }>()?;
        Some(Space { instance: (flags & 0x08 != 0).then_some([a, b, c]), version: inner >> 4 })
    }

    /// The EID that it is for.
    pub fn destination(self, bytes: &[u8]) -> Option<Eid> {
        let packet = bytes.get(self.0..)?;
        let (_, instance) = data::key_and_instance(packet.first_chunk()?);
        Some(Eid::new(instance, Inner::parse(packet.get(data::HEADER..)?).ok()?.destination))
    }
}

/// One thread's decapsulation.
#[derive(Debug)]
pub struct Decapsulator {
    /// Sorted; with the place in the configuration.
    instances: Vec<(InstanceId, u16)>,
    dscp: DscpMode,
    /// Where the TUN takes super-packets.
    coalescer: Option<Coalescer>,
    checks: Checks,
    counters: Arc<Counters>,
}

/// Which super-packets a TUN takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coalescing {
    /// None: one packet at a time.
    Off,
    /// Of TCP segments.
    Tcp,
    /// Of TCP segments and of UDP datagrams.
    TcpAndUdp,
}

impl Decapsulator {
    /// For a thread that counts in `counters`; `sum` is the fastest checksum that there is.
    pub fn new(
        config: &DataPlaneConfig,
        coalescing: Coalescing,
        sum: SumFn,
        counters: Arc<Counters>,
    ) -> Self {
        let mut instances: Vec<_> = config.instances.iter().map(|i| i.iid).zip(0..).collect();
        instances.sort_unstable();
        let coalescer =
            (coalescing != Coalescing::Off).then(|| Coalescer::new(coalescing == Coalescing::TcpAndUdp, sum));
        Self { instances, dscp: config.dscp, coalescer, checks: Checks::new(), counters }
    }

    /// A batch begins, at `now`, which must be precise only while there are [`FibGuard::checks`].
    pub fn begin(&mut self, now: Instant) {
        self.checks.begin(now);
    }

    /// What the control plane is to be told of the packets so far, each handed to `punt`, which says whether
    /// it could be told. After the FIB's guard is gone.
    pub fn punts(&mut self, mut punt: impl FnMut(Punt) -> bool) {
        self.counters.count(Count::PuntsLost, std::mem::take(&mut self.checks.lost));
        for what in self.checks.punts.drain(..) {
            let delivered = punt(what);
            self.counters.count(if delivered { Count::Punts } else { Count::PuntsLost }, 1);
        }
    }

    /// Takes data packets from the underlay, which lie in `bytes`, changes their inner headers as needed and
    /// adds them to `out`; or drops and counts them. After the last datagram of a batch comes
    /// [`Self::finish`]. Gives the last packet that was not dropped.
    pub fn decapsulate(
        &mut self,
        fib: &FibGuard<'_>,
        datagram: &Datagram,
        bytes: &mut [u8],
        out: &mut TunBatch,
    ) -> Option<Accepted> {
        let mut accepted = None;
        let (mut packets, mut total) = (0, 0);
        let start = datagram.piece.offset as usize;
        let end = (start + datagram.piece.len as usize).min(bytes.len());
        let step = match usize::from(datagram.segment) {
            0 => end.saturating_sub(start).max(1),
            segment => segment,
        };
        let options = fib.checks();
        let mut known = Known::NOTHING;
        let mut at = start;
        // A datagram without payload is one packet too.
        loop {
            let next = (at + step).min(end);
            let packet = bytes.get_mut(at..next).unwrap_or_default();
            let verdict = if known.holds_for(packet) {
                Ok(())
            } else {
                self.examine(fib, options, &datagram.outer, packet, next < end, &mut known)
            };
            match verdict {
                Ok(()) => {
                    let inner = &known.inner;
                    accepted = Some(Accepted(at));
                    packets += 1;
                    total += inner.len as u64;
                    ip::set_tos_ttl(packet.get_mut(data::HEADER..).unwrap_or_default(), inner.tos, inner.ttl);
                    let offset = at + data::HEADER;
                    if let Some(coalescer) = &mut self.coalescer {
                        coalescer.push(known.instance, known.flow, inner, offset, bytes, out);
                    } else {
                        out.push(known.instance, Piece::new(offset, inner.len));
                    }
                }
                Err(reason) => self.counters.dropped(reason, 1),
            }
            at = next;
            if at >= end {
                break;
            }
        }
        self.counters.count(Count::DecapsulatedPackets, packets);
        self.counters.count(Count::DecapsulatedBytes, total);
        accepted
    }

    /// Completes what a batch's datagrams were made into, before it is written.
    pub fn finish(&mut self, bytes: &mut [u8], out: &mut TunBatch) {
        if let Some(coalescer) = &mut self.coalescer {
            coalescer.finish(bytes, out);
        }
    }

    /// Checks one data packet, and notes in `known` what became of it; for `more` packets that may come
    /// behind it as well.
    #[inline]
    fn examine(
        &mut self,
        fib: &FibGuard<'_>,
        options: Option<&HeaderOptions>,
        outer: &Outer,
        packet: &[u8],
        more: bool,
        known: &mut Known,
    ) -> Result<(), DropReason> {
        known.of = Look::None;
        let header = *packet.first_chunk().ok_or(DropReason::OuterTruncated)?;
        let (key, iid) = data::key_and_instance(&header);
        if key != 0 {
            return Err(DropReason::Encrypted);
        }
        known.instance = self.instance(iid).ok_or(DropReason::UnknownInstance)?;
        let inside = packet.get(data::HEADER..).unwrap_or_default();
        known.inner = Inner::parse(inside).map_err(|_| DropReason::InnerMalformed)?;
        let inner = &mut known.inner;
        if inner.source.is_ipv4() && !ip::ipv4_header_is_valid(inside) {
            return Err(DropReason::InnerChecksum);
        }
        let away = check_addresses(fib.instance(iid), inner, &outer.remote)?;
        if let Some(options) = options {
            let (source, destination) = (inner.source, inner.destination);
            let subject = Subject { iid, header, source, destination, rloc: outer.remote };
            self.checks.check(fib, options, subject)?;
        }
        if away {
            self.counters.count(Count::Redirected, 1);
            self.checks.redirected(fib, Eid::new(iid, inner.destination), outer.remote);
        }
        let ecn = ecn::decapsulate(inner.tos, outer.tos).ok_or(DropReason::Congestion)?;
        inner.ttl = inner.ttl.min(outer.ttl.unwrap_or(u8::MAX));
        if inner.ttl == 0 {
            return Err(DropReason::InnerTtlExpired);
        }
        let dscp = match self.dscp {
            DscpMode::Uniform => outer.tos,
            DscpMode::Pipe => inner.tos,
        };
        inner.tos = dscp & !ecn::MASK | ecn;
        if self.coalescer.is_some() {
            known.flow = flow_hash(inner, inside);
        }
        // Each packet that is sent on counts.
        if more && !away {
            known.of = Look::of(packet, inner);
        }
        Ok(())
    }

    fn instance(&self, iid: InstanceId) -> Option<u16> {
        if let [(only, place)] = self.instances.as_slice() {
            return (*only == iid).then_some(*place);
        }
        let at = self.instances.binary_search_by_key(&iid, |i| i.0).ok()?;
        self.instances.get(at).map(|i| i.1)
    }
}

/// What became of a data packet that may enter, and becomes of those behind it that look the same: in bulk
/// traffic, nearly all of a group. Filled in place, since it is too large to be handed around.
struct Known {
    of: Look,
    /// The instance's place.
    instance: u16,
    /// As [`flow_hash`] gives it, where packets are joined.
    flow: u64,
    /// The inner packet, as it leaves.
    inner: Inner,
}

impl Known {
    /// Of no packet.
    const NOTHING: Self = Self { of: Look::None, instance: 0, flow: 0, inner: Inner::NONE };

    /// Whether all this is so of `packet` too, which has come behind that packet and with the same outer
    /// headers; then it is about this one. Where it isn't, or anything is wrong, the packet is to be examined.
    #[inline]
    fn holds_for(&mut self, packet: &[u8]) -> bool {
        let Some(len) = self.of.len_if_same(packet) else { return false };
        self.inner.len = len;
        true
    }
}

/// The headers of a data packet as it came, as far as they decide what becomes of it. Only of packets with
/// ports, and without IP options or extension headers.
enum Look {
    None,
    V4([u8; LOOK_V4]),
    V6([u8; LOOK_V6]),
}

/// LISP header, IP header and ports.
const LOOK_V4: usize = data::HEADER + IPV4_HEADER + 4;
const LOOK_V6: usize = data::HEADER + IPV6_HEADER + 4;

/// All but length, identification and checksum: the LISP header, version, header length, and TOS; flags and
/// fragment offset; TTL, and protocol; addresses, and ports.
const SAME_V4: Mask<LOOK_V4> = Mask::of(&[0..10, 14..18, 20..32]);
/// All but the length: the LISP header, version, traffic class, and flow label; next header, hop limit,
/// addresses, and ports.
const SAME_V6: Mask<LOOK_V6> = Mask::of(&[0..12, 14..52]);

impl Look {
    /// Of a packet with this inner one.
    fn of(packet: &[u8], inner: &Inner) -> Self {
        let look = match (inner.source, inner.transport) {
            _ if inner.ports(packet.get(data::HEADER..).unwrap_or_default()).is_none() => None,
            (IpAddr::V4(_), IPV4_HEADER) => packet.first_chunk().copied().map(Self::V4),
            (IpAddr::V6(_), IPV6_HEADER) => packet.first_chunk().copied().map(Self::V6),
            _ => None,
        };
        look.unwrap_or(Self::None)
    }

    /// The inner length of a packet that looks the same, where that and the header checksum are right. Short
    /// of ports it is another flow's.
    #[inline]
    fn len_if_same(&self, packet: &[u8]) -> Option<usize> {
        let (len, least) = match self {
            Self::None => return None,
            Self::V4(look) => {
                let head: &[u8; LOOK_V4] = packet.first_chunk()?;
                let right = SAME_V4.same(look, head) && ip::ipv4_header_is_valid(&head[data::HEADER..]);
                (right.then(|| u16::from_be_bytes([head[10], head[11]]).into())?, IPV4_HEADER + 4)
            }
            Self::V6(look) => {
                let head: &[u8; LOOK_V6] = packet.first_chunk()?;
                let right = SAME_V6.same(look, head);
                let payload: usize = right.then(|| u16::from_be_bytes([head[12], head[13]]).into())?;
                (IPV6_HEADER + payload, IPV6_HEADER + 4)
            }
        };
        (least..=packet.len() - data::HEADER).contains(&len).then_some(len)
    }
}

/// Inner packets go to EIDs of this site and come from elsewhere (RFC 9300 §16); those to anywhere else are
/// a proxy-ETR's, or for what has moved elsewhere: whether it is that.
fn check_addresses(fib: Option<&InstanceFib>, inner: &Inner, remote: &IpAddr) -> Result<bool, DropReason> {
    if !ip::is_forwardable(&inner.source) || !ip::is_forwardable(&inner.destination) {
        return Err(DropReason::InnerNotUnicast);
    }
    let fib = fib.ok_or(DropReason::InnerDestinationNotLocal)?;
    let mut away = false;
    if !fib.is_local(&inner.destination) {
        away = fib.is_away(&inner.destination);
        if away {
            check_redirect(fib, inner, remote)?;
        } else {
            check_proxied(fib, inner, remote)?;
        }
    }
    if fib.is_local(&inner.source) { Err(DropReason::InnerSourceLocal) } else { Ok(away) }
}

/// A packet for what has moved elsewhere goes on to there, by the TUN, from which it is encapsulated again.
/// Never back to where it came from: the two sites would take each other for the right one, until its TTL is
/// used up.
#[cold]
fn check_redirect(fib: &InstanceFib, inner: &Inner, remote: &IpAddr) -> Result<(), DropReason> {
    let on = match fib.lookup(&inner.destination).map(|entry| &entry.action) {
        Some(EntryAction::Forward(choice)) => choice.paths().all(|path| path.way.rloc != *remote),
        Some(EntryAction::Negative(action)) => *action == Action::SendMapRequest,
        // Forgotten where to: a miss, which is found out where packets from the TUN are.
        Some(EntryAction::Local) | None => true,
    };
    if on { Ok(()) } else { Err(DropReason::InnerDestinationAway) }
}

/// A proxy-ETR forwards for the sites that it is for alone (RFC 6832 §6): anything else would let everybody
/// send packets of any source to the Internet. They are known by configuration, or by a mapping that lists
/// who encapsulated.
#[cold]
fn check_proxied(fib: &InstanceFib, inner: &Inner, remote: &IpAddr) -> Result<(), DropReason> {
    if !fib.is_proxy_etr() {
        return Err(DropReason::InnerDestinationNotLocal);
    }
    let maps_to_remote = || {
        fib.lookup(&inner.source).is_some_and(|entry| match &entry.action {
            EntryAction::Forward(choice) => choice.paths().any(|path| path.way.rloc == *remote),
            EntryAction::Negative(_) | EntryAction::Local => false,
        })
    };
    match fib.proxies_from(&inner.source) || maps_to_remote() {
        true => Ok(()),
        false => Err(DropReason::InnerSourceNotProxied),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::testing::{Router, forward, prefix, udp, with_tos};
    use super::*;
    use crate::fib::{Dynamic, FibAction, FibUpdate, Proxy};

    fn data(header: [u8; 8], packet: &[u8]) -> Vec<u8> {
        [&header, packet].concat()
    }

    const INSTANCE_7: [u8; 8] = [8, 0, 0, 0, 0, 0, 7, 0];

    #[test]
    fn inner_packets_come_out_in_their_instance() {
        let mut router = Router::new();
        for packet in [udp("10.2.0.1", "10.1.0.1", 9, b"4"), udp("2001:db8:2::1", "2001:db8:1::1", 9, b"6")] {
            assert_eq!(router.decap(64, 0, &data([0; 8], &packet)), [(0, packet.clone())]);
            assert_eq!(router.decap(64, 0, &data(INSTANCE_7, &packet)), [(1, packet.clone())]);
            // Nonce and locator-status-bits as deployed routers send them, and bytes behind the packet.
            let sent = data([0xc0, 1, 2, 3, 0, 0, 0, 1], &[&packet[..], &[9; 5]].concat());
            assert_eq!(router.decap(64, 0, &sent), [(0, packet.clone())]);
        }
        assert_eq!(router.counters.totals().counted(Count::DecapsulatedPackets), 6);
        assert_eq!(router.dropped(), None);
    }

    #[test]
    fn the_smaller_ttl_and_the_outer_dscp_go_on() {
        let mut router = Router::new();
        for packet in [udp("10.2.0.1", "10.1.0.1", 50, b"4"), udp("2001:db8:2::1", "2001:db8:1::1", 50, b"6")]
        {
            for (outer, want) in [(255, 50), (50, 50), (7, 7)] {
                let sent = data([0; 8], &with_tos(packet.clone(), 0xb8));
                let out = &router.decap(outer, 0x48, &sent)[0].1;
                let inner = Inner::parse(out).unwrap();
                assert_eq!((inner.ttl, inner.tos), (want, 0x48));
                assert!(inner.source.is_ipv6() || ip::ipv4_header_is_valid(out));
            }
        }
        let config = DataPlaneConfig { dscp: DscpMode::Pipe, ..DataPlaneConfig::default() };
        let sent = data([0; 8], &with_tos(udp("10.2.0.1", "10.1.0.1", 50, b"4"), 0xb8));
        assert_eq!(Inner::parse(&Router::with(config).decap(9, 0x48, &sent)[0].1).unwrap().tos, 0xb8);
    }

    #[test]
    fn congestion_marks_survive_or_drop() {
        let mut router = Router::new();
        let packet = udp("10.2.0.1", "10.1.0.1", 50, b"4");
        let sent = |ecn| data([0; 8], &with_tos(packet.clone(), ecn));
        let out = router.decap(9, ecn::CE, &sent(ecn::ECT_0));
        assert_eq!(Inner::parse(&out[0].1).unwrap().tos, ecn::CE);
        assert!(ip::ipv4_header_is_valid(&out[0].1));
        assert_eq!(router.decap(9, ecn::CE, &sent(ecn::NOT_ECT)), []);
        assert_eq!(router.dropped(), Some((DropReason::Congestion, 1)));
    }

    #[test]
    fn packets_that_must_not_enter_are_counted_by_reason() {
        let good = udp("10.2.0.1", "10.1.0.1", 9, b"x");
        let mut damaged = good.clone();
        damaged[8] ^= 1;
        let cases = [
            (vec![], DropReason::OuterTruncated),
            (vec![0; 7], DropReason::OuterTruncated),
            (vec![0; 8], DropReason::InnerMalformed),
            (data([0; 8], &[0x45; 10]), DropReason::InnerMalformed),
            (data([0; 8], &good[..28]), DropReason::InnerMalformed),
            (data([0; 8], &[0x20; 28]), DropReason::InnerMalformed),
            (data([0x01, 0, 0, 0, 0, 0, 0, 0], &good), DropReason::Encrypted),
            (data([8, 0, 0, 0, 0, 0, 9, 0], &good), DropReason::UnknownInstance),
            (data([0; 8], &damaged), DropReason::InnerChecksum),
            (data([0; 8], &udp("10.2.0.1", "224.0.0.1", 9, b"")), DropReason::InnerNotUnicast),
            (data([0; 8], &udp("127.0.0.1", "10.1.0.1", 9, b"")), DropReason::InnerNotUnicast),
            (data([0; 8], &udp("10.2.0.1", "10.3.0.1", 9, b"")), DropReason::InnerDestinationNotLocal),
            (data([0; 8], &udp("10.1.0.9", "10.1.0.1", 9, b"")), DropReason::InnerSourceLocal),
            (data([0; 8], &udp("10.2.0.1", "10.1.0.1", 0, b"")), DropReason::InnerTtlExpired),
        ];
        for (payload, reason) in cases {
            let mut router = Router::new();
            assert_eq!(router.decap(64, 0, &payload), [], "{reason}");
            assert_eq!(router.dropped(), Some((reason, 1)));
        }
    }

    #[test]
    fn a_proxy_etr_takes_packets_anywhere_but_for_its_sites_only() {
        let mut router = Router::new();
        let to = |source: &str| data([0; 8], &udp(source, "192.0.2.9", 9, b"4"));
        assert_eq!(router.decap(64, 0, &to("10.2.0.1")), []);
        assert_eq!(router.dropped(), Some((DropReason::InnerDestinationNotLocal, 1)));

        let mut router = Router::new();
        for p in ["10.2.0.0/16", "2001:db8:2::/48"] {
            let proxy = Proxy::Egress;
            router.fib.apply(FibUpdate::Proxy { prefix: prefix(0, p), proxy, present: true });
        }
        // The outer source of these packets, and another.
        router.set(0, "10.3.0.0/16", forward("203.0.113.1"));
        router.set(0, "10.4.0.0/16", forward("203.0.113.2"));
        router.set(0, "10.5.0.0/16", FibAction::Negative(Action::NativelyForward));
        for (source, passes) in [
            ("10.2.0.1", true),
            ("10.3.0.1", true),
            ("10.4.0.1", false),
            ("10.5.0.1", false),
            ("10.6.0.1", false),
        ] {
            assert_eq!(router.decap(64, 0, &to(source)).len(), usize::from(passes), "{source}");
        }
        let six = udp("2001:db8:2::1", "2001:db8:9::1", 9, b"6");
        assert_eq!(router.decap(64, 0, &data([0; 8], &six)), [(0, six.clone())]);
        assert_eq!(router.dropped(), Some((DropReason::InnerSourceNotProxied, 3)));
        // What goes to the site itself needs no proxy.
        let inside = udp("10.6.0.1", "10.1.0.1", 9, b"4");
        assert_eq!(router.decap(64, 0, &data([0; 8], &inside)).len(), 1);
        assert_eq!(router.decap(64, 0, &data(INSTANCE_7, &six)), [], "in this instance alone");
        assert_eq!(router.counters.totals().dropped(DropReason::InnerDestinationNotLocal), 1);
        // Its own EIDs don't come from outside, wherever they go.
        router.fib.apply(FibUpdate::Proxy {
            prefix: prefix(0, "10.1.0.0/16"),
            proxy: Proxy::Egress,
            present: true,
        });
        router.fib.publish();
        assert_eq!(router.decap(64, 0, &to("10.1.0.1")), []);
        assert_eq!(router.counters.totals().dropped(DropReason::InnerSourceLocal), 1);
    }

    #[test]
    fn what_has_moved_away_is_sent_on_but_not_back() {
        let mut router = Router::new();
        let packet = udp("10.2.0.1", "10.1.0.5", 9, b"4");
        let away = |router: &mut Router, present| {
            let (prefix, what) = (prefix(0, "10.1.0.4/30"), Dynamic::Away);
            router.fib.apply(FibUpdate::Dynamic { prefix, what, present });
            router.fib.publish();
        };
        away(&mut router, true);
        // Where to is not known, or not any more: whoever asks for it sees the packet.
        assert_eq!(router.decap(64, 0, &data([0; 8], &packet)), [(0, packet.clone())]);
        router.set(0, "10.1.0.4/30", forward("203.0.113.7"));
        assert_eq!(router.decap(64, 0, &data([0; 8], &packet)), [(0, packet.clone())]);
        let told: Vec<_> = router.punts.drain(..).collect();
        let (destination, rloc) =
            (Eid::new(InstanceId::DEFAULT, "10.1.0.5".parse().unwrap()), "203.0.113.1".parse().unwrap());
        assert_eq!(told, [Punt::Redirected { destination, rloc }], "once");
        assert_eq!(router.counters.totals().counted(Count::Redirected), 2);
        // The other router's view is older than ours, or ours than its.
        router.set(0, "10.1.0.4/30", forward("203.0.113.1"));
        assert_eq!(router.decap(64, 0, &data([0; 8], &packet)), []);
        router.set(0, "10.1.0.4/30", FibAction::Negative(Action::Drop));
        assert_eq!(router.decap(64, 0, &data([0; 8], &packet)), []);
        assert_eq!(router.dropped(), Some((DropReason::InnerDestinationAway, 2)));
        // What moved may send to those that stayed, and a part of it that is here again is local.
        assert_eq!(router.decap(64, 0, &data([0; 8], &udp("10.1.0.5", "10.1.0.1", 9, b"4"))).len(), 1);
        router.set(0, "10.1.0.5/32", FibAction::Local);
        assert_eq!(router.decap(64, 0, &data([0; 8], &packet)).len(), 1);
        assert_eq!(router.counters.totals().counted(Count::Redirected), 2);
        let outside = data([0; 8], &udp("10.2.0.1", "10.1.0.9", 9, b"4"));
        assert_eq!(router.decap(64, 0, &outside).len(), 1);
        away(&mut router, false);
        assert_eq!(router.decap(64, 0, &data([0; 8], &udp("10.1.0.6", "10.1.0.1", 9, b"4"))), []);
        assert_eq!(router.counters.totals().dropped(DropReason::InnerSourceLocal), 1);
    }

    #[test]
    fn the_lists_of_a_batch_are_bounded() {
        let router = &mut Router::new();
        let mut smallest = udp("10.2.0.1", "10.1.0.1", 9, b"");
        smallest.truncate(20);
        smallest[2..4].copy_from_slice(&20u16.to_be_bytes());
        ip::write_ipv4_checksum(&mut smallest);
        let packet = data([0; 8], &smallest);
        let mut bytes = packet.repeat((512 << 10) / packet.len());
        let outer = Outer { remote: "203.0.113.1".parse().unwrap(), ttl: None, tos: 0 };
        let piece = Piece { offset: 0, len: bytes.len() as u32 };
        let datagram = Datagram { piece, segment: packet.len() as u16, outer };
        let mut out = TunBatch::new();
        let guard = router.reader.enter().unwrap();
        router.decapsulator.decapsulate(&guard, &datagram, &mut bytes, &mut out);
        assert_eq!(out.writes().len(), 18_724);
        assert!(out.memory() <= TunBatch::MAX_BYTES, "{}", out.memory());
    }

    #[test]
    fn who_sent_and_for_whom_can_be_read_afterwards() {
        let router = &mut Router::new();
        let outer = Outer { remote: "203.0.113.1".parse().unwrap(), ttl: None, tos: 0 };
        let (four, six) =
            (udp("10.2.0.1", "10.1.0.1", 9, b""), udp("2001:db8:2::1", "2001:db8:1::1", 9, b""));
        let bad = udp("10.2.0.1", "10.9.0.1", 9, b"");
        let sent = [data([0; 8], &four), data(INSTANCE_7, &four), data([0; 8], &six), data([0; 8], &bad)];
        let mut spaces = Vec::new();
        let guard = router.reader.enter().unwrap();
        for (sent, want) in sent.iter().zip(["10.1.0.1", "10.1.0.1", "2001:db8:1::1", ""]) {
            // Behind something else, and in front of it.
            let mut bytes = [&[7; 5][..], sent, &[7; 90]].concat();
            let piece = Piece { offset: 5, len: sent.len() as u32 };
            let datagram = Datagram { piece, segment: 0, outer };
            let mut out = TunBatch::new();
            let accepted = router.decapsulator.decapsulate(&guard, &datagram, &mut bytes, &mut out);
            let eid = accepted.and_then(|packet| packet.destination(&bytes));
            assert_eq!(eid.map_or(String::new(), |eid| eid.addr.to_string()), want);
            spaces.extend(accepted.map(|packet| (packet.space(&bytes).unwrap(), eid.unwrap().iid.get())));
        }
        assert_eq!(spaces.iter().map(|s| s.1).collect::<Vec<_>>(), [0, 7, 0]);
        assert!(spaces[0].0 != spaces[1].0 && spaces[0].0 != spaces[2].0 && spaces[1].0 != spaces[2].0);
    }

    #[test]
    fn one_bad_packet_of_a_group_costs_only_itself() {
        let mut router = Router::new();
        let good = data([0; 8], &udp("10.2.0.1", "10.1.0.1", 9, &[1; 100]));
        let bad = data([0; 8], &udp("10.2.0.1", "10.9.0.1", 9, &[1; 100]));
        let short = data([0; 8], &udp("10.2.0.1", "10.1.0.1", 9, &[1; 10]));
        let outer = Outer { remote: "203.0.113.1".parse().unwrap(), ttl: None, tos: 0 };
        let group = [&good[..], &bad, &good, &short].concat();
        let out = router.decap_all(&[(outer, group, good.len() as u16)]);
        let packets: Vec<_> = out.iter().map(|w| &w.2[..]).collect();
        assert_eq!(packets, [&good[8..], &good[8..], &short[8..]]);
        assert_eq!(router.dropped(), Some((DropReason::InnerDestinationNotLocal, 1)));
    }

    proptest! {
        #[test]
        fn hostile_datagrams_never_panic(
            mut bytes in proptest::collection::vec(any::<u8>(), 0..300), near_valid: bool,
            segment in 0u16..400, ttl: u8, tos: u8
        ) {
            let mut router = Router::new();
            if near_valid && bytes.len() >= 40 {
                bytes[..8].fill(0);
                let len = (bytes.len() - 8) as u16;
                bytes[8] = 0x45;
                bytes[10..12].copy_from_slice(&len.to_be_bytes());
                bytes[20..28].copy_from_slice(&[10, 2, 0, 1, 10, 1, 0, 1]);
                ip::write_ipv4_checksum(&mut bytes[8..]);
            }
            let packets = if segment == 0 { 1 } else { bytes.len().div_ceil(segment.into()).max(1) };
            let outer = Outer { remote: "203.0.113.1".parse().unwrap(), ttl: Some(ttl), tos };
            let out = router.decap_all(&[(outer, bytes, segment)]);
            prop_assert_eq!(out.len() as u64 + router.counters.totals().dropped_in_all(), packets as u64);
        }
    }
}
