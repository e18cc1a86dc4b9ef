//! DNS names of Map-Servers and Map-Resolvers: when to resolve them, and what they resolved to.
//!
//! Owns: the addresses, the retries and the refreshes. The resolving itself is the runtime's.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use crate::types::Instant;

use super::config::Host;
use super::event::Event;

/// First retry of a name that can't be resolved; doubles.
const RETRY: Duration = Duration::from_secs(1);
/// Longest interval between retries.
const RETRY_MAX: Duration = Duration::from_secs(60);
/// A question without any answer is asked again after this time.
const LOST: Duration = Duration::from_secs(30);
/// A name whose host does not answer is resolved again at once, but not more often than this.
const DOUBT_INTERVAL: Duration = Duration::from_secs(5);
/// Addresses of one name that are used.
const MAX_ADDRESSES: usize = 16;

/// What is known of the names that the configuration uses.
#[derive(Clone, Debug, Default)]
pub(crate) struct Names {
    names: BTreeMap<String, Name>,
}

#[derive(Clone, Debug)]
struct Name {
    addresses: Vec<IpAddr>,
    /// When to ask (again).
    due: Instant,
    /// When it was asked last.
    asked: Option<Instant>,
    failures: u32,
}

impl Names {
    /// Keeps what is known of the names among `hosts`, forgets the others, and has new ones resolved at once.
    pub(crate) fn set<'a>(&mut self, hosts: impl Iterator<Item = &'a Host>, now: Instant) {
        let wanted: BTreeSet<&String> = hosts
            .filter_map(|host| match host {
                Host::Name(name) => Some(name),
                Host::Address(_) => None,
            })
            .collect();
        self.names.retain(|name, _| wanted.contains(name));
        for name in wanted {
            self.names.entry(name.clone()).or_insert(Name {
                addresses: Vec::new(),
                due: now,
                asked: None,
                failures: 0,
            });
        }
    }

    /// The addresses of a host; none while its name is not resolved.
    pub(crate) fn addresses<'a>(&'a self, host: &'a Host) -> &'a [IpAddr] {
        match host {
            Host::Address(addr) => std::slice::from_ref(addr),
            Host::Name(name) => self.names.get(name).map(|n| n.addresses.as_slice()).unwrap_or_default(),
        }
    }

    /// Takes an answer in. Returns what to log, and whether the addresses changed.
    pub(crate) fn resolved(
        &mut self,
        name: &str,
        addresses: &[IpAddr],
        now: Instant,
        refresh: Duration,
    ) -> (Option<Event>, bool) {
        let Some(known) = self.names.get_mut(name) else { return (None, false) };
        if addresses.is_empty() {
            // Addresses that worked before are better than none.
            let retry_in = RETRY.saturating_mul(1 << known.failures.min(16)).min(RETRY_MAX);
            known.failures = known.failures.saturating_add(1);
            known.due = now + retry_in;
            return (Some(Event::NameUnresolved { name: name.to_owned(), retry_in }), false);
        }
        let mut new: Vec<IpAddr> = Vec::new();
        for addr in addresses.iter().take(MAX_ADDRESSES) {
            if !new.contains(addr) {
                new.push(*addr);
            }
        }
        known.failures = 0;
        known.due = now + refresh;
        // Resolvers rotate their answers: only another set is a change.
        let changed = {
            let (mut a, mut b) = (known.addresses.clone(), new.clone());
            a.sort_unstable();
            b.sort_unstable();
            a != b
        };
        if !changed {
            return (None, false);
        }
        known.addresses.clone_from(&new);
        (Some(Event::NameResolved { name: name.to_owned(), addresses: new }), true)
    }

    /// A host, at `address` if that is known, does not answer: maybe it has moved.
    pub(crate) fn doubt(&mut self, host: &Host, address: Option<IpAddr>, now: Instant) {
        let Host::Name(name) = host else { return };
        if let Some(known) = self.names.get_mut(name)
            && address.is_none_or(|address| known.addresses.contains(&address))
            && let Some(asked) = known.asked
        {
            known.due = known.due.min(now.max(asked + DOUBT_INTERVAL));
        }
    }

    /// The names to resolve now.
    pub(crate) fn due(&mut self, now: Instant) -> Vec<String> {
        let mut due = Vec::new();
        for (name, state) in &mut self.names {
            if state.due <= now {
                state.due = now + LOST;
                state.asked = Some(now);
                due.push(name.clone());
            }
        }
        due
    }

    /// When the next name is due.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.names.values().map(|n| n.due).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REFRESH: Duration = Duration::from_secs(300);

    #[test]
    fn a_name_is_retried_with_growing_pauses_and_keeps_its_last_addresses() {
        let host = Host::Name("ms.example".into());
        let mut names = Names::default();
        names.set([host.clone(), Host::Address("192.0.2.1".parse().unwrap())].iter(), Instant::ZERO);
        assert_eq!(names.due(Instant::ZERO), ["ms.example"]);
        assert!(names.due(Instant::from_secs(1)).is_empty(), "asked once while under way");
        let mut now = Instant::from_secs(2);
        let mut pauses = Vec::new();
        for _ in 0..8 {
            let (event, changed) = names.resolved("ms.example", &[], now, REFRESH);
            assert!(!changed);
            let Some(Event::NameUnresolved { retry_in, .. }) = event else { unreachable!("{event:?}") };
            pauses.push(retry_in.as_secs());
            now = names.next().unwrap();
            assert_eq!(names.due(now).len(), 1);
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60]);
        let addr: IpAddr = "192.0.2.9".parse().unwrap();
        assert!(names.resolved("ms.example", &[addr, addr], now, REFRESH).1);
        assert_eq!(names.addresses(&host), [addr]);
        assert!(!names.resolved("ms.example", &[addr], now, REFRESH).1);
        names.resolved("ms.example", &[], now, REFRESH);
        assert_eq!(names.addresses(&host), [addr]);
        names.set([].iter(), now);
        assert_eq!(names.addresses(&host), [] as [IpAddr; 0]);
        assert_eq!(names.next(), None);
    }

    #[test]
    fn a_name_is_resolved_again_in_time_and_sooner_when_its_host_does_not_answer() {
        let host = Host::Name("ms.example".into());
        let (here, there): (IpAddr, IpAddr) = ("192.0.2.9".parse().unwrap(), "192.0.2.10".parse().unwrap());
        let mut names = Names::default();
        names.set([host.clone()].iter(), Instant::ZERO);
        names.due(Instant::ZERO);
        names.resolved("ms.example", &[here], Instant::ZERO, REFRESH);
        assert_eq!(names.next(), Some(Instant::ZERO + REFRESH));
        let now = Instant::from_secs(60);
        names.doubt(&host, Some(there), now);
        assert_eq!(names.next(), Some(Instant::ZERO + REFRESH), "another host's fault");
        names.doubt(&host, Some(here), now);
        assert_eq!(names.next(), Some(now));
        names.due(now);
        names.resolved("ms.example", &[here], now, REFRESH);
        for seconds in 60..70 {
            names.doubt(&host, None, Instant::from_secs(seconds));
        }
        assert_eq!(names.next(), Some(now + DOUBT_INTERVAL), "not again at once");
    }
}
