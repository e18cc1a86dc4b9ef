//! What the fuzz target of the data plane checks, shared with the test that replays the seeds.

use std::sync::Arc;

use eidolon::dataplane::{
    Arena, Coalescing, Count, Counters, DataPlaneConfig, Datagram, Decapsulator, Encapsulator, Instance,
    Outer, Piece, SendBatch, TunBatch, TunPacket, Turn, VnetHeader,
};
use eidolon::fib::{self, FibAction, FibUpdate, FibWriter, Path, Worker};
use eidolon::types::{EidPrefix, InstanceId, Instant};
use eidolon::wire::ip::{self, Inner};

/// A data packet in either direction: the first byte says which. From the underlay (even) there follow the
/// outer TTL and TOS, the length of the segments and the payloads; from the site (odd) a TUN's header and the
/// packet.
///
/// Whatever comes in is sent, written or counted as dropped, and what goes out is well-formed.
pub(crate) fn data_packet(bytes: &[u8]) {
    let Some((kind, rest)) = bytes.split_first() else { return };
    if kind % 2 == 0 { from_underlay(rest) } else { from_site(rest) }
}

fn router() -> (FibWriter, DataPlaneConfig) {
    let mut fib = fib::new(16);
    let mut set = |iid: u32, prefix: &str, action| {
        let prefix = EidPrefix::new(InstanceId::new(iid).unwrap(), prefix.parse().unwrap());
        fib.apply(FibUpdate::Set { prefix, action, stats: Arc::default() });
    };
    for (iid, rloc, source) in [(0, "203.0.113.1", "192.0.2.1"), (7, "2001:db8:f::2", "2001:db8:f::1")] {
        for local in ["10.1.0.0/16", "2001:db8:1::/48"] {
            set(iid, local, FibAction::Local);
        }
        for remote in ["10.2.0.0/16", "2001:db8:2::/48"] {
            let path = Path {
                rloc: rloc.parse().unwrap(),
                source: source.parse().unwrap(),
                priority: 1,
                weight: 100,
                stats: Arc::default(),
            };
            set(iid, remote, FibAction::Forward(vec![path]));
        }
    }
    fib.publish();
    let instances = [0, 7].map(|iid| Instance { iid: InstanceId::new(iid).unwrap(), tun: String::new() });
    (fib, DataPlaneConfig { instances: instances.to_vec(), ..DataPlaneConfig::default() })
}

fn from_underlay(bytes: &[u8]) {
    let Some((&[ttl, tos, high, low], payload)) = bytes.split_first_chunk() else { return };
    let (fib, config) = router();
    let (reader, counters) = (fib.reader(), Arc::new(Counters::default()));
    let mut bytes = payload.to_vec();
    let datagram = Datagram {
        piece: Piece { offset: 0, len: bytes.len() as u32 },
        segment: u16::from_be_bytes([high, low]),
        outer: Outer { remote: "203.0.113.1".parse().unwrap(), ttl: Some(ttl), tos },
    };
    let mut decapsulator = Decapsulator::new(&config, Coalescing::TcpAndUdp, ip::sum, counters.clone());
    let mut out = TunBatch::new();
    let guard = reader.enter().unwrap();
    decapsulator.decapsulate(&guard, &datagram, &mut bytes, &mut out);
    decapsulator.finish(&mut bytes, &mut out);
    let mut written = 0;
    for write in out.writes() {
        let get = |p: Piece| &bytes[p.offset as usize..(p.offset + p.len) as usize];
        let packet = out.pieces(write).map(get).collect::<Vec<_>>().concat();
        let inner = Inner::parse(&packet).unwrap();
        assert_eq!((inner.len, packet.len()), (packet.len(), write.bytes as usize));
        let fib = guard.instance(config.instances[usize::from(write.instance)].iid).unwrap();
        assert!(fib.is_local(&inner.destination) && !fib.is_local(&inner.source));
        assert!(inner.ttl > 0 && inner.ttl <= ttl);
        assert!(inner.source.is_ipv6() || ip::ipv4_header_is_valid(&packet));
        assert_eq!(write.packets > 1, write.vnet.gso.is_some());
        written += u64::from(write.packets);
    }
    let segment = if datagram.segment == 0 { payload.len() } else { datagram.segment.into() };
    let packets = payload.len().div_ceil(segment.max(1)).max(1) as u64;
    assert_eq!(written + counters.totals().dropped_in_all(), packets);
    assert_eq!(counters.totals().counted(Count::DecapsulatedPackets), written);
}

fn from_site(bytes: &[u8]) {
    let Some((header, packet)) = bytes.split_first_chunk::<{ VnetHeader::LEN }>() else { return };
    let Some(vnet) = VnetHeader::parse(header) else { return };
    let (fib, config) = router();
    let (reader, counters) = (fib.reader(), Arc::new(Counters::default()));
    let mut encapsulator = Encapsulator::new(&config, Worker::ONLY, ip::sum, counters.clone());
    let mut arena = Arena::new(Arena::MAX_PACKET);
    let mut out = SendBatch::new(config.source_ports, 64);
    let len = packet.len().min(Arena::MAX_PACKET);
    arena.slot(0).unwrap()[..len].copy_from_slice(&packet[..len]);
    let packet = TunPacket { piece: arena.commit(len), vnet };
    let guard = reader.enter().unwrap();
    for iid in [0, 7] {
        let before = counters.totals();
        let turn = Turn::new(InstanceId::new(iid).unwrap(), &guard, &reader, Instant::from_secs(1));
        out.clear();
        arena.clear_scratch();
        assert_eq!(encapsulator.encapsulate(&turn, &[packet], &mut arena, &mut out, |_| true), 1);
        let mut sent = 0;
        for group in out.groups() {
            assert!(group.bytes <= 65_527 && group.ttl > 0 && group.port < config.source_ports);
            let bytes = out.pieces(group).flat_map(|p| arena.get(p).to_vec()).collect::<Vec<_>>();
            assert_eq!(bytes.len(), group.bytes as usize);
            let packets: Vec<_> = bytes.chunks(group.segment.into()).collect();
            assert_eq!(packets.len(), usize::from(group.segments));
            let overhead = if group.remote.is_ipv4() { 28 } else { 48 };
            for packet in packets {
                assert!(packet.len() + overhead <= 1500);
                let inner = Inner::parse(&packet[8..]).unwrap();
                assert_eq!(inner.len, packet.len() - 8);
                sent += 1;
            }
        }
        let after = counters.totals();
        let dropped = after.dropped_in_all() - before.dropped_in_all();
        assert_eq!(dropped, u64::from(sent == 0), "one packet is sent, as one or as many, or dropped");
        let encapsulated =
            after.counted(Count::EncapsulatedPackets) - before.counted(Count::EncapsulatedPackets);
        assert_eq!(encapsulated, sent);
    }
}
