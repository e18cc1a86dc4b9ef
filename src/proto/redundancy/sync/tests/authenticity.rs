//! What nobody may believe: strangers, damage, replays, and members that say what makes no sense.

use proptest::prelude::*;

use super::*;

/// Everything that a router holds to be true.
fn belief(net: &Network, id: usize) -> (Vec<Cached>, Vec<MemberState>) {
    (cache(net, id), net.nodes[id].control.sync_members().map(|m| m.state).collect())
}

#[test]
fn strangers_wrong_keys_and_damage_change_nothing_and_are_counted() {
    let mut net = pair(|_| ());
    learn(&mut net, 0, 3, MILLI);
    let (_, transmit, _) = net
        .sent_by(0)
        .filter(|(_, _, m)| matches!(m, Message::CacheSync(s) if s.smart))
        .last()
        .map(|(at, t, m)| (at, t.clone(), m.clone()))
        .expect("a CacheSync");
    let genuine = transmit.payload;
    net.run_for(SECOND);
    let before = belief(&net, 1);
    let from = "198.51.100.1:4342";
    net.deliver(1, "203.0.113.66:4342", &genuine);
    assert_eq!(net.nodes[1].dropped(DropReason::SyncStranger), 1);
    for at in 0..genuine.len() {
        let mut damaged = genuine.clone();
        damaged[at] ^= 0x40;
        net.deliver(1, from, &damaged);
        net.deliver(1, from, &genuine[..at]);
        net.deliver(1, "203.0.113.66:4342", &damaged);
    }
    let Ok(Message::CacheSync(sync)) = Message::decode(&genuine) else { panic!("it was genuine") };
    let forged = wire::CacheSync { nonce: Nonce(u64::MAX - 1), ..sync };
    net.deliver(1, from, &crate::auth::seal(Message::CacheSync(forged), &key("guessed")).unwrap());
    assert_eq!(belief(&net, 1), before);
    assert!(ignored(&net, 1, 0, DropReason::AuthMac) > 100);
    assert!(ignored(&net, 1, 0, DropReason::Truncated) > 10);
    assert!(ignored(&net, 1, 0, DropReason::AuthKeyId) > 0);
    // The genuine sender goes on being believed.
    let (destination, eid_prefix) = far(7);
    net.learn(0, &destination, vec![record(&eid_prefix, &["203.0.113.9"])]);
    net.run_for(SECOND);
    assert_eq!(names(&net, 1).len(), 4);
}

#[test]
fn replays_change_nothing_also_after_restarts_of_either_side() {
    let mut net = pair(|_| ());
    net.run_for(15 * SECOND);
    // A mapping that is then withdrawn: who believes the replay sends packets to where nobody is.
    net.learn(0, "10.2.3.9", vec![record("10.2.3.0/24", &["203.0.113.66"])]);
    net.run_for(SECOND);
    solicit(&mut net, 0, "10.2.3.0/24", "203.0.113.66");
    net.reply(0, vec![record("10.2.0.0/16", &["203.0.113.9"])]);
    net.run_for(SECOND);
    let recorded: Vec<Vec<u8>> = [0, 1]
        .into_iter()
        .flat_map(|id| {
            let of = net
                .sent_by(id)
                .filter(|(_, _, m)| matches!(m, Message::CacheSync(_) | Message::CacheSyncAck(_)));
            of.map(|(_, t, _)| t.payload.clone()).collect::<Vec<_>>()
        })
        .collect();
    assert!(recorded.len() > 5);
    let replay = |net: &mut Network| {
        for payload in &recorded {
            // To whom they were for, and back to whom they came from, under either name.
            for to in 0..2 {
                for from in &ADDRESSES[..2] {
                    net.deliver(to, &format!("{from}:4342"), payload);
                }
            }
        }
        net.run_for(2 * SECOND);
    };
    let check = |net: &Network, when: &str| {
        for id in 0..2 {
            assert_eq!(names(net, id), ["10.2.0.0/16"], "{when}");
        }
        assert_same(net, 0, 1);
    };
    check(&net, "before");
    replay(&mut net);
    check(&net, "simply");
    assert!(ignored(&net, 1, 0, DropReason::SyncReplayed) > 0);
    assert!(ignored(&net, 0, 1, DropReason::SyncSession) > 0, "reflected");
    // The receiver remembers nothing.
    net.restart(1, config(1, 2));
    for _ in 0..2 {
        replay(&mut net);
        check(&net, "after the receiver's restart");
    }
    assert!(ignored(&net, 1, 0, DropReason::SyncReplayed) > 0);
    // The sender has another session; its clock went back.
    net.power_cut_without_disk(0, config(0, 2), 1);
    replay(&mut net);
    check(&net, "after the sender's restart");
    assert!(ignored(&net, 1, 0, DropReason::SyncMisdirected) > 0);
    // Nothing of that has made them deaf for each other: news count, although their nonces are smaller than
    // before.
    solicit(&mut net, 0, "10.2.0.0/16", "203.0.113.9");
    net.reply(0, vec![record("10.2.0.0/16", &["203.0.113.77"])]);
    net.run_for(SECOND);
    assert_eq!(net.nodes[1].paths(eid("10.2.0.9"))[0].0, ip("203.0.113.77"));
    let (destination, eid_prefix) = far(250);
    net.learn(0, &destination, vec![record(&eid_prefix, &["203.0.113.9"])]);
    net.run_for(SECOND);
    assert_eq!(names(&net, 1).len(), 2);
}

#[test]
fn a_flood_of_recorded_hellos_draws_few_answers() {
    let mut net = pair(|_| ());
    net.run_for(30 * SECOND);
    let hello = net.sent_by(0).find_map(|(_, t, m)| match m {
        Message::CacheSync(sync) if sync.records.len() == 1 => Some(t.payload.clone()),
        _ => None,
    });
    let hello = hello.expect("a Hello");
    net.restart(1, config(1, 2));
    net.run_for(SECOND);
    // 0 has another session from here on, so that 1 can't tell a replay by its nonce.
    net.restart(0, config(0, 2));
    net.run_for(SECOND);
    net.sent.clear();
    for _ in 0..1000 {
        net.deliver(1, "198.51.100.1:4342", &hello);
        net.run_for(MILLI);
    }
    let answers =
        net.sent_by(1).filter(|(_, _, m)| matches!(m, Message::CacheSync(_) | Message::CacheSyncAck(_)));
    assert!(answers.count() < 40);
    assert_eq!(member(&net, 1, 0).state, MemberState::Up);
}

/// Both sessions, and the nonce, of the last CacheSync of member 0 of a pair.
fn last_sent(net: &Network) -> (u64, u64, Nonce) {
    let last = net.sent_by(0).filter_map(|(_, _, m)| match m {
        Message::CacheSync(sync) => Some((sync.session, sync.receiver, sync.nonce)),
        _ => None,
    });
    last.last().expect("a CacheSync")
}

/// A message as member 0 of a pair could send it next.
fn crafted(net: &Network, records: Vec<SyncRecord>) -> Vec<u8> {
    let (session, receiver, nonce) = last_sent(net);
    let message = wire::CacheSync {
        nonce: Nonce(nonce.0 + 1000 + net.nodes[1].control.statistics().received(MessageKind::CacheSync)),
        session,
        receiver,
        smart: true,
        records,
        ..wire::CacheSync::default()
    };
    crate::auth::seal(Message::CacheSync(message), &key("site")).unwrap()
}

#[test]
fn records_are_taken_one_by_one_and_none_that_a_map_reply_could_not_bring() {
    let mut net = pair(|_| ());
    learn(&mut net, 0, 1, SECOND);
    let mut config = config(1, 2);
    if let Some(itr) = &mut config.itr {
        itr.static_entries = vec![record("10.77.0.0/16", &["203.0.113.5"]).to_mapping().unwrap().0];
    }
    net.reload(1, config);
    let odd = EidRecord {
        eid: wire::EidAddress { mask_len: 8, address: wire::Address::Mac([1; 6]) },
        ..record("10.3.0.0/16", &[])
    };
    let mut withdrawn = record("10.9.0.0/16", &["203.0.113.9"]);
    withdrawn.ttl.0 = 0;
    let mut brief = record("10.5.0.0/16", &["203.0.113.9"]);
    brief.ttl.0 = 1;
    let records = vec![
        tells(record("10.1.7.0/24", &["203.0.113.66"])),
        tells(record("[9]10.3.0.0/16", &["203.0.113.66"])),
        tells(record("10.77.0.0/16", &["203.0.113.66"])),
        tells(odd),
        tells(withdrawn),
        SyncRecord::Unknown { kind: 77, flags: 0xff, content: vec![1, 2, 3] },
        SyncRecord::Locator { address: ip("224.0.0.9").into(), up: false },
        tells(record("10.4.0.0/16", &["203.0.113.9"])),
        tells(brief),
    ];
    let message = crafted(&net, records);
    net.deliver(1, "198.51.100.1:4342", &message);
    assert_eq!(names(&net, 1), ["10.2.0.0/24", "10.4.0.0/16", "10.5.0.0/16", "10.77.0.0/16"]);
    for reason in [
        DropReason::SyncLocal,
        DropReason::SyncInstance,
        DropReason::SyncStatic,
        DropReason::SyncEid,
        DropReason::SyncOlder,
        DropReason::SyncKind,
        DropReason::SyncLocator,
    ] {
        assert_eq!(ignored(&net, 1, 0, reason), 1, "{reason}");
    }
    assert_eq!(source(&net, 1, "10.77.0.0/16"), Some(MapCacheSource::Static));
    // Nothing lasts longer than the mapping system allowed.
    let ends = |name: &str| net.nodes[1].control.map_cache_entry(&prefix(name)).unwrap().expires;
    assert_eq!(ends("10.4.0.0/16"), net.now + 600 * SECOND);
    assert_eq!(ends("10.5.0.0/16"), net.now + 60 * SECOND);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    /// With the right key and in the right session, whatever it says: nothing panics, the FIB follows the
    /// map-cache, our own prefix stays ours, and who answers Hellos is still believed afterwards.
    #[test]
    fn a_member_may_say_what_it_likes(
        messages in proptest::collection::vec(wire::arbitrary::cache_sync(), 1..8),
        acks in proptest::collection::vec(wire::arbitrary::cache_sync_ack(), 0..4),
    ) {
        let mut net = pair(|_| ());
        net.run_for(15 * SECOND);
        let (session, receiver, nonce) = last_sent(&net);
        for (n, message) in (1000..).zip(messages) {
            let message = wire::CacheSync { nonce: Nonce(nonce.0 + n), session, receiver, ..message };
            let bytes = crate::auth::seal(Message::CacheSync(message), &key("site")).unwrap();
            net.deliver(1, "198.51.100.1:4342", &bytes);
            net.run_for(10 * MILLI);
        }
        for ack in acks {
            let ack = wire::CacheSyncAck { session, receiver, ..ack };
            let bytes = crate::auth::seal(Message::CacheSyncAck(ack), &key("site")).unwrap();
            net.deliver(1, "198.51.100.1:4342", &bytes);
        }
        let node = &net.nodes[1];
        prop_assert_eq!(node.fib.len(), 1 + node.control.map_cache_len());
        prop_assert!(node.control.map_cache().all(|(p, _)| node.fib.get(&p).is_some()));
        prop_assert!(!node.control.map_cache().any(|(p, _)| prefix("10.1.0.0/16").covers(&p)));
        net.run_for(20 * SECOND);
        prop_assert_eq!(member(&net, 1, 0).state, MemberState::Up);
    }
}

#[test]
fn what_was_told_one_member_is_nothing_to_another() {
    let mut net = three(|_| ());
    net.learn(1, "10.2.3.9", vec![record("10.2.3.0/24", &["203.0.113.66"])]);
    net.run_for(SECOND);
    let told = telling(&net, 1, 2, "10.2.3.0/24");
    solicit(&mut net, 1, "10.2.3.0/24", "203.0.113.66");
    net.reply(1, vec![record("10.2.0.0/16", &["203.0.113.9"])]);
    net.run_for(SECOND);
    for id in 0..3 {
        assert_eq!(names(&net, id), ["10.2.0.0/16"], "{id}");
    }
    // It is withdrawn; but somebody saw it on its way to another member.
    net.deliver(0, "198.51.100.2:4342", &told);
    assert_eq!(names(&net, 0), ["10.2.0.0/16"]);
    assert_eq!(ignored(&net, 0, 1, DropReason::SyncMisdirected), 1);
    // Nor does an acknowledgement that one member got acknowledge what another has told.
    net.dark.insert(ip(ADDRESSES[0]));
    net.learn(1, "10.4.0.9", vec![record("10.4.0.0/16", &["203.0.113.9"])]);
    net.learn(2, "10.5.0.9", vec![record("10.5.0.0/16", &["203.0.113.9"])]);
    net.run_for(10 * MILLI);
    assert_eq!(member(&net, 2, 0).outstanding(), 1);
    let Message::CacheSync(waits) = Message::decode(&telling(&net, 2, 0, "10.5.0.0/16")).unwrap() else {
        panic!("a CacheSync")
    };
    let acks = net.sent_by(0).filter_map(|(_, _, m)| match m {
        Message::CacheSyncAck(ack) => Some(ack.clone()),
        _ => None,
    });
    let to_another = acks.last().expect("an acknowledgement");
    let ack = wire::CacheSyncAck { nonce: waits.nonce, records: Vec::new(), ..to_another };
    for (receiver, left) in [(ack.receiver ^ 1, 1), (waits.session, 0)] {
        let ack = wire::CacheSyncAck { receiver, ..ack.clone() };
        net.deliver(
            2,
            "198.51.100.1:4342",
            &crate::auth::seal(Message::CacheSyncAck(ack), &key("site")).unwrap(),
        );
        assert_eq!(member(&net, 2, 0).outstanding(), left);
    }
}
