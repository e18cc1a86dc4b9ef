//! What a data plane that is another program is to know, and what each of them has been told.
//!
//! A data plane is owed prefixes, not messages: however slowly it reads, and however often a prefix changes
//! meanwhile, it is told the last state once. That bounds memory by the size of the table.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::ops::Bound;
use std::sync::Arc;

use ipnet::IpNet;
use tokio::sync::Notify;

use super::protocol::{self, Action, Entry, Path, ToDataPlane, UsedPath};
use crate::fib::{FibAction, FibUpdate, Proxy, Sender, Stats};
use crate::mgmt::view;
use crate::proto::rate::TokenBucket;
use crate::types::{self, Eid, EidPrefix, Family, InstanceId, Instant, Rloc};

/// Destinations whose resolution failed and that a data plane was not told of yet. Beyond that some are not
/// told: their next packets stay dropped until the data plane asks again by itself.
const MOST_UNRESOLVED: usize = 4096;

/// Who sends to the site: so many are remembered, those that were heard last.
const MOST_HEARD: usize = 16_384;
/// Reports of them that a data plane may make per second (bucket of twice as many); more are lost.
const HEARD_RATE: u32 = 5000;

/// A sender: one entry per instance and family of what it sends to.
type Heard = (Rloc, InstanceId, Family);

/// Everything that is told.
#[derive(Debug, Default)]
pub(super) struct Table {
    heard: BTreeMap<Heard, (Instant, IpAddr)>,
    heard_order: BTreeSet<(Instant, Heard)>,
    rows: BTreeMap<EidPrefix, Row>,
    proxies: BTreeSet<(EidPrefix, protocol::Proxy)>,
    path_mtus: BTreeMap<Rloc, u16>,
    clients: BTreeMap<u8, Client>,
}

#[derive(Debug)]
struct Row {
    action: FibAction,
    stats: Arc<Stats>,
    /// The clients that know the prefix, a bit each.
    told: u8,
}

/// Something that a client is to be told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Item {
    PathMtu(Rloc),
    Proxy(EidPrefix, protocol::Proxy),
    Prefix(EidPrefix),
    Unresolved(Eid),
}

/// A data plane that is connected.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) uid: u32,
    pub(super) pid: Option<i32>,
    pub(super) since: Instant,
    pub(super) sent: u64,
    pub(super) received: u64,
    pub(super) errors: u64,
    pub(super) punts_lost: u64,
    heard: TokenBucket,
    owed: BTreeSet<Item>,
    unresolved: usize,
    last: Option<Item>,
    synced: bool,
    wake: Arc<Notify>,
}

impl Table {
    /// Takes a change in.
    pub(super) fn apply(&mut self, update: FibUpdate) {
        let item = match update {
            FibUpdate::Set { prefix, action, stats } => {
                let told = self.rows.get(&prefix).map_or(0, |row| row.told);
                self.rows.insert(prefix, Row { action, stats, told });
                Item::Prefix(prefix)
            }
            FibUpdate::Remove { prefix } => {
                if self.rows.remove(&prefix).is_none() {
                    return;
                }
                Item::Prefix(prefix)
            }
            FibUpdate::Proxy { prefix, proxy, present } => {
                let key = (prefix, direction(proxy));
                if present {
                    self.proxies.insert(key)
                } else {
                    self.proxies.remove(&key)
                };
                Item::Proxy(key.0, key.1)
            }
            FibUpdate::PathMtu { rloc, mtu } => {
                match mtu {
                    Some(mtu) => self.path_mtus.insert(rloc, mtu),
                    None => self.path_mtus.remove(&rloc),
                };
                Item::PathMtu(rloc)
            }
            FibUpdate::Unpend { eid } => Item::Unresolved(eid),
            // What LISP headers say beyond the instance is not this protocol's.
            FibUpdate::Options(_)
            | FibUpdate::Site { .. }
            | FibUpdate::EchoRequest { .. }
            | FibUpdate::Dynamic { .. } => return,
        };
        for client in self.clients.values_mut() {
            client.owe(item);
        }
    }

    /// Lets a data plane in, which is owed everything. Its number, and what wakes it when it is owed
    /// something again; `None` if there are too many.
    pub(super) fn enter(&mut self, uid: u32, pid: Option<i32>, now: Instant) -> Option<(u8, Arc<Notify>)> {
        let free = (0..protocol::MOST_CLIENTS).filter_map(|n| u8::try_from(n).ok());
        let number = free.into_iter().find(|n| !self.clients.contains_key(n))?;
        let wake = Arc::new(Notify::new());
        let owed = self.rows.keys().map(|prefix| Item::Prefix(*prefix));
        let proxies = self.proxies.iter().map(|(prefix, direction)| Item::Proxy(*prefix, *direction));
        let path_mtus = self.path_mtus.keys().map(|rloc| Item::PathMtu(*rloc));
        let client = Client {
            uid,
            pid,
            since: now,
            sent: 0,
            received: 0,
            errors: 0,
            punts_lost: 0,
            heard: TokenBucket::new(HEARD_RATE, now),
            owed: owed.chain(proxies).chain(path_mtus).collect(),
            unresolved: 0,
            last: None,
            synced: false,
            wake: Arc::clone(&wake),
        };
        self.clients.insert(number, client);
        Some((number, wake))
    }

    /// A data plane has gone.
    pub(super) fn leave(&mut self, number: u8) {
        self.clients.remove(&number);
        for row in self.rows.values_mut() {
            row.told &= !bit(number);
        }
    }

    pub(super) fn client(&mut self, number: u8) -> Option<&mut Client> {
        self.clients.get_mut(&number)
    }

    /// The next thing that a data plane is to be told; `None` when it is owed nothing.
    pub(super) fn next(&mut self, number: u8) -> Option<ToDataPlane> {
        let client = self.clients.get_mut(&number)?;
        // On from the last one, so that what changes all the time does not keep the rest from being told.
        let after = |last| client.owed.range((Bound::Excluded(last), Bound::Unbounded)).next().copied();
        let item = client.last.and_then(after).or_else(|| client.owed.first().copied());
        let Some(item) = item else {
            if std::mem::replace(&mut client.synced, true) {
                return None;
            }
            client.sent += 1;
            return Some(ToDataPlane::Synced { entries: self.rows.len() as u64 });
        };
        client.owed.remove(&item);
        client.last = Some(item);
        client.sent += 1;
        Some(match item {
            Item::PathMtu(rloc) => ToDataPlane::PathMtu { rloc, mtu: self.path_mtus.get(&rloc).copied() },
            Item::Proxy(prefix, direction) => ToDataPlane::Proxy {
                instance_id: prefix.iid,
                eid_prefix: prefix.net,
                direction,
                present: self.proxies.contains(&(prefix, direction)),
            },
            Item::Unresolved(eid) => {
                client.unresolved = client.unresolved.saturating_sub(1);
                ToDataPlane::Unresolved { instance_id: eid.iid, eid: eid.addr }
            }
            Item::Prefix(prefix) => match self.rows.get_mut(&prefix) {
                None => ToDataPlane::Delete { instance_id: prefix.iid, eid_prefix: prefix.net },
                Some(row) => {
                    let known = row.told & bit(number) != 0;
                    row.told |= bit(number);
                    let entry = entry(&prefix, &row.action);
                    if known { ToDataPlane::Update(entry) } else { ToDataPlane::Add(entry) }
                }
            },
        })
    }

    /// The entry of the longest prefix that covers `eid`.
    pub(super) fn longest(&self, eid: &Eid) -> Option<Entry> {
        self.longest_row(eid).map(|(prefix, row)| entry(&prefix, &row.action))
    }

    fn longest_row(&self, eid: &Eid) -> Option<(EidPrefix, &Row)> {
        let full = eid.to_prefix().net;
        std::iter::successors(Some(full), IpNet::supernet).find_map(|net| {
            let prefix = EidPrefix::new(eid.iid, net);
            self.rows.get(&prefix).map(|row| (prefix, row))
        })
    }

    /// Counts what passed by an entry; whether there is one.
    pub(super) fn used(
        &self,
        prefix: &EidPrefix,
        packets: u64,
        bytes: u64,
        paths: &[UsedPath],
        now: Instant,
    ) -> bool {
        let Some(row) = self.rows.get(prefix) else { return false };
        if packets > 0 {
            row.stats.record(packets, bytes, now);
        }
        if let FibAction::Forward(known) = &row.action {
            for used in paths.iter().filter(|used| used.packets > 0) {
                if let Some(path) = known.iter().find(|path| path.rloc == used.rloc) {
                    path.stats.record(used.packets, used.bytes, now);
                }
            }
        }
        true
    }

    /// A data plane says that `rloc` sends to `eid`.
    pub(super) fn heard(&mut self, number: u8, rloc: Rloc, eid: Eid, now: Instant) {
        let Some(client) = self.clients.get_mut(&number) else { return };
        if !client.heard.take(HEARD_RATE, now) {
            client.punts_lost += 1;
            return;
        }
        if !self.is_local(&eid) {
            // It may have been so until a moment ago.
            return;
        }
        let heard = (rloc, eid.iid, Family::of(&eid.addr));
        if let Some((at, _)) = self.heard.insert(heard, (now, eid.addr)) {
            self.heard_order.remove(&(at, heard));
        }
        self.heard_order.insert((now, heard));
        if self.heard.len() > MOST_HEARD
            && let Some((_, first)) = self.heard_order.pop_first()
        {
            self.heard.remove(&first);
        }
    }

    /// Who sent to the site since `since`. Forgets the others.
    pub(super) fn senders(&mut self, since: Instant) -> Vec<Sender> {
        while let Some((at, first)) = self.heard_order.first().copied().filter(|(at, _)| *at < since) {
            self.heard_order.remove(&(at, first));
            self.heard.remove(&first);
        }
        let sender = |((rloc, iid, _), (last, addr)): (&Heard, &(Instant, IpAddr))| Sender {
            rloc: *rloc,
            destination: Eid::new(*iid, *addr),
            last: *last,
        };
        self.heard.iter().map(sender).collect()
    }

    fn is_local(&self, eid: &Eid) -> bool {
        self.longest_row(eid).is_some_and(|(_, row)| matches!(row.action, FibAction::Local))
    }

    /// The path MTU to a locator, if a limit is known.
    pub(super) fn path_mtu(&self, rloc: &Rloc) -> Option<u16> {
        self.path_mtus.get(rloc).copied()
    }

    /// For `show interfaces`.
    pub(super) fn view(&self, socket: String, now: Instant) -> view::ExternalDataPlane {
        let client = |client: &Client| view::ExternalClient {
            uid: client.uid,
            pid: client.pid,
            connected: now.saturating_since(client.since).as_secs(),
            synced: client.synced,
            waiting: client.owed.len() as u64,
            sent: client.sent,
            received: client.received,
            errors: client.errors,
            punts_lost: client.punts_lost,
        };
        let clients = self.clients.values().map(client).collect();
        view::ExternalDataPlane { socket, entries: self.rows.len() as u64, clients }
    }
}

impl Client {
    fn owe(&mut self, item: Item) {
        if let Item::Unresolved(_) = item
            && !self.owed.contains(&item)
        {
            if self.unresolved >= MOST_UNRESOLVED {
                return;
            }
            self.unresolved += 1;
        }
        self.owed.insert(item);
        self.wake.notify_one();
    }
}

fn bit(number: u8) -> u8 {
    1u8.checked_shl(number.into()).unwrap_or(0)
}

fn direction(proxy: Proxy) -> protocol::Proxy {
    match proxy {
        Proxy::Ingress => protocol::Proxy::Ingress,
        Proxy::Egress => protocol::Proxy::Egress,
    }
}

fn entry(prefix: &EidPrefix, action: &FibAction) -> Entry {
    let (action, paths) = match action {
        FibAction::Local => (Action::Local, &[][..]),
        FibAction::Forward(paths) => (Action::Forward, &paths[..]),
        FibAction::Negative(action) => {
            let action = match action {
                types::Action::NativelyForward => Action::NativelyForward,
                types::Action::SendMapRequest => Action::SendMapRequest,
                types::Action::DropPolicyDenied => Action::DropPolicyDenied,
                types::Action::DropAuthFailure => Action::DropAuthFailure,
                types::Action::NoAction | types::Action::Drop | types::Action::Unassigned(_) => Action::Drop,
            };
            (action, &[][..])
        }
    };
    let path = |path: &crate::fib::Path| Path {
        rloc: path.rloc,
        source: path.source,
        priority: path.priority,
        weight: path.weight,
    };
    Entry { instance_id: prefix.iid, eid_prefix: prefix.net, action, paths: paths.iter().map(path).collect() }
}

/// Whether an address can be the source or destination of a packet that misses.
pub(super) fn is_host(address: &IpAddr) -> bool {
    !(address.is_multicast() || address.is_unspecified() || address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(text: &str) -> EidPrefix {
        EidPrefix::from(text.parse::<IpNet>().unwrap())
    }

    fn set(text: &str, action: FibAction) -> FibUpdate {
        FibUpdate::Set { prefix: prefix(text), action, stats: Arc::default() }
    }

    fn told(table: &mut Table, number: u8) -> Vec<String> {
        std::iter::from_fn(|| table.next(number))
            .map(|message| match message {
                ToDataPlane::Add(e) => format!("add {} {:?}", e.eid_prefix, e.action),
                ToDataPlane::Update(e) => format!("update {} {:?}", e.eid_prefix, e.action),
                ToDataPlane::Delete { eid_prefix, .. } => format!("delete {eid_prefix}"),
                ToDataPlane::PathMtu { rloc, mtu } => format!("mtu {rloc} {mtu:?}"),
                ToDataPlane::Unresolved { eid, .. } => format!("unresolved {eid}"),
                ToDataPlane::Synced { entries } => format!("synced {entries}"),
                other => format!("{other:?}"),
            })
            .collect()
    }

    #[test]
    fn a_data_plane_is_told_everything_once_and_then_what_changes() {
        let mut table = Table::default();
        table.apply(set("10.1.0.0/16", FibAction::Local));
        table.apply(FibUpdate::PathMtu { rloc: "203.0.113.1".parse().unwrap(), mtu: Some(1400) });
        let (first, _) = table.enter(0, None, Instant::ZERO).unwrap();
        assert_eq!(
            told(&mut table, first),
            ["mtu 203.0.113.1 Some(1400)", "add 10.1.0.0/16 Local", "synced 1"]
        );
        assert!(told(&mut table, first).is_empty());
        // Several changes of one prefix are one.
        table.apply(set("10.2.0.0/16", FibAction::Local));
        table.apply(set("10.2.0.0/16", FibAction::Negative(types::Action::NoAction)));
        table.apply(set("10.1.0.0/16", FibAction::Local));
        assert_eq!(told(&mut table, first), ["add 10.2.0.0/16 Drop", "update 10.1.0.0/16 Local"]);
        // Another one starts from the beginning.
        let (second, _) = table.enter(0, None, Instant::ZERO).unwrap();
        assert_ne!(first, second);
        assert_eq!(told(&mut table, second).len(), 4);
        table.apply(FibUpdate::Remove { prefix: prefix("10.2.0.0/16") });
        table.apply(FibUpdate::Remove { prefix: prefix("10.9.0.0/16") });
        assert_eq!(told(&mut table, first), ["delete 10.2.0.0/16"]);
        assert_eq!(told(&mut table, second), ["delete 10.2.0.0/16"]);
        // And so does the first when it comes again, under the same number.
        table.leave(first);
        assert_eq!(table.enter(0, None, Instant::ZERO).unwrap().0, first);
        assert_eq!(told(&mut table, first)[1..], ["add 10.1.0.0/16 Local", "synced 1"]);
    }

    #[test]
    fn what_changes_all_the_time_does_not_hide_the_rest() {
        let mut table = Table::default();
        let (client, _) = table.enter(0, None, Instant::ZERO).unwrap();
        for i in 0..4 {
            table.apply(set(&format!("10.{i}.0.0/16"), FibAction::Local));
        }
        let mut seen = BTreeSet::new();
        for _ in 0..4 {
            table.apply(set("10.0.0.0/16", FibAction::Local));
            let Some(ToDataPlane::Add(entry) | ToDataPlane::Update(entry)) = table.next(client) else {
                panic!("an entry")
            };
            seen.insert(entry.eid_prefix);
        }
        assert_eq!(seen.len(), 4);
    }

    #[test]
    fn memory_is_bounded_and_so_are_the_clients() {
        let mut table = Table::default();
        let numbers: Vec<_> =
            std::iter::from_fn(|| table.enter(0, None, Instant::ZERO)).map(|(n, _)| n).take(100).collect();
        assert_eq!(numbers.len(), protocol::MOST_CLIENTS);
        for i in 0..10_000u32 {
            let eid = Eid::new(InstanceId::DEFAULT, std::net::Ipv4Addr::from_bits(0x0a00_0000 + i).into());
            table.apply(FibUpdate::Unpend { eid });
            table.apply(set("10.0.0.0/16", FibAction::Local));
        }
        assert_eq!(told(&mut table, numbers[0]).len(), MOST_UNRESOLVED + 2);
        // Room again once they are told.
        table.apply(FibUpdate::Unpend { eid: prefix("11.0.0.1/32").first() });
        assert_eq!(told(&mut table, numbers[0]), ["unresolved 11.0.0.1"]);
    }

    #[test]
    fn who_sends_to_the_site_is_remembered_within_bounds() {
        let mut table = Table::default();
        table.apply(set("10.1.0.0/16", FibAction::Local));
        let (client, _) = table.enter(0, None, Instant::ZERO).unwrap();
        let at = Instant::from_secs;
        let rloc = |n: u32| Rloc::from(std::net::Ipv4Addr::from_bits(0xcb00_0000 + n));
        let (first, second) = (prefix("10.1.0.5/32").first(), prefix("10.1.0.6/32").first());
        table.heard(client, rloc(1), first, at(10));
        table.heard(client, rloc(1), second, at(20));
        table.heard(client, rloc(2), first, at(15));
        // Not for this site, and from a data plane that has gone.
        table.heard(client, rloc(3), prefix("10.2.0.5/32").first(), at(20));
        table.heard(client + 1, rloc(4), first, at(20));
        let sender = |n, destination, last| Sender { rloc: rloc(n), destination, last: at(last) };
        assert_eq!(table.senders(at(0)), [sender(1, second, 20), sender(2, first, 15)]);
        assert_eq!(table.senders(at(16)), [sender(1, second, 20)]);
        assert_eq!((table.heard.len(), table.heard_order.len()), (1, 1), "and the others are forgotten");
        // A flood: so many at once, and so many in all.
        for n in 0..100_000 {
            table.heard(client, rloc(n), first, at(30));
        }
        assert_eq!(table.senders(at(30)).len(), 2 * HEARD_RATE as usize);
        assert_eq!(table.client(client).unwrap().punts_lost, 100_000 - 2 * u64::from(HEARD_RATE));
        for n in 0..200_000 {
            table.heard(client, rloc(n), first, at(40 + u64::from(n) / 5000));
        }
        assert_eq!((table.heard.len(), table.heard_order.len()), (MOST_HEARD, MOST_HEARD));
        assert!(
            table.senders(at(0)).iter().all(|sender| sender.last >= at(75)),
            "those that were heard last"
        );
    }

    #[test]
    fn the_longest_entry_is_found_and_its_use_counted_at_entry_and_path() {
        let mut table = Table::default();
        let stats = Arc::new(Stats::default());
        let path = Arc::new(Stats::default());
        let paths = vec![crate::fib::Path {
            rloc: "203.0.113.1".parse().unwrap(),
            source: "192.0.2.1".parse().unwrap(),
            priority: 1,
            weight: 100,
            stats: Arc::clone(&path),
        }];
        table.apply(set("10.0.0.0/8", FibAction::Negative(types::Action::Drop)));
        table.apply(FibUpdate::Set {
            prefix: prefix("10.2.0.0/16"),
            action: FibAction::Forward(paths),
            stats: Arc::clone(&stats),
        });
        let longest = |a: &str| table.longest(&prefix(a).first()).map(|e| e.eid_prefix.to_string());
        assert_eq!(longest("10.2.3.4/32").as_deref(), Some("10.2.0.0/16"));
        assert_eq!(longest("10.3.3.4/32").as_deref(), Some("10.0.0.0/8"));
        assert_eq!(longest("11.3.3.4/32"), None);
        let used = [
            UsedPath { rloc: "203.0.113.1".parse().unwrap(), packets: 2, bytes: 200 },
            UsedPath { rloc: "203.0.113.9".parse().unwrap(), packets: 9, bytes: 9 },
        ];
        let now = Instant::from_secs(5);
        assert!(table.used(&prefix("10.2.0.0/16"), 3, 300, &used, now));
        assert!(!table.used(&prefix("10.2.0.0/17"), 3, 300, &used, now));
        assert_eq!((stats.packets(), stats.bytes(), stats.last_used()), (3, 300, Some(now)));
        assert_eq!((path.packets(), path.bytes()), (2, 200));
    }
}
