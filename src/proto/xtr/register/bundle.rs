//! What is registered with each Map-Server, divided into Map-Registers, and what is withdrawn there.
//!
//! Owns: which EID-prefix is in which message, so that a change has only those sent again that say something
//! else now. Must not send them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use crate::auth::Algorithm;
use crate::proto::config::EtrMapServer;
use crate::proto::context::Context;
use crate::proto::xtr::database::{Database, Entry};
use crate::types::{EidPrefix, Family, Instant, Nonce, Ttl};
use crate::wire::{Address, EidRecord, XtrSite};

use super::{Registrar, Server, UNREACHABLE_AFTER};

/// Records per Map-Register, at most.
const MAX_RECORDS: usize = 20;
/// Bytes of all records of a Map-Register: what is left of a datagram that no underlay fragments.
pub(in crate::proto::xtr) const MAX_RECORD_BYTES: usize = 1100;
/// A change is registered within this time: short enough to be felt as at once, long enough to join several
/// changes.
const CHANGE_DELAY: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(100));

/// What one Map-Register holds.
#[derive(Debug)]
pub(super) struct Bundle {
    pub(super) records: Vec<EidRecord>,
    /// They may move, so that they are registered apart from those that stay.
    pub(super) mobile: bool,
    /// a: merge.
    pub(super) merge: bool,
    pub(super) prefixes: Vec<EidPrefix>,
    pub(super) refused: Vec<EidPrefix>,
    pub(super) wake: Instant,
    /// Until when registrations are frequent.
    pub(super) quick_until: Instant,
    pub(super) attempts: u32,
    pub(super) unanswered: u32,
    pub(super) outstanding: Vec<Nonce>,
    pub(super) last_sent: Option<Instant>,
    pub(super) last_notified: Option<Instant>,
    pub(super) sent: u64,
    pub(super) notified: u64,
    /// Its contents are confirmed.
    pub(super) confirmed: bool,
    /// Where it was sent last.
    pub(super) sent_to: Option<IpAddr>,
    /// Of the last Map-Register that was confirmed, else sent.
    pub(super) key: Option<(u8, Algorithm)>,
    /// How its prefixes stood in the messages that it took the place of.
    pub(super) earlier: BTreeMap<EidPrefix, Earlier>,
}

/// How a prefix stood with a Map-Server before the message with it said something else.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Earlier {
    /// It is registered there as it was before, as far as we can tell.
    pub(super) registered: bool,
    pub(super) last_sent: Option<Instant>,
    pub(super) last_notified: Option<Instant>,
    pub(super) sent: u64,
    pub(super) notified: u64,
    pub(super) key: Option<(u8, Algorithm)>,
}

/// Prefixes that a Map-Server must forget.
#[derive(Debug)]
pub(super) struct Withdrawal {
    pub(super) server: EtrMapServer,
    pub(super) xtr_site: Option<XtrSite>,
    pub(super) records: Vec<EidRecord>,
    pub(super) attempts: u32,
    pub(super) outstanding: Vec<Nonce>,
    pub(super) wake: Instant,
}

impl Bundle {
    /// Whether others may register the same in its place.
    pub(super) const fn may_be_lost(&self) -> bool {
        self.mobile && !self.merge
    }

    /// How one of its prefixes stands.
    pub(super) fn standing(&self, prefix: &EidPrefix) -> Earlier {
        let earlier = self.earlier.get(prefix).copied().unwrap_or_default();
        if self.refused.contains(prefix) {
            // The Map-Server has not had it since.
            return Earlier {
                sent: earlier.sent + self.sent,
                last_sent: self.last_sent,
                key: self.key,
                ..Earlier::default()
            };
        }
        Earlier {
            registered: (self.confirmed || earlier.registered) && self.unanswered < UNREACHABLE_AFTER,
            last_sent: self.last_sent.or(earlier.last_sent),
            last_notified: self.last_notified.or(earlier.last_notified),
            sent: earlier.sent + self.sent,
            notified: earlier.notified + self.notified,
            key: self.key.or(earlier.key),
        }
    }

    /// The same is to be said once more, though the Map-Server has it.
    pub(super) fn say_again(&mut self) {
        for prefix in self.prefixes.iter().filter(|prefix| !self.refused.contains(prefix)) {
            let confirmed = self.confirmed;
            self.earlier.entry(*prefix).or_default().registered |= confirmed;
        }
        self.confirmed = false;
    }

    /// What the Map-Server knew is of no use any more: it confirmed what it has now, or it is another one.
    pub(super) fn forget_earlier(&mut self) {
        self.earlier.values_mut().for_each(|earlier| earlier.registered = false);
    }
}

impl Registrar {
    /// Distributes what is to be registered with a server over Map-Registers. Those that say the same as
    /// before stay.
    pub(super) fn rebundle(
        &mut self,
        cx: &mut Context,
        now: Instant,
        server: &mut Server,
        database: &Database,
    ) {
        let mut bundles: Vec<Bundle> = Vec::new();
        let mut records: Vec<EidRecord> = Vec::new();
        let mut size = 0;
        let mut old: Vec<Bundle> = std::mem::take(&mut server.bundles);
        let before: Vec<EidRecord> = old.iter().flat_map(|b| b.records.iter().cloned()).collect();
        // Of what is in no message any more that stays. Only looked at where something changed.
        let mut standing: Option<BTreeMap<EidPrefix, Earlier>> = None;
        let (low, high) = if self.hurry { (Duration::ZERO, Duration::ZERO) } else { CHANGE_DELAY };
        let mut close = |cx: &mut Context, records: Vec<EidRecord>, (mobile, merge): (bool, bool)| {
            if records.is_empty() {
                return;
            }
            if let Some(same) = old.iter().position(|b| b.records == records && b.merge == merge) {
                bundles.push(old.swap_remove(same));
                return;
            }
            let prefixes: Vec<EidPrefix> = records.iter().filter_map(|r| r.eid.to_prefix().ok()).collect();
            let standing = standing.get_or_insert_with(|| {
                old.iter().flat_map(|b| b.prefixes.iter().map(|p| (*p, b.standing(p)))).collect()
            });
            let earlier = prefixes.iter().filter_map(|p| Some((*p, *standing.get(p)?))).collect();
            bundles.push(Bundle {
                records,
                mobile,
                merge,
                prefixes,
                refused: Vec::new(),
                wake: now + cx.between(low, high),
                quick_until: now + cx.timers.quick_register_time,
                attempts: 0,
                unanswered: 0,
                outstanding: Vec::new(),
                last_sent: None,
                last_notified: None,
                sent: 0,
                notified: 0,
                confirmed: false,
                sent_to: None,
                key: None,
                earlier,
            });
        };
        let default = server.config.merge;
        // What moves has messages of its own, so that those that stay are not said again with every move.
        for kind in [(false, default), (true, false), (true, true)] {
            for (_, entry) in database.iter() {
                if (entry.is_mobile(), entry.merge().unwrap_or(default)) != kind
                    || !is_for(entry, &server.config)
                {
                    continue;
                }
                if entry.locators.is_empty() || entry.is_unheard() {
                    continue;
                }
                let record = EidRecord { authoritative: false, ..entry.record() };
                let len = encoded_len(&record);
                if records.len() >= MAX_RECORDS || (!records.is_empty() && size + len > MAX_RECORD_BYTES) {
                    close(cx, std::mem::take(&mut records), kind);
                    size = 0;
                }
                size += len;
                records.push(record);
            }
            close(cx, std::mem::take(&mut records), kind);
            size = 0;
        }
        server.bundles = bundles;

        let registered: BTreeSet<EidPrefix> =
            server.bundles.iter().flat_map(|b| b.prefixes.iter().copied()).collect();
        server.contradicted.retain(|prefix| registered.contains(prefix));
        let is_held = |prefix: &EidPrefix| database.get(prefix).is_some_and(Entry::is_held);
        let is_registered =
            |r: &EidRecord| r.eid.to_prefix().is_ok_and(|p| registered.contains(&p) || is_held(&p));
        let name = &server.config.name;
        for withdrawal in self.withdrawals.iter_mut().filter(|w| w.server.name == *name) {
            withdrawal.records.retain(|r| !is_registered(r));
        }
        self.withdrawals.retain(|w| !w.records.is_empty());
        self.withdraw(now, server, before.iter().filter(|r| !is_registered(r)));
    }

    pub(super) fn withdraw<'a>(
        &mut self,
        now: Instant,
        server: &Server,
        records: impl Iterator<Item = &'a EidRecord>,
    ) {
        let records: Vec<EidRecord> =
            records.map(|r| EidRecord { ttl: Ttl::WITHDRAWN, ..r.clone() }).collect();
        for chunk in records.chunks(MAX_RECORDS) {
            self.withdrawals.push(Withdrawal {
                server: server.config.clone(),
                xtr_site: server.xtr_site,
                records: chunk.to_vec(),
                attempts: 0,
                outstanding: Vec::new(),
                wake: now,
            });
        }
    }
}

/// Whether an EID-prefix is to be registered with a Map-Server.
pub(super) fn is_for(entry: &Entry, server: &EtrMapServer) -> bool {
    let chosen = entry.config.map_servers.as_ref().is_none_or(|names| names.contains(&server.name));
    entry.config.register && !entry.is_held() && chosen
}

/// Bytes of a record (RFC 9301 §5.4).
pub(in crate::proto::xtr) fn encoded_len(record: &EidRecord) -> usize {
    let address = |address: &Address| match address.to_ip().map(|ip| Family::of(&ip)) {
        Some(Family::Ipv4) => 6,
        _ => 18,
    };
    // With an instance ID: the LCAF's header and the instance ID before the address (RFC 8060 §4.1).
    let eid = match &record.eid.address {
        Address::Ip(_) => address(&record.eid.address),
        _ => 12 + 18,
    };
    10 + eid + record.locators.iter().map(|l| 6 + address(&l.address)).sum::<usize>()
}
