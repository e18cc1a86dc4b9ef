//! What the LISP header of data packets says beyond the instance ID, and the checks that received packets
//! pass because of it or of their outer source. All of it is optional ([`HeaderOptions`]); a packet pays for
//! it only where it is on.
//!
//! What is found out is told to the control plane by punts, never by every packet: each kind has a limit of
//! its own.

use std::net::IpAddr;
use std::time::Duration;

use super::counters::DropReason;
use super::glance::Ends;
use super::limiter::Limiter;
use crate::fib::{
    FibGuard, HeaderNonce, HeaderOptions, InstanceFib, Notice, Punt, Site, SourceCheck, Stale, Way,
};
use crate::types::{Eid, InstanceId, Instant, MapVersion};
use crate::wire::data::{self, DataHeader};

/// A site counts as one that also sends for so long after its last packet: only then can the lack of an echo
/// mean anything (RFC 9300 §10.1).
const TWO_WAY: Duration = Duration::from_secs(60);
/// Punts about one site's locator-status-bits, or its newer version, are so far apart.
const STATUS_INTERVAL: Duration = Duration::from_secs(1);
/// Punts per second and thread about sources that no entry covers, which anybody can forge.
const UNVERIFIED_RATE: u32 = 100;
/// Punts that one batch may make.
const MAX_PUNTS: usize = 64;

/// The header of a packet to be sent, where it says more than the instance: the status of our locators,
/// versions of both mappings or a nonce, which exclude each other (RFC 9302 §4).
#[inline(never)]
pub(super) fn outgoing(
    options: &HeaderOptions,
    fib: &InstanceFib,
    iid: InstanceId,
    ends: &Ends,
    way: &Way,
    now: Instant,
    punt: &mut dyn FnMut(Punt) -> bool,
) -> [u8; data::HEADER] {
    let mut header = DataHeader::of_instance(iid);
    // Of what is sent on for others nothing is said: the other site would take it for what that site says of
    // itself.
    let ours = fib.site(&ends.source()).filter(|site| site.local);
    let theirs = fib.site(&ends.destination());
    if options.locator_status {
        header.locator_status = ours.and_then(|site| site.status);
    }
    if let (Some(interval), Some(site)) = (options.echo_nonce, theirs) {
        (header.nonce, header.echo_nonce) = match site.state.nonce(way.ask_echo(), now) {
            Some(HeaderNonce::Ask(nonce)) => (Some(nonce), true),
            Some(HeaderNonce::Echo(nonce)) => (Some(nonce), false),
            None => (None, false),
        };
        let two_way = || site.state.heard().is_some_and(|heard| now.saturating_since(heard) < TWO_WAY);
        if site.echoes && two_way() && way.echo_due(now, interval) {
            punt(Punt::EchoDue { rloc: way.rloc, eid: Eid::new(iid, ends.destination()) });
        }
    }
    if options.map_version
        && header.nonce.is_none()
        && let Some(site) = theirs
        && !site.version.is_none()
    {
        let source = ours.map_or(MapVersion::NONE, |site| site.version);
        header.versions = Some((source, site.version));
    }
    header.to_bytes()
}

/// What makes two packets pass or fail alike, within one batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Subject {
    pub(super) iid: InstanceId,
    /// The LISP header as it came.
    pub(super) header: [u8; data::HEADER],
    pub(super) source: IpAddr,
    pub(super) destination: IpAddr,
    /// Outer source.
    pub(super) rloc: IpAddr,
}

impl Subject {
    fn source_eid(&self) -> Eid {
        Eid::new(self.iid, self.source)
    }
}

/// One thread's checks of received packets.
#[derive(Debug)]
pub(super) struct Checks {
    /// The packet before, and what became of it: the packets of a flow come one behind the other.
    last: Option<(Subject, Result<(), DropReason>)>,
    limiter: Limiter,
    now: Instant,
    pub(super) punts: Vec<Punt>,
    /// Punts that found no room.
    pub(super) lost: u64,
}

impl Checks {
    pub(super) fn new() -> Self {
        Self {
            last: None,
            limiter: Limiter::new(UNVERIFIED_RATE),
            now: Instant::ZERO,
            punts: Vec::new(),
            lost: 0,
        }
    }

    /// A packet for what has moved elsewhere came from `rloc`, which does not know that.
    #[cold]
    pub(super) fn redirected(&mut self, fib: &FibGuard<'_>, destination: Eid, rloc: IpAddr) {
        if self.punts.len() < MAX_PUNTS && fib.is_redirected(destination.iid, rloc, self.now) {
            self.punts.push(Punt::Redirected { destination, rloc });
        }
    }

    /// A batch begins at `now`: what was found out before may have changed.
    pub(super) fn begin(&mut self, now: Instant) {
        self.now = now;
        self.last = None;
    }

    /// Whether a packet may enter the site.
    #[inline(never)] // so that where no option is on, nothing is held ready for it
    pub(super) fn check(
        &mut self,
        guard: &FibGuard<'_>,
        options: &HeaderOptions,
        subject: Subject,
    ) -> Result<(), DropReason> {
        match &self.last {
            Some((last, verdict)) if *last == subject => *verdict,
            _ => {
                let verdict = self.examine(guard, options, &subject);
                self.last = Some((subject, verdict));
                verdict
            }
        }
    }

    #[inline(never)]
    fn examine(
        &mut self,
        guard: &FibGuard<'_>,
        options: &HeaderOptions,
        subject: &Subject,
    ) -> Result<(), DropReason> {
        let Some(fib) = guard.instance(subject.iid) else { return Ok(()) };
        let Some(header) = DataHeader::parse(&subject.header) else { return Ok(()) };
        let theirs = fib.site(&subject.source);
        self.source(guard, options, (fib, theirs), subject)?;
        if options.map_version
            && let Some(versions) = header.versions
        {
            self.versions(options, versions, theirs, fib.site(&subject.destination), subject)?;
        }
        // The rest is believed only of a locator that the mapping lists.
        let Some(theirs) = theirs.filter(|site| site.lists(&subject.rloc)) else { return Ok(()) };
        if options.locator_status
            && let Some(status) = header.locator_status
        {
            self.status(options, &header, status, theirs, subject);
        }
        if options.echo_nonce.is_some() {
            theirs.state.hear(self.now);
            match header.nonce {
                Some(nonce) if header.echo_nonce => theirs.state.owe(nonce, self.now),
                Some(nonce) => {
                    if let Some(rloc) = guard.echoed(nonce) {
                        self.punt(Punt::Echoed { rloc });
                    }
                }
                None => {}
            }
        }
        Ok(())
    }

    /// The outer source is a locator of the inner source's mapping (RFC 9300 §16); or of the site that the
    /// destination came from, which sends on what still goes there.
    fn source(
        &mut self,
        guard: &FibGuard<'_>,
        options: &HeaderOptions,
        (fib, theirs): (&InstanceFib, Option<&Site>),
        subject: &Subject,
    ) -> Result<(), DropReason> {
        let check = options.source_check;
        if theirs.is_none()
            && (options.glean || check != SourceCheck::Off)
            // Credit is used up by punts alone, not by packets of a source that is asked for already.
            && self.limiter.would_allow(self.now)
            && guard.is_unverified(subject.source_eid(), self.now)
        {
            self.limiter.allow(self.now);
            self.punt(Punt::Unverified {
                source: subject.source_eid(),
                destination: subject.destination,
                rloc: subject.rloc,
            });
        }
        // A negative mapping is nobody's: it can't say who may send in its name.
        let known = theirs.filter(|site| !site.rlocs.is_empty());
        match (check, known) {
            (SourceCheck::Off, _) | (SourceCheck::Known, None) => Ok(()),
            (_, Some(site)) if site.lists(&subject.rloc) => Ok(()),
            (_, Some(_)) => match fib.site(&subject.destination) {
                Some(ours) if ours.former.contains(&subject.rloc) => Ok(()),
                _ => Err(DropReason::SourceRloc),
            },
            (SourceCheck::Strict, None) => Err(DropReason::SourceUnknown),
        }
    }

    /// The versions that the packet was sent after (RFC 9302 §7).
    fn versions(
        &mut self,
        options: &HeaderOptions,
        (source, destination): (MapVersion, MapVersion),
        theirs: Option<&Site>,
        ours: Option<&Site>,
        subject: &Subject,
    ) -> Result<(), DropReason> {
        if let Some(ours) = ours.filter(|site| site.local) {
            if destination.is_none() || ours.version.is_none() || destination.is_newer_than(ours.version) {
                return Err(DropReason::DestinationVersion);
            }
            if destination == ours.version {
                theirs.into_iter().for_each(|site| site.state.current(&subject.rloc));
            } else {
                let stale = self.stale(theirs, &subject.rloc);
                if stale.tell {
                    self.punt(Punt::StaleVersion {
                        source: subject.source_eid(),
                        destination: subject.destination,
                        rloc: subject.rloc,
                    });
                }
                if stale.hopeless && options.drop_stale {
                    return Err(DropReason::StaleVersion);
                }
            }
        }
        let Some(theirs) = theirs.filter(|site| !site.version.is_none() && !source.is_none()) else {
            return Ok(());
        };
        if source.is_newer_than(theirs.version) {
            // Versions may be forged, and with any address of the underlay's as the packet's source. A site
            // whose locators are others by now says so by an SMR.
            if theirs.lists(&subject.rloc) && theirs.state.due(Notice::Newer, self.now, STATUS_INTERVAL) {
                self.punt(Punt::NewVersion { source: subject.source_eid() });
            }
            return Ok(());
        }
        if source == theirs.version { Ok(()) } else { Err(DropReason::SourceVersion) }
    }

    /// A packet was sent after an old version of our mapping. Of a source that no entry covers nothing can be
    /// remembered.
    fn stale(&mut self, theirs: Option<&Site>, rloc: &IpAddr) -> Stale {
        match theirs {
            Some(site) => site.state.stale(rloc, self.now),
            None => Stale { tell: self.limiter.allow(self.now), hopeless: false },
        }
    }

    /// Locator-status-bits (RFC 9300 §10). They mean the locators of the mapping that they were sent for:
    /// where both sides have versions, those have to agree.
    fn status(
        &mut self,
        options: &HeaderOptions,
        header: &DataHeader,
        status: u32,
        theirs: &Site,
        subject: &Subject,
    ) {
        let same_mapping = !options.map_version
            || theirs.version.is_none()
            || header.versions.is_some_and(|(source, _)| source == theirs.version);
        if !same_mapping {
            return;
        }
        let width = if header.instance.is_some() { 8 } else { 32 };
        let locators = theirs.rlocs.len().min(width) as u32;
        let meant = 1u32.checked_shl(locators).map_or(u32::MAX, |bit| bit - 1);
        let status = status | !meant;
        if theirs.state.status_changed(status, u32::MAX, self.now, STATUS_INTERVAL) {
            self.punt(Punt::LocatorStatus { source: subject.source_eid(), rloc: subject.rloc, status });
        }
    }

    fn punt(&mut self, punt: Punt) {
        if self.punts.len() < MAX_PUNTS {
            self.punts.push(punt);
        } else {
            self.lost += 1;
        }
    }
}
