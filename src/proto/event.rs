//! What an operator should see: the control plane's log, as data.
//!
//! Owns: the kinds of events, their severity and their sentence. The runtime writes them, at a bounded rate.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::types::{Eid, EidPrefix, XtrId};

use super::config::LocatorSource;
use super::stats::DropReason;

/// How much an event matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Severity {
    /// Part of normal work, of interest while debugging.
    Debug,
    /// A change of state.
    Info,
    /// Something that an operator may have to act on.
    Warning,
}

/// Which machine an event comes from: the subsystems whose log level can be set apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Subsystem {
    /// Demultiplexing, names, everything shared.
    Control,
    /// ITR and map-cache.
    Itr,
    /// ETR and its registrations.
    Etr,
    /// Map-Server.
    MapServer,
    /// Map-Resolver.
    MapResolver,
}

impl fmt::Display for Subsystem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Control => "control",
            Self::Itr => "itr",
            Self::Etr => "etr",
            Self::MapServer => "map-server",
            Self::MapResolver => "map-resolver",
        })
    }
}

/// Who registered: by xTR-ID where the Map-Register has one, else by source address (RFC 9301 §5.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Registrant {
    /// Its source address.
    Address(IpAddr),
    /// Its xTR-ID (unique within the site that its key belongs to).
    Xtr(XtrId),
}

impl fmt::Display for Registrant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(addr) => addr.fmt(f),
            Self::Xtr(id) => id.fmt(f),
        }
    }
}

/// Something an operator should see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A message, or a record of one, was dropped. Counted in any case.
    Dropped {
        /// Why.
        reason: DropReason,
        /// Who sent it, where it came from the network.
        peer: Option<SocketAddr>,
        /// What it was about, as text.
        detail: Option<String>,
    },
    /// A destination was resolved.
    Resolved {
        /// The destination.
        eid: Eid,
        /// The entry that covers it.
        prefix: EidPrefix,
        /// Whether there are no locators.
        negative: bool,
        /// Since the first Map-Request for it.
        took: Duration,
        /// Who answered.
        responder: IpAddr,
    },
    /// No answer for a destination, which now rests.
    Unanswered {
        /// The destination.
        eid: Eid,
        /// Map-Requests sent.
        requests: u32,
    },
    /// A Map-Server confirmed registrations by Map-Notify: the first time, or again after trouble or a change.
    RegistrationConfirmed {
        /// The Map-Server's name.
        map_server: String,
        /// EID-prefixes that this confirms.
        prefixes: usize,
        /// Since the Map-Register that it answers.
        took: Duration,
    },
    /// A Map-Notify left out an EID-prefix that was to be registered: the Map-Server refuses it.
    RegistrationRefused {
        /// The Map-Server's name.
        map_server: String,
        /// The prefix.
        prefix: EidPrefix,
    },
    /// A Map-Server tells others something else of a prefix than we registered: another xTR of the site registers it
    /// with other locators.
    RegistrationContradicted {
        /// The Map-Server's name.
        map_server: String,
        /// The prefix.
        prefix: EidPrefix,
    },
    /// Two xTRs of a site register the same prefix with locators that contradict each other.
    Contradiction {
        /// The site's name.
        site: String,
        /// The prefix.
        prefix: EidPrefix,
        /// Who registered last.
        registrant: Registrant,
        /// Whom that contradicts.
        other: Registrant,
    },
    /// A Map-Server has not confirmed for a while.
    MapServerUnreachable {
        /// The Map-Server's name.
        map_server: String,
        /// Where it is; `None` while its name is not resolved, so that nothing could be sent.
        address: Option<IpAddr>,
        /// Unconfirmed Map-Registers.
        unanswered: u32,
        /// The EID-prefixes in them.
        prefixes: Vec<EidPrefix>,
    },
    /// An ITR is told that a mapping of ours changed (SMR).
    Solicited {
        /// The prefix whose mapping changed.
        prefix: EidPrefix,
        /// Who is told.
        rloc: IpAddr,
    },
    /// A Map-Resolver leaves Map-Requests unanswered, and nothing else it was asked is answered either.
    MapResolverSilent {
        /// Its address.
        resolver: IpAddr,
        /// Map-Requests in a row.
        requests: u32,
    },
    /// A Map-Resolver of which that was said answers again.
    MapResolverBack {
        /// Its address.
        resolver: IpAddr,
    },
    /// The site can't be reached, as no locator is up.
    NoLocators {
        /// The prefix.
        prefix: EidPrefix,
    },
    /// A locator of our own can be a source of packets from now on, or no longer: its address came or went, or the
    /// interface that has it.
    OwnLocator {
        /// The locator.
        rloc: IpAddr,
        /// Which of the two.
        up: bool,
    },
    /// A locator of our own has not been up since the router started, or since it was configured.
    OwnLocatorMissing {
        /// Which.
        source: LocatorSource,
    },
    /// A locator of another site, or of another xTR of ours, is up or down: by our probes, or the underlay's word.
    RemoteLocator {
        /// The locator.
        rloc: IpAddr,
        /// Which of the two.
        up: bool,
    },
    /// A locator of another site that was said to be down is used again, as that was long ago and without probes nobody
    /// knows.
    RemoteLocatorRetried {
        /// The locator.
        rloc: IpAddr,
    },
    /// Locators that a site's locator-status-bits had said were down are used again, as the time is over for which that
    /// was held against them.
    LocatorsBack {
        /// The site's EID-prefix.
        prefix: EidPrefix,
        /// The locators.
        rlocs: Vec<IpAddr>,
    },
    /// What we tell others of the site changed.
    MappingChanged {
        /// How many EID-prefixes it is about.
        prefixes: usize,
    },
    /// A site registered a prefix that it had not registered before.
    SiteRegistered {
        /// The site's name.
        site: String,
        /// The prefix.
        prefix: EidPrefix,
        /// Who.
        registrant: Registrant,
        /// From where.
        source: SocketAddr,
    },
    /// A registration ended.
    SiteUnregistered {
        /// The site's name.
        site: String,
        /// The prefix.
        prefix: EidPrefix,
        /// Who.
        registrant: Registrant,
        /// How.
        cause: Unregistered,
    },
    /// A Map-Register was refused as replayed; where the peer simply never changes its nonce, the site needs
    /// `allow-repeated-nonce`.
    NonceRepeated {
        /// The site's name.
        site: String,
        /// From where.
        source: SocketAddr,
    },
    /// A DNS name could not be resolved; it will be tried again.
    NameUnresolved {
        /// The name.
        name: String,
        /// When it will be tried again.
        retry_in: Duration,
    },
    /// A site's locator-status-bits say other things than before of its locators (RFC 9300 §10).
    LocatorStatus {
        /// The site's EID-prefix.
        prefix: EidPrefix,
        /// From which of its locators the packet came.
        rloc: IpAddr,
        /// Those that are not used now because of it.
        down: Vec<IpAddr>,
    },
    /// Nonces sent to a locator did not come back (RFC 9300 §10.1).
    EchoMissing {
        /// The locator.
        rloc: IpAddr,
        /// Other packets did come from its site, so that it is packets to the locator that are lost.
        dark: bool,
    },
    /// Somebody sends after an old version of one of our mappings, and was told (RFC 9302 §7.1).
    StaleVersion {
        /// Our EID-prefix.
        prefix: EidPrefix,
        /// Who.
        rloc: IpAddr,
    },
    /// Another xTR of the site, with which the map-cache is synchronised, answers, or no longer does.
    SyncMember {
        /// Its address.
        member: IpAddr,
        /// Which of the two.
        up: bool,
    },
    /// Another xTR of the site answers, but does not acknowledge what it is told of the map-cache.
    SyncUnacknowledged {
        /// Its address.
        member: IpAddr,
        /// Bytes of these messages at most, without UDP and IP headers.
        bytes: usize,
        /// When it is tried again, with smaller ones where that is possible.
        retry_in: Duration,
    },
    /// One of the site's other xTRs turned out to be this very router.
    SyncOurselves {
        /// Its address.
        member: IpAddr,
    },
    /// The whole map-cache went to another xTR of the site, or came from there.
    SyncTransferred {
        /// Its address.
        member: IpAddr,
        /// Which of the two.
        received: bool,
        /// Records.
        records: u64,
        /// Since it began.
        took: Duration,
    },
    /// An EID-prefix is at this site now.
    MovedHere {
        /// The prefix.
        prefix: EidPrefix,
        /// Found out by what it sent, not told by command.
        detected: bool,
    },
    /// An EID-prefix that was, or might be, at this site is at another one now.
    MovedAway {
        /// The prefix.
        prefix: EidPrefix,
        /// A locator of that site; `None` where it is registered by nobody.
        rloc: Option<IpAddr>,
    },
    /// An EID-prefix that had moved elsewhere is no longer sent on, or is at home again.
    MoveEnded {
        /// The prefix.
        prefix: EidPrefix,
    },
    /// A host that was found here has not answered for a while: it is gone.
    Vanished {
        /// Its EID.
        prefix: EidPrefix,
    },
    /// Nobody says where an EID-prefix is that may be at another site: it is asked for again now and then.
    Unlocated {
        /// The prefix.
        prefix: EidPrefix,
    },
    /// A Map-Server says nothing to the registration of what came here.
    MoveUnconfirmed {
        /// The Map-Server's name.
        map_server: String,
        /// The prefix, or the first of several.
        prefix: EidPrefix,
        /// How many others are in the same Map-Register.
        others: usize,
    },
    /// A prefix came here, but another site goes on registering it.
    Contested {
        /// The prefix.
        prefix: EidPrefix,
        /// A locator of that site.
        rloc: Option<IpAddr>,
    },
    /// A host that was found here is not taken in.
    NotTakenIn {
        /// Its EID.
        prefix: EidPrefix,
        /// It comes and goes too often, and can be taken in again after this time; `None`: too many are here.
        again_in: Option<Duration>,
    },
    /// The addresses of a DNS name changed.
    NameResolved {
        /// The name.
        name: String,
        /// Its addresses.
        addresses: Vec<IpAddr>,
    },
}

/// Why a registration ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unregistered {
    /// Withdrawn with TTL 0.
    Withdrawn,
    /// Not refreshed in time.
    TimedOut,
    /// The configuration no longer has it.
    Reconfigured,
}

impl Event {
    /// How much this matters.
    pub fn severity(&self) -> Severity {
        match self {
            Self::Resolved { .. }
            | Self::MappingChanged { .. }
            | Self::Solicited { .. }
            | Self::StaleVersion { .. }
            | Self::MoveEnded { .. }
            | Self::EchoMissing { dark: false, .. } => Severity::Debug,
            Self::OwnLocator { up: true, .. }
            | Self::RemoteLocator { .. }
            | Self::RemoteLocatorRetried { .. }
            | Self::LocatorsBack { .. }
            | Self::LocatorStatus { .. }
            | Self::EchoMissing { dark: true, .. }
            | Self::MovedHere { .. }
            | Self::MovedAway { .. }
            | Self::Vanished { .. }
            | Self::RegistrationConfirmed { .. }
            | Self::MapResolverBack { .. }
            | Self::SyncMember { up: true, .. }
            | Self::SyncOurselves { .. }
            | Self::SyncTransferred { .. }
            | Self::SiteRegistered { .. }
            | Self::NameResolved { .. } => Severity::Info,
            Self::OwnLocator { up: false, .. } | Self::OwnLocatorMissing { .. } => Severity::Warning,
            Self::SiteUnregistered { cause, .. } => match cause {
                Unregistered::TimedOut => Severity::Warning,
                Unregistered::Withdrawn | Unregistered::Reconfigured => Severity::Info,
            },
            Self::Dropped { reason, .. } => match reason {
                reason if reason.is_ordinary() => Severity::Debug,
                // That the locators are down is a warning of its own.
                DropReason::NoLocalRloc
                | DropReason::UnreachableContradicted
                | DropReason::SyncSession
                | DropReason::SyncMisdirected
                | DropReason::ReplyNonce => Severity::Debug,
                _ => Severity::Warning,
            },
            Self::Unanswered { .. }
            | Self::MapResolverSilent { .. }
            | Self::RegistrationRefused { .. }
            | Self::RegistrationContradicted { .. }
            | Self::Contradiction { .. }
            | Self::MapServerUnreachable { .. }
            | Self::SyncMember { up: false, .. }
            | Self::SyncUnacknowledged { .. }
            | Self::NoLocators { .. }
            | Self::NonceRepeated { .. }
            | Self::NotTakenIn { .. }
            | Self::MoveUnconfirmed { .. }
            | Self::Contested { .. }
            | Self::Unlocated { .. }
            | Self::NameUnresolved { .. } => Severity::Warning,
        }
    }

    /// Which machine this comes from.
    pub fn subsystem(&self) -> Subsystem {
        match self {
            Self::Resolved { .. }
            | Self::Unanswered { .. }
            | Self::RemoteLocator { .. }
            | Self::RemoteLocatorRetried { .. }
            | Self::LocatorsBack { .. }
            | Self::LocatorStatus { .. }
            | Self::EchoMissing { .. }
            | Self::MapResolverSilent { .. }
            | Self::MapResolverBack { .. }
            | Self::SyncMember { .. }
            | Self::SyncUnacknowledged { .. }
            | Self::SyncOurselves { .. }
            | Self::SyncTransferred { .. } => Subsystem::Itr,
            Self::StaleVersion { .. }
            | Self::RegistrationConfirmed { .. }
            | Self::RegistrationRefused { .. }
            | Self::RegistrationContradicted { .. }
            | Self::MapServerUnreachable { .. }
            | Self::OwnLocator { .. }
            | Self::OwnLocatorMissing { .. }
            | Self::MappingChanged { .. }
            | Self::Solicited { .. }
            | Self::MovedHere { .. }
            | Self::MovedAway { .. }
            | Self::MoveEnded { .. }
            | Self::Vanished { .. }
            | Self::NotTakenIn { .. }
            | Self::MoveUnconfirmed { .. }
            | Self::Contested { .. }
            | Self::Unlocated { .. }
            | Self::NoLocators { .. } => Subsystem::Etr,
            Self::SiteRegistered { .. }
            | Self::SiteUnregistered { .. }
            | Self::Contradiction { .. }
            | Self::NonceRepeated { .. } => Subsystem::MapServer,
            Self::Dropped { .. } | Self::NameUnresolved { .. } | Self::NameResolved { .. } => {
                Subsystem::Control
            }
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dropped { reason, peer, detail } => {
                write!(f, "dropped: {reason}")?;
                if let Some(peer) = peer {
                    write!(f, ", from {peer}")?;
                }
                match detail {
                    Some(detail) => write!(f, ": {detail}"),
                    None => Ok(()),
                }
            }
            Self::Resolved { eid, prefix, negative, took, responder } => {
                let what = if *negative { "without locators" } else { "with locators" };
                write!(f, "{eid} resolved to {prefix} {what} by {responder} in {:.1} ms", millis(*took))
            }
            Self::Unanswered { eid, requests } => {
                write!(f, "no answer for {eid} after {requests} Map-Requests")
            }
            Self::RegistrationConfirmed { map_server, prefixes, took } => {
                write!(
                    f,
                    "Map-Server {map_server} confirmed {prefixes} EID-prefixes in {:.1} ms",
                    millis(*took)
                )
            }
            Self::RegistrationRefused { map_server, prefix } => {
                write!(f, "Map-Server {map_server} does not accept {prefix}: check the site's prefixes there")
            }
            Self::RegistrationContradicted { map_server, prefix } => write!(
                f,
                "Map-Server {map_server} has other locators for {prefix} than this router registers: another xTR of the \
                 site contradicts it; list the same locators at both, or set merge = true at both"
            ),
            Self::Contradiction { site, prefix, registrant, other } => write!(
                f,
                "site {site}: {registrant} registers {prefix} with other locators than {other}, and the last one wins; \
                 list the same locators at both, or set merge = true at both"
            ),
            Self::MapServerUnreachable { map_server, address: None, prefixes, .. } => write!(
                f,
                "nothing is registered with Map-Server {map_server} ({}): its name is not resolved",
                Few(prefixes)
            ),
            Self::MapServerUnreachable { map_server, address: Some(address), unanswered, prefixes } => {
                write!(f, "Map-Server {map_server}")?;
                if *map_server != address.to_string() {
                    write!(f, " ({address})")?;
                }
                write!(
                    f,
                    " has not confirmed {unanswered} Map-Registers ({}): check that it is up, that the keys \
                     agree, and that its [[site]] has these EID-prefixes",
                    Few(prefixes)
                )
            }
            Self::Solicited { prefix, rloc } => {
                write!(f, "{rloc} is told that the mapping of {prefix} changed")
            }
            Self::MapResolverSilent { resolver, requests } => write!(
                f,
                "Map-Resolver {resolver} left {requests} Map-Requests in a row unanswered: it, or the ETRs that were \
                 asked for, may be down"
            ),
            Self::MapResolverBack { resolver } => write!(f, "Map-Resolver {resolver} answers again"),
            Self::NoLocators { prefix } => {
                write!(f, "{prefix} can't be reached: none of its locators is up")
            }
            Self::OwnLocator { rloc, up: true } => write!(f, "our locator {rloc} is up"),
            Self::OwnLocator { rloc, up: false } => {
                write!(f, "our locator {rloc} is down: no interface that runs has the address")
            }
            Self::OwnLocatorMissing { source: LocatorSource::Address(rloc) } => {
                write!(f, "our locator {rloc} is down: no interface that runs has the address")
            }
            Self::OwnLocatorMissing { source: source @ LocatorSource::Interface { .. } } => {
                write!(f, "our locator {source} is down: no such interface runs and has a global address")
            }
            Self::RemoteLocator { rloc, up: true } => write!(f, "locator {rloc} is up"),
            Self::RemoteLocator { rloc, up: false } => write!(f, "locator {rloc} can't be reached"),
            Self::RemoteLocatorRetried { rloc } => {
                write!(f, "locator {rloc} is used again: it could not be reached, but that was a while ago")
            }
            Self::LocatorsBack { prefix, rlocs } => {
                write!(f, "{prefix}:")?;
                rlocs.iter().try_for_each(|rloc| write!(f, " {rloc}"))?;
                f.write_str(" used again, as the site says")
            }
            Self::MappingChanged { prefixes } => write!(f, "the mapping of {prefixes} EID-prefixes changed"),
            Self::SiteRegistered { site, prefix, registrant, source } => {
                write!(f, "site {site}: {prefix} registered by {registrant} from {source}")
            }
            Self::SiteUnregistered { site, prefix, registrant, cause } => {
                let how = match cause {
                    Unregistered::Withdrawn => "withdrawn",
                    Unregistered::TimedOut => "timed out",
                    Unregistered::Reconfigured => "no longer configured",
                };
                write!(f, "site {site}: {prefix} of {registrant} {how}")
            }
            Self::NonceRepeated { site, source } => write!(
                f,
                "site {site}: Map-Register from {source} repeats an old nonce, refused as a replay; if this router \
                 never changes its nonce, set allow-repeated-nonce for the site"
            ),
            Self::LocatorStatus { prefix, rloc, down } => {
                write!(f, "{prefix} says by {rloc} that ")?;
                if down.is_empty() {
                    return f.write_str("all its locators are up");
                }
                down.iter().try_for_each(|rloc| write!(f, "{rloc} "))?;
                f.write_str("can't be used")
            }
            Self::EchoMissing { rloc, dark: true } => {
                write!(f, "packets to {rloc} don't arrive: nonces are not echoed, although packets come back")
            }
            Self::EchoMissing { rloc, dark: false } => {
                write!(f, "nonces sent to {rloc} are not echoed, but nothing else came back either")
            }
            Self::StaleVersion { prefix, rloc } => {
                write!(f, "{rloc} sends after an old mapping of {prefix}: told so")
            }
            Self::NameUnresolved { name, retry_in } => {
                write!(f, "{name} can't be resolved, next try in {} s", retry_in.as_secs())
            }
            Self::SyncMember { member, up: true } => write!(f, "xTR {member} of the site is there"),
            Self::SyncOurselves { member } => {
                write!(f, "{member} in the list of members of [sync] is this router: left alone")
            }
            Self::SyncMember { member, up: false } => write!(
                f,
                "xTR {member} of the site does not answer: its map-cache is not synchronised; check that it is up and \
                 that members and keys of [sync] agree"
            ),
            Self::SyncUnacknowledged { member, bytes, retry_in } => write!(
                f,
                "xTR {member} of the site answers, but does not acknowledge what it is told of the map-cache, in messages \
                 of up to {bytes} bytes: tried again in {} s, in smaller ones; check the MTU of the path to it, what is \
                 lost or filtered on it, and that it runs the same version",
                retry_in.as_secs()
            ),
            Self::SyncTransferred { member, received, records, took } => {
                let way = if *received { "received from" } else { "sent to" };
                write!(f, "whole map-cache {way} xTR {member}: {records} records in {:.1} ms", millis(*took))
            }
            Self::MovedHere { prefix, detected: true } => write!(f, "{prefix} was found to be at this site"),
            Self::MovedHere { prefix, detected: false } => write!(f, "{prefix} is at this site now"),
            Self::MovedAway { prefix, rloc: Some(rloc) } => {
                write!(f, "{prefix} has moved to the site of {rloc}: what still comes here is sent on")
            }
            Self::MovedAway { prefix, rloc: None } => write!(f, "{prefix} has left this site"),
            Self::MoveEnded { prefix } => write!(f, "{prefix}, which had moved away, is no longer sent on"),
            Self::Vanished { prefix } => write!(f, "{prefix} no longer answers: it is withdrawn"),
            Self::Unlocated { prefix } => write!(
                f,
                "nobody answers where {prefix} is, which may be at another site: asked again now and then"
            ),
            Self::MoveUnconfirmed { map_server, prefix, others } => {
                write!(f, "Map-Server {map_server} has not confirmed that {prefix}")?;
                if *others > 0 {
                    write!(f, " and {others} others")?;
                }
                f.write_str(
                    " came here, so others may still send to where that was: check that it is up, that the site has the \
                     prefix there, or one around it with accept-more-specifics, and that the keys agree; registering goes on",
                )
            }
            Self::Contested { prefix, rloc } => {
                write!(f, "{prefix} came here, but the site of ")?;
                match rloc {
                    Some(rloc) => write!(f, "{rloc}")?,
                    None => f.write_str("another router")?,
                }
                write!(
                    f,
                    " goes on registering it, and keeps it: is the address in use at both? If it is here, say there that \
                     it is not (`eidolon move {prefix} --away`), then again that it is here"
                )
            }
            Self::NotTakenIn { prefix, again_in: Some(again_in) } => write!(
                f,
                "{prefix} was found here, but has moved too often lately, and is not taken in for another {} s: is the \
                 address in use at several sites? `eidolon move {prefix}` takes it in at once",
                again_in.as_secs().max(1)
            ),
            Self::NotTakenIn { prefix, again_in: None } => write!(
                f,
                "{prefix} was found here, but its [[dynamic-eid]] has reached its limit: raise it if that many may be here"
            ),
            Self::NameResolved { name, addresses } => {
                write!(f, "{name} is")?;
                for address in addresses {
                    write!(f, " {address}")?;
                }
                Ok(())
            }
        }
    }
}

/// The first few of many EID-prefixes.
struct Few<'a>(&'a [EidPrefix]);

/// How many that is.
const FEW: usize = 4;

impl fmt::Display for Few<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, prefix) in self.0.iter().take(FEW).enumerate() {
            let comma = if at > 0 { ", " } else { "" };
            write!(f, "{comma}{prefix}")?;
        }
        match self.0.len().saturating_sub(FEW) {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

fn millis(d: Duration) -> f64 {
    d.as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::testing::{ip, prefix};

    #[test]
    fn an_unconfirmed_registration_is_told_with_its_prefixes_and_every_cause() {
        let unreachable = |address: Option<&str>, count: usize| Event::MapServerUnreachable {
            map_server: "192.0.2.1".into(),
            address: address.map(ip),
            unanswered: 4,
            prefixes: (0..count).map(|n| prefix(&format!("10.{n}.0.0/16"))).collect(),
        };
        let why = "check that it is up, that the keys agree, and that its [[site]] has these EID-prefixes";
        assert_eq!(
            unreachable(Some("192.0.2.1"), 1).to_string(),
            format!("Map-Server 192.0.2.1 has not confirmed 4 Map-Registers (10.0.0.0/16): {why}")
        );
        assert_eq!(
            unreachable(Some("192.0.2.7"), 6).to_string(),
            format!(
                "Map-Server 192.0.2.1 (192.0.2.7) has not confirmed 4 Map-Registers \
                 (10.0.0.0/16, 10.1.0.0/16, 10.2.0.0/16, 10.3.0.0/16 and 2 more): {why}"
            )
        );
        assert_eq!(
            unreachable(None, 1).to_string(),
            "nothing is registered with Map-Server 192.0.2.1 (10.0.0.0/16): its name is not resolved"
        );
    }

    #[test]
    fn a_locator_that_never_came_up_is_told_as_one_that_went_down() {
        let source = LocatorSource::Address(ip("192.0.2.1"));
        let missing = Event::OwnLocatorMissing { source };
        let down = Event::OwnLocator { rloc: ip("192.0.2.1"), up: false };
        assert_eq!(missing.to_string(), down.to_string());
        assert_eq!((missing.severity(), missing.subsystem()), (down.severity(), down.subsystem()));
    }
}
