//! What `show vrrp` shows.

use std::collections::BTreeMap;

use crate::mgmt::view;
use crate::proto::redundancy::vrrp::{DropReason, VirtualRouter, Vrrp};
use crate::types::Instant;

pub(super) fn vrrp(machine: &Vrrp, now: Instant) -> view::Vrrp {
    view::Vrrp {
        routers: machine.routers().map(|router| one(router, now)).collect(),
        dropped: named(machine.strays().iter()),
    }
}

fn one(router: &VirtualRouter, now: Instant) -> view::VirtualRouter {
    let (config, counters) = (router.config(), router.counters());
    let (state, since) = router.state();
    view::VirtualRouter {
        interface: config.key.interface.clone(),
        family: config.key.family,
        vrid: config.key.vrid,
        state: state.name().to_owned(),
        since: now.saturating_since(since).as_secs(),
        priority: router.priority(),
        configured_priority: config.priority,
        preempt: config.preempt,
        interval_ms: millis(config.interval),
        master_down_ms: millis(router.master_down()),
        address: router.source(),
        addresses: config.addresses.clone(),
        master: router.peer().map(|peer| peer.address),
        master_priority: router.peer().map(|peer| peer.priority),
        sent: counters.sent,
        received: counters.received,
        resignations_sent: counters.resignations_sent,
        resignations_received: counters.resignations_received,
        became_master: counters.became_master,
        other_addresses: counters.other_addresses,
        dropped: named(counters.dropped.iter()),
    }
}

fn named<'a>(counts: impl Iterator<Item = (&'a DropReason, &'a u64)>) -> BTreeMap<String, u64> {
    counts.map(|(reason, count)| (reason.name().to_owned(), *count)).collect()
}

fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
