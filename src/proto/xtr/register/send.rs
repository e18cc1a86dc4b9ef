//! Sends Map-Registers: with which key, to which address, and when again (RFC 9301 §5.6, §5.7).
//!
//! Owns: the retransmission of one message. What it says is [`super::bundle`]'s.

use std::net::{IpAddr, SocketAddr};

use crate::auth::{self, Algorithm};
use crate::proto::config::EtrMapServer;
use crate::proto::context::{CONTROL_PORT, Context};
use crate::proto::stats::{DropReason, MessageKind};
use crate::proto::xtr::database::LocalRlocs;
use crate::types::{Instant, Nonce};
use crate::wire::{AuthData, EidRecord, MapRegister, Message, XtrSite};

use super::Registrar;
use super::bundle::Bundle;

/// Nonces of unconfirmed Map-Registers that a Map-Notify may still answer.
const MAX_OUTSTANDING: usize = 16;

/// A Map-Server, and the ids that it knows us by.
#[derive(Clone, Copy)]
pub(super) struct Recipient<'a> {
    pub(super) server: &'a EtrMapServer,
    pub(super) xtr_site: Option<XtrSite>,
    /// a: merge.
    pub(super) merge: bool,
}

/// A Map-Register on its way.
pub(super) struct Sent {
    pub(super) nonce: Nonce,
    pub(super) address: IpAddr,
    pub(super) key: (u8, Algorithm),
}

impl Registrar {
    pub(super) fn register(
        &mut self,
        cx: &mut Context,
        now: Instant,
        to: Recipient<'_>,
        bundle: &mut Bundle,
        rlocs: &LocalRlocs,
    ) {
        let server = to.server;
        let sent = self.send(cx, to, bundle.attempts, bundle.records.clone(), rlocs);
        remember(&mut bundle.outstanding, sent.as_ref().map(|sent| sent.nonce));
        if let Some(sent) = &sent {
            bundle.last_sent = Some(now);
            bundle.sent += 1;
            bundle.sent_to = Some(sent.address);
            if bundle.last_notified.is_none() {
                bundle.key = Some(sent.key);
            }
        }
        let (period, quick) = (cx.timers.register_interval, cx.timers.quick_register_interval);
        let in_quick = now < bundle.quick_until;
        bundle.wake = now
            + if server.want_notify {
                // Doubling from one second to a minute (RFC 9301 §5.7), not slower than the quick period.
                let retry = cx.timers.register_retry.saturating_mul(1 << bundle.attempts.min(16));
                let retry = retry.min(cx.timers.register_retry_max);
                let retry = if in_quick { retry.min(quick) } else { retry };
                bundle.unanswered = bundle.unanswered.saturating_add(1);
                cx.between(retry, retry + retry / 20)
            } else {
                bundle.confirmed = sent.is_some();
                let period = if in_quick { quick } else { period };
                cx.between(period - period / 10, period)
            };
        bundle.attempts = bundle.attempts.saturating_add(1);
    }

    /// Sends a Map-Register, if it can be sent. A retransmission has a new nonce, since the Map-Server would
    /// take the old one for a replay if only the Map-Notify was lost; and the next key, if there are several,
    /// since the Map-Server may not know this one yet, or no longer.
    pub(super) fn send(
        &mut self,
        cx: &mut Context,
        to: Recipient<'_>,
        attempt: u32,
        records: Vec<EidRecord>,
        rlocs: &LocalRlocs,
    ) -> Option<Sent> {
        let Recipient { server, xtr_site, merge } = to;
        let keys = server.keys();
        // Without confirmation there is no telling which key is the right one.
        let turn = if server.want_notify { attempt as usize } else { 0 };
        let key = keys.get(turn.checked_rem(keys.len())?)?;
        // An address has its turn with every key.
        let address = address_of(cx, server, attempt as usize / keys.len().max(1), rlocs)?;
        let nonce = self.nonces.next();
        let register = MapRegister {
            proxy_reply: server.proxy_reply,
            want_notify: server.want_notify,
            use_ttl: server.use_ttl,
            merge,
            nonce,
            auth: AuthData::default(),
            records,
            xtr_site,
            ..MapRegister::default()
        };
        let to = SocketAddr::new(address, CONTROL_PORT);
        match auth::seal(Message::MapRegister(register), key) {
            Ok(bytes) => {
                self.nonces.advance();
                let source = rlocs.control_source(&address, attempt as usize);
                cx.send_encoded(MessageKind::MapRegister, source, to, bytes);
                Some(Sent { nonce, address, key: (key.id, key.algorithm) })
            }
            Err(error) => {
                cx.drop_with(DropReason::Encode, Some(to), error.to_string());
                None
            }
        }
    }
}

/// The address to register at: of a family that we have a locator of, the next one with every attempt.
pub(super) fn address_of(
    cx: &Context,
    server: &EtrMapServer,
    attempt: usize,
    rlocs: &LocalRlocs,
) -> Option<IpAddr> {
    let all = cx.names.addresses(&server.host);
    let reachable: Vec<IpAddr> = all.iter().copied().filter(|addr| rlocs.reaches(addr)).collect();
    let candidates = if reachable.is_empty() { all } else { &reachable };
    candidates.get(attempt.checked_rem(candidates.len())?).copied()
}

pub(super) fn remember(outstanding: &mut Vec<Nonce>, nonce: Option<Nonce>) {
    if outstanding.len() >= MAX_OUTSTANDING {
        outstanding.remove(0);
    }
    outstanding.extend(nonce);
}
