//! Which Map-Resolver is asked for what, and what becomes of one that does not answer.

use std::net::IpAddr;
use std::time::Duration;

use crate::proto::config::*;
use crate::proto::event::Event;
use crate::proto::stats::DropReason;
use crate::proto::testing::*;
use crate::types::{Action, Eid, InstanceId, Nonce};
use crate::wire::{MapReply, Message};

const SECOND: Duration = Duration::from_secs(1);
const FIRST: &str = "192.0.2.1";
const SECOND_MR: &str = "192.0.2.2";
const OTHER: &str = "192.0.2.3";

fn host(text: &str) -> Host {
    text.parse().map_or_else(|_| Host::Name(text.into()), Host::Address)
}

fn config(resolvers: &[&str], selection: ResolverSelection) -> ControlConfig {
    let mut config = xtr(&["10.1.0.0/16"], &["198.51.100.1"], FIRST, "k");
    config.etr = None;
    let itr = config.itr.as_mut().unwrap();
    itr.map_resolvers = resolvers.iter().map(|r| host(r)).collect();
    itr.resolver_selection = selection;
    config
}

fn itr(config: ControlConfig) -> (Network, usize) {
    let mut net = Network::new(3);
    let id = net.add(&["198.51.100.1"], config);
    (net, id)
}

/// The Map-Requests since this was asked last: to whom, for what, with which nonce.
fn requests(net: &mut Network, id: usize) -> Vec<(IpAddr, String, Nonce)> {
    net.take_sent(id)
        .into_iter()
        .filter(|(_, message)| matches!(message, Message::Ecm(_)))
        .map(|(transmit, message)| {
            let (_, request) = inner(&message);
            let asked = request.records[0].to_prefix().unwrap().to_string();
            (transmit.destination.ip(), asked, request.nonce)
        })
        .collect()
}

fn asked(net: &mut Network, id: usize) -> Vec<String> {
    requests(net, id).into_iter().map(|(to, _, _)| to.to_string()).collect()
}

/// Answers a Map-Request for one address with a mapping of its own.
fn answer(net: &mut Network, id: usize, (_, asked, nonce): &(IpAddr, String, Nonce)) {
    let records = vec![record(asked, &["203.0.113.1"])];
    let reply = encode(MapReply { nonce: *nonce, records, ..MapReply::default() });
    net.deliver(id, "203.0.113.1:4342", &reply);
}

/// A packet to a new destination; the Map-Requests that it causes at once.
fn miss(net: &mut Network, id: usize, n: u8) -> Vec<(IpAddr, String, Nonce)> {
    net.packet(id, "10.1.0.9", eid(&format!("10.200.0.{n}")));
    requests(net, id)
}

#[test]
fn each_eid_space_has_its_own_resolvers_and_the_longest_counts() {
    let mut config = config(&[FIRST], ResolverSelection::Order);
    let seven = "[7]0.0.0.0/0";
    config.itr.as_mut().unwrap().resolver_spaces = vec![
        (prefix("10.64.0.0/10"), vec![host(SECOND_MR)]),
        (prefix("10.65.0.0/16"), vec![host(OTHER)]),
        (prefix(seven), vec![host(OTHER)]),
    ];
    let (mut net, id) = itr(config);
    let in_seven = Eid::new(InstanceId::new(7).unwrap(), ip("10.64.0.1"));
    for (destination, resolver) in [
        (eid("10.2.0.1"), FIRST),
        (eid("10.64.0.1"), SECOND_MR),
        (eid("10.65.0.1"), OTHER),
        (eid("10.128.0.1"), FIRST),
        (eid("2001:db8::1"), FIRST),
        (in_seven, OTHER),
    ] {
        net.packet(id, "10.1.0.9", destination);
        assert_eq!(asked(&mut net, id), [resolver], "{destination}");
    }
}

#[test]
fn an_independent_mapping_system_never_stands_in_for_another() {
    let mut config = config(&[FIRST], ResolverSelection::Order);
    config.itr.as_mut().unwrap().resolver_spaces = vec![(prefix("10.64.0.0/10"), vec![host(OTHER)])];
    let (mut net, id) = itr(config);
    net.packet(id, "10.1.0.9", eid("10.64.0.1"));
    net.run_for(30 * SECOND);
    let all = asked(&mut net, id);
    assert!(all.len() > 5 && all.iter().all(|to| to == OTHER), "{all:?}");
    // The other way round too: with its own gone, nothing of the space is lost.
    net.packet(id, "10.1.0.9", eid("10.2.0.1"));
    assert_eq!(asked(&mut net, id), [FIRST]);
}

#[test]
fn an_eid_that_is_in_nobodys_space_is_not_asked_for() {
    let mut config = config(&[], ResolverSelection::Order);
    config.itr.as_mut().unwrap().resolver_spaces = vec![(prefix("10.64.0.0/10"), vec![host(OTHER)])];
    let (mut net, id) = itr(config);
    net.packet(id, "10.1.0.9", eid("10.2.0.1"));
    assert!(asked(&mut net, id).is_empty());
    assert_eq!(net.nodes[id].dropped(DropReason::NoMapResolver), 1);
}

#[test]
fn a_silent_resolver_is_left_within_two_seconds_and_taken_back_when_it_answers() {
    let (mut net, id) = itr(config(&[FIRST, SECOND_MR], ResolverSelection::Order));
    // It answered before, and is dead now.
    let first = miss(&mut net, id, 1);
    assert_eq!(first[0].0, ip(FIRST));
    answer(&mut net, id, &first[0]);
    net.run_for(3 * SECOND);
    assert!(asked(&mut net, id).is_empty(), "nothing to explore while all is well");

    assert_eq!(miss(&mut net, id, 2)[0].0, ip(FIRST));
    let took = net.run_until(5 * SECOND, |net| net.sent_by(id).count() > 0).unwrap();
    assert!(took < 2 * SECOND, "{took:?}");
    let second = requests(&mut net, id);
    assert_eq!(second[0].0, ip(SECOND_MR));
    // While it is under suspicion, others are not made to wait for it.
    let third = miss(&mut net, id, 3);
    assert_eq!(third[0].0, ip(SECOND_MR));
    answer(&mut net, id, &second[0]);
    answer(&mut net, id, &third[0]);
    let states: Vec<bool> = net.nodes[id]
        .control
        .resolvers()
        .flat_map(|(_, _, addresses)| addresses)
        .map(|(_, health)| health.suspect.is_some())
        .collect();
    assert_eq!(states, [true, false]);

    // After a while, something that is known already is asked of it, for which no packet waits.
    net.run_for(3 * SECOND);
    let fourth = miss(&mut net, id, 4);
    assert_eq!(fourth[0].0, ip(SECOND_MR));
    answer(&mut net, id, &fourth[0]);
    net.run_for(Duration::from_millis(900));
    assert!(asked(&mut net, id).is_empty(), "an EID-prefix is asked for once a second (RFC 9301 §5.3)");
    net.run_for(Duration::from_millis(200));
    let exploration = requests(&mut net, id);
    assert_eq!((exploration[0].0, &exploration[0].1), (ip(FIRST), &fourth[0].1));
    // It is still dead: nobody notices. Then it is tried again, later, and back at once when it answers.
    net.run_for(10 * SECOND);
    let fifth = miss(&mut net, id, 5);
    assert_eq!(fifth[0].0, ip(SECOND_MR));
    answer(&mut net, id, &fifth[0]);
    net.run_for(Duration::from_millis(1100));
    let exploration = requests(&mut net, id);
    assert_eq!(exploration[0].0, ip(FIRST));
    answer(&mut net, id, &exploration[0]);
    assert_eq!(miss(&mut net, id, 6)[0].0, ip(FIRST));
}

#[test]
fn a_dead_etr_is_not_the_resolvers_fault_if_others_are_answered() {
    let (mut net, id) = itr(config(&[FIRST, SECOND_MR], ResolverSelection::Order));
    let dead = miss(&mut net, id, 1);
    assert_eq!(dead[0].0, ip(FIRST));
    net.run_for(Duration::from_millis(500));
    let other = miss(&mut net, id, 2);
    answer(&mut net, id, &other[0]);
    // The first one's retransmission goes to the other, just in case; new ones stay.
    net.run_for(SECOND);
    assert_eq!(asked(&mut net, id), [SECOND_MR]);
    assert_eq!(miss(&mut net, id, 3)[0].0, ip(FIRST));
}

#[test]
fn with_nobody_answering_all_are_tried_in_turn_and_it_is_said() {
    let (mut net, id) = itr(config(&[FIRST, SECOND_MR, OTHER], ResolverSelection::Order));
    net.packet(id, "10.1.0.9", eid("10.200.0.1"));
    net.run_for(40 * SECOND);
    let all = asked(&mut net, id);
    for resolver in [FIRST, SECOND_MR, OTHER] {
        assert!(all.iter().filter(|to| *to == resolver).count() >= 3, "{resolver} in {all:?}");
    }
    let silent = |event: &&Event| matches!(event, Event::MapResolverSilent { .. });
    assert!(net.nodes[id].events.iter().filter(silent).count() >= 2, "{:?}", net.nodes[id].events);
}

#[test]
fn the_fastest_is_found_by_measuring_and_followed_as_things_change() {
    let (mut net, id) = itr(config(&[FIRST, SECOND_MR], ResolverSelection::Fastest));
    // Answers after so many milliseconds, by Map-Resolver; for a while, one new destination each two seconds.
    let run = |net: &mut Network, start: u8, first: u64, second: u64| -> Vec<IpAddr> {
        let mut chosen = Vec::new();
        for n in start..start + 40 {
            let request = miss(net, id, n).remove(0);
            chosen.push(request.0);
            net.run_for(Duration::from_millis(if request.0 == ip(FIRST) { first } else { second }));
            answer(net, id, &request);
            net.run_until(Duration::from_millis(1500), |net| net.sent_by(id).count() > 0);
            for exploration in requests(net, id) {
                net.run_for(Duration::from_millis(if exploration.0 == ip(FIRST) { first } else { second }));
                answer(net, id, &exploration);
            }
            net.run_for(SECOND);
        }
        chosen
    };
    let chosen = run(&mut net, 0, 80, 20);
    assert!(chosen[3..].iter().all(|to| *to == ip(SECOND_MR)), "{chosen:?}");
    let measured: Vec<u128> = net.nodes[id]
        .control
        .resolvers()
        .flat_map(|(_, _, addresses)| addresses)
        .filter_map(|(_, health)| health.response_time)
        .map(|time| time.as_millis())
        .collect();
    assert_eq!(measured, [80, 20]);
    let chosen = run(&mut net, 100, 10, 300);
    assert!(chosen[35..].iter().all(|to| *to == ip(FIRST)), "{chosen:?}");
}

#[test]
fn a_resolver_that_moved_is_found_by_its_name_when_it_stops_answering() {
    let mut net = Network::new(3);
    net.dns.insert("mr.example".into(), vec![ip(FIRST)]);
    let id = net.add(&["198.51.100.1"], config(&["mr.example"], ResolverSelection::Order));
    net.run_for(20 * SECOND);
    let first = miss(&mut net, id, 1);
    assert_eq!(first[0].0, ip(FIRST));
    answer(&mut net, id, &first[0]);
    net.dns.insert("mr.example".into(), vec![ip(OTHER)]);
    assert_eq!(miss(&mut net, id, 2)[0].0, ip(FIRST));
    net.run_for(Duration::from_millis(2500));
    assert!(asked(&mut net, id).contains(&OTHER.to_owned()), "the new address within two retransmissions");
}

#[test]
fn a_negative_answer_is_an_answer() {
    let (mut net, id) = itr(config(&[FIRST, SECOND_MR], ResolverSelection::Order));
    let request = miss(&mut net, id, 1).remove(0);
    let records = vec![negative("10.200.0.1/32", 15, Action::NativelyForward)];
    net.reply_nonce(id, request.2, records);
    let (_, _, addresses) = net.nodes[id].control.resolvers().next().unwrap();
    assert_eq!((addresses[0].1.answers, addresses[0].1.suspect), (1, None));
}
