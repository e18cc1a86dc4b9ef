//! Cost of control messages: encoding, decoding, and authentication by each algorithm.

use std::hint::black_box;
use std::net::IpAddr;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use eidolon::auth::{Algorithm, Key, Secret, seal, verify};
use eidolon::types::{Eid, EidPrefix, InstanceId, Locator, Mapping, Nonce, Ttl};
use eidolon::wire::{Ecm, EidRecord, MapRegister, MapReply, MapRequest, Message};

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// A mapping with two locators, one of each family.
fn record(i: u8) -> EidRecord {
    let eid: ipnet::IpNet = format!("10.{i}.0.0/16").parse().expect("a prefix");
    let mut mapping = Mapping::negative(EidPrefix::from(eid), Ttl(1440), Default::default());
    mapping.locators = vec![Locator::new(ip("192.0.2.1"), 1, 50), Locator::new(ip("2001:db8::1"), 1, 50)];
    EidRecord::from(&mapping)
}

fn request() -> Message {
    Message::MapRequest(MapRequest {
        nonce: Nonce(1),
        source_eid: ip("10.0.0.1").into(),
        itr_rlocs: vec![ip("192.0.2.1").into(), ip("2001:db8::1").into()],
        records: vec![ip("10.1.1.1").into()],
        ..MapRequest::default()
    })
}

fn register(records: u8) -> Message {
    let records = (0..records).map(record).collect();
    Message::MapRegister(MapRegister { nonce: Nonce(1), records, ..MapRegister::default() })
}

fn messages() -> Vec<(&'static str, Message)> {
    let reply = |records| Message::MapReply(MapReply { nonce: Nonce(1), records, ..MapReply::default() });
    let eid = Eid::new(InstanceId::new(7).expect("24 bits"), ip("10.1.1.1"));
    let mut in_instance = record(1);
    in_instance.eid = eid.to_prefix().into();
    let ecm = Message::Ecm(Ecm {
        ddt: false,
        security: None,
        source: (ip("192.0.2.1"), 61_000).into(),
        destination: (ip("10.1.1.1"), 4342).into(),
        payload: request().encode().expect("a request"),
    });
    vec![
        ("map-request", request()),
        ("ecm map-request", ecm),
        ("map-reply 1 record", reply(vec![record(1)])),
        ("map-reply instance", reply(vec![in_instance])),
        ("map-register 1 record", register(1)),
        ("map-register 20 records", register(20)),
    ]
}

fn codec(c: &mut Criterion) {
    for (name, message) in messages() {
        let bytes = message.encode().expect("a valid message");
        let mut group = c.benchmark_group("codec");
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function(BenchmarkId::new("encode", name), |b| b.iter(|| black_box(&message).encode()));
        group.bench_function(BenchmarkId::new("decode", name), |b| {
            b.iter(|| Message::decode(black_box(&bytes)));
        });
        group.finish();
    }
}

fn authentication(c: &mut Criterion) {
    let mut group = c.benchmark_group("auth");
    for algorithm in Algorithm::ALL {
        let secret = Secret::new(*b"a secret of usual length");
        let key = Key { id: 0, algorithm, secret, truncate: false };
        for records in [1, 20] {
            let message = register(records);
            let bytes = seal(message.clone(), &key).expect("a valid message");
            let name = format!("{algorithm} {records} records");
            group.throughput(Throughput::Bytes(bytes.len() as u64));
            group.bench_function(BenchmarkId::new("seal", &name), |b| {
                b.iter(|| seal(black_box(&message).clone(), &key));
            });
            let keys = std::slice::from_ref(&key);
            group.bench_function(BenchmarkId::new("verify", &name), |b| {
                b.iter(|| verify(black_box(&bytes), keys));
            });
        }
    }
    group.finish();
}

criterion_group!(benches, codec, authentication);
criterion_main!(benches);
