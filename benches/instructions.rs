//! The fast path as a plain program, for counting its instructions, which vary far less than times do:
//!
//! ```text
//! cargo bench --no-default-features --bench instructions --no-run
//! valgrind --tool=callgrind --callgrind-out-file=/dev/null PROGRAM encapsulate off 1000
//! ```
//!
//! The count of 2,000 rounds less that of 1,000 is what 1,000 rounds cost. Each round is a batch of 64
//! packets, or one super-packet. `off` leaves all options of the LISP header off, others switch one on.
//! `scatter-2048` and `scatter-65536` encapsulate to as many destinations in turn, among 100,000 prefixes.
#![allow(missing_docs)]

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use eidolon::dataplane::{
    Arena, Coalescing, DataPlaneConfig, Datagram, Decapsulator, Encapsulator, Gso, Instance, Outer, Piece,
    SendBatch, TunBatch, TunPacket, Turn, VnetHeader,
};
use eidolon::fib::{
    self, FibAction, FibReader, FibUpdate, FibWriter, HeaderOptions, Path, Site, SourceCheck, Worker,
};
use eidolon::types::{EidPrefix, InstanceId, Instant, MapVersion};
use eidolon::wire::ip;
use ipnet::IpNet;

const BATCH: usize = 64;
/// Remote sites, one prefix and one locator each.
const SITES: u32 = 1000;
const RLOC: u32 = 0xc612_0000;
const OURS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with("--")).collect();
    let [what, option, rounds] = arguments.as_slice() else {
        // `cargo bench` runs every benchmark: one round shows that it works.
        for what in ["encapsulate", "scatter-2048", "decapsulate", "cut", "join"] {
            for option in ["off", "source-check", "locator-status", "map-version", "echo-nonce"] {
                run(what, option, 1);
            }
        }
        return;
    };
    run(what, option, rounds.parse().expect("a number of rounds"));
}

fn run(what: &str, option: &str, rounds: u64) {
    if let Some(destinations) = what.strip_prefix("scatter-") {
        return scatter(destinations.parse().expect("a number of destinations"), rounds);
    }
    let (_writer, reader, options) = tables(option);
    match what {
        "encapsulate" => encapsulate(&reader, rounds),
        "decapsulate" => decapsulate(&reader, &options, rounds),
        "cut" => cut(&reader, rounds),
        "join" => join(&reader, &options, rounds),
        _ => panic!("{what} is none of encapsulate, scatter-N, decapsulate, cut, join"),
    }
}

/// The EID-prefix of site `n`.
fn prefix(n: u32) -> EidPrefix {
    let net = IpNet::new(Ipv4Addr::from_bits(0x0b00_0000 + (n << 8)).into(), 24).expect("24 bits");
    EidPrefix::from(net)
}

fn rloc(n: u32) -> IpAddr {
    Ipv4Addr::from_bits(RLOC + n).into()
}

fn tables(option: &str) -> (FibWriter, FibReader, HeaderOptions) {
    let mut options = HeaderOptions::default();
    match option {
        "off" => {}
        "source-check" => options.source_check = SourceCheck::Strict,
        "locator-status" => options.locator_status = true,
        "map-version" => options.map_version = true,
        "echo-nonce" => options.echo_nonce = Some(Duration::from_secs(5)),
        _ => panic!("{option} is no option"),
    }
    let mut fib = fib::new(1024);
    fib.apply(FibUpdate::Options(options));
    let local = EidPrefix::from("10.0.0.0/8".parse::<IpNet>().expect("a prefix"));
    fib.apply(FibUpdate::Set { prefix: local, action: FibAction::Local, stats: Arc::default() });
    let version = MapVersion::new(7);
    if options.any() {
        let site = Site { local: true, version, status: Some(3), ..Site::default() };
        fib.apply(FibUpdate::Site { prefix: local, site: Arc::new(site) });
    }
    for n in 0..SITES {
        let path = Path {
            rloc: rloc(n),
            source: Ipv4Addr::new(192, 0, 2, 1).into(),
            priority: 1,
            weight: 100,
            stats: Arc::default(),
        };
        let action = FibAction::Forward(vec![path]);
        fib.apply(FibUpdate::Set { prefix: prefix(n), action, stats: Arc::default() });
        if options.any() {
            let site = Site { rlocs: [rloc(n)].into(), version, echoes: true, ..Site::default() };
            fib.apply(FibUpdate::Site { prefix: prefix(n), site: Arc::new(site) });
        }
    }
    fib.publish();
    let reader = fib.reader();
    (fib, reader, options)
}

fn config() -> DataPlaneConfig {
    DataPlaneConfig {
        instances: vec![Instance { iid: InstanceId::DEFAULT, tun: String::new() }],
        ..DataPlaneConfig::default()
    }
}

/// A 64-byte UDP payload between two hosts.
fn packet(source: Ipv4Addr, destination: Ipv4Addr, port: u16) -> Vec<u8> {
    let mut bytes = Vec::new();
    etherparse::PacketBuilder::ipv4(source.octets(), destination.octets(), 64)
        .udp(port, 9)
        .write(&mut bytes, &[0x5a; 64])
        .expect("a packet");
    bytes
}

fn host(n: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(0x0b00_0005 + (n << 8))
}

fn encapsulate(reader: &FibReader, rounds: u64) {
    let mut encapsulator = Encapsulator::new(&config(), Worker::ONLY, ip::sum, Arc::default());
    let mut arena = Arena::new(1 << 18);
    let mut out = SendBatch::new(16, 64);
    let mut read = Vec::new();
    for n in 0..BATCH as u32 {
        let bytes = packet(OURS, host(n * 37 % SITES), n as u16);
        arena.slot(0).expect("room")[..bytes.len()].copy_from_slice(&bytes);
        let piece = arena.commit(bytes.len());
        read.push(TunPacket { piece, vnet: VnetHeader::default() });
    }
    for round in 1..=rounds {
        out.clear();
        let guard = reader.enter().expect("a writer");
        let turn = Turn::new(InstanceId::DEFAULT, &guard, reader, Instant::from_nanos(round));
        let taken = encapsulator.encapsulate(&turn, &read, &mut arena, &mut out, |_| true);
        assert_eq!(taken, BATCH);
    }
}

/// Prefixes of several lengths all over the address space, and packets to as many destinations in turn.
fn scatter(destinations: u32, rounds: u64) {
    const PREFIXES: u32 = 100_000;
    let mut fib = fib::new(1024);
    let local = EidPrefix::from("10.0.0.0/8".parse::<IpNet>().expect("a prefix"));
    fib.apply(FibUpdate::Set { prefix: local, action: FibAction::Local, stats: Arc::default() });
    // As good as random, and never in the local prefix or among multicast addresses.
    let address = |n: u32| 0x8000_0000 + (n.wrapping_mul(0x9e37_79b1) >> 2);
    for n in 0..PREFIXES {
        let length = [18, 20, 22, 24, 24, 24, 24, 28][n as usize % 8];
        let net = IpNet::new(Ipv4Addr::from_bits(address(n)).into(), length).expect("a length").trunc();
        let path = Path {
            rloc: rloc(n % SITES),
            source: Ipv4Addr::new(192, 0, 2, 1).into(),
            priority: 1,
            weight: 100,
            stats: Arc::default(),
        };
        let action = FibAction::Forward(vec![path]);
        fib.apply(FibUpdate::Set { prefix: net.into(), action, stats: Arc::default() });
    }
    fib.publish();
    let reader = fib.reader();
    let mut encapsulator = Encapsulator::new(&config(), Worker::ONLY, ip::sum, Arc::default());
    let mut arena = Arena::new(1 << 24);
    let mut out = SendBatch::new(16, 64);
    let mut read = Vec::new();
    for n in 0..destinations {
        let bytes = packet(OURS, Ipv4Addr::from_bits(address(n * 7 % PREFIXES)), n as u16);
        arena.slot(0).expect("room")[..bytes.len()].copy_from_slice(&bytes);
        let piece = arena.commit(bytes.len());
        read.push(TunPacket { piece, vnet: VnetHeader::default() });
    }
    for (round, batch) in (1..=rounds).zip(read.chunks(BATCH).cycle()) {
        out.clear();
        let guard = reader.enter().expect("a writer");
        let turn = Turn::new(InstanceId::DEFAULT, &guard, &reader, Instant::from_nanos(round));
        let taken = encapsulator.encapsulate(&turn, batch, &mut arena, &mut out, |_| true);
        assert_eq!(taken, batch.len());
    }
}

/// The LISP header that a site sends with an option on.
fn lisp(options: &HeaderOptions) -> [u8; 8] {
    if options.locator_status {
        [0x40, 0, 0, 0, 0, 0, 0, 1]
    } else if options.map_version {
        [0x10, 0, 0x70, 0x07, 0, 0, 0, 0]
    } else if options.echo_nonce.is_some() {
        [0xa0, 1, 2, 3, 0, 0, 0, 0]
    } else {
        [0; 8]
    }
}

fn decapsulate(reader: &FibReader, options: &HeaderOptions, rounds: u64) {
    let mut decapsulator = Decapsulator::new(&config(), Coalescing::Off, ip::sum, Arc::default());
    let mut out = TunBatch::new();
    let mut bytes = Vec::new();
    for n in 0..BATCH as u32 {
        bytes.extend(lisp(options));
        bytes.extend(packet(host(n), OURS, n as u16));
    }
    let len = bytes.len() / BATCH;
    for round in 1..=rounds {
        out.clear();
        let guard = reader.enter().expect("a writer");
        decapsulator.begin(Instant::from_nanos(round));
        for n in 0..BATCH {
            let piece = Piece { offset: (n * len) as u32, len: len as u32 };
            let outer = Outer { remote: rloc(n as u32), ttl: Some(64), tos: 0 };
            decapsulator.decapsulate(&guard, &Datagram { piece, segment: 0, outer }, &mut bytes, &mut out);
        }
        assert_eq!(out.writes().len(), BATCH);
    }
}

/// A TCP super-packet of 44 segments of 1,388 bytes.
fn super_packet(source: Ipv4Addr, destination: Ipv4Addr) -> (Vec<u8>, VnetHeader) {
    let mut bytes = Vec::new();
    etherparse::PacketBuilder::ipv4(source.octets(), destination.octets(), 64)
        .tcp(1000, 80, 1, 500)
        .ack(1)
        .write(&mut bytes, &vec![0x5a; 44 * SEGMENT])
        .expect("a packet");
    let vnet = VnetHeader {
        needs_csum: true,
        gso: Some(Gso::TcpV4),
        ecn: false,
        hdr_len: 40,
        gso_size: SEGMENT as u16,
        csum_start: 20,
        csum_offset: 16,
    };
    (bytes, vnet)
}

/// Payload bytes of each segment.
const SEGMENT: usize = 1388;

/// A checksum that costs nothing, so that what it hides is seen.
fn no_sum(_: &[u8]) -> u16 {
    0xffff
}

/// The same, and right for the segments that [`join`] receives: what the sum of their pseudo header lacks.
fn right_sum(_: &[u8]) -> u16 {
    const PSEUDO: u16 = 0x0b00 + 0x0505 + 0x0a00 + 0x0001 + 6 + (20 + SEGMENT as u16);
    !PSEUDO
}

fn cut(reader: &FibReader, rounds: u64) {
    let (bytes, vnet) = super_packet(OURS, host(5));
    let mut encapsulator = Encapsulator::new(&config(), Worker::ONLY, no_sum, Arc::default());
    let mut arena = Arena::new(1 << 18);
    let mut out = SendBatch::new(16, 64);
    arena.slot(0).expect("room")[..bytes.len()].copy_from_slice(&bytes);
    let packet = TunPacket { piece: arena.commit(bytes.len()), vnet };
    for round in 1..=rounds {
        arena.clear_scratch();
        out.clear();
        let guard = reader.enter().expect("a writer");
        let turn = Turn::new(InstanceId::DEFAULT, &guard, reader, Instant::from_nanos(round));
        assert_eq!(encapsulator.encapsulate(&turn, &[packet], &mut arena, &mut out, |_| true), 1);
    }
}

fn join(reader: &FibReader, options: &HeaderOptions, rounds: u64) {
    let mut wire = Vec::new();
    for i in 0..44u32 {
        wire.extend(lisp(options));
        etherparse::PacketBuilder::ipv4(host(5).octets(), OURS.octets(), 64)
            .tcp(1000, 80, 1 + i * SEGMENT as u32, 500)
            .ack(1)
            .write(&mut wire, &[0x5a; SEGMENT])
            .expect("a packet");
    }
    let mut decapsulator = Decapsulator::new(&config(), Coalescing::TcpAndUdp, right_sum, Arc::default());
    let mut batch = TunBatch::new();
    let datagram = Datagram {
        piece: Piece { offset: 0, len: wire.len() as u32 },
        segment: (wire.len() / 44) as u16,
        outer: Outer { remote: rloc(5), ttl: Some(60), tos: 0 },
    };
    let mut received = wire.clone();
    for round in 1..=rounds {
        // The first packet's headers became those of the super-packet.
        received[..60].copy_from_slice(&wire[..60]);
        batch.clear();
        let guard = reader.enter().expect("a writer");
        decapsulator.begin(Instant::from_nanos(round));
        decapsulator.decapsulate(&guard, &datagram, &mut received, &mut batch);
        decapsulator.finish(&mut received, &mut batch);
        assert_eq!(batch.writes().len(), 1);
    }
}
