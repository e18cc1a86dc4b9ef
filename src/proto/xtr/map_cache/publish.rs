//! What the data plane hears of the map-cache: for each entry, the paths to choose from or what becomes of
//! its packets.
//!
//! Owns: which locators of an entry are used, and everything of the map-cache that reaches the FIB but for
//! removals.

use std::collections::BTreeSet;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::fib::{FibAction, FibUpdate, Path};
use crate::proto::context::{Context, is_unicast};
use crate::types::{Action, Eid, EidPrefix, InstanceId, Locator, Mapping, Rloc};

use super::{Database, Entry, LocalRlocs, MapCache, Reachability};
use crate::proto::xtr::reachability::Verdict;

/// Paths of an entry that the data plane chooses from: as many as there are locator-status-bits (RFC 9300
/// §5.3). Each packet's choice looks at all of them, so that a record with 255 locators must not have its
/// way.
pub(in crate::proto::xtr) const MAX_PATHS: usize = 32;

impl MapCache {
    /// Our own EID-prefixes, or those that this router is a proxy for, are others than before: so may be the
    /// locators that are EIDs. The entries that have others of these now.
    pub(crate) fn recheck_circular(&mut self, cx: &mut Context, database: &Database) -> Vec<EidPrefix> {
        let other = |(prefix, entry): (EidPrefix, &Entry)| {
            let circular = circular(&entry.mapping, database);
            (circular != entry.circular).then_some((prefix, circular))
        };
        let others: Vec<(EidPrefix, Vec<Rloc>)> = self.entries.iter().filter_map(other).collect();
        let mut changed = Vec::with_capacity(others.len());
        for (prefix, circular) in others {
            if let Some(entry) = self.entries.get_mut(&prefix) {
                entry.circular = circular;
            }
            if let Some(entry) = self.entries.get(&prefix) {
                self.publish(cx, prefix, entry, database.rlocs());
            }
            changed.push(prefix);
        }
        changed
    }

    /// Publishes every entry again, as our own locators have changed, or what the data plane wants to know.
    pub(crate) fn republish(&self, cx: &mut Context, local: &LocalRlocs) {
        for (prefix, entry) in self.entries.iter() {
            if !entry.mapping.is_negative() || cx.options.any() {
                self.publish(cx, prefix, entry, local);
            }
        }
    }

    /// Publishes again the entries that have this locator.
    pub(in crate::proto::xtr) fn republish_users(&self, cx: &mut Context, rloc: &Rloc, local: &LocalRlocs) {
        for prefix in self.rlocs.get(rloc).into_iter().flatten() {
            if let Some(entry) = self.entries.get(prefix) {
                self.publish(cx, *prefix, entry, local);
            }
        }
    }

    /// The site of an entry said which of its locators are down.
    pub(crate) fn set_down_by_status(
        &mut self,
        cx: &mut Context,
        prefix: &EidPrefix,
        down: BTreeSet<Rloc>,
        local: &LocalRlocs,
    ) {
        let Some(entry) = self.entries.get_mut(prefix) else { return };
        entry.down_by_status = down;
        if let Some(entry) = self.entries.get(prefix) {
            self.publish(cx, *prefix, entry, local);
        }
    }

    /// Nothing that sites said of their locators counts any more.
    pub(crate) fn all_up(&mut self, cx: &mut Context, local: &LocalRlocs) {
        let held: Vec<EidPrefix> =
            self.entries.iter().filter(|(_, e)| !e.down_by_status.is_empty()).map(|(p, _)| p).collect();
        for prefix in held {
            self.set_down_by_status(cx, &prefix, BTreeSet::new(), local);
        }
    }

    /// The site of an entry says whether it echoes nonces.
    pub(crate) fn set_echoes(&mut self, cx: &mut Context, prefix: &EidPrefix, echoes: bool) {
        let Some(entry) = self.entries.get_mut(prefix).filter(|entry| entry.echoes != echoes) else { return };
        entry.echoes = echoes;
        if cx.options.any() {
            cx.fib(FibUpdate::Site { prefix: *prefix, site: Arc::new(entry.site()) });
        }
    }

    pub(crate) fn is_down(&self, rloc: &Rloc, local: &LocalRlocs) -> bool {
        self.reach.verdict(rloc, local).is_some_and(|verdict| !verdict.up)
    }

    pub(super) fn publish(&self, cx: &mut Context, prefix: EidPrefix, entry: &Entry, local: &LocalRlocs) {
        let action = action(entry, local, &self.reach);
        cx.fib(FibUpdate::Set { prefix, action, stats: Arc::clone(&entry.stats) });
        if cx.options.any() {
            cx.fib(FibUpdate::Site { prefix, site: Arc::new(entry.site()) });
        }
    }
}

/// The locators of a mapping that are EIDs.
pub(super) fn circular(mapping: &Mapping, database: &Database) -> Vec<Rloc> {
    mapping.locators.iter().map(|l| l.rloc).filter(|rloc| is_circular(mapping, rloc, database)).collect()
}

/// Whether a locator is an EID: of this site, of one that this router is a proxy-ITR for, or of the very
/// EID-prefix that it is a locator of. Of other instances the EIDs are no addresses of the underlay. A
/// default mapping covers all locators and means none; what is natively forwarded is no EID-prefix at all, so
/// that a proxy-ETR may well be in it.
fn is_circular(mapping: &Mapping, rloc: &Rloc, database: &Database) -> bool {
    let eid = Eid::new(InstanceId::DEFAULT, *rloc);
    let own = mapping.eid.contains(&eid) && !mapping.eid.is_empty() && !mapping.is_by_proxy();
    database.attracts(&eid) || own
}

/// Whether the data plane does the same with packets of both.
pub(super) fn forwards_alike(a: &Mapping, b: &Mapping) -> bool {
    let key = |l: &Locator| (l.rloc, l.priority, l.weight, l.reachable);
    !a.is_negative()
        && (a.action, a.version) == (b.action, b.version)
        && a.locators.iter().map(key).eq(b.locators.iter().map(key))
}

/// What the data plane does with packets of this entry.
fn action(entry: &Entry, local: &LocalRlocs, reach: &Reachability) -> FibAction {
    if entry.mapping.is_negative() {
        return FibAction::Negative(match entry.mapping.action {
            // Nowhere to send it.
            Action::NoAction => Action::Drop,
            action => action,
        });
    }
    let mut any_up = false;
    let mut paths: SmallVec<[(Path, bool); 4]> = entry
        .mapping
        .locators
        .iter()
        .zip(&entry.locator_stats)
        .enumerate()
        // The same locator again would have its share twice.
        .filter(|(at, (l, _))| !entry.mapping.locators.iter().take(*at).any(|earlier| earlier.rloc == l.rloc))
        .map(|(_, both)| both)
        .filter(|(locator, _)| {
            let rloc = &locator.rloc;
            locator.usable() && is_unicast(rloc) && !local.contains(rloc) && !entry.is_circular(rloc)
        })
        .filter_map(|(locator, stats)| {
            let Verdict { source, up } = reach.verdict(&locator.rloc, local)?;
            let up = up && !entry.down_by_status.contains(&locator.rloc);
            any_up |= up;
            let path = Path {
                rloc: locator.rloc,
                source,
                priority: locator.priority,
                weight: locator.weight,
                stats: Arc::clone(stats),
            };
            Some((path, up))
        })
        .collect();
    // As if the priority of those that are down were 255 (RFC 9301 §7); but where all are, they are used all
    // the same.
    paths.retain(|(_, up)| *up || !any_up);
    let mut paths: Vec<Path> = paths.into_iter().map(|(path, _)| path).collect();
    if paths.len() > MAX_PATHS {
        paths.sort_by_key(|path| path.priority);
        paths.truncate(MAX_PATHS);
    }
    if paths.is_empty() { FibAction::Negative(Action::Drop) } else { FibAction::Forward(paths) }
}
