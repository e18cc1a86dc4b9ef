//! The Map-Server: which sites own which EID-prefixes, and which of them are registered by whom.
//!
//! Owns: authentication, replay protection and time-outs of registrations. What is done with a Map-Request is decided
//! in [`super`], together with the Map-Resolver.
//!
//! # Several xTRs of a site
//! Each xTR (by xTR-ID, else by source address) has its own registration of a prefix, which times out on its own. What
//! the mapping system tells of the prefix is the last registration that came, whole; or, if that one has the merge bit,
//! the union of all that have it (RFC 9301 §5.6).
//!
//! Who has not acknowledged to have heard that another xTR has a prefix now (RFC 9301 §5.7) may repeat its registration
//! without knowing that: where prefixes may move, this is not the last word, and that xTR is told once more. If it then
//! registers the prefix again, it is: it has heard, or is one that never acknowledges.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

use crate::auth::{self, AuthError, Key};
use crate::proto::config::{MapServerConfig, SiteConfig};
use crate::proto::context::{CONTROL_PORT, Context, is_unicast};
use crate::proto::eid_table::EidTable;
use crate::proto::event::{Event, Registrant, Unregistered};
use crate::proto::persist::{Change, Record};
use crate::proto::stats::{DropReason, MessageKind};
use crate::types::{Action, Eid, EidPrefix, Instant, MapVersion, Mapping, Ttl};
use crate::wire::{EidRecord, MapNotify, MapRegister, Message};

use super::auth_reason;
use super::notifier::{Due, Flight, Notifier, Recipient};
use super::registration::{Known, Owner, Registration};
use super::site::Site;

/// xTRs that may register one prefix.
const MAX_REGISTRANTS: usize = 64;
/// Sites whose keys are tried for one Map-Register, as its records may belong to several.
const MAX_CANDIDATES: usize = 4;
/// Records of a Map-Notify that nobody asked for: as many as surely fit a datagram that no underlay fragments, unless a
/// prefix has very many locators.
const MAX_TOLD: usize = 8;

/// More specific prefixes that whoever registers one is told of.
const MAX_INSIDE: usize = 1024;

/// An authenticated Map-Register.
struct Authentic<'a> {
    register: &'a MapRegister,
    /// The sites whose keys it was authenticated with.
    sites: Vec<Arc<str>>,
    /// The key, which they share if they are several.
    key: Key,
    registrant: Registrant,
    source: SocketAddr,
    destination: SocketAddr,
}

/// The role's state.
#[derive(Debug, Default)]
pub(crate) struct MapServer {
    sites: BTreeMap<Arc<str>, Site>,
    table: EidTable<Known>,
    timers: BTreeSet<(Instant, EidPrefix, Registrant)>,
    total: usize,
    notifier: Notifier,
}

impl MapServer {
    pub(crate) fn table(&self) -> &EidTable<Known> {
        &self.table
    }

    /// Takes in a configuration. Registrations that it still allows stay.
    pub(crate) fn configure(&mut self, cx: &mut Context, now: Instant, config: &MapServerConfig) {
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
                        self.table.insert(prefix.eid, Known { owner: Some(owner), ..Known::default() });
                    }
                }
            }
            let known = old.remove(&name);
            let state = match known {
                Some(known) => known.with(site.clone()),
                None => Site::new(site.clone()),
            };
            self.sites.insert(name, state);
        }
        for gone in old.values() {
            gone.forget(cx);
        }
        for prefix in prefixes {
            self.recheck(cx, now, &prefix);
        }
    }

    /// Takes in what was remembered over a restart. Of sites that are no longer configured it is forgotten.
    pub(crate) fn restored(&mut self, cx: &mut Context, record: &Record) {
        let (Record::LastNonce { site, .. } | Record::RecentRegister { site, .. }) = record else { return };
        let Some(site) = self.sites.get_mut(site.as_str()) else {
            return cx.persist(|| Change::Remove(record.key()));
        };
        site.restored(record);
    }

    /// The role ends.
    pub(crate) fn stop(mut self, cx: &mut Context, now: Instant) {
        self.configure(cx, now, &MapServerConfig::default());
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

    /// When a Map-Register for exactly `prefix` was accepted last.
    pub(crate) fn last_register(&self, prefix: &EidPrefix) -> Option<Instant> {
        self.table.get(prefix)?.last_register
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
        let registrant = match register.xtr_site {
            Some(ids) => Registrant::Xtr(ids.xtr_id),
            None => Registrant::Address(source.ip()),
        };
        let Some((mut sites, key)) = self.authenticate(cx, &register, bytes, source) else { return };
        sites.retain(|name| {
            let site = self.sites.get_mut(name);
            site.is_some_and(|site| site.is_fresh(cx, now, &register, registrant, source))
        });
        if sites.is_empty() {
            return;
        }
        let message = Authentic { register: &register, sites, key, registrant, source, destination };
        if let Some((prefix, held, said)) = self.outdated(&message) {
            let detail = format!("{prefix}: version {} from {registrant}, after {}", said.get(), held.get());
            return cx.drop_with(DropReason::RegisterVersion, Some(source), detail);
        }
        let mut accepted: Vec<EidRecord> = Vec::new();
        for record in &register.records {
            if self.record(cx, now, &message, record) {
                accepted.push(record.clone());
            }
        }
        if register.want_notify && !accepted.is_empty() {
            self.notify(cx, &message, accepted);
        }
    }

    /// A Map-Notify-Ack (RFC 9301 §5.7).
    pub(crate) fn map_notify_ack(
        &mut self,
        cx: &mut Context,
        now: Instant,
        ack: &MapNotify,
        bytes: &[u8],
        source: SocketAddr,
    ) {
        let Some((site, _)) = self.notifier.recipient(ack.nonce) else {
            return cx.drop(DropReason::AckUnsolicited, Some(source));
        };
        let keys = self.sites.get(site).map(|site| site.config.keys.as_slice()).unwrap_or_default();
        match auth::verify(bytes, keys) {
            Ok(_) => self.notifier.acknowledged(now, ack.nonce),
            Err(error) => {
                let detail = format!("Map-Notify-Ack of site {site}: {error}");
                cx.drop_with(auth_reason(&error), Some(source), detail);
            }
        }
    }

    pub(crate) fn handle_timeout(&mut self, cx: &mut Context, now: Instant) {
        while let Some((at, prefix, registrant)) = self.timers.first().copied() {
            if at > now {
                break;
            }
            self.unregister(cx, now, &prefix, registrant, Unregistered::TimedOut);
        }
        let retry = cx.timers.notify_retry;
        while let Some(due) = self.notifier.due(now, retry) {
            match due {
                Due::Again(flight) => {
                    let Flight { source, destination, payload, .. } = flight;
                    cx.send_encoded(MessageKind::MapNotify, source, destination, payload);
                }
                Due::Write(recipient, mut changed) => {
                    changed.truncate(MAX_TOLD);
                    let flight = self.tell(cx, &recipient, &changed);
                    self.notifier.sent(now, retry, &recipient, &changed, flight);
                }
            }
        }
    }

    pub(crate) fn next(&self) -> Option<Instant> {
        self.timers.first().map(|(at, _, _)| *at).into_iter().chain(self.notifier.next()).min()
    }

    /// Sends an xTR what the mapping system now tells of prefixes that it has registered (RFC 9301 §5.7), signed with the
    /// key that it used itself last.
    fn tell(&self, cx: &mut Context, recipient: &Recipient, prefixes: &[EidPrefix]) -> Option<Flight> {
        let (site, registrant) = recipient;
        let mut records = Vec::new();
        let mut last: Option<&Registration> = None;
        for prefix in prefixes {
            let known = self.table.get(prefix);
            let of_recipient = |known: &Known| {
                let registrations = &known.registrations;
                registrations.iter().position(|r| r.registrant == *registrant && r.site == *site)
            };
            if let Some(known) = known
                && let Some(own) = of_recipient(known)
                && let Some(record) = known.merged()
            {
                records.push(record);
                last = known.registrations.get(own);
            } else if let Some(own) = self.table.covering(prefix).find_map(|(_, k)| {
                let own = of_recipient(k)?;
                k.registrations.get(own)
            }) {
                // A part of what it registered, which somebody else has, or has no longer.
                let gone = || EidRecord::from(&nowhere(*prefix));
                records.push(known.and_then(Known::merged).unwrap_or_else(gone));
                last = Some(own);
            }
        }
        let last = last?;
        let keys = &self.sites.get(site)?.config.keys;
        let key = keys.iter().find(|key| (key.id, key.algorithm) == (last.key_id, last.algorithm))?;
        let nonce = cx.nonce();
        let notify = MapNotify { nonce, records, xtr_site: last.xtr_site, ..MapNotify::default() };
        let to = SocketAddr::new(last.source.ip(), CONTROL_PORT);
        match auth::seal(Message::MapNotify(notify), key) {
            Ok(bytes) => {
                let from = Some(last.destination).filter(is_unicast);
                cx.send_encoded(MessageKind::MapNotify, from, to, bytes.clone());
                Some(Flight::new(nonce, from, to, bytes))
            }
            Err(error) => {
                cx.drop_with(DropReason::Encode, Some(to), error.to_string());
                None
            }
        }
    }

    /// What is told of `prefix` has changed by `cause`: the other xTRs that registered it hear of that, and so do those
    /// that registered one around it, if parts of that may be elsewhere: theirs was the last word on it until now.
    fn changed(&mut self, now: Instant, prefix: EidPrefix, cause: Registrant) {
        let admits = self.owner_of(&prefix).is_some_and(|owner| owner.more_specifics);
        let concerned = self.table.covering(&prefix).filter(|(around, _)| admits || *around == prefix);
        let others = concerned.flat_map(|(_, known)| &known.registrations);
        let others = others.filter(|r| r.registrant != cause && r.want_notify);
        let recipients: BTreeSet<Recipient> =
            others.map(|other| (Arc::clone(&other.site), other.registrant)).collect();
        let same = self.table.get(&prefix).map(|known| &known.registrations[..]).unwrap_or_default();
        for overruled in same.iter().filter(|r| r.registrant != cause && r.want_notify && !r.merge) {
            self.notifier.overruled(&(Arc::clone(&overruled.site), overruled.registrant), prefix);
        }
        for recipient in recipients {
            self.notifier.changed(now, recipient, prefix);
        }
    }

    /// An xTR registered `prefix`, which it had not before: it hears which parts of it others have.
    fn tell_inside(&mut self, now: Instant, prefix: &EidPrefix, recipient: &Recipient) {
        if !self.owner_of(prefix).is_some_and(|owner| owner.more_specifics) {
            return;
        }
        let others = |known: &Known| known.registrations.iter().any(|r| r.registrant != recipient.1);
        let inside = self.table.strictly_within(prefix).filter(|(_, known)| others(known));
        let inside: Vec<EidPrefix> = inside.map(|(inside, _)| inside).take(MAX_INSIDE).collect();
        for inside in inside {
            self.notifier.changed(now, recipient.clone(), inside);
        }
    }

    fn owner_of(&self, prefix: &EidPrefix) -> Option<&Owner> {
        self.table.covering(prefix).filter_map(|(_, known)| known.owner.as_ref()).last()
    }

    /// The sites whose key authenticates the message, and that key; each owns at least one record. Sites are told apart
    /// by their prefixes, not by their keys: where several have the same key, the message is authentic for all of them.
    fn authenticate(
        &self,
        cx: &mut Context,
        register: &MapRegister,
        bytes: &[u8],
        source: SocketAddr,
    ) -> Option<(Vec<Arc<str>>, Key)> {
        let mut owners: Vec<(&Arc<str>, &[Key])> = Vec::new();
        for prefix in register.records.iter().filter_map(|r| r.eid.to_prefix().ok()) {
            if let Some((name, _)) = self.owner_entry(&prefix)
                && !owners.iter().any(|(known, _)| *known == name)
                && let Some(site) = self.sites.get(name)
            {
                owners.push((name, &site.config.keys));
            }
        }
        let mut failure: Option<(&Arc<str>, AuthError)> = None;
        for (name, keys) in owners.iter().take(MAX_CANDIDATES) {
            match auth::verify(bytes, keys) {
                Ok(key) => {
                    let key = keys.get(key)?;
                    let sites = owners.iter().filter(|(_, keys)| keys.contains(key));
                    return Some((sites.map(|(name, _)| Arc::clone(name)).collect(), key.clone()));
                }
                Err(error) => failure = failure.or(Some((*name, error))),
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
                        let detail = self.nobodys(&prefix);
                        cx.drop_with(DropReason::RegisterNotOwned, Some(source), detail);
                    }
                    None => cx.drop(DropReason::RegisterEid, Some(source)),
                }
            }
        }
        None
    }

    /// The first record with an older version than the one that the same xTR registered before: RFC 9302 §5 has the whole
    /// message dropped. Each xTR of a site counts its own. One that has lost its versions is heard again when its former
    /// registration has timed out, which by then nothing keeps alive.
    fn outdated(&self, message: &Authentic<'_>) -> Option<(EidPrefix, MapVersion, MapVersion)> {
        message.register.records.iter().find_map(|record| {
            let prefix = record.eid.to_prefix().ok()?;
            let known = &self.table.get(&prefix)?.registrations;
            let held = known
                .iter()
                .find(|held| held.registrant == message.registrant && message.sites.contains(&held.site))?;
            let (held, said) = (held.record.version, record.version);
            let older = !held.is_none() && !said.is_none() && held.is_newer_than(said);
            older.then_some((prefix, held, said))
        })
    }

    /// Takes one record of an authenticated Map-Register in. Whether it was accepted.
    fn record(
        &mut self,
        cx: &mut Context,
        now: Instant,
        message: &Authentic<'_>,
        record: &EidRecord,
    ) -> bool {
        let Authentic { register, sites, source, registrant, .. } = message;
        let (registrant, source) = (*registrant, *source);
        let prefix = match record.eid.to_prefix() {
            Ok(prefix) => prefix,
            Err(error) => {
                cx.drop_with(DropReason::RegisterEid, Some(source), error.to_string());
                return false;
            }
        };
        let owner = self.owner_entry(&prefix).map(|(site, _)| site);
        let Some(name) = owner.filter(|site| sites.contains(site)).map(Arc::clone) else {
            let detail = match owner {
                Some(_) => format!("site {} does not own {prefix}", sites.join(", ")),
                None => self.nobodys(&prefix),
            };
            cx.drop_with(DropReason::RegisterNotOwned, Some(source), detail);
            return false;
        };
        if record.ttl == Ttl::WITHDRAWN {
            self.unregister(cx, now, &prefix, registrant, Unregistered::Withdrawn);
            return true;
        }
        let lifetime = match record.ttl.duration() {
            Some(ttl) if register.use_ttl => ttl,
            _ => cx.timers.registration_timeout,
        };
        let moves = self.owner_of(&prefix).is_some_and(|owner| owner.more_specifics);
        let total = self.total;
        let (per_site, in_all) = (cx.timers.registrations_per_site, cx.timers.registrations_total);
        let Some(site) = self.sites.get_mut(&name) else { return false };
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
        let at = known.registrations.iter().position(|r| r.registrant == registrant);
        let full = known.registrations.len() >= MAX_REGISTRANTS;
        if at.is_none() && (full || site.registrations >= per_site || total >= in_all) {
            cx.drop_with(DropReason::RegisterFull, Some(source), format!("site {name}: {prefix}"));
            return false;
        }
        // Of what may move, a mere repetition can be the last word, too.
        let told = |known: &Known| known.merged().map(|merged| merged.locators);
        let before = (moves && known.registrations.len() > 1).then(|| told(known)).flatten();
        let latest = known.registrations.iter().max_by_key(|r| r.refreshed).map(|r| r.registrant);
        let recipient = (Arc::clone(&name), registrant);
        let unaware = moves
            && !register.merge
            && at.is_some()
            && latest != Some(registrant)
            && self.notifier.forgive(&recipient, &prefix);
        let old = at.map(|at| known.registrations.remove(at));
        let registration = Registration {
            site: Arc::clone(&name),
            registrant,
            xtr_site: register.xtr_site,
            source,
            destination: message.destination.ip(),
            key_id: message.key.id,
            algorithm: message.key.algorithm,
            record: record.clone(),
            proxy_reply: register.proxy_reply,
            merge: register.merge,
            want_notify: register.want_notify,
            use_ttl: register.use_ttl,
            registered: old.as_ref().map_or(now, |old| old.registered),
            refreshed: old.as_ref().filter(|_| unaware).map_or(now, |old| old.refreshed),
            expires,
        };
        let differs = old.as_ref().is_none_or(|old| {
            (&old.record.locators, old.merge) != (&registration.record.locators, registration.merge)
        });
        known.registrations.insert(at.unwrap_or(known.registrations.len()), registration);
        known.last_register = Some(now);
        let differs = differs || before.is_some_and(|before| Some(before) != told(known));
        // A part of what a site owns may move from one xTR to another: then the last one is right.
        let contradicts = known.owner.as_ref().and_then(|_| known.contradiction(registrant));
        if let (Some(other), false) = (contradicts, known.contradicted) {
            cx.event(Event::Contradiction { site: name.to_string(), prefix, registrant, other });
        }
        known.contradicted = contradicts.is_some();
        self.timers.insert((expires, prefix, registrant));
        match old {
            Some(old) if old.expires != expires => {
                self.timers.remove(&(old.expires, prefix, registrant));
            }
            Some(_) => {}
            None => {
                site.registrations += 1;
                self.total += 1;
                cx.event(Event::SiteRegistered { site: name.to_string(), prefix, registrant, source });
                if register.want_notify {
                    self.tell_inside(now, &prefix, &(Arc::clone(&name), registrant));
                }
            }
        }
        if unaware {
            self.notifier.changed(now, recipient, prefix);
        } else if differs {
            self.changed(now, prefix, registrant);
        }
        true
    }

    /// Confirms (RFC 9301 §5.7): the Map-Register's content with the records that were accepted, signed with the same
    /// key, to the control port of whoever sent it (§8.2). Where merging was asked for, the record is what came of that.
    fn notify(&self, cx: &mut Context, message: &Authentic<'_>, mut records: Vec<EidRecord>) {
        let Authentic { register, key, source, destination, .. } = message;
        if register.merge {
            for record in &mut records {
                let known = record.eid.to_prefix().ok().and_then(|prefix| self.table.get(&prefix));
                if let Some(merged) = known.and_then(Known::merged).filter(|_| record.ttl != Ttl::WITHDRAWN) {
                    *record = merged;
                }
            }
        }
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
        now: Instant,
        prefix: &EidPrefix,
        registrant: Registrant,
        cause: Unregistered,
    ) {
        let Some(known) = self.table.get_mut(prefix) else { return };
        let Some(at) = known.registrations.iter().position(|r| r.registrant == registrant) else { return };
        let registration = known.registrations.remove(at);
        self.notifier.forget(&(Arc::clone(&registration.site), registrant), prefix);
        let abandoned = known.registrations.is_empty() && known.owner.is_none();
        self.timers.remove(&(registration.expires, *prefix, registrant));
        self.total = self.total.saturating_sub(1);
        if let Some(site) = self.sites.get_mut(&registration.site) {
            site.registrations = site.registrations.saturating_sub(1);
        }
        known.contradicted &= known.registrations.iter().any(|r| known.contradiction(r.registrant).is_some());
        if abandoned {
            self.table.remove(prefix);
        }
        self.changed(now, *prefix, registrant);
        let site = registration.site.to_string();
        cx.event(Event::SiteUnregistered { site, prefix: *prefix, registrant, cause });
    }

    /// After a change of the configuration: keeps the registrations of `prefix` that were made by the site that owns
    /// it now.
    fn recheck(&mut self, cx: &mut Context, now: Instant, prefix: &EidPrefix) {
        let owner = self.owner_entry(prefix).map(|(site, _)| Arc::clone(site));
        let Some(known) = self.table.get(prefix) else { return };
        let foreign: Vec<Registrant> = known
            .registrations
            .iter()
            .filter(|r| Some(&r.site) != owner.as_ref())
            .map(|r| r.registrant)
            .collect();
        for registrant in foreign {
            self.unregister(cx, now, prefix, registrant, Unregistered::Reconfigured);
        }
        if self.table.get(prefix).is_some_and(|k| k.owner.is_none() && k.registrations.is_empty()) {
            self.table.remove(prefix);
        }
    }

    /// The site that `prefix` belongs to: the one that owns the longest configured prefix around it, if that is
    /// `prefix` itself or admits more specific ones. With that configured prefix.
    fn owner_entry(&self, prefix: &EidPrefix) -> Option<(&Arc<str>, EidPrefix)> {
        let (owned, owner) =
            self.table.covering(prefix).filter_map(|(p, known)| Some((p, known.owner.as_ref()?))).last()?;
        (owned == *prefix || owner.more_specifics).then_some((&owner.site, owned))
    }

    /// Why nobody may register `prefix`, for the log.
    fn nobodys(&self, prefix: &EidPrefix) -> String {
        let owned = self.table.covering(prefix).filter_map(|(p, known)| Some((p, known.owner.as_ref()?)));
        match owned.last() {
            Some((owned, Owner { site, .. })) => format!(
                "{prefix} is part of {owned} of site {site}, which does not accept more specific \
                 EID-prefixes (accept-more-specifics)"
            ),
            None => format!("{prefix} belongs to no site"),
        }
    }
}

/// What is told of a prefix that nobody has any more, to whom a prefix around it belongs.
fn nowhere(prefix: EidPrefix) -> Mapping {
    Mapping::negative(prefix, Ttl::WITHDRAWN, Action::NoAction)
}
