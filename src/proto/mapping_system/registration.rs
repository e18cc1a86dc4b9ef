//! What is registered: of each EID-prefix who owns it, who registered it, and what that makes of it.
//!
//! Owns: the merging of registrations, and the notice of those that contradict each other.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use rand::RngExt;

use crate::auth::Algorithm;
use crate::proto::context::{Context, is_unicast};
use crate::proto::event::Registrant;
use crate::types::Instant;
use crate::wire::{EidRecord, LocatorRecord, XtrSite};

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
    /// The address of ours that they go to.
    pub(crate) destination: IpAddr,
    /// Key ID of the last one.
    pub key_id: u8,
    /// Algorithm of the last one.
    pub algorithm: Algorithm,
    /// What it says.
    pub record: EidRecord,
    /// P: answer Map-Requests for it.
    pub proxy_reply: bool,
    /// a: merge it with those of the site's other xTRs.
    pub merge: bool,
    /// M: it takes Map-Notifies.
    pub want_notify: bool,
    /// T: it times out by the record's TTL.
    pub use_ttl: bool,
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
    pub(crate) owner: Option<Owner>,
    pub(crate) registrations: Vec<Registration>,
    /// When a Map-Register for it was accepted last, be it of an xTR that is gone since.
    pub(crate) last_register: Option<Instant>,
    /// Two of them contradict each other, which was said.
    pub(crate) contradicted: bool,
}

/// Who owns an EID-prefix.
#[derive(Clone, Debug)]
pub(crate) struct Owner {
    pub(crate) site: Arc<str>,
    pub(crate) more_specifics: bool,
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
                    let room = record.locators.len() < 255;
                    match record.locators.iter_mut().find(|l| l.address == locator.address) {
                        // Each xTR knows its own locators best.
                        Some(known) if locator.local && !known.local => known.clone_from(locator),
                        Some(_) => {}
                        None if room => record.locators.push(locator.clone()),
                        None => {}
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

    /// Whom the registration of `registrant` contradicts: another xTR that says something else of a locator
    /// that both have or, where the two are not merged, has other locators.
    pub(crate) fn contradiction(&self, registrant: Registrant) -> Option<Registrant> {
        let own = self.registrations.iter().find(|r| r.registrant == registrant)?;
        let others = self.registrations.iter().filter(|r| r.registrant != registrant);
        others.into_iter().find(|other| contradict(own, other)).map(|other| other.registrant)
    }

    /// Where to forward a Map-Request: a best-priority reachable locator of an xTR that is registered, at
    /// random among equals; the address that the registration came from where no locator is of a family that
    /// we saw work. `None` only without any registration.
    pub(crate) fn etr(&self, cx: &mut Context) -> Option<IpAddr> {
        let works = |addr: &IpAddr| self.registrations.iter().any(|r| r.source.is_ipv4() == addr.is_ipv4());
        let usable = |l: &&LocatorRecord| l.priority != 255 && l.reachable;
        // As in `merged`: the latest word holds. Of an xTR that registers from another address since, because
        // an uplink went down or was renumbered, the former registration stays until it times out.
        let latest = self.registrations.iter().max_by_key(|r| r.refreshed)?;
        let others = self.registrations.iter().filter(|r| r.merge && r.registrant != latest.registrant);
        let candidates: Vec<(bool, u8, IpAddr)> = others
            .filter(|_| latest.merge)
            .chain([latest])
            .flat_map(|r| r.record.locators.iter().filter(usable))
            // L: the locator of the xTR that registers, so it is up; others may have timed out.
            .filter_map(|l| Some((!l.local, l.priority, l.address.to_ip()?)))
            .filter(|(_, _, addr)| is_unicast(addr) && works(addr))
            .collect();
        let Some(best) = candidates.iter().map(|(other, priority, _)| (*other, *priority)).min() else {
            return Some(latest.source.ip());
        };
        let mut equals: Vec<IpAddr> =
            candidates.iter().filter(|(o, p, _)| (*o, *p) == best).map(|(_, _, addr)| *addr).collect();
        equals.sort_unstable();
        equals.dedup();
        equals.get(cx.rng.random_range(0..equals.len())).copied()
    }
}

fn contradict(a: &Registration, b: &Registration) -> bool {
    let says = |l: &LocatorRecord| (l.priority, l.weight, l.mpriority, l.mweight);
    let (ours, theirs) = (&a.record.locators, &b.record.locators);
    let merged = a.merge && b.merge;
    let differs = |ours: &[LocatorRecord], theirs: &[LocatorRecord]| {
        ours.iter().any(|l| match theirs.iter().find(|t| t.address == l.address) {
            Some(other) => says(l) != says(other),
            None => !merged,
        })
    };
    differs(ours, theirs) || differs(theirs, ours)
}
