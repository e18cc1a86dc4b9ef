//! What the tests of this module share: a small FIB, packets, and both directions as functions of bytes.

use std::sync::Arc;

use ipnet::IpNet;

use super::*;
use crate::fib::{self, FibAction, FibReader, FibUpdate, FibWriter, Path, Punt, Worker};
use crate::types::{EidPrefix, InstanceId, Instant};
use crate::wire::ip;

/// A router with the EID-prefixes 10.1.0.0/16 and 2001:db8:1::/48 in instances 0 and 7.
pub(super) struct Router {
    pub(super) fib: FibWriter,
    pub(super) reader: FibReader,
    pub(super) encapsulator: Encapsulator,
    pub(super) decapsulator: Decapsulator,
    pub(super) counters: Arc<Counters>,
    pub(super) punts: Vec<Punt>,
    pub(super) now: Instant,
    pub(super) max_segments: u16,
    config: DataPlaneConfig,
}

pub(super) fn prefix(iid: u32, s: &str) -> EidPrefix {
    EidPrefix::new(InstanceId::new(iid).unwrap(), s.parse::<IpNet>().unwrap())
}

pub(super) fn forward(rloc: &str) -> FibAction {
    let rloc: std::net::IpAddr = rloc.parse().unwrap();
    let source = if rloc.is_ipv4() { "192.0.2.1" } else { "2001:db8:f::1" };
    FibAction::Forward(vec![Path {
        rloc,
        source: source.parse().unwrap(),
        priority: 1,
        weight: 100,
        stats: Arc::default(),
    }])
}

/// A data packet as sent, with what its outer headers will be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sent {
    pub(super) remote: String,
    pub(super) ttl: u8,
    pub(super) tos: u8,
    pub(super) port: u16,
    pub(super) payload: Vec<u8>,
}

impl Router {
    pub(super) fn new() -> Self {
        Self::with(DataPlaneConfig::default())
    }

    pub(super) fn with(mut config: DataPlaneConfig) -> Self {
        config.instances = [0, 7]
            .map(|iid| Instance { iid: InstanceId::new(iid).unwrap(), tun: format!("lisp{iid}") })
            .to_vec();
        let fib = fib::new(64);
        let reader = fib.reader();
        let counters = Arc::new(Counters::default());
        let mut router = Self {
            fib,
            reader,
            encapsulator: Encapsulator::new(&config, Worker::ONLY, ip::sum, counters.clone()),
            decapsulator: Decapsulator::new(&config, Coalescing::Off, ip::sum, counters.clone()),
            counters,
            punts: Vec::new(),
            now: Instant::from_secs(1),
            max_segments: 64,
            config,
        };
        for iid in [0, 7] {
            for p in ["10.1.0.0/16", "2001:db8:1::/48"] {
                router.set(iid, p, FibAction::Local);
            }
        }
        router
    }

    /// From now on packets for the site are joined.
    pub(super) fn coalesce(&mut self, coalescing: Coalescing) {
        self.decapsulator = Decapsulator::new(&self.config, coalescing, ip::sum, self.counters.clone());
    }

    pub(super) fn set(&mut self, iid: u32, p: &str, action: FibAction) {
        self.fib.apply(FibUpdate::Set { prefix: prefix(iid, p), action, stats: Arc::default() });
        self.fib.publish();
    }

    /// What becomes of packets from the TUN of an instance: data packets, and ICMP errors with their
    /// destination.
    pub(super) fn encap_all(
        &mut self,
        iid: u32,
        packets: &[(Vec<u8>, VnetHeader)],
    ) -> (Vec<Sent>, Vec<(String, Vec<u8>)>) {
        let mut arena = Arena::new(packets.len() * (Arena::MAX_PACKET + 64));
        let mut out = SendBatch::new(16, self.max_segments);
        let guard = self.reader.enter().unwrap();
        let iid = InstanceId::new(iid).unwrap();
        let turn = Turn::new(iid, &guard, &self.reader, self.now);
        let punts = &mut self.punts;
        let mut read = Vec::new();
        for (bytes, vnet) in packets {
            arena.slot(0).unwrap()[..bytes.len()].copy_from_slice(bytes);
            read.push(TunPacket { piece: arena.commit(bytes.len()), vnet: *vnet });
        }
        let taken = self.encapsulator.encapsulate(&turn, &read, &mut arena, &mut out, |p| {
            punts.push(p);
            true
        });
        assert_eq!(taken, read.len());
        let sent = out.groups().iter().flat_map(|group| {
            let bytes: Vec<u8> = out.pieces(group).flat_map(|p| arena.get(p).to_vec()).collect();
            assert_eq!(bytes.len(), group.bytes as usize);
            assert!(bytes.len() <= 65_507);
            let packets: Vec<_> = bytes.chunks(usize::from(group.segment)).map(<[u8]>::to_vec).collect();
            assert_eq!(packets.len(), usize::from(group.segments));
            let group = group.clone();
            packets.into_iter().map(move |payload| Sent {
                remote: group.remote.to_string(),
                ttl: group.ttl,
                tos: group.tos,
                port: group.port,
                payload,
            })
        });
        let icmp = out.icmp().iter().map(|i| (i.destination.to_string(), arena.get(i.message).to_vec()));
        (sent.collect(), icmp.collect())
    }

    pub(super) fn encap(&mut self, iid: u32, packet: &[u8]) -> (Vec<Sent>, Vec<(String, Vec<u8>)>) {
        self.encap_all(iid, &[(packet.to_vec(), VnetHeader::default())])
    }

    /// What data packets that arrived with these outer headers are written as: instance's place, vnet header,
    /// bytes.
    pub(super) fn decap_all(&mut self, groups: &[(Outer, Vec<u8>, u16)]) -> Vec<(u16, VnetHeader, Vec<u8>)> {
        let mut bytes = Vec::new();
        let mut datagrams = Vec::new();
        for (outer, payload, segment) in groups {
            let piece = Piece { offset: bytes.len() as u32, len: payload.len() as u32 };
            bytes.extend(payload);
            datagrams.push(Datagram { piece, segment: *segment, outer: *outer });
        }
        let mut out = TunBatch::new();
        let guard = self.reader.enter().unwrap();
        self.decapsulator.begin(self.now);
        for datagram in &datagrams {
            self.decapsulator.decapsulate(&guard, datagram, &mut bytes, &mut out);
        }
        self.decapsulator.finish(&mut bytes, &mut out);
        let punts = &mut self.punts;
        self.decapsulator.punts(|p| {
            punts.push(p);
            true
        });
        let get = |p: Piece| bytes[p.offset as usize..(p.offset + p.len) as usize].to_vec();
        out.writes().iter().map(|w| (w.instance, w.vnet, out.pieces(w).flat_map(get).collect())).collect()
    }

    pub(super) fn decap(&mut self, ttl: u8, tos: u8, payload: &[u8]) -> Vec<(u16, Vec<u8>)> {
        let outer = Outer { remote: "203.0.113.1".parse().unwrap(), ttl: Some(ttl), tos };
        self.decap_all(&[(outer, payload.to_vec(), 0)]).into_iter().map(|(i, _, b)| (i, b)).collect()
    }

    /// The one reason for which packets were dropped, and how many.
    pub(super) fn dropped(&self) -> Option<(DropReason, u64)> {
        let totals = self.counters.totals();
        let mut reasons = DropReason::ALL.iter().map(|&r| (r, totals.dropped(r))).filter(|r| r.1 > 0);
        let first = reasons.next();
        assert_eq!(reasons.next(), None, "{first:?}");
        first
    }
}

/// A UDP packet between two addresses of one family.
pub(super) fn udp(source: &str, destination: &str, ttl: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = Vec::new();
    match (source.parse().unwrap(), destination.parse().unwrap()) {
        (std::net::IpAddr::V4(s), std::net::IpAddr::V4(d)) => {
            etherparse::PacketBuilder::ipv4(s.octets(), d.octets(), ttl)
                .udp(1111, 2222)
                .write(&mut packet, payload)
        }
        (std::net::IpAddr::V6(s), std::net::IpAddr::V6(d)) => {
            etherparse::PacketBuilder::ipv6(s.octets(), d.octets(), ttl)
                .udp(1111, 2222)
                .write(&mut packet, payload)
        }
        _ => panic!("two families"),
    }
    .unwrap();
    packet
}

/// Sets TOS or traffic class, and leaves the checksum right.
pub(super) fn with_tos(mut packet: Vec<u8>, tos: u8) -> Vec<u8> {
    let ttl = ip::Inner::parse(&packet).unwrap().ttl;
    ip::set_tos_ttl(&mut packet, tos, ttl);
    packet
}
