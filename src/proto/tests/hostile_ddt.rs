//! A Map-Resolver that searches the DDT, and nodes that answer whatever they like: well-formed Map-Referrals
//! to what was really asked, with the right nonce and from the right address more often than not.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{Config, TestRunner};

use crate::proto::config::*;
use crate::proto::stats::DropReason;
use crate::proto::testing::*;
use crate::types::{Action, EidPrefix, Nonce, Ttl};
use crate::wire::{EidAddress, MapReferral, Message, ReferralRecord};

const SECOND: Duration = Duration::from_secs(1);
const ROOTS: [&str; 2] = ["203.0.113.70", "203.0.113.71"];
/// Whom referrals name, and who answers though nobody asked them.
const NODES: [&str; 6] =
    ["203.0.113.70", "203.0.113.72", "203.0.113.73", "2001:db8:ffff::72", "127.0.0.1", "224.0.0.1"];
const ITRS: [&str; 2] = ["203.0.113.9:4342", "203.0.113.10:4342"];
/// The longest that a referral is remembered.
const DAY: Duration = Duration::from_secs(86_400);

fn resolver() -> ControlConfig {
    let roots = ROOTS.iter().map(|root| Host::Address(ip(root))).collect();
    ControlConfig {
        map_resolver: Some(MapResolverConfig::default()),
        ddt: DdtConfig { roots, ..DdtConfig::default() },
        ..ControlConfig::default()
    }
}

/// What a referral has in the place of a field.
#[derive(Clone, Copy, Debug)]
enum Who {
    /// As asked, or who was asked.
    Right,
    /// What the ITR knows.
    Itr,
    /// Another Map-Request's, or one of the others.
    Other,
    /// Anything.
    Wrong,
}

#[derive(Clone, Debug)]
struct Record {
    /// Mask length; of the EID that was asked for, or of a stranger.
    len: u8,
    foreign: bool,
    action: u8,
    incomplete: bool,
    ttl: u32,
    to: Vec<(usize, u8)>,
    signatures: usize,
    odd: bool,
}

#[derive(Clone, Debug)]
enum Act {
    Ask { itr: usize, eid: u8, nonce: u64 },
    Refer { which: Index, nonce: Who, from: Who, records: Vec<Record>, again: bool },
    Wait(u32),
}

fn any_who() -> impl Strategy<Value = Who> {
    prop_oneof![12 => Just(Who::Right), 1 => Just(Who::Itr), 1 => Just(Who::Other), 1 => Just(Who::Wrong)]
}

fn any_record() -> impl Strategy<Value = Record> {
    let len = prop_oneof![Just(0u8), 1u8..12, 12u8..=32, Just(32u8)];
    let ttl = prop_oneof![Just(0), Just(1), Just(15), Just(1440), Just(u32::MAX), any::<u32>()];
    let to = vec((0..NODES.len(), prop_oneof![Just(1u8), any::<u8>()]), 0..12);
    let bits = (
        prop_oneof![9 => Just(false), 1 => Just(true)],
        any::<bool>(),
        prop_oneof![19 => Just(false), 1 => Just(true)],
    );
    (len, 0u8..8, ttl, to, 0usize..3, bits).prop_map(
        |(len, action, ttl, to, signatures, (foreign, incomplete, odd))| Record {
            len,
            foreign,
            action,
            incomplete,
            ttl,
            to,
            signatures,
            odd,
        },
    )
}

fn any_act() -> impl Strategy<Value = Act> {
    prop_oneof![
        3 => (0..ITRS.len(), 0u8..8, 0u64..6).prop_map(|(itr, eid, nonce)| Act::Ask { itr, eid, nonce }),
        10 => (any::<Index>(), any_who(), any_who(), vec(any_record(), 0..4), any::<bool>()).prop_map(
            |(which, nonce, from, records, again)| Act::Refer { which, nonce, from, records, again }
        ),
        1 => prop_oneof![0u32..2000, 0u32..1_000_000].prop_map(Act::Wait),
    ]
}

/// A DDT Map-Request that the Map-Resolver sent.
#[derive(Clone, Debug)]
struct Asked {
    to: SocketAddr,
    nonce: Nonce,
    eid: EidPrefix,
}

struct World {
    net: Network,
    id: usize,
    asked: Vec<Asked>,
    /// The nonces that the ITRs chose, by EID.
    chosen: BTreeMap<EidPrefix, Nonce>,
}

impl World {
    fn new() -> Self {
        let mut net = Network::new(5);
        let id = net.add(&["192.0.2.1", "2001:db8:ffff::1"], resolver());
        Self { net, id, asked: Vec::new(), chosen: BTreeMap::new() }
    }

    /// Takes in what was sent: how many Map-Requests and answers these are.
    fn look(&mut self) -> usize {
        let sent = self.net.take_sent(self.id);
        for (transmit, message) in &sent {
            if let Message::Ecm(ecm) = message
                && let Ok(Message::MapRequest(request)) = Message::decode(&ecm.payload)
            {
                assert!(ecm.ddt && !transmit.destination.ip().is_multicast());
                let eid = request.records[0].to_prefix().unwrap();
                self.asked.push(Asked { to: transmit.destination, nonce: request.nonce, eid });
            }
        }
        let old = self.asked.len().saturating_sub(40);
        self.asked.drain(..old);
        sent.len()
    }

    fn state(&self) -> String {
        let view = self.net.nodes[self.id].control.ddt();
        let search = view.search.expect("it searches");
        format!("{} {:?}", search.pending, search.cache)
    }

    fn perform(&mut self, act: &Act) {
        match act {
            Act::Ask { itr, eid, nonce } => {
                let eid = prefix(&format!("172.{}.0.{}/32", 16 + eid * 5, eid));
                let nonce = 1000 + *nonce;
                let rloc = ITRS[*itr].split(':').next().unwrap();
                self.chosen.insert(eid, Nonce(nonce));
                self.net.deliver(self.id, ITRS[*itr], &ecm(map_request(&eid.net.to_string(), rloc, nonce)));
                assert!(self.look() <= 1, "one Map-Request, or one answer");
            }
            Act::Refer { which, nonce, from, records, again } => {
                self.refer(*which, (*nonce, *from), records, *again)
            }
            Act::Wait(millis) => {
                self.net.run_for(Duration::from_millis(u64::from(*millis)));
                self.look();
            }
        }
    }

    fn refer(&mut self, which: Index, (nonce, from): (Who, Who), records: &[Record], again: bool) {
        if self.asked.is_empty() {
            return;
        }
        // The last ones wait for an answer still.
        let recent = self.asked.len().min(4);
        let asked = self.asked[self.asked.len() - 1 - which.index(recent)].clone();
        let other = which.get(&self.asked).clone();
        let used = match nonce {
            Who::Right => asked.nonce,
            Who::Itr => self.chosen[&asked.eid],
            Who::Other => other.nonce,
            Who::Wrong => Nonce(asked.nonce.0.wrapping_add(1)),
        };
        let source = match from {
            Who::Right => asked.to.to_string(),
            Who::Itr => ITRS[0].to_owned(),
            Who::Other => other.to.to_string(),
            Who::Wrong => "203.0.113.99:4342".to_owned(),
        };
        let records: Vec<ReferralRecord> = records.iter().map(|record| record.of(&asked.eid)).collect();
        let known = self.asked.iter().any(|a| a.nonce == used && a.to.to_string() == source);
        let bytes = encode(Message::MapReferral(MapReferral { nonce: used, records }));
        for _ in 0..=usize::from(again) {
            let before = (self.state(), self.net.nodes[self.id].dropped(DropReason::ReferralUnsolicited));
            self.net.deliver(self.id, &source, &bytes);
            let sent = self.look();
            assert!(sent <= 1, "one Map-Request to go on with, or one answer to the ITR, but not {sent}");
            if !known && matches!(from, Who::Wrong | Who::Itr) {
                let after = (self.state(), self.net.nodes[self.id].dropped(DropReason::ReferralUnsolicited));
                assert_eq!(after, (before.0, before.1 + 1), "who was not asked is not heard");
            }
        }
        self.bounded();
    }

    fn bounded(&self) {
        let view = self.net.nodes[self.id].control.ddt();
        let search = view.search.expect("it searches");
        assert!(search.pending <= 8 * ITRS.len());
        for (prefix, referral) in &search.cache {
            assert!(referral.to.len() <= 8 && referral.to.iter().all(|to| !to.is_multicast()), "{prefix}");
            assert!(referral.expires > self.net.now && referral.expires <= self.net.now + DAY, "{prefix}");
        }
    }
}

impl Record {
    fn of(&self, asked: &EidPrefix) -> ReferralRecord {
        let of = if self.foreign { "198.18.0.1".to_owned() } else { asked.net.addr().to_string() };
        let rlocs: Vec<&str> = self.to.iter().map(|(at, _)| NODES[*at]).collect();
        let mut record = record(&format!("{of}/{}", self.len), &rlocs);
        for (locator, (_, priority)) in record.locators.iter_mut().zip(&self.to) {
            locator.priority = *priority;
        }
        record.ttl = Ttl(self.ttl);
        record.action = Action::from_bits(self.action);
        if self.odd {
            record.eid = EidAddress { mask_len: 0, address: crate::wire::Address::Mac([1; 6]) };
        }
        // A signature without a byte in it.
        let signatures = vec![vec![0; 20]; self.signatures];
        ReferralRecord { incomplete: self.incomplete, record, signatures }
    }
}

#[test]
fn whatever_nodes_refer_to_the_search_stays_bounded_and_ends() {
    // The same cases every time, as it is counted what they reach.
    let config = Config { cases: 160, failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(
        config,
        proptest::test_runner::TestRng::deterministic_rng(proptest::test_runner::RngAlgorithm::ChaCha),
    );
    let reached: RefCell<BTreeMap<String, u64>> = RefCell::default();
    runner
        .run(&vec(any_act(), 1..80), |acts| {
            let mut w = World::new();
            for act in &acts {
                w.perform(act);
            }
            // Nobody says anything any more: what is under way ends, and what is remembered in a day.
            w.net.run_for(SECOND * 120);
            w.bounded();
            prop_assert_eq!(w.net.nodes[w.id].control.ddt_len().0, 0, "the search ends");
            w.net.run_for(DAY);
            prop_assert_eq!(w.net.nodes[w.id].control.ddt_len(), (0, 0));
            w.look();
            // The next one begins at a root.
            w.perform(&Act::Ask { itr: 0, eid: 7, nonce: 3 });
            let last = w.asked.last().unwrap();
            prop_assert!(ROOTS.contains(&&*last.to.ip().to_string()), "{}", last.to);
            prop_assert!(last.nonce != Nonce(1003), "with a nonce that the ITR does not know");

            let mut reached = reached.borrow_mut();
            let received = w.net.nodes[w.id].control.ddt().search.expect("it searches").received;
            for (referral, count) in received.iter() {
                *reached.entry(referral.name().to_owned()).or_default() += count;
            }
            for (reason, count) in w.net.nodes[w.id].control.statistics().drops() {
                *reached.entry(reason.name().to_owned()).or_default() += count;
            }
            Ok(())
        })
        .unwrap();
    // What is tried is not turned away at the door: every kind is taken in, and refused for every reason,
    // many times.
    let reached = reached.into_inner();
    for what in [
        "node-referral",
        "ms-referral",
        "ms-ack",
        "ms-not-registered",
        "delegation-hole",
        "not-authoritative",
        "referral-unsolicited",
        "referral-useless",
        "referral-loop",
        "referral-not-authoritative",
        "referral-timeout",
    ] {
        assert!(reached.get(what).is_some_and(|count| *count >= 30), "{what}: {reached:?}");
    }
}
