//! One line per message, for logs.

use std::fmt::{self, Write as _};

use super::super::{CacheSync, EidRecord, LocatorRecord, Message, SyncRecord, XtrSite};
use super::address::items;
use super::{MAX_NESTED, algorithm_name, referral_action_name};

/// The longest summary in bytes. A hostile message must not fill the log with one line.
const MAX_LEN: usize = 1000;

/// One line that says what a message is and what it is about, of at most about 1,000 bytes.
#[derive(Clone, Copy, Debug)]
pub struct Summary<'a>(&'a Message);

impl<'a> Summary<'a> {
    pub(super) const fn new(message: &'a Message) -> Self {
        Self(message)
    }
}

impl fmt::Display for Summary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut limited = Limited { left: MAX_LEN, cut: false, f };
        let result = write!(limited, "{}", Line { message: self.0, nesting: 0 });
        if limited.cut { f.write_str("…") } else { result }
    }
}

/// Writes so many bytes and then fails, which ends formatting early.
struct Limited<'a, 'b> {
    left: usize,
    cut: bool,
    f: &'a mut fmt::Formatter<'b>,
}

impl fmt::Write for Limited<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        match self.left.checked_sub(text.len()) {
            Some(left) => {
                self.left = left;
                self.f.write_str(text)
            }
            None => {
                self.cut = true;
                Err(fmt::Error)
            }
        }
    }
}

/// The line without a limit.
struct Line<'a> {
    message: &'a Message,
    nesting: usize,
}

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = self.message.kind();
        match self.message {
            Message::MapRequest(m) => {
                write!(f, "{kind} nonce {}", m.nonce)?;
                flags(
                    f,
                    &[
                        (m.authoritative, "authoritative"),
                        (m.probe, "probe"),
                        (m.smr, "smr"),
                        (m.pitr, "pitr"),
                        (m.smr_invoked, "smr-invoked"),
                        (m.dont_map_reply, "dont-map-reply"),
                    ],
                )?;
                f.write_str(" for ")?;
                items(f, &m.records)?;
                write!(f, " source {} itr-rlocs ", m.source_eid)?;
                items(f, &m.itr_rlocs)
            }
            Message::MapReply(m) => {
                write!(f, "{kind} nonce {}", m.nonce)?;
                flags(f, &[(m.probe, "probe"), (m.echo_nonce, "echo-nonce"), (m.security, "security")])?;
                records(f, &m.records)
            }
            Message::MapRegister(m) => {
                write!(f, "{kind} nonce {}", m.nonce)?;
                auth(f, m.auth.key_id, m.auth.algorithm)?;
                flags(
                    f,
                    &[
                        (m.proxy_reply, "proxy-reply"),
                        (m.want_notify, "want-map-notify"),
                        (m.use_ttl, "use-ttl"),
                        (m.merge, "merge"),
                        (m.rtr, "rtr"),
                    ],
                )?;
                ids(f, &m.xtr_site)?;
                records(f, &m.records)
            }
            Message::MapNotify(m) | Message::MapNotifyAck(m) => {
                write!(f, "{kind} nonce {}", m.nonce)?;
                auth(f, m.auth.key_id, m.auth.algorithm)?;
                flags(f, &[(m.rtr, "rtr")])?;
                ids(f, &m.xtr_site)?;
                records(f, &m.records)
            }
            Message::MapReferral(m) => {
                write!(f, "{kind} nonce {} ", m.nonce)?;
                let text = |referral: &super::ReferralRecord| {
                    let action = referral_action_name(referral.record.action.bits());
                    format!("{} {action} {}", referral.record.eid, Locators(&referral.record.locators))
                };
                items(f, &m.records.iter().map(text).collect::<Vec<_>>())
            }
            Message::Info(m) => {
                let name = if m.reply { "Info-Reply" } else { "Info-Request" };
                write!(f, "{name} nonce {}", m.nonce)?;
                auth(f, m.auth.key_id, m.auth.algorithm)?;
                write!(f, " {} {}", m.eid, m.nat)
            }
            Message::Ecm(m) => {
                write!(f, "ECM {} to {}", m.source, m.destination)?;
                flags(f, &[(m.security.is_some(), "security"), (m.ddt, "ddt")])?;
                match Message::decode(&m.payload) {
                    Ok(_) if self.nesting >= MAX_NESTED => f.write_str(": …"),
                    Ok(inner) => write!(f, ": {}", Line { message: &inner, nesting: self.nesting + 1 }),
                    Err(error) => write!(f, ": {error}"),
                }
            }
            Message::SharedExtension(m) => {
                write!(f, "{kind} sub-type {}, {} bytes", m.sub_type, m.payload.len())
            }
            Message::CacheSync(m) => {
                write!(f, "CacheSync nonce {}", m.nonce)?;
                auth(f, m.auth.key_id, m.auth.algorithm)?;
                let CacheSync { want_ack, naive, smart, request, transfer, end, .. } = *m;
                flags(
                    f,
                    &[
                        (want_ack, "want-ack"),
                        (naive, "naive"),
                        (smart, "smart"),
                        (request, "request"),
                        (transfer, "transfer"),
                        (end, "end"),
                    ],
                )?;
                write!(f, " session {:016x} for {:016x} ", m.session, m.receiver)?;
                items(f, &m.records)
            }
            Message::CacheSyncAck(m) => {
                write!(f, "CacheSync-Ack nonce {}", m.nonce)?;
                auth(f, m.auth.key_id, m.auth.algorithm)?;
                write!(f, " session {:016x} for {:016x} ", m.session, m.receiver)?;
                items(f, &m.records)
            }
        }
    }
}

impl fmt::Display for EidRecord {
    /// Prefix, TTL, and the locators with priority and weight, or the action where there are none.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ttl {} ", self.eid, self.ttl)?;
        if self.locators.is_empty() { self.action.fmt(f) } else { Locators(&self.locators).fmt(f) }
    }
}

impl fmt::Display for LocatorRecord {
    /// Address, priority/weight; a `!` for an unreachable one.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = if self.reachable { "" } else { "!" };
        write!(f, "{mark}{} {}/{}", self.address, self.priority, self.weight)
    }
}

impl fmt::Display for SyncRecord {
    /// What it is about.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mapping(m) => write!(f, "{} for {}.{:03} s", m.record, m.seconds, m.millis),
            Self::Locator { address, up } => write!(f, "{address} {}", if *up { "up" } else { "down" }),
            Self::Hello { challenge, to } => write!(f, "hello {to} {challenge:016x}"),
            Self::Whole { first, .. } => write!(f, "whole from {first}"),
            Self::HelloReply { challenge, to, .. } => write!(f, "hello-reply {to} {challenge:016x}"),
            Self::Unknown { kind, content, .. } => write!(f, "kind {kind}, {} bytes", content.len()),
        }
    }
}

struct Locators<'a>(&'a [LocatorRecord]);

impl fmt::Display for Locators<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        items(f, self.0)
    }
}

fn records(f: &mut fmt::Formatter<'_>, records: &[EidRecord]) -> fmt::Result {
    f.write_str(" ")?;
    items(f, records)
}

fn flags(f: &mut fmt::Formatter<'_>, flags: &[(bool, &str)]) -> fmt::Result {
    flags.iter().filter(|(set, _)| *set).try_for_each(|(_, name)| write!(f, " {name}"))
}

fn auth(f: &mut fmt::Formatter<'_>, key_id: u8, algorithm: u8) -> fmt::Result {
    write!(f, " key {key_id} {}", algorithm_name(algorithm))
}

fn ids(f: &mut fmt::Formatter<'_>, ids: &Option<XtrSite>) -> fmt::Result {
    match ids {
        Some(ids) => write!(f, " xtr {} site {}", ids.xtr_id, ids.site_id),
        None => Ok(()),
    }
}
