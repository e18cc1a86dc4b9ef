//! The fast path in memory: longest-prefix match alone, encapsulation and decapsulation, over FIBs of several sizes.
//! Destinations are drawn at random from all prefixes, so that the caches see what a busy router's see.
#![allow(missing_docs)]

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use eidolon::dataplane::{
    Arena, Coalescing, Counters, DataPlaneConfig, Datagram, Decapsulator, Encapsulator, Instance, Outer,
    Piece, SendBatch, TunBatch, TunPacket, Turn, VnetHeader,
};
use eidolon::fib::{self, FibAction, FibReader, FibUpdate, FibWriter, Path, Worker};
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

/// A FIB with `size` prefixes of lengths 16 to 28 outside of 10.0.0.0/8, each with a path of its own to one of 1,000
/// locators.
fn fill(size: usize) -> (FibWriter, FibReader, Vec<Ipv4Net>) {
    let mut rng = StdRng::seed_from_u64(size as u64);
    let mut fib = fib::new(1024);
    let local = EidPrefix::from("10.0.0.0/8".parse::<IpNet>().unwrap());
    fib.apply(FibUpdate::Set { prefix: local, action: FibAction::Local, stats: Arc::default() });
    let mut prefixes = std::collections::HashSet::new();
    while prefixes.len() < size {
        let address = Ipv4Addr::from_bits(rng.random_range(0x0b00_0000..0xdf00_0000u32));
        let length = [16, 20, 22, 24, 24, 24, 24, 28][rng.random_range(0..8)];
        prefixes.insert(Ipv4Net::new(address, length).unwrap().trunc());
    }
    let mut prefixes: Vec<_> = prefixes.into_iter().collect();
    prefixes.sort_unstable();
    for (i, prefix) in prefixes.iter().enumerate() {
        let path = Path {
            rloc: Ipv4Addr::from_bits(0xc612_0000 + i as u32 % 1000).into(),
            source: Ipv4Addr::new(192, 0, 2, 1).into(),
            priority: 1,
            weight: 100,
            stats: Arc::default(),
        };
        fib.apply(FibUpdate::Set {
            prefix: IpNet::V4(*prefix).into(),
            action: FibAction::Forward(vec![path]),
            stats: Arc::default(),
        });
        if i % 4096 == 0 {
            fib.publish();
        }
    }
    fib.publish();
    let reader = fib.reader();
    (fib, reader, prefixes)
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
        let (_fib, reader, prefixes) = fill(size);
        let addresses: Vec<IpAddr> = destinations(&prefixes).into_iter().map(IpAddr::V4).collect();
        group.throughput(Throughput::Elements(1));
        group.bench_function(BenchmarkId::from_parameter(size), |b| {
            let guard = reader.enter().unwrap();
            let table = guard.instance(InstanceId::DEFAULT).unwrap();
            let mut next = (0..PACKETS).cycle();
            b.iter(|| black_box(table.lookup(&addresses[next.next().unwrap()])).is_some());
        });
    }
    group.finish();
}

fn encapsulation(c: &mut Criterion) {
    let mut group = c.benchmark_group("encapsulation");
    for size in SIZES {
        let (_fib, reader, prefixes) = fill(size);
        let packets: Vec<_> = destinations(&prefixes)
            .into_iter()
            .enumerate()
            .map(|(i, destination)| packet(Ipv4Addr::new(10, 0, 0, 1), destination, i as u16))
            .collect();
        let counters = Arc::new(Counters::default());
        let mut encapsulator = Encapsulator::new(&config(), Worker::ONLY, ip::sum, counters);
        let mut arena = Arena::new(1 << 20);
        let mut out = SendBatch::new(16, 64);
        let mut read = Vec::new();
        let mut at = 0;
        group.throughput(Throughput::Elements(BATCH as u64));
        group.bench_function(BenchmarkId::new("batch-of-64", size), |b| {
            b.iter_custom(|iterations| {
                let mut spent = std::time::Duration::ZERO;
                for i in 0..iterations {
                    arena.clear();
                    out.clear();
                    read.clear();
                    for bytes in &packets[at..at + BATCH] {
                        arena.slot(0).unwrap()[..bytes.len()].copy_from_slice(bytes);
                        let piece = arena.commit(bytes.len());
                        read.push(TunPacket { piece, vnet: VnetHeader::default() });
                    }
                    at = (at + BATCH) % PACKETS;
                    let start = now();
                    let guard = reader.enter().unwrap();
                    let turn = Turn {
                        iid: InstanceId::DEFAULT,
                        fib: guard.instance(InstanceId::DEFAULT),
                        reader: &reader,
                        now: Instant::from_nanos(i + 1),
                    };
                    for &packet in &read {
                        encapsulator.encapsulate(&turn, packet, &mut arena, &mut out, |_| true).unwrap();
                    }
                    spent += start.elapsed();
                    assert!(!out.is_empty());
                }
                spent
            });
        });
    }
    group.finish();
}

fn decapsulation(c: &mut Criterion) {
    let mut group = c.benchmark_group("decapsulation");
    for size in SIZES {
        let (_fib, reader, prefixes) = fill(size);
        let sources = destinations(&prefixes);
        let mut decapsulator = Decapsulator::new(&config(), Coalescing::Off, ip::sum, Arc::default());
        let mut out = TunBatch::new();
        let mut bytes = Vec::new();
        for (i, &source) in sources.iter().take(BATCH).enumerate() {
            bytes.extend([0; 8]);
            bytes.extend(packet(source, Ipv4Addr::new(10, 0, 0, 1), i as u16));
        }
        let len = bytes.len() / BATCH;
        let outer = Outer { remote: Ipv4Addr::new(198, 18, 0, 1).into(), ttl: Some(60), tos: 0 };
        group.throughput(Throughput::Elements(BATCH as u64));
        group.bench_function(BenchmarkId::new("batch-of-64", size), |b| {
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

#[allow(clippy::disallowed_methods)] // a benchmark measures time
fn now() -> std::time::Instant {
    std::time::Instant::now()
}

criterion_group!(benches, lookup, encapsulation, decapsulation);
criterion_main!(benches);
