//! Whatever arrives: nothing panics, every table stays bounded, legitimate work goes on, and each thing
//! dropped has its counter.

use std::time::Duration;

use proptest::prelude::*;
use proptest::sample::Index;

use crate::fib::Punt;
use crate::proto::config::*;
use crate::proto::control::{Command, Input};
use crate::proto::stats::DropReason;
use crate::proto::testing::*;
use crate::types::{Action, Instant, Mapping, Nonce, Ttl};
use crate::wire::{
    Address, EidAddress, EidRecord, MapNotify, MapReferral, MapRegister, MapReply, MapRequest, Message,
    ReferralRecord,
};

const SECOND: Duration = Duration::from_secs(1);
pub(super) const PEER: &str = "203.0.113.9:4342";
const ROOT: &str = "203.0.113.70:4342";

/// A router with every role and small tables.
fn everything() -> ControlConfig {
    let mut config =
        xtr(&["10.1.0.0/16", "2001:db8:a::/48"], &["192.0.2.1", "2001:db8:ffff::1"], "192.0.2.1", "a");
    let mut a = site("a", "a", &["10.1.0.0/16", "2001:db8:a::/48"]);
    a.prefixes[0].accept_more_specifics = true;
    config.map_server = Some(MapServerConfig { sites: vec![a, site("b", "b", &["10.2.0.0/16"])] });
    config.map_resolver = Some(MapResolverConfig {
        forward: vec![(prefix("10.8.0.0/16"), vec![Host::Name("ms.example".into())])],
    });
    let itr = config.itr.as_mut().unwrap();
    itr.map_cache_limit = 20;
    itr.expect_return = true;
    config.timers = Timers {
        pending_requests: 20,
        registrations_per_site: 20,
        registrations_total: 30,
        replies_per_record: 10,
        replies_per_rloc: 20,
        replies_total: 30,
        requests_per_source: 100,
        unverified_bytes_per_rloc: 3000,
        ..Timers::default()
    };
    config.probing = Some(ProbingConfig::default());
    config
}

/// The same, and a Map-Resolver that searches for what it does not know.
fn searching(net: &mut Network, id: usize) {
    let mut config = everything();
    config.ddt.roots = vec![Host::Address(ip("203.0.113.70"))];
    net.reload(id, config);
}

/// A search in the DDT that the root answers without a locator to go on to.
fn referral(from: &'static str, action: u8, covering: &'static str) -> Provocation {
    Box::new(move |net, id| {
        searching(net, id);
        net.deliver(id, PEER, &ecm(map_request("172.16.0.1/32", "203.0.113.9", 1)));
        net.run_for(SECOND / 100);
        // DDT nodes are asked with a nonce that the ITR doesn't know.
        let nonce = net.sent_by(id).filter_map(|(_, _, message)| match message {
            Message::Ecm(ecm) if ecm.ddt => Message::decode(&ecm.payload).ok(),
            _ => None,
        });
        let nonce = nonce.filter_map(|message| match message {
            Message::MapRequest(request) => Some(request.nonce),
            _ => None,
        });
        let nonce = nonce.last().unwrap();
        let mut record = record(covering, &[]);
        record.action = Action::from_bits(action);
        let record = ReferralRecord { incomplete: false, record, signatures: Vec::new() };
        net.deliver(id, from, &encode(Message::MapReferral(MapReferral { nonce, records: vec![record] })));
        net.reload(id, everything());
    })
}

fn start(config: ControlConfig) -> (Network, usize) {
    let mut net = Network::new(3);
    let id = net.add(&["192.0.2.1", "2001:db8:ffff::1"], config);
    net.run_for(SECOND);
    net.take_sent(id);
    (net, id)
}

fn bounded(net: &Network, id: usize) {
    let node = &net.nodes[id];
    let control = &node.control;
    assert!(control.map_cache_len() <= 20);
    assert!(control.pending().count() <= 20);
    assert!(control.sites().map(|s| s.registrations.len()).sum::<usize>() <= 30);
    assert_eq!(node.fib.len(), 2 + control.map_cache_len(), "the FIB is the database and the map-cache");
    assert!(control.map_cache().all(|(p, _)| node.fib.get(&p).is_some()));
    for native in &node.natives {
        let entry = control.map_cache_entry(native).expect("native without an entry");
        assert!(entry.mapping.is_negative() && entry.mapping.action == Action::NativelyForward);
    }
}

fn any_record() -> impl Strategy<Value = EidRecord> {
    let eids = prop_oneof![
        Just("10.1.0.0/16"),
        Just("10.1.7.0/24"),
        Just("10.2.0.0/16"),
        Just("0.0.0.0/0"),
        Just("10.3.0.0/16"),
        Just("10.3.4.0/24"),
        Just("2001:db8:a::/48"),
        Just("::/0"),
        Just("[7]10.1.0.0/16"),
    ];
    let rlocs = proptest::collection::vec(
        prop_oneof![
            Just("203.0.113.1"),
            Just("192.0.2.1"),
            Just("127.0.0.1"),
            Just("255.255.255.255"),
            Just("2001:db8:ffff::9")
        ],
        0..5,
    );
    let ttl = prop_oneof![Just(0), Just(1), Just(1440), Just(u32::MAX), any::<u32>()];
    (eids, rlocs, ttl, any::<u8>(), any::<u8>()).prop_map(|(eid, rlocs, ttl, action, priority)| {
        let mut record = record(eid, &rlocs);
        record.ttl = Ttl(ttl);
        record.action = Action::from_bits(action);
        record.locators.iter_mut().for_each(|l| l.priority = priority);
        record
    })
}

/// Well-formed messages of every kind, the authenticated ones with the right key more often than not.
fn any_message() -> impl Strategy<Value = Vec<u8>> {
    let request = (proptest::collection::vec(any_record(), 0..4), any::<[bool; 5]>(), 0u64..4, any::<bool>())
        .prop_map(|(records, flags, nonce, encapsulated)| {
            let request = MapRequest {
                probe: flags[0] && flags[1],
                smr: flags[2],
                dont_map_reply: flags[3] && flags[1],
                authoritative: flags[4],
                nonce: Nonce(nonce),
                source_eid: records.first().map(|r| r.eid.address.clone()).unwrap_or_default(),
                itr_rlocs: vec![ip("203.0.113.9").into(), ip("2001:db8:ffff::9").into()],
                records: records.into_iter().map(|r| r.eid).collect(),
                ..MapRequest::default()
            };
            if encapsulated { ecm(request) } else { encode(request) }
        });
    let authenticated = (
        proptest::collection::vec(any_record(), 0..6),
        any::<u64>(),
        any::<[bool; 5]>(),
        prop_oneof![3 => Just("a"), 1 => Just("b"), 1 => Just("x")],
    )
        .prop_map(|(records, nonce, flags, secret)| {
            let nonce = Nonce(nonce);
            if flags[0] {
                return seal(MapNotify { nonce, records, ..MapNotify::default() }, &key(secret));
            }
            let [_, proxy_reply, use_ttl, merge, want_notify] = flags;
            let register = MapRegister {
                proxy_reply,
                use_ttl,
                merge,
                want_notify,
                nonce,
                records,
                ..MapRegister::default()
            };
            seal(register, &key(secret))
        });
    let reply = (proptest::collection::vec(any_record(), 0..6), any::<u64>()).prop_map(|(records, nonce)| {
        encode(MapReply { nonce: Nonce(nonce), records, ..MapReply::default() })
    });
    prop_oneof![request, authenticated, reply]
}

#[derive(Clone, Debug)]
enum Act {
    Bytes(Vec<u8>),
    Message(Vec<u8>),
    Mutated(Vec<u8>, Vec<(Index, u8)>, Index),
    Answer(Vec<EidRecord>),
    Miss(u8, u8),
    Use(u8, u8),
    Underlay(u8, u16),
    Clear,
    Readdress(bool),
    Reload(bool),
    Wait(u32),
}

fn any_act() -> impl Strategy<Value = Act> {
    prop_oneof![
        1 => proptest::collection::vec(any::<u8>(), 0..200).prop_map(Act::Bytes),
        4 => any_message().prop_map(Act::Message),
        3 => (any_message(), proptest::collection::vec((any::<Index>(), any::<u8>()), 1..4), any::<Index>())
            .prop_map(|(m, changes, len)| Act::Mutated(m, changes, len)),
        4 => proptest::collection::vec(any_record(), 0..4).prop_map(Act::Answer),
        4 => (0u8..6, any::<u8>()).prop_map(|(a, b)| Act::Miss(a, b)),
        1 => (0u8..6, any::<u8>()).prop_map(|(a, b)| Act::Use(a, b)),
        1 => (any::<u8>(), any::<u16>()).prop_map(|(a, b)| Act::Underlay(a, b)),
        1 => Just(Act::Clear),
        1 => any::<bool>().prop_map(Act::Readdress),
        1 => any::<bool>().prop_map(Act::Reload),
        2 => (0u32..100_000).prop_map(Act::Wait),
    ]
}

fn perform(net: &mut Network, id: usize, act: Act) {
    match act {
        Act::Bytes(bytes) | Act::Message(bytes) => net.deliver(id, PEER, &bytes),
        Act::Mutated(mut bytes, changes, len) => {
            for (at, value) in changes {
                let at = at.index(bytes.len());
                bytes[at] = value;
            }
            bytes.truncate(bytes.len().min(len.index(bytes.len() * 4) + 1));
            net.deliver(id, PEER, &bytes);
        }
        Act::Answer(records) => {
            let nonce = net.nodes[id].control.pending().find(|(_, p)| !p.resting).map(|(_, p)| p.nonce);
            if let Some(nonce) = nonce {
                net.reply_nonce(id, nonce, records);
            }
        }
        Act::Miss(a, b) | Act::Use(a, b) => drop(net.packet(id, "10.1.0.9", eid(&format!("10.{a}.4.{b}")))),
        Act::Underlay(a, mtu) => {
            let rloc = ip(&format!("203.0.113.{}", a % 4));
            let punt = if a < 128 { Punt::PathMtu { rloc, mtu } } else { Punt::Unreachable { rloc } };
            net.handle(id, Input::Punt(punt));
        }
        Act::Clear => net.handle(id, Input::Command(Command::ClearMapCache(None))),
        Act::Readdress(v6) => {
            let all = ["192.0.2.1", "2001:db8:ffff::1"];
            net.readdress(id, if v6 { &all } else { &all[..1] });
            net.readdress(id, &all);
        }
        Act::Reload(native) => {
            let mut config = everything();
            if native {
                config.timers.request_rest = SECOND;
            }
            net.reload(id, config);
        }
        Act::Wait(millis) => net.run_for(Duration::from_millis(u64::from(millis))),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn nothing_that_happens_breaks_a_router(acts in proptest::collection::vec(any_act(), 1..60)) {
        let (mut net, id) = start(everything());
        for act in acts {
            perform(&mut net, id, act);
            bounded(&net, id);
            net.take_sent(id);
        }
        // Legitimate work goes on: the site registers with this very router, and a destination is resolved.
        net.run_for(Duration::from_secs(200));
        net.handle(id, Input::Command(Command::ClearMapCache(None)));
        prop_assert!(net.nodes[id].control.database().all(|d| d.registrations[0].confirmed));
        net.packet(id, "10.1.0.9", eid("172.16.0.1"));
        net.run_for(SECOND);
        prop_assert!(net.nodes[id].control.map_cache_len() > 0);
    }

    #[test]
    fn the_same_seed_does_the_same(
        acts in proptest::collection::vec(any_act(), 1..30), seed in any::<u64>()
    ) {
        let run = |acts: Vec<Act>| {
            let mut net = Network::new(seed);
            let id = net.add(&["192.0.2.1", "2001:db8:ffff::1"], everything());
            for act in acts {
                perform(&mut net, id, act);
            }
            net.sent
        };
        prop_assert_eq!(run(acts.clone()), run(acts));
    }
}

/// Something that makes a router drop, and the reason that it must be counted for.
pub(super) type Case = (DropReason, Provocation);
pub(super) type Provocation = Box<dyn Fn(&mut Network, usize)>;

/// A Map-Request that was changed by hand.
fn altered(change: impl Fn(&mut Vec<u8>) + 'static) -> Provocation {
    Box::new(move |net, id| {
        let mut bytes = ecm(map_request("10.77.0.1/32", "203.0.113.9", 1));
        change(&mut bytes);
        net.deliver(id, PEER, &bytes);
    })
}

fn bytes(bytes: Vec<u8>) -> Provocation {
    Box::new(move |net, id| net.deliver(id, PEER, &bytes))
}

fn odd_eid() -> EidAddress {
    EidAddress { mask_len: 0, address: Address::Mac([1; 6]) }
}

/// Has the ITR ask for 10.3.0.9 and answers that.
fn answered(records: Vec<EidRecord>) -> Provocation {
    Box::new(move |net, id| {
        net.handle(id, Input::Command(Command::ClearMapCache(None)));
        net.packet(id, "10.1.0.9", eid("10.3.0.9"));
        net.reply(id, records.clone());
    })
}

/// A mapping is learnt, and `sender` says so many times that it changed.
fn solicited(net: &mut Network, id: usize, sender: &str, times: u64) {
    answered(vec![record("10.3.0.0/16", &["203.0.113.1"])])(net, id);
    for nonce in 0..times {
        let smr = MapRequest { smr: true, ..map_request("10.3.0.0/16", sender, nonce) };
        net.deliver(id, PEER, &encode(smr));
    }
}

/// Has an ITR probe a locator that the underlay says is unreachable; the probe's nonce.
fn probed(net: &mut Network, id: usize) -> Nonce {
    net.learn(id, "10.3.0.9", vec![record("10.3.0.0/16", &["203.0.113.1"])]);
    net.packet(id, "10.1.0.9", eid("10.3.0.9"));
    net.handle(id, Input::Punt(Punt::Unreachable { rloc: ip("203.0.113.1") }));
    let probe = net.sent_by(id).find_map(|(_, _, message)| match message {
        Message::MapRequest(request) if request.probe => Some(request.nonce),
        _ => None,
    });
    probe.expect("a probe")
}

fn cases() -> Vec<Case> {
    let request = || map_request("10.1.2.3/32", "203.0.113.9", 1);
    let own = || record("10.2.0.0/16", &["198.51.100.2"]);
    let with = |f: &dyn Fn(&mut MapRequest)| {
        let mut r = request();
        f(&mut r);
        bytes(encode(r))
    };
    let mut unknown_afi = encode(request());
    let at = unknown_afi.len() - 6;
    unknown_afi[at + 1] = 99;
    let mut short_digest = register(50, &key("b"), vec![own()]);
    short_digest[15] = 0;
    short_digest.drain(16..48);
    let sha1 = crate::auth::Key { algorithm: crate::auth::Algorithm::HmacSha1, ..key("b") };
    let mut positive = record("10.3.0.0/16", &["203.0.113.1"]);
    positive.ttl = Ttl(1440);
    let positive = move || positive.clone();
    vec![
        (DropReason::Truncated, bytes(vec![0x10])),
        (DropReason::UnknownType, bytes(vec![0x90, 0, 0, 0])),
        (DropReason::UnknownAfi, bytes(unknown_afi)),
        // An inner IPv4 header of 16 bytes.
        (DropReason::BadLength, altered(|b| b[4] = 0x44)),
        (DropReason::TrailingData, bytes([encode(request()), vec![0]].concat())),
        (
            DropReason::EcmSecurity,
            altered(|b| {
                b[0] |= 0x08;
                b.splice(4..4, [99, 0, 0, 0]);
            }),
        ),
        (DropReason::EcmInner, altered(|b| b[4] = 0x95)),
        (
            DropReason::EcmContent,
            Box::new(|net, id| {
                let Ok(Message::Ecm(mut e)) =
                    Message::decode(&ecm(map_request("10.77.0.1/32", "203.0.113.9", 1)))
                else {
                    panic!()
                };
                e.payload = encode(MapReply::default());
                net.deliver(id, PEER, &encode(e));
            }),
        ),
        (
            DropReason::EcmDdt,
            Box::new(|net, id| {
                let only_etr = ControlConfig { map_server: None, map_resolver: None, ..everything() };
                net.reload(id, only_etr);
                let mut bytes = ecm(map_request("10.77.0.1/32", "203.0.113.9", 1));
                bytes[0] |= 0x04;
                net.deliver(id, PEER, &bytes);
                net.reload(id, everything());
            }),
        ),
        (
            DropReason::DdtPendingFull,
            Box::new(|net, id| {
                searching(net, id);
                let mut request = map_request("172.16.0.1/32", "203.0.113.9", 1);
                request.itr_rlocs = vec![ip("203.0.113.9").into(); 32];
                request.records = vec![prefix("172.16.0.1/32").into(); 255];
                net.deliver(id, PEER, &ecm(request));
                net.reload(id, everything());
            }),
        ),
        (DropReason::ReferralUnsolicited, referral("203.0.113.77:4342", 0, "0.0.0.0/1")),
        (DropReason::ReferralUseless, referral(ROOT, 7, "172.16.0.0/12")),
        (DropReason::ReferralLoop, referral(ROOT, 0, "172.16.0.0/12")),
        (DropReason::ReferralNotAuthoritative, referral(ROOT, 5, "172.16.0.1/32")),
        (
            DropReason::ReferralTimeout,
            Box::new(|net, id| {
                searching(net, id);
                net.deliver(id, PEER, &ecm(map_request("172.16.0.1/32", "203.0.113.9", 1)));
                net.run_for(10 * SECOND);
                net.reload(id, everything());
            }),
        ),
        (DropReason::NoRole, bytes(vec![0x60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])),
        (DropReason::RequestNoRloc, with(&|r| r.itr_rlocs = vec![Address::None])),
        (
            DropReason::RequestPort,
            Box::new(move |net, id| net.deliver(id, "203.0.113.9:4341", &encode(request()))),
        ),
        (DropReason::RequestEmpty, with(&|r| r.records.clear())),
        (DropReason::RequestRecords, with(&|r| r.records = vec![prefix("10.1.0.0/16").into(); 9])),
        (DropReason::RequestEid, with(&|r| r.records = vec![odd_eid()])),
        (
            DropReason::RequestNotOurs,
            Box::new(|net, id| {
                let only_etr = ControlConfig { map_server: None, map_resolver: None, ..everything() };
                net.reload(id, only_etr);
                net.deliver(id, PEER, &encode(map_request("10.99.2.3/32", "203.0.113.9", 1)));
                net.reload(id, everything());
            }),
        ),
        (DropReason::RequestNoReply, with(&|r| r.dont_map_reply = true)),
        (
            DropReason::ProbeMisdirected,
            with(&|r| {
                r.probe = true;
                r.records = vec![prefix("10.99.0.1/32").into()];
            }),
        ),
        (
            DropReason::RequestLoop,
            Box::new(|net, id| {
                net.deliver(
                    id,
                    PEER,
                    &register(1, &key("b"), vec![record("10.2.0.0/16", &["198.51.100.2"])]),
                );
                for _ in 0..2 {
                    net.deliver(id, PEER, &ecm(map_request("10.2.2.3/32", "203.0.113.9", 1)));
                }
            }),
        ),
        (DropReason::ForwardUnresolved, with(&|r| r.records = vec![prefix("10.8.0.1/32").into()])),
        (
            DropReason::RateRecord,
            Box::new(|net, id| {
                for n in 0..21 {
                    net.deliver(id, PEER, &encode(map_request("10.1.2.3/32", "203.0.113.200", n)));
                }
            }),
        ),
        (
            DropReason::RateRloc,
            Box::new(|net, id| {
                // Five records in turn.
                for n in 0..50 {
                    let asked =
                        ["10.1.2.3/32", "2001:db8:a::1/128", "10.2.0.1/32", "10.3.0.1/32", "11.0.0.1/32"];
                    let asked = asked[n as usize % 5];
                    net.deliver(id, PEER, &encode(map_request(asked, "203.0.113.200", n)));
                }
            }),
        ),
        (
            DropReason::RateTotal,
            Box::new(|net, id| {
                for n in 0..61 {
                    let rloc = format!("203.0.112.{n}");
                    net.deliver(id, PEER, &encode(map_request("10.1.2.3/32", &rloc, n)));
                }
            }),
        ),
        (DropReason::ReplyNonce, bytes(encode(MapReply::default()))),
        (DropReason::ReplyNotCovering, answered(vec![record("10.4.0.0/16", &[])])),
        (DropReason::ReplyUnasked, answered(vec![positive(), record("10.4.0.0/16", &[])])),
        (DropReason::ReplyEid, answered(vec![positive(), EidRecord { eid: odd_eid(), ..positive() }])),
        (DropReason::ReplyLocal, answered(vec![record("10.0.0.0/8", &[]), record("10.1.2.0/24", &[])])),
        (
            DropReason::SmrNotCached,
            with(&|r| {
                r.smr = true;
                r.records = vec![prefix("10.99.0.1/32").into()];
            }),
        ),
        (DropReason::SmrRate, Box::new(|net, id| solicited(net, id, "203.0.113.1", 2))),
        (
            DropReason::PendingFull,
            Box::new(|net, id| {
                let resolvers = vec![Host::Address(ip("192.0.2.250"))];
                let mut config = everything();
                config.itr.as_mut().unwrap().map_resolvers = resolvers;
                net.reload(id, config);
                for n in 0..21 {
                    net.packet(id, &format!("10.1.0.{n}"), eid(&format!("10.66.0.{n}")));
                }
                net.reload(id, everything());
            }),
        ),
        (
            DropReason::PendingSource,
            Box::new(|net, id| {
                let resolvers = vec![Host::Address(ip("192.0.2.250"))];
                let mut config = everything();
                config.itr.as_mut().unwrap().map_resolvers = resolvers;
                net.reload(id, config);
                for n in 0..21 {
                    net.packet(id, "10.1.0.9", eid(&format!("10.66.0.{n}")));
                }
                net.reload(id, everything());
            }),
        ),
        (
            DropReason::RateSource,
            Box::new(|net, id| {
                for _ in 0..201 {
                    net.deliver(
                        id,
                        PEER,
                        &encode(MapRequest {
                            records: Vec::new(),
                            ..map_request("10.1.0.0/16", "203.0.113.9", 1)
                        }),
                    );
                }
            }),
        ),
        (
            DropReason::RateUnverified,
            Box::new(|net, id| {
                let mut config = everything();
                let locators = (0..60).map(|n| locator(&format!("198.51.100.{n}"), 1, 1));
                config.database[0].locators.extend(locators);
                net.reload(id, config);
                for n in 0..12 {
                    net.deliver(id, PEER, &encode(map_request("10.1.2.3/32", "203.0.113.200", n)));
                }
            }),
        ),
        (
            DropReason::ReplyStatic,
            Box::new(|net, id| {
                let mut config = everything();
                config.itr.as_mut().unwrap().static_entries =
                    vec![Mapping::negative(prefix("10.3.7.0/24"), Ttl(1), Action::Drop)];
                net.reload(id, config);
                answered(vec![
                    record("10.3.0.0/16", &["203.0.113.1"]),
                    record("10.3.7.0/24", &["203.0.113.1"]),
                ])(net, id);
            }),
        ),
        (
            DropReason::ReplyWithdrawn,
            answered(vec![EidRecord { ttl: Ttl(0), ..record("10.3.0.0/16", &["203.0.113.1"]) }]),
        ),
        (DropReason::ReplyLocatorOwn, answered(vec![record("10.3.0.0/16", &["192.0.2.1"])])),
        (DropReason::ReplyLocatorEid, answered(vec![record("10.3.0.0/16", &["10.1.0.7"])])),
        (
            DropReason::ReplyLocators,
            Box::new(|net, id| {
                let rlocs: Vec<String> = (0..255).map(|n| format!("203.0.113.{n}")).collect();
                let rlocs: Vec<&str> = rlocs.iter().map(String::as_str).collect();
                answered(vec![record("10.3.0.0/16", &rlocs)])(net, id);
            }),
        ),
        (
            DropReason::SmrStranger,
            Box::new(|net, id| {
                let mut config = everything();
                config.timers.smr_interval = Duration::ZERO;
                net.reload(id, config);
                solicited(net, id, "203.0.113.9", 41);
            }),
        ),
        (
            DropReason::SmrTargets,
            Box::new(|net, id| {
                let sender = |n: u32| crate::fib::Sender {
                    rloc: std::net::Ipv4Addr::from_bits(0x0b00_0000 + n).into(),
                    destination: eid("10.1.0.1"),
                    last: Instant::FAR_FUTURE,
                };
                net.nodes[id].senders = (0..17_000).map(sender).collect();
                let mut config = everything();
                config.database[0].locators[0].weight = 7;
                net.reload(id, config);
                net.run_for(2 * SECOND);
            }),
        ),
        (
            DropReason::CacheIdle,
            Box::new(|net, id| {
                let mut config = everything();
                config.itr.as_mut().unwrap().idle_timeout = 10 * SECOND;
                net.reload(id, config);
                answered(vec![record("10.3.0.0/16", &["203.0.113.1"])])(net, id);
                net.run_for(11 * SECOND);
            }),
        ),
        (
            DropReason::CacheFull,
            Box::new(|net, id| {
                let fixed = |n| Mapping::negative(prefix(&format!("10.70.{n}.0/24")), Ttl(1), Action::Drop);
                let mut config = everything();
                config.itr.as_mut().unwrap().static_entries = (0..20).map(fixed).collect();
                net.reload(id, config);
                answered(vec![record("10.3.0.0/16", &["203.0.113.1"])])(net, id);
            }),
        ),
        (
            DropReason::NoMapResolver,
            Box::new(|net, id| {
                let mut config = everything();
                config.itr.as_mut().unwrap().map_resolvers.clear();
                net.reload(id, config);
                net.packet(id, "10.1.0.9", eid("10.67.0.1"));
                net.reload(id, everything());
            }),
        ),
        (
            DropReason::NoLocalRloc,
            Box::new(|net, id| {
                let mut config = everything();
                config.database.iter_mut().for_each(|e| e.locators.clear());
                net.reload(id, config);
                net.packet(id, "10.1.0.9", eid("10.68.0.1"));
                net.reload(id, everything());
            }),
        ),
        (
            DropReason::CacheEvicted,
            Box::new(|net, id| {
                for n in 0..22 {
                    net.learn(id, &format!("10.69.{n}.1"), vec![record(&format!("10.69.{n}.0/24"), &[])]);
                }
            }),
        ),
        (
            DropReason::PathMtuUnknown,
            Box::new(|net, id| {
                net.handle(id, Input::Punt(Punt::PathMtu { rloc: ip("203.0.113.99"), mtu: 1400 }));
            }),
        ),
        (
            DropReason::UnreachableUnknown,
            Box::new(|net, id| {
                net.handle(id, Input::Punt(Punt::Unreachable { rloc: ip("203.0.113.99") }));
            }),
        ),
        (
            DropReason::UnreachableContradicted,
            Box::new(|net, id| {
                let nonce = probed(net, id);
                let records = vec![record("10.3.0.0/16", &["203.0.113.1"])];
                net.deliver(
                    id,
                    PEER,
                    &encode(MapReply { probe: true, nonce, records, ..MapReply::default() }),
                );
                net.handle(id, Input::Punt(Punt::Unreachable { rloc: ip("203.0.113.1") }));
            }),
        ),
        (
            DropReason::ProbeReply,
            Box::new(|net, id| {
                let nonce = probed(net, id);
                net.deliver(id, PEER, &encode(MapReply { nonce, ..MapReply::default() }));
            }),
        ),
        (DropReason::RegisterEmpty, bytes(register(1, &key("b"), Vec::new()))),
        (DropReason::RegisterNotOwned, bytes(register(1, &key("b"), vec![record("10.99.0.0/16", &[])]))),
        (DropReason::RegisterEid, bytes(register(1, &key("b"), vec![EidRecord { eid: odd_eid(), ..own() }]))),
        (
            DropReason::RegisterReplayed,
            Box::new(move |net, id| {
                for _ in 0..2 {
                    net.deliver(id, PEER, &register(7, &key("b"), vec![own()]));
                }
            }),
        ),
        (
            DropReason::RegisterVersion,
            Box::new(move |net, id| {
                for (nonce, version) in [(7, 5), (8, 4)] {
                    let version = crate::types::MapVersion::new(version);
                    net.deliver(id, PEER, &register(nonce, &key("b"), vec![EidRecord { version, ..own() }]));
                }
            }),
        ),
        (
            DropReason::RegisterFull,
            Box::new(|net, id| {
                let records = (0..21).map(|n| record(&format!("10.1.{n}.0/24"), &["198.51.100.2"])).collect();
                net.deliver(id, PEER, &register(u64::MAX, &key("a"), records));
            }),
        ),
        (DropReason::AuthKeyId, bytes(register(51, &crate::auth::Key { id: 9, ..key("b") }, vec![own()]))),
        (DropReason::AuthAlgorithm, bytes(register(52, &sha1, vec![own()]))),
        (DropReason::AuthLength, bytes(short_digest)),
        (DropReason::AuthMac, bytes(register(53, &key("not-b"), vec![own()]))),
        (DropReason::NotifyUnknown, bytes(seal(MapNotify::default(), &key("a")))),
        (
            DropReason::NotifyStale,
            Box::new(|net, id| {
                net.handle(id, Input::Interface { name: "eth9", addresses: &[] });
                let mut config = everything();
                config.database.pop();
                net.reload(id, config);
                net.run_for(SECOND);
                let nonce = net.sent_by(id).find_map(|(_, _, m)| match m {
                    Message::MapRegister(r) => Some(r.nonce),
                    _ => None,
                });
                let notify = MapNotify { nonce: nonce.unwrap(), ..MapNotify::default() };
                let source = "192.0.2.1:4342";
                net.deliver(id, source, &seal(notify, &key("a")));
                net.reload(id, everything());
            }),
        ),
        (DropReason::AckUnsolicited, bytes(seal(Message::MapNotifyAck(MapNotify::default()), &key("a")))),
        (
            DropReason::Encode,
            Box::new(|net, id| {
                let mut config = everything();
                let locators = (0..=255).map(|n| locator(&format!("198.51.100.{n}"), 1, 1));
                config.database[0].locators.extend(locators);
                net.reload(id, config);
                net.run_for(SECOND);
                net.reload(id, everything());
            }),
        ),
    ]
}

#[test]
fn every_reason_to_drop_has_a_case_and_is_counted_for_it() {
    let mut cases = cases();
    cases.extend(super::hostile_sync::cases(everything));
    for reason in DropReason::ALL {
        assert!(cases.iter().any(|(r, _)| r == reason), "no case for {reason}");
    }
    for (reason, provoke) in cases {
        let (mut net, id) = start(everything());
        let before: Vec<_> = net.nodes[id].control.statistics().drops().filter(|(_, n)| *n > 0).collect();
        assert_eq!(before, [], "quiet before {reason}");
        provoke(&mut net, id);
        assert!(net.nodes[id].dropped(reason) > 0, "{reason}: {:?}", net.nodes[id].events);
        let others =
            net.nodes[id].control.statistics().drops().filter(|(r, n)| *n > 0 && *r != reason).count();
        assert!(others <= 1, "{reason} is not taken for something else");
    }
}
