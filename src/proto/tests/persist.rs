//! What survives a restart (RFC 9301 §5.6, "Nonce"): an ETR's nonces grow whatever the clock says, and a
//! Map-Server knows a replay from before.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::proto::config::ControlConfig;
use crate::proto::control::Input;
use crate::proto::persist::{Key, Record};
use crate::proto::stats::DropReason;
use crate::proto::testing::*;
use crate::types::{Nonce, SiteId, XtrId};
use crate::wire::{MapRegister, Message, XtrSite};

const SECOND: Duration = Duration::from_secs(1);
const ETR: &str = "198.51.100.1:4342";
const ELSEWHERE: &str = "203.0.113.66:4342";

fn etr_config() -> ControlConfig {
    let mut config = xtr(&["10.1.0.0/16"], &["198.51.100.1"], "192.0.2.1", "k");
    config.itr = None;
    config
}

fn nonces(net: &mut Network, id: usize) -> Vec<u64> {
    net.take_sent(id)
        .into_iter()
        .filter_map(|(_, message)| match message {
            Message::MapRegister(register) => Some(register.nonce.0),
            _ => None,
        })
        .collect()
}

#[test]
fn nonces_grow_over_power_cuts_even_if_the_clock_goes_back() {
    let mut net = Network::new(7);
    let id = net.add(&["198.51.100.1"], etr_config());
    net.give_disk(id);
    let mut last = 0;
    // The clock goes back, stands still, loses its battery, and comes right again.
    for clock in [5_000_000_000, 4_000_000_000, 4_000_000_000, 0, 1, 6_000_000_000] {
        net.run_for(20 * SECOND);
        let sent = nonces(&mut net, id);
        assert!(sent.len() > 3, "{sent:?}");
        for nonce in sent {
            assert!(nonce > last, "{nonce} after {last}, and the clock at {clock}");
            last = nonce;
        }
        net.power_cut(id, etr_config(), clock);
    }
    // One write covers thousands of Map-Registers.
    let Some(Record::RegisterNonce { below }) =
        net.nodes[id].disk.as_ref().and_then(|disk| disk.get(&Key::RegisterNonce))
    else {
        panic!("no reservation");
    };
    assert!(below - last > 1000, "{below} {last}");
}

#[test]
fn no_nonce_is_used_before_its_reservation_is_on_the_disk() {
    let mut net = Network::new(7);
    let id = net.add(&["198.51.100.1"], etr_config());
    net.nodes[id].disk_works = false;
    net.give_disk(id);
    net.run_for(60 * SECOND);
    assert_eq!(nonces(&mut net, id), [] as [u64; 0], "nothing may be sent yet");
    // The runtime gives up waiting, or the disk answers: either way it says so, and the router registers.
    let below = u64::MAX >> 1;
    net.handle(id, Input::Persisted(&Record::RegisterNonce { below }));
    net.run_for(SECOND);
    assert!(!nonces(&mut net, id).is_empty());
}

#[test]
fn a_reservation_that_runs_out_holds_back_until_the_next_one_is_there() {
    let mut net = Network::new(7);
    let config = etr_config();
    let id = net.add(&["198.51.100.1"], config.clone());
    net.give_disk(id);
    net.run_for(SECOND);
    let first = nonces(&mut net, id)[0];
    net.nodes[id].disk_works = false;
    // A reload that changes the record makes a new Map-Register each time.
    for n in 0..10_000 {
        let mut changed = config.clone();
        changed.database[0].ttl = crate::types::Ttl(1 + n % 2);
        net.reload(id, changed);
        net.run_for(Duration::from_millis(101));
    }
    let used: BTreeSet<u64> = nonces(&mut net, id).into_iter().collect();
    let last = used.last().copied().unwrap_or_default();
    assert_eq!(last, first + 4095, "every nonce of the block and none beyond");
    net.nodes[id].disk_works = true;
    net.handle(id, Input::Persisted(&Record::RegisterNonce { below: last + 100 }));
    net.run_for(SECOND);
    assert_eq!(nonces(&mut net, id).first(), Some(&(last + 1)));
}

#[test]
fn without_a_disk_nothing_is_remembered_and_nothing_waits() {
    let mut net = Network::new(7);
    let id = net.add(&["198.51.100.1"], etr_config());
    // The harness fails at any Output::Persist here.
    net.run_for(20 * SECOND);
    assert!(nonces(&mut net, id).len() > 3);
}

fn server_config() -> ControlConfig {
    mapping_system(vec![site("a", "a", &["10.1.0.0/16"]), site("b", "b", &["10.2.0.0/16"])])
}

fn with_id(nonce: u64, id: u8) -> Vec<u8> {
    let ids = XtrSite { xtr_id: XtrId([id; 16]), site_id: SiteId(1) };
    let records = vec![record("10.1.0.0/16", &["198.51.100.1"])];
    let register = MapRegister {
        nonce: Nonce(nonce),
        want_notify: true,
        records,
        xtr_site: Some(ids),
        ..MapRegister::default()
    };
    seal(register, &key("a"))
}

#[test]
fn a_restart_of_the_map_server_opens_no_replays() {
    let mut net = Network::new(7);
    let id = net.add(&["192.0.2.1"], server_config());
    net.give_disk(id);
    let records = || vec![record("10.1.0.0/16", &["198.51.100.1"])];
    let bare = |nonce| register(nonce, &key("a"), records());
    net.deliver(id, ETR, &bare(100));
    net.deliver(id, ETR, &bare(101));
    net.deliver(id, ETR, &with_id(7, 1));
    net.deliver(id, ETR, &with_id(9, 2));
    assert_eq!(net.take_sent(id).len(), 4);

    net.power_cut(id, server_config(), 0);
    for (source, replayed) in [
        (ETR, bare(100)),
        (ETR, bare(101)),
        (ETR, with_id(7, 1)),
        (ELSEWHERE, with_id(9, 2)),
        // From another address, so that it would pass for another xTR's first.
        (ELSEWHERE, bare(100)),
        (ELSEWHERE, bare(101)),
    ] {
        let before = net.nodes[id].dropped(DropReason::RegisterReplayed);
        net.deliver(id, source, &replayed);
        assert_eq!(net.nodes[id].dropped(DropReason::RegisterReplayed), before + 1, "from {source}");
    }
    assert!(net.take_sent(id).is_empty());
    assert_eq!(net.nodes[id].control.sites().map(|s| s.registrations.len()).sum::<usize>(), 0);

    // The honest go on, and one who was never here can come.
    for (source, fresh) in
        [(ETR, bare(102)), (ETR, with_id(8, 1)), (ETR, with_id(10, 2)), (ELSEWHERE, bare(1))]
    {
        net.deliver(id, source, &fresh);
        assert_eq!(net.take_sent(id).len(), 1, "from {source}");
    }
}

#[test]
fn what_is_remembered_of_a_site_goes_with_the_site() {
    let mut net = Network::new(7);
    let id = net.add(&["192.0.2.1"], server_config());
    net.give_disk(id);
    for nonce in 1..=300 {
        net.deliver(id, ETR, &register(nonce, &key("a"), vec![record("10.1.0.0/16", &["198.51.100.1"])]));
    }
    net.deliver(id, ETR, &register(1, &key("b"), vec![record("10.2.0.0/16", &["198.51.100.1"])]));
    let size = |net: &Network| net.nodes[id].disk.as_ref().map_or(0, |disk| disk.len());
    assert_eq!(size(&net), 1 + 256 + 2, "bounded, however many came");

    // The site goes while the router runs, or while it doesn't.
    let mut without = server_config();
    if let Some(server) = &mut without.map_server {
        server.sites.remove(0);
    }
    let disk = net.nodes[id].disk.clone();
    net.reload(id, without.clone());
    assert_eq!(size(&net), 2, "site b's alone");
    net.nodes[id].disk = disk;
    net.power_cut(id, without, 0);
    assert_eq!(size(&net), 2, "site b's alone");
}
