//! A case for every reason for which a message or record of map-cache synchronisation is dropped.

use crate::auth::seal;
use crate::proto::config::{ControlConfig, SyncConfig};
use crate::proto::stats::DropReason;
use crate::proto::testing::{Network, ip, key, prefix, record, sync_mapping, tells};
use crate::types::{Mapping, Nonce};
use crate::wire::{
    Address, CacheSync, CacheSyncAck, EidAddress, EidRecord, Message, SyncMapping, SyncRecord,
};

use super::hostile::{Case, PEER};

/// The session that the peer has.
const SESSION: u64 = 77;
const OURS: &str = "192.0.2.1";

fn sync([session, receiver]: [u64; 2], nonce: u64, records: Vec<SyncRecord>) -> Vec<u8> {
    let nonce = Nonce(nonce);
    let message = CacheSync { nonce, session, receiver, smart: true, records, ..CacheSync::default() };
    seal(Message::CacheSync(message), &key("site")).unwrap()
}

/// Has the router synchronise with the peer, which answers its first Hello: the peer's session and the
/// router's.
fn join(net: &mut Network, id: usize, mut config: ControlConfig) -> [u64; 2] {
    let peer = ip(PEER.rsplit_once(':').unwrap().0);
    config.sync = Some(SyncConfig::new(vec![peer], vec![key("site")]));
    net.reload(id, config);
    let hello = net.sent_by(id).find_map(|(_, _, message)| match message {
        Message::CacheSync(sync) => match sync.records.first() {
            Some(SyncRecord::Hello { challenge, .. }) => Some((sync.nonce, *challenge, sync.session)),
            _ => None,
        },
        _ => None,
    });
    let (nonce, challenge, receiver) = hello.expect("a Hello");
    let reply = SyncRecord::HelloReply { challenge, last: Nonce(0), to: ip(OURS).into() };
    let records = vec![reply];
    let ack = CacheSyncAck { nonce, session: SESSION, receiver, records, ..CacheSyncAck::default() };
    net.deliver(id, PEER, &seal(Message::CacheSyncAck(ack), &key("site")).unwrap());
    [SESSION, receiver]
}

pub(super) fn cases(config: fn() -> ControlConfig) -> Vec<Case> {
    let records = move |reason, records: Vec<SyncRecord>| -> Case {
        (
            reason,
            Box::new(move |net, id| {
                let sessions = join(net, id, config());
                net.deliver(id, PEER, &sync(sessions, 1, records.clone()));
            }),
        )
    };
    let odd = EidAddress { mask_len: 8, address: Address::Mac([1; 6]) };
    let good = || record("10.3.0.0/16", &["203.0.113.1"]);
    let mut withdrawn = good();
    withdrawn.ttl.0 = 0;
    vec![
        (
            DropReason::SyncStranger,
            Box::new(|net, id| net.deliver(id, PEER, &sync([SESSION, 1], 1, Vec::new()))),
        ),
        (
            DropReason::SyncSession,
            Box::new(move |net, id| {
                let [_, ours] = join(net, id, config());
                net.deliver(id, PEER, &sync([SESSION + 1, ours], 1, Vec::new()));
            }),
        ),
        (
            DropReason::SyncReplayed,
            Box::new(move |net, id| {
                let sessions = join(net, id, config());
                for _ in 0..2 {
                    net.deliver(id, PEER, &sync(sessions, 1, vec![tells(good())]));
                }
            }),
        ),
        records(
            DropReason::SyncMisdirected,
            vec![SyncRecord::Hello { challenge: 1, to: ip("192.0.2.9").into() }],
        ),
        (
            DropReason::SyncAck,
            Box::new(move |net, id| {
                let [session, receiver] = join(net, id, config());
                let ack = CacheSyncAck { nonce: Nonce(1), session, receiver, ..CacheSyncAck::default() };
                net.deliver(id, PEER, &seal(Message::CacheSyncAck(ack), &key("site")).unwrap());
            }),
        ),
        records(DropReason::SyncKind, vec![SyncRecord::Unknown { kind: 9, flags: 0, content: Vec::new() }]),
        records(DropReason::SyncEid, vec![tells(EidRecord { eid: odd, ..good() })]),
        records(DropReason::SyncInstance, vec![tells(record("[9]10.3.0.0/16", &["203.0.113.1"]))]),
        records(DropReason::SyncLocal, vec![tells(record("10.1.7.0/24", &["203.0.113.1"]))]),
        (
            DropReason::SyncStatic,
            Box::new(move |net, id| {
                let mut config = config();
                let fixed = Mapping { eid: prefix("10.3.0.0/16"), ..good().to_mapping().unwrap().0 };
                config.itr.as_mut().unwrap().static_entries = vec![fixed];
                let sessions = join(net, id, config);
                net.deliver(id, PEER, &sync(sessions, 1, vec![tells(good())]));
            }),
        ),
        records(DropReason::SyncOlder, vec![tells(withdrawn)]),
        (
            DropReason::SyncFull,
            Box::new(move |net, id| {
                let mut config = config();
                let statics = (0..20).map(|n| record(&format!("10.4.{n}.0/24"), &["203.0.113.1"]));
                config.itr.as_mut().unwrap().static_entries =
                    statics.map(|record| record.to_mapping().unwrap().0).collect();
                let sessions = join(net, id, config);
                net.deliver(id, PEER, &sync(sessions, 1, vec![tells(good())]));
            }),
        ),
        records(
            DropReason::SyncInside,
            vec![SyncRecord::Mapping(SyncMapping { inside: 1, ..sync_mapping(good()) })],
        ),
        records(
            DropReason::SyncLocator,
            vec![SyncRecord::Locator { address: ip("224.0.0.1").into(), up: false }],
        ),
    ]
}
