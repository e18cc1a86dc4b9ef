//! The fast path in memory: longest-prefix match alone, encapsulation and decapsulation over FIBs of several
//! sizes, super-packets cut and joined, checksums. Destinations are drawn at random from all prefixes, so
//! that the caches see what a busy router's see.
#![allow(missing_docs)]

use std::cell::LazyCell;
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use eidolon::dataplane::{
    Arena, Coalescing, DataPlaneConfig, Datagram, Decapsulator, Encapsulator, Gso, Instance, Outer, Piece,
    SendBatch, TunBatch, TunPacket, Turn, VnetHeader,
};
use eidolon::fib::{self, FibAction, FibReader, FibUpdate, FibWriter, Path, Worker};
use eidolon::io::checksum;
use eidolon::types::{EidPrefix, InstanceId, Instant};
use eidolon::wire::ip;
use ipnet::{IpNet, Ipv4Net};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

const SIZES: [usize; 4] = [10, 10_000, 100_000, 1_000_000];
/// How many packets make a batch, as in a data thread.
const BATCH: usize = 64;
/// How many different packets there are.
const PACKETS: usize = 64 * 1024;

/// A FIB with `size` prefixes of lengths 18 to 28 outside of 10.0.0.0/8, where packets may go, each with a
/// path of its own to one of 1,000 locators.
fn fill(size: usize) -> (FibWriter, FibReader, Vec<Ipv4Net>) {
    let mut rng = StdRng::seed_from_u64(size as u64);
    let mut fib = fib::new(1024);
    let local = EidPrefix::from("10.0.0.0/8".parse::<IpNet>().unwrap());
    fib.apply(FibUpdate::Set { prefix: local, action: FibAction::Local, stats: Arc::default() });
    let mut prefixes = std::collections::HashSet::new();
    while prefixes.len() < size {
        let address = Ipv4Addr::from_bits(rng.random_range(0x0b00_0000..0xdf00_0000u32));
        if !ip::is_forwardable(&address.into()) {
            continue;
        }
        let length = [18, 20, 22, 24, 24, 24, 24, 28][rng.random_range(0..8)];
        prefixes.insert(Ipv4Net::new(address, length).unwrap().trunc());
    }
    let mut prefixes: Vec<_> = prefixes.into_iter().collect();
    prefixes.sort_unstable();
    for (i, prefix) in prefixes.iter().enumerate() {
        set(&mut fib, *prefix, i as u32);
        if i % 4096 == 0 {
            fib.publish();
        }
    }
    fib.publish();
    let reader = fib.reader();
    (fib, reader, prefixes)
}

/// Maps `prefix` to one of 1,000 locators.
fn set(fib: &mut FibWriter, prefix: Ipv4Net, locator: u32) {
    let path = Path {
        rloc: Ipv4Addr::from_bits(0xc612_0000 + locator % 1000).into(),
        source: Ipv4Addr::new(192, 0, 2, 1).into(),
        priority: 1,
        weight: 100,
        stats: Arc::default(),
    };
    fib.apply(FibUpdate::Set {
        prefix: IpNet::V4(prefix).into(),
        action: FibAction::Forward(vec![path]),
        stats: Arc::default(),
    });
}

/// Loading a FIB from nothing.
fn load(c: &mut Criterion) {
    let mut group = c.benchmark_group("load");
    group.sample_size(10);
    for size in [100_000, 1_000_000] {
        let prefixes = LazyCell::new(|| fill(size).2);
        group.throughput(Throughput::Elements(size as u64));
        group.bench_function(BenchmarkId::from_parameter(size), |b| {
            let prefixes = &*prefixes;
            b.iter(|| {
                let mut fib = fib::new(1024);
                for (i, prefix) in prefixes.iter().enumerate() {
                    set(&mut fib, *prefix, i as u32);
                    if i % 4096 == 0 {
                        fib.publish();
                    }
                }
                fib.publish();
                fib
            });
        });
    }
    group.finish();
}

fn destinations(prefixes: &[Ipv4Net]) -> Vec<Ipv4Addr> {
    let mut rng = StdRng::seed_from_u64(7);
    let one = |rng: &mut StdRng| {
        let net = prefixes[rng.random_range(0..prefixes.len())];
        Ipv4Addr::from_bits(net.network().to_bits() | rng.random::<u32>() & net.hostmask().to_bits())
    };
    (0..PACKETS).map(|_| one(&mut rng)).collect()
}

/// A 64-byte UDP payload between two hosts.
fn packet(source: Ipv4Addr, destination: Ipv4Addr, port: u16) -> Vec<u8> {
    let mut bytes = Vec::new();
    etherparse::PacketBuilder::ipv4(source.octets(), destination.octets(), 64)
        .udp(port, 9)
        .write(&mut bytes, &[0x5a; 64])
        .unwrap();
    bytes
}

fn config() -> DataPlaneConfig {
    DataPlaneConfig {
        instances: vec![Instance { iid: InstanceId::DEFAULT, tun: String::new() }],
        ..DataPlaneConfig::default()
    }
}

fn lookup(c: &mut Criterion) {
    let mut group = c.benchmark_group("lpm");
    for size in SIZES {
        // Only when it is measured: a filter may leave it out.
        let filled = LazyCell::new(|| {
            let (fib, reader, prefixes) = fill(size);
            let addresses: Vec<IpAddr> = destinations(&prefixes).into_iter().map(IpAddr::V4).collect();
            (fib, reader, addresses)
        });
        group.throughput(Throughput::Elements(1));
        group.bench_function(BenchmarkId::from_parameter(size), |b| {
            let (_fib, reader, addresses) = &*filled;
            let guard = reader.enter().unwrap();
            let table = guard.instance(InstanceId::DEFAULT).unwrap();
            let mut next = (0..PACKETS).cycle();
            b.iter(|| black_box(table.lookup(&addresses[next.next().unwrap()])).is_some());
        });
    }
    group.finish();
}

/// Encapsulation by the number of prefixes, to as many destinations as there are packets; and among 100,000
/// prefixes, by the number of destinations in use.
fn encapsulation(c: &mut Criterion) {
    let mut group = c.benchmark_group("encapsulation");
    group.throughput(Throughput::Elements(BATCH as u64));
    for size in SIZES {
        encapsulate(&mut group, BenchmarkId::new("batch-of-64", size), size, PACKETS);
    }
    for destinations in [1, 64, 2048] {
        encapsulate(&mut group, BenchmarkId::new("destinations", destinations), 100_000, destinations);
    }
    group.finish();
}

/// Encapsulation of packets to as many `hosts` in turn, among `size` prefixes.
fn encapsulate(group: &mut BenchmarkGroup<'_, WallTime>, id: BenchmarkId, size: usize, hosts: usize) {
    // Only when it is measured: a filter may leave it out.
    let filled = LazyCell::new(|| {
        let (fib, reader, prefixes) = fill(size);
        let destinations = destinations(&prefixes);
        let packets: Vec<_> = (0..hosts.max(BATCH))
            .map(|i| packet(Ipv4Addr::new(10, 0, 0, 1), destinations[i % hosts], i as u16))
            .collect();
        (fib, reader, packets)
    });
    let mut encapsulator = Encapsulator::new(&config(), Worker::ONLY, ip::sum, Arc::default());
    let mut arena = Arena::new(1 << 20);
    let mut out = SendBatch::new(16, 64);
    let mut read = Vec::new();
    let mut at = 0;
    group.bench_function(id, |b| {
        let (_fib, reader, packets) = &*filled;
        b.iter_custom(|iterations| {
            let mut spent = Duration::ZERO;
            for i in 0..iterations {
                arena.clear();
                out.clear();
                read.clear();
                for bytes in &packets[at..at + BATCH] {
                    arena.slot(0).unwrap()[..bytes.len()].copy_from_slice(bytes);
                    let piece = arena.commit(bytes.len());
                    read.push(TunPacket { piece, vnet: VnetHeader::default() });
                }
                at = (at + BATCH) % packets.len();
                let start = now();
                let guard = reader.enter().unwrap();
                let now = Instant::from_nanos(i + 1);
                let turn = Turn::new(InstanceId::DEFAULT, &guard, reader, now);
                let taken = encapsulator.encapsulate(&turn, &read, &mut arena, &mut out, |_| true);
                assert_eq!(taken, BATCH);
                spent += start.elapsed();
                assert!(!out.is_empty());
            }
            spent
        });
    });
}

/// Encapsulation among 100,000 prefixes, alone and while another thread changes 100,000 of them a second:
/// what readers pay for updates, beside the processor time that the updates themselves take.
#[allow(clippy::print_stderr)] // the rate that was really reached
fn encapsulation_under_updates(c: &mut Criterion) {
    const SIZE: usize = 100_000;
    let mut group = c.benchmark_group("encapsulation-under-updates");
    group.throughput(Throughput::Elements(BATCH as u64));
    for updating in [false, true] {
        let (mut fib, reader, prefixes) = fill(SIZE);
        let mut arena = Arena::new(1 << 20);
        let packets: Vec<Vec<TunPacket>> = destinations(&prefixes)[..2048]
            .chunks(BATCH)
            .map(|batch| {
                let one = |(i, &destination): (usize, &Ipv4Addr)| {
                    let bytes = packet(Ipv4Addr::new(10, 0, 0, 1), destination, i as u16);
                    arena.slot(0).unwrap()[..bytes.len()].copy_from_slice(&bytes);
                    TunPacket { piece: arena.commit(bytes.len()), vnet: VnetHeader::default() }
                };
                batch.iter().enumerate().map(one).collect()
            })
            .collect();
        let mut encapsulator = Encapsulator::new(&config(), Worker::ONLY, ip::sum, Arc::default());
        let mut out = SendBatch::new(16, 64);
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            if updating {
                scope.spawn(|| {
                    let mut next = prefixes.iter().cycle();
                    let start = now();
                    let mut updates = 0_u32;
                    while !done.load(Ordering::Relaxed) {
                        for prefix in next.by_ref().take(200) {
                            set(&mut fib, *prefix, updates);
                        }
                        fib.publish();
                        updates += 200;
                        let due = Duration::from_secs(1) / 100_000 * updates;
                        std::thread::sleep(due.saturating_sub(start.elapsed()));
                    }
                    let rate = f64::from(updates) / start.elapsed().as_secs_f64();
                    eprintln!("{rate:.0} updates/s");
                });
            }
            let mut at = 0;
            group.bench_function(if updating { "100k-per-second" } else { "none" }, |b| {
                b.iter(|| {
                    arena.clear_scratch();
                    out.clear();
                    at = (at + 1) % packets.len();
                    let guard = reader.enter().unwrap();
                    let turn = Turn::new(InstanceId::DEFAULT, &guard, &reader, Instant::from_secs(1));
                    let taken = encapsulator.encapsulate(&turn, &packets[at], &mut arena, &mut out, |_| true);
                    assert_eq!(taken, BATCH);
                });
            });
            done.store(true, Ordering::Relaxed);
        });
    }
    group.finish();
}

fn decapsulation(c: &mut Criterion) {
    let mut group = c.benchmark_group("decapsulation");
    for size in SIZES {
        let filled = LazyCell::new(|| fill(size));
        let mut decapsulator = Decapsulator::new(&config(), Coalescing::Off, ip::sum, Arc::default());
        let mut out = TunBatch::new();
        let mut bytes = Vec::new();
        let outer = Outer { remote: Ipv4Addr::new(198, 18, 0, 1).into(), ttl: Some(60), tos: 0 };
        group.throughput(Throughput::Elements(BATCH as u64));
        group.bench_function(BenchmarkId::new("batch-of-64", size), |b| {
            let (_fib, reader, prefixes) = &*filled;
            bytes.clear();
            for (i, &source) in destinations(prefixes).iter().take(BATCH).enumerate() {
                bytes.extend([0; 8]);
                bytes.extend(packet(source, Ipv4Addr::new(10, 0, 0, 1), i as u16));
            }
            let len = bytes.len() / BATCH;
            b.iter(|| {
                out.clear();
                let guard = reader.enter().unwrap();
                for i in 0..BATCH {
                    let piece = Piece { offset: (i * len) as u32, len: len as u32 };
                    let datagram = Datagram { piece, segment: 0, outer };
                    decapsulator.decapsulate(&guard, &datagram, &mut bytes, &mut out);
                }
                assert_eq!(out.writes().len(), BATCH);
            });
        });
    }
    group.finish();
}

/// A TCP super-packet with timestamps, as a TUN with offloads hands it over: 44 segments of 1,388 bytes.
fn super_packet() -> (Vec<u8>, VnetHeader) {
    const SEGMENT: usize = 1388;
    let mut bytes = Vec::new();
    etherparse::PacketBuilder::ipv4([10, 0, 0, 1], [11, 0, 0, 1], 64)
        .tcp(1000, 80, 1, 500)
        .options_raw(&[1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 1])
        .unwrap()
        .ack(1)
        .write(&mut bytes, &vec![0x5a; 44 * SEGMENT])
        .unwrap();
    let vnet = VnetHeader {
        needs_csum: true,
        gso: Some(Gso::TcpV4),
        ecn: false,
        hdr_len: 52,
        gso_size: SEGMENT as u16,
        csum_start: 20,
        csum_offset: 16,
    };
    (bytes, vnet)
}

/// A FIB that knows the way of [`super_packet`], and one that is at its end.
fn two_ends() -> [(FibWriter, FibReader); 2] {
    ["10.0.0.0/8", "11.0.0.0/8"].map(|local| {
        let mut fib = fib::new(16);
        let path = Path {
            rloc: Ipv4Addr::new(198, 18, 0, 1).into(),
            source: Ipv4Addr::new(192, 0, 2, 1).into(),
            priority: 1,
            weight: 100,
            stats: Arc::default(),
        };
        let net = |s: &str| EidPrefix::from(s.parse::<IpNet>().unwrap());
        let action = FibAction::Forward(vec![path]);
        fib.apply(FibUpdate::Set { prefix: net("0.0.0.0/0"), action, stats: Arc::default() });
        fib.apply(FibUpdate::Set { prefix: net(local), action: FibAction::Local, stats: Arc::default() });
        fib.publish();
        let reader = fib.reader();
        (fib, reader)
    })
}

/// Cutting 61 KiB into its 44 packets, and joining the 44 packets again.
fn super_packets(c: &mut Criterion) {
    let (bytes, vnet) = super_packet();
    let [(_near, near), (_far, far)] = two_ends();
    let (sum, _) = checksum::fastest();
    let mut arena = Arena::new(1 << 20);
    let mut out = SendBatch::new(16, 64);
    let mut encapsulator = Encapsulator::new(&config(), Worker::ONLY, sum, Arc::default());
    arena.slot(0).unwrap()[..bytes.len()].copy_from_slice(&bytes);
    let packet = TunPacket { piece: arena.commit(bytes.len()), vnet };
    let mut cut = |arena: &mut Arena, out: &mut SendBatch| {
        arena.clear_scratch();
        out.clear();
        let guard = near.enter().unwrap();
        let turn = Turn::new(InstanceId::DEFAULT, &guard, &near, Instant::from_secs(1));
        assert_eq!(encapsulator.encapsulate(&turn, &[packet], arena, out, |_| true), 1);
    };
    let mut group = c.benchmark_group("super-packet");
    group.throughput(Throughput::Bytes(bytes.len() as u64));
    group.bench_function("cut", |b| b.iter(|| cut(&mut arena, &mut out)));

    cut(&mut arena, &mut out);
    let sent = &out.groups()[0];
    assert_eq!(sent.segments, 44);
    let wire: Vec<u8> = out.pieces(sent).flat_map(|p| arena.get(p).to_vec()).collect();
    let mut received = wire.clone();
    let mut decapsulator = Decapsulator::new(&config(), Coalescing::TcpAndUdp, sum, Arc::default());
    let mut batch = TunBatch::new();
    let datagram = Datagram {
        piece: Piece { offset: 0, len: wire.len() as u32 },
        segment: sent.segment,
        outer: Outer { remote: Ipv4Addr::new(198, 18, 0, 1).into(), ttl: Some(60), tos: 0 },
    };
    group.bench_function("coalesce", |b| {
        b.iter(|| {
            // The first packet's headers became those of the super-packet.
            received[..60].copy_from_slice(&wire[..60]);
            batch.clear();
            let guard = far.enter().unwrap();
            decapsulator.decapsulate(&guard, &datagram, &mut received, &mut batch);
            decapsulator.finish(&mut received, &mut batch);
            assert_eq!(batch.writes().len(), 1);
        });
    });
    group.finish();
}

fn checksums(c: &mut Criterion) {
    let mut group = c.benchmark_group("checksum");
    let bytes = vec![0x5a; 65_536];
    for len in [40, 64, 256, 1400, 65_535] {
        group.throughput(Throughput::Bytes(len as u64));
        for (name, sum) in [("fastest", checksum::fastest().0), ("portable", ip::sum as fn(&[u8]) -> u16)] {
            group.bench_function(BenchmarkId::new(name, len), |b| b.iter(|| sum(black_box(&bytes[..len]))));
        }
    }
    group.finish();
}

#[allow(clippy::disallowed_methods)] // a benchmark measures time
fn now() -> std::time::Instant {
    std::time::Instant::now()
}

criterion_group!(
    benches,
    lookup,
    encapsulation,
    encapsulation_under_updates,
    load,
    decapsulation,
    super_packets,
    checksums
);
criterion_main!(benches);
