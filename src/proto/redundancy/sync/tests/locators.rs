//! Which locators can be reached, as one tells the others.

use super::*;
use crate::proto::config::ProbingConfig;
use crate::proto::xtr::{Cause, WayState};

#[test]
fn a_locator_that_one_finds_dead_is_spared_by_all() {
    let mut net = pair(|_| ());
    net.learn(0, "10.2.0.9", vec![record("10.2.0.0/16", &["203.0.113.9", "203.0.113.10"])]);
    net.run_for(SECOND);
    assert_eq!(net.nodes[1].paths(eid("10.2.0.9")).len(), 2);
    net.handle(0, Input::Punt(Punt::Unreachable { rloc: ip("203.0.113.9") }));
    net.run_for(10 * MILLI);
    for id in 0..2 {
        let paths = net.nodes[id].paths(eid("10.2.0.9"));
        assert_eq!(paths.iter().map(|p| p.0).collect::<Vec<_>>(), [ip("203.0.113.10")], "{id}");
    }
    // Who starts anew hears of it with the rest.
    net.restart(1, config(1, 2));
    net.run_for(SECOND);
    assert_eq!(net.nodes[1].paths(eid("10.2.0.9")).len(), 1);
    // And everybody hears that it is over; without probes, after half a minute.
    net.run_for(30 * SECOND);
    for id in 0..2 {
        assert_eq!(net.nodes[id].paths(eid("10.2.0.9")).len(), 2, "{id}");
    }
}

/// It is in a site with the locators [`FIRST`] and [`OTHER`].
const DESTINATION: &str = "10.2.0.9";
const FIRST: &str = "203.0.113.9";
const OTHER: &str = "203.0.113.10";

fn used(net: &Network, id: usize) -> Vec<String> {
    net.nodes[id].paths(eid(DESTINATION)).iter().map(|path| path.0.to_string()).collect()
}

fn find_down(net: &mut Network, id: usize) {
    net.handle(id, Input::Punt(Punt::Unreachable { rloc: ip(FIRST) }));
}

/// xTRs that have a mapping, none of which has a use for it at present; the last one probes.
fn site(count: usize, ack: bool) -> Network {
    let mut net = Network::new(3);
    for (n, address) in ADDRESSES.iter().take(count).enumerate() {
        net.add(&[address], member_of(n, count, ack));
    }
    net.run_for(2 * SECOND);
    net.learn(0, DESTINATION, vec![record("10.2.0.0/16", &[FIRST, OTHER])]);
    net.run_for(SECOND);
    for id in 0..count {
        assert_eq!(used(&net, id), [FIRST, OTHER]);
    }
    net
}

fn member_of(n: usize, count: usize, ack: bool) -> ControlConfig {
    let mut config = with(n, count, |sync| sync.ack = ack);
    config.probing = (n + 1 == count).then(ProbingConfig::default);
    config
}

#[test]
fn a_locator_that_is_told_before_its_mapping_is_not_forgotten() {
    let mut net = pair(|_| ());
    net.dark.insert(ip(ADDRESSES[1]));
    net.learn(0, DESTINATION, vec![record("10.2.0.0/16", &[FIRST, OTHER])]);
    net.run_for(10 * MILLI);
    net.dark.clear();
    find_down(&mut net, 0);
    net.run_for(100 * MILLI);
    assert!(names(&net, 1).is_empty() && member(&net, 1, 0).counters.records_used == 1);
    net.run_for(2 * SECOND);
    assert_eq!((used(&net, 0), used(&net, 1)), (vec![OTHER.to_owned()], vec![OTHER.to_owned()]));
    // And it is over as it is for all.
    net.run_for(30 * SECOND);
    assert_eq!(used(&net, 1), [FIRST, OTHER]);
}

#[test]
fn a_locator_is_down_as_long_as_anybody_says_so() {
    let mut net = site(3, false);
    // Two find out at the same moment; and after half a minute both try it again.
    find_down(&mut net, 0);
    find_down(&mut net, 1);
    net.run_for(29_900 * MILLI);
    for id in 0..3 {
        assert_eq!(used(&net, id), [OTHER], "{id}");
    }
    // That one of them does is lost.
    net.dark.insert(ip(ADDRESSES[1]));
    net.run_for(600 * MILLI);
    net.dark.clear();
    net.run_for(SECOND);
    assert_eq!((used(&net, 0).len(), used(&net, 1).len()), (2, 2));
    assert_eq!(used(&net, 2), [OTHER], "the other one has not said that it is up");
    // It starts anew, so that what it said is over.
    net.restart(1, member_of(1, 3, false));
    net.run_for(3 * SECOND);
    assert_eq!(used(&net, 2), [FIRST, OTHER]);
    // Each can say so again, and take it back.
    for id in 0..2 {
        find_down(&mut net, id);
        net.run_for(10 * MILLI);
        assert!((0..3).all(|id| used(&net, id) == [OTHER]));
        net.run_for(31 * SECOND);
        assert!((0..3).all(|id| used(&net, id) == [FIRST, OTHER]));
    }
}

#[test]
fn what_a_member_found_down_before_it_was_cut_off_is_over_when_it_says_so_no_more() {
    let mut net = site(2, true);
    find_down(&mut net, 0);
    net.run_for(10 * MILLI);
    assert_eq!(used(&net, 1), [OTHER]);
    net.dark.insert(ip(ADDRESSES[0]));
    net.run_for(45 * SECOND);
    assert_eq!(used(&net, 0), [FIRST, OTHER]);
    assert_eq!(member(&net, 1, 0).state, MemberState::Silent);
    assert_eq!(used(&net, 1), [OTHER], "nobody knows better");
    net.dark.clear();
    net.run_for(3 * SECOND);
    assert_eq!(used(&net, 1), [FIRST, OTHER]);
    // What it does find is told with the rest.
    find_down(&mut net, 0);
    net.restart(1, member_of(1, 2, true));
    net.run_for(3 * SECOND);
    assert_eq!(used(&net, 1), [OTHER]);
}

#[test]
fn our_own_probes_know_what_nobody_else_says_any_more() {
    let mut net = site(2, true);
    find_down(&mut net, 0);
    // Used here, too: probes are sent, which nobody answers.
    for _ in 0..20 {
        net.packet(1, "10.1.0.9", eid(DESTINATION));
        net.run_for(SECOND);
    }
    let state = |net: &Network| net.nodes[1].control.remote_rloc(&ip(FIRST)).unwrap().ways[0].state;
    assert_eq!(state(&net), WayState::Down(Cause::Peer));
    net.run_for(15 * SECOND);
    assert!(used(&net, 0).contains(&FIRST.to_owned()), "without probes it is tried again");
    assert_eq!(state(&net), WayState::Down(Cause::Probes));
}
