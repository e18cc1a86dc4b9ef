//! The Map-Server: which sites own which EID-prefixes, and which of them are registered by whom.
//!
//! Owns: authentication, replay protection and time-outs of registrations. What is done with a Map-Request is decided
//! in [`super`], together with the Map-Resolver.
//!
//! # Several xTRs of a site
//! Each xTR (by xTR-ID, else by source address) has its own registration of a prefix, which times out on its own. What
//! the mapping system tells of the prefix is the last registration that came, whole; or, if that one has the merge bit,
//! the union of all that have it (RFC 9301 §5.6).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rand::RngExt;

use crate::auth;
use crate::auth::replay::{LastNonces, NoncePolicy, ReplayError};
use crate::proto::config::{MapServerConfig, SiteConfig};
use crate::proto::context::{CONTROL_PORT, Context, is_unicast};
use crate::proto::eid_table::EidTable;
use crate::proto::event::{Event, Registrant, Unregistered};
use crate::proto::persist::{self, Change, Record};
use crate::proto::stats::{DropReason, MessageKind};
use crate::types::{Eid, EidPrefix, Instant, Nonce, Ttl};
use crate::wire::{EidRecord, LocatorRecord, MapNotify, MapRegister, Message, XtrSite};

use super::auth_reason;

/// xTRs and keys per site whose nonces are remembered.
const MAX_SENDERS: usize = 4096;
/// Map-Registers per site that nobody may send again.
const MAX_RECENT: usize = 4096;
/// The last so many of them are remembered over a restart.
const RECENT_KEPT: u64 = 256;
/// xTRs that may register one prefix.
const MAX_REGISTRANTS: usize = 64;
/// Sites whose keys are tried for one Map-Register: its records may belong to several, but no honest one does.
const MAX_CANDIDATES: usize = 4;
/// How often a site is said to repeat its nonce.
const WARN_INTERVAL: Duration = Duration::from_secs(60);

/// One xTR's registration of one prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registration {
    /// The site whose key authenticated it.
    pub site: Arc<str>,
    /// Which xTR.
    pub registrant: Registrant,
    /// Its xTR-ID and Site-ID, where it sends them.
    pub xtr_site: Option<XtrSite>,
    /// Where its Map-Registers come from.
    pub source: SocketAddr,
    /// What it says.
    pub record: EidRecord,
    /// P: answer Map-Requests for it.
    pub proxy_reply: bool,
    /// a: merge it with those of the site's other xTRs.
    pub merge: bool,
    /// Since when it is registered without a break.
    pub registered: Instant,
    /// When the last Map-Register came.
    pub refreshed: Instant,
    /// When it times out.
    pub expires: Instant,
}

/// An EID-prefix that is owned, or registered, or both.
#[derive(Debug, Default)]
pub(crate) struct Known {
    owner: Option<Owner>,
    registrations: Vec<Registration>,
}

#[derive(Clone, Debug)]
struct Owner {
    site: Arc<str>,
    more_specifics: bool,
}

#[derive(Debug)]
struct Site {
    config: SiteConfig,
    nonces: LastNonces<(Registrant, u8)>,
    recent: RecentDigests,
    registrations: usize,
    warned: Option<Instant>,
}

/// A Map-Register's MAC, as much of it as every algorithm sends.
type Digest = [u8; 12];

/// MACs of a site's last Map-Registers, whoever sent them: one that was recorded and is sent again from another address
/// would otherwise pass for a new sender's first. Nonces would not do, as the xTRs of a site may well use the same.
#[derive(Debug, Default)]
struct RecentDigests {
    order: VecDeque<Digest>,
    known: BTreeSet<Digest>,
    /// Counts those that came.
    serial: u64,
}

/// An authenticated Map-Register.
struct Authentic<'a> {
    register: &'a MapRegister,
    site: Arc<str>,
    /// Which of the site's keys.
    key: usize,
    registrant: Registrant,
    source: SocketAddr,
}

/// The role's state.
#[derive(Debug, Default)]
pub(crate) struct MapServer {
    sites: BTreeMap<Arc<str>, Site>,
    table: EidTable<Known>,
    timers: BTreeSet<(Instant, EidPrefix, Registrant)>,
    total: usize,
}

impl Known {
    /// Whether any xTR wants its Map-Requests answered here (RFC 9301 §8.3).
    pub(crate) fn proxy_reply(&self) -> bool {
        self.registrations.iter().any(|r| r.proxy_reply)
    }

    /// What is registered, as a non-authoritative Map-Reply says it (RFC 9301 §5.4: neither A nor L).
    pub(crate) fn merged(&self) -> Option<EidRecord> {
        let latest = self.registrations.iter().max_by_key(|r| r.refreshed)?;
        let mut record = latest.record.clone();
        if latest.merge {
            for other in self.registrations.iter().filter(|r| r.merge && r.registrant != latest.registrant) {
                for locator in &other.record.locators {
                    if record.locators.len() < 255
                        && !record.locators.iter().any(|l| l.address == locator.address)
                    {
                        record.locators.push(locator.clone());
                    }
                }
            }
            record.locators.sort_by_key(|l| (l.address.to_ip().is_none(), l.address.to_ip()));
        }
        record.authoritative = false;
        for locator in &mut record.locators {
            locator.local = false;
            locator.probe = false;
        }
        Some(record)
    }

    /// Where to forward a Map-Request: a best-priority reachable locator of an xTR that is registered, at random among
    /// equals; the address that the registration came from where no locator is of a family that we saw work. `None`
    /// only without any registration.
    pub(crate) fn etr(&self, cx: &mut Context) -> Option<IpAddr> {
        let works = |addr: &IpAddr| self.registrations.iter().any(|r| r.source.is_ipv4() == addr.is_ipv4());
        let usable = |l: &&LocatorRecord| l.priority != 255 && l.reachable;
        let candidates: Vec<(bool, u8, IpAddr)> = self
            .registrations
            .iter()
            .flat_map(|r| r.record.locators.iter().filter(usable))
            // L: the locator of the xTR that registers, so it is up; others may have timed out.
            .filter_map(|l| Some((!l.local, l.priority, l.address.to_ip()?)))
            .filter(|(_, _, addr)| is_unicast(addr) && works(addr))
            .collect();
        let Some(best) = candidates.iter().map(|(other, priority, _)| (*other, *priority)).min() else {
            return self.registrations.iter().max_by_key(|r| r.refreshed).map(|r| r.source.ip());
        };
        let mut equals: Vec<IpAddr> =
            candidates.iter().filter(|(o, p, _)| (*o, *p) == best).map(|(_, _, addr)| *addr).collect();
        equals.sort_unstable();
        equals.dedup();
        equals.get(cx.rng.random_range(0..equals.len())).copied()
    }
}

impl RecentDigests {
    fn insert(&mut self, digest: Digest) {
        if !self.known.insert(digest) {
            return;
        }
        self.serial = self.serial.wrapping_add(1);
        self.order.push_back(digest);
        if self.order.len() > MAX_RECENT
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }
}

impl Site {
    /// Has the nonce and the digest of a Map-Register that was taken in remembered over a restart.
    fn remember(
        &self,
        cx: &mut Context,
        registrant: Registrant,
        key_id: u8,
        nonce: Nonce,
        digest: Option<Digest>,
    ) {
        let site = || self.config.name.clone();
        cx.persist(|| Change::Put(Record::LastNonce { site: site(), registrant, key_id, nonce }));
        if let Some(digest) = digest {
            let serial = self.recent.serial;
            cx.persist(|| {
                Change::Put(Record::RecentRegister { site: site(), slot: slot(serial), serial, digest })
            });
        }
    }

    /// Forgets all that; the site is gone.
    fn forget(&self, cx: &mut Context) {
        let site = || self.config.name.clone();
        for ((registrant, key_id), _) in self.nonces.iter() {
            let (registrant, key_id) = (*registrant, *key_id);
            cx.persist(|| Change::Remove(persist::Key::LastNonce { site: site(), registrant, key_id }));
        }
        for slot in (0..=self.recent.serial.min(RECENT_KEPT - 1)).map(slot) {
            cx.persist(|| Change::Remove(persist::Key::RecentRegister { site: site(), slot }));
        }
    }
}

/// Where the digest with this serial number is remembered.
fn slot(serial: u64) -> u16 {
    u16::try_from(serial % RECENT_KEPT).unwrap_or_default()
}

impl MapServer {
    pub(crate) fn table(&self) -> &EidTable<Known> {
        &self.table
    }

    /// Takes in a configuration. Registrations that it still allows stay.
    pub(crate) fn configure(&mut self, cx: &mut Context, config: &MapServerConfig) {
        let mut old = std::mem::take(&mut self.sites);
        let prefixes: Vec<EidPrefix> = self.table.iter().map(|(prefix, _)| prefix).collect();
        for known in self.table.values_mut() {
            known.owner = None;
        }
        for site in &config.sites {
            let name: Arc<str> = Arc::from(site.name.as_str());
            for prefix in &site.prefixes {
                let owner = Owner { site: Arc::clone(&name), more_specifics: prefix.accept_more_specifics };
                match self.table.get_mut(&prefix.eid) {
                    Some(known) => known.owner = Some(owner),
                    None => {
                        self.table
                            .insert(prefix.eid, Known { owner: Some(owner), registrations: Vec::new() });
                    }
                }
            }
            let known = old.remove(&name);
            let state = match known {
                Some(known) => Site { config: site.clone(), ..known },
                None => Site {
                    config: site.clone(),
                    nonces: LastNonces::new(MAX_SENDERS),
                    recent: RecentDigests::default(),
                    registrations: 0,
                    warned: None,
                },
            };
            self.sites.insert(name, state);
        }
        for gone in old.values() {
            gone.forget(cx);
        }
        for prefix in prefixes {
            self.recheck(cx, &prefix);
        }
    }

    /// Takes in what was remembered over a restart. Of sites that are no longer configured it is forgotten.
    pub(crate) fn restored(&mut self, cx: &mut Context, record: &Record) {
        let (Record::LastNonce { site, .. } | Record::RecentRegister { site, .. }) = record else { return };
        let Some(site) = self.sites.get_mut(site.as_str()) else {
            return cx.persist(|| Change::Remove(record.key()));
        };
        match record {
            Record::LastNonce { registrant, key_id, nonce, .. } => {
                // Only more senders than ever fit could make this fail.
                let _ = site.nonces.accept((*registrant, *key_id), *nonce, NoncePolicy::AllowRepeats);
            }
            Record::RecentRegister { serial, digest, .. } => {
                let last = site.recent.serial.max(*serial);
                site.recent.insert(*digest);
                site.recent.serial = last;
            }
            Record::RegisterNonce { .. } | Record::OwnMapping(_) => {}
        }
    }

    /// The role ends.
    pub(crate) fn stop(mut self, cx: &mut Context) {
        self.configure(cx, &MapServerConfig::default());
    }

    pub(crate) fn longest_owned(&self, eid: &Eid) -> Option<EidPrefix> {
        let host = eid.to_prefix();
        self.last_covering(&host, |known| known.owner.is_some())
    }

    pub(crate) fn longest_registered(&self, eid: &Eid) -> Option<EidPrefix> {
        let host = eid.to_prefix();
        self.last_covering(&host, |known| !known.registrations.is_empty())
    }

    fn last_covering(&self, prefix: &EidPrefix, matches: impl Fn(&Known) -> bool) -> Option<EidPrefix> {
        self.table.covering(prefix).filter(|(_, known)| matches(known)).map(|(p, _)| p).last()
    }

    /// Sites in order of name, each with what it may register.
    pub(crate) fn sites(&self) -> impl Iterator<Item = &SiteConfig> {
        self.sites.values().map(|site| &site.config)
    }

    /// Registrations in order of prefix.
    pub(crate) fn registrations(&self) -> impl Iterator<Item = (EidPrefix, &Registration)> {
        self.table.iter().flat_map(|(prefix, known)| known.registrations.iter().map(move |r| (prefix, r)))
    }

    /// A Map-Register (RFC 9301 §5.6, §8.2). `bytes` is all of it, for its authentication.
    pub(crate) fn map_register(
        &mut self,
        cx: &mut Context,
        now: Instant,
        register: MapRegister,
        bytes: &[u8],
        source: SocketAddr,
        destination: SocketAddr,
    ) {
        if register.records.is_empty() {
            return cx.drop(DropReason::RegisterEmpty, Some(source));
        }
        let Some((site, key)) = self.authenticate(cx, &register, bytes, source) else { return };
        let registrant = match register.xtr_site {
            Some(ids) => Registrant::Xtr(ids.xtr_id),
            None => Registrant::Address(source.ip()),
        };
        let message = Authentic { register: &register, site, key, registrant, source };
        if !self.is_fresh(cx, now, &message) {
            return;
        }
        let mut accepted: Vec<EidRecord> = Vec::new();
        for record in &register.records {
            if self.record(cx, now, &message, record) {
                accepted.push(record.clone());
            }
        }
        if register.want_notify && !accepted.is_empty() {
            self.notify(cx, &message, accepted, destination);
        }
    }

    pub(crate) fn handle_timeout(&mut self, cx: &mut Context, now: Instant) {
        while let Some((at, prefix, registrant)) = self.timers.first().copied() {
            if at > now {
                break;
            }
            self.unregister(cx, &prefix, registrant, Unregistered::TimedOut);
        }
    }

    pub(crate) fn next(&self) -> Option<Instant> {
        self.timers.first().map(|(at, _, _)| *at)
    }

    /// The site whose key authenticates the message, and which of its keys; the site must own at least one record.
    fn authenticate(
        &self,
        cx: &mut Context,
        register: &MapRegister,
        bytes: &[u8],
        source: SocketAddr,
    ) -> Option<(Arc<str>, usize)> {
        let mut candidates: Vec<&Arc<str>> = Vec::new();
        for prefix in register.records.iter().filter_map(|r| r.eid.to_prefix().ok()) {
            if let Some((site, _)) = self.owner_entry(&prefix)
                && !candidates.contains(&site)
                && candidates.len() < MAX_CANDIDATES
            {
                candidates.push(site);
            }
        }
        let mut failure = None;
        for name in candidates {
            let Some(site) = self.sites.get(name) else { continue };
            match auth::verify(bytes, &site.config.keys) {
                Ok(key) => return Some((Arc::clone(name), key)),
                Err(error) => failure = failure.or(Some((name, error))),
            }
        }
        match failure {
            Some((name, error)) => {
                cx.drop_with(
                    auth_reason(&error),
                    Some(source),
                    format!("Map-Register for site {name}: {error}"),
                );
            }
            None => {
                let first = register.records.iter().find_map(|r| r.eid.to_prefix().ok());
                match first {
                    Some(prefix) => {
                        let detail = format!("{prefix} belongs to no site");
                        cx.drop_with(DropReason::RegisterNotOwned, Some(source), detail);
                    }
                    None => cx.drop(DropReason::RegisterEid, Some(source)),
                }
            }
        }
        None
    }

    fn is_fresh(&mut self, cx: &mut Context, now: Instant, message: &Authentic<'_>) -> bool {
        let Authentic { register, site: name, registrant, source, .. } = message;
        let (nonce, source) = (register.nonce, *source);
        let Some(site) = self.sites.get_mut(name) else { return false };
        let policy = if site.config.allow_repeated_nonce {
            NoncePolicy::AllowRepeats
        } else {
            NoncePolicy::Increasing
        };
        let sender = (*registrant, register.auth.key_id);
        let digest: Option<Digest> = register.auth.data.first_chunk().copied();
        let stolen = policy == NoncePolicy::Increasing
            && site.nonces.get(&sender).is_none()
            && digest.is_some_and(|digest| site.recent.known.contains(&digest));
        let outcome = match stolen {
            true => Err(ReplayError::Replayed { nonce, last: nonce }),
            false => site.nonces.accept(sender, nonce, policy),
        };
        match outcome {
            Ok(()) => {
                digest.into_iter().for_each(|digest| site.recent.insert(digest));
                site.remember(cx, *registrant, register.auth.key_id, nonce, digest);
                true
            }
            Err(error @ ReplayError::Replayed { .. }) => {
                cx.drop_with(DropReason::RegisterReplayed, Some(source), format!("site {name}: {error}"));
                if !site.config.allow_repeated_nonce
                    && site.warned.is_none_or(|at| now.saturating_since(at) >= WARN_INTERVAL)
                {
                    site.warned = Some(now);
                    cx.event(Event::NonceRepeated { site: name.to_string(), source });
                }
                false
            }
            Err(error @ ReplayError::TooManySenders(_)) => {
                cx.drop_with(DropReason::RegisterFull, Some(source), format!("site {name}: {error}"));
                false
            }
        }
    }

    /// Takes one record of an authenticated Map-Register in. Whether it was accepted.
    fn record(
        &mut self,
        cx: &mut Context,
        now: Instant,
        message: &Authentic<'_>,
        record: &EidRecord,
    ) -> bool {
        let Authentic { register, site: name, source, registrant, .. } = message;
        let (registrant, source) = (*registrant, *source);
        let prefix = match record.eid.to_prefix() {
            Ok(prefix) => prefix,
            Err(error) => {
                cx.drop_with(DropReason::RegisterEid, Some(source), format!("site {name}: {error}"));
                return false;
            }
        };
        if self.owner(&prefix) != Some(&**name) {
            let detail = format!("site {name} does not own {prefix}");
            cx.drop_with(DropReason::RegisterNotOwned, Some(source), detail);
            return false;
        }
        if record.ttl == Ttl::WITHDRAWN {
            self.unregister(cx, &prefix, registrant, Unregistered::Withdrawn);
            return true;
        }
        let lifetime = match record.ttl.duration() {
            Some(ttl) if register.use_ttl => ttl,
            _ => cx.timers.registration_timeout,
        };
        let total = self.total;
        let (per_site, in_all) = (cx.timers.registrations_per_site, cx.timers.registrations_total);
        let Some(site) = self.sites.get_mut(name) else { return false };
        let expires = now + lifetime;
        if self.table.get(&prefix).is_none() {
            // Removed again by `unregister`, and not left behind where there is no room.
            if site.registrations >= per_site || total >= in_all {
                cx.drop_with(DropReason::RegisterFull, Some(source), format!("site {name}: {prefix}"));
                return false;
            }
            self.table.insert(prefix, Known::default());
        }
        let Some(known) = self.table.get_mut(&prefix) else { return false };
        if let Some(registration) = known.registrations.iter_mut().find(|r| r.registrant == registrant) {
            self.timers.remove(&(registration.expires, prefix, registrant));
            registration.xtr_site = register.xtr_site;
            registration.source = source;
            registration.record.clone_from(record);
            registration.proxy_reply = register.proxy_reply;
            registration.merge = register.merge;
            registration.refreshed = now;
            registration.expires = expires;
        } else {
            let full = known.registrations.len() >= MAX_REGISTRANTS;
            if full || site.registrations >= per_site || total >= in_all {
                cx.drop_with(DropReason::RegisterFull, Some(source), format!("site {name}: {prefix}"));
                return false;
            }
            known.registrations.push(Registration {
                site: Arc::clone(name),
                registrant,
                xtr_site: register.xtr_site,
                source,
                record: record.clone(),
                proxy_reply: register.proxy_reply,
                merge: register.merge,
                registered: now,
                refreshed: now,
                expires,
            });
            site.registrations += 1;
            self.total += 1;
            cx.event(Event::SiteRegistered { site: name.to_string(), prefix, registrant, source });
        }
        self.timers.insert((expires, prefix, registrant));
        true
    }

    /// Confirms (RFC 9301 §5.7): the Map-Register's content with the records that were accepted, to the control port
    /// of whoever sent it (§8.2).
    fn notify(
        &self,
        cx: &mut Context,
        message: &Authentic<'_>,
        records: Vec<EidRecord>,
        destination: SocketAddr,
    ) {
        let Authentic { register, site, key, source, .. } = message;
        let Some(key) = self.sites.get(site).and_then(|site| site.config.keys.get(*key)) else { return };
        let notify = MapNotify {
            nonce: register.nonce,
            auth: register.auth.clone(),
            records,
            xtr_site: register.xtr_site,
            ..MapNotify::default()
        };
        match auth::seal(Message::MapNotify(notify), key) {
            Ok(bytes) => {
                let from = Some(destination.ip()).filter(is_unicast);
                let to = SocketAddr::new(source.ip(), CONTROL_PORT);
                cx.send_encoded(MessageKind::MapNotify, from, to, bytes);
            }
            Err(error) => cx.drop_with(DropReason::Encode, Some(*source), error.to_string()),
        }
    }

    fn unregister(
        &mut self,
        cx: &mut Context,
        prefix: &EidPrefix,
        registrant: Registrant,
        cause: Unregistered,
    ) {
        let Some(known) = self.table.get_mut(prefix) else { return };
        let Some(at) = known.registrations.iter().position(|r| r.registrant == registrant) else { return };
        let registration = known.registrations.remove(at);
        let abandoned = known.registrations.is_empty() && known.owner.is_none();
        self.timers.remove(&(registration.expires, *prefix, registrant));
        self.total = self.total.saturating_sub(1);
        if let Some(site) = self.sites.get_mut(&registration.site) {
            site.registrations = site.registrations.saturating_sub(1);
        }
        if abandoned {
            self.table.remove(prefix);
        }
        let site = registration.site.to_string();
        cx.event(Event::SiteUnregistered { site, prefix: *prefix, registrant, cause });
    }

    /// After a change of the configuration: keeps the registrations of `prefix` that were made by the site that owns
    /// it now.
    fn recheck(&mut self, cx: &mut Context, prefix: &EidPrefix) {
        let owner = self.owner_entry(prefix).map(|(site, _)| Arc::clone(site));
        let Some(known) = self.table.get(prefix) else { return };
        let foreign: Vec<Registrant> = known
            .registrations
            .iter()
            .filter(|r| Some(&r.site) != owner.as_ref())
            .map(|r| r.registrant)
            .collect();
        for registrant in foreign {
            self.unregister(cx, prefix, registrant, Unregistered::Reconfigured);
        }
        if self.table.get(prefix).is_some_and(|k| k.owner.is_none() && k.registrations.is_empty()) {
            self.table.remove(prefix);
        }
    }

    /// The site that `prefix` belongs to: the one that owns the longest configured prefix around it, if that is
    /// `prefix` itself or admits more specific ones.
    fn owner(&self, prefix: &EidPrefix) -> Option<&str> {
        self.owner_entry(prefix).map(|(site, _)| &**site)
    }

    fn owner_entry(&self, prefix: &EidPrefix) -> Option<(&Arc<str>, EidPrefix)> {
        let (owned, owner) =
            self.table.covering(prefix).filter_map(|(p, known)| Some((p, known.owner.as_ref()?))).last()?;
        (owned == *prefix || owner.more_specifics).then_some((&owner.site, owned))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recent_digests_stay_bounded() {
        let mut recent = RecentDigests::default();
        let digest = |n: u32| {
            let mut digest = Digest::default();
            digest[..4].copy_from_slice(&n.to_be_bytes());
            digest
        };
        for n in 0..100_000 {
            recent.insert(digest(n));
        }
        assert_eq!((recent.order.len(), recent.known.len()), (MAX_RECENT, MAX_RECENT));
        assert!(recent.known.contains(&digest(99_999)) && !recent.known.contains(&digest(0)));
    }
}
