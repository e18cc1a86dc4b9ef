//! Map-Notifies: what Map-Servers confirm, and what they tell unasked (RFC 9301 §5.7).
//!
//! Owns: which Map-Notify answers what, which ones are authentic and new, and what they confirm, refuse or
//! contradict.

use std::net::SocketAddr;
use std::time::Duration;

use crate::auth;
use crate::proto::config::EtrMapServer;
use crate::proto::context::{CONTROL_PORT, Context};
use crate::proto::event::Event;
use crate::proto::mapping_system::auth_reason;
use crate::proto::stats::{DropReason, MessageKind};
use crate::types::{EidPrefix, Instant, Nonce};
use crate::wire::{EidRecord, LocatorRecord, MapNotify, Message};

use super::Registrar;
use super::trust::Trust;

/// Unsolicited Map-Notifies of a Map-Server that are known again.
const MAX_UNSOLICITED: usize = 4096;

/// Where a Map-Notify's nonce leads.
enum Answered {
    Bundle(usize, usize),
    Withdrawal(usize),
}

impl Registrar {
    /// A Map-Notify: the answer to one of our Map-Registers, or unsolicited and then acknowledged (RFC 9301
    /// §5.7). What an unsolicited one says that is authentic and was not said before in the same message.
    pub(crate) fn map_notify(
        &mut self,
        cx: &mut Context,
        now: Instant,
        notify: MapNotify,
        bytes: &[u8],
        source: SocketAddr,
    ) -> Vec<EidRecord> {
        let mut news = Vec::new();
        let answered = self.answered(notify.nonce);
        let mut candidates: Vec<EtrMapServer> = match answered {
            Some(Answered::Bundle(server, _)) => self.servers.get(server).map(|s| s.config.clone()),
            Some(Answered::Withdrawal(at)) => self.withdrawals.get(at).map(|w| w.server.clone()),
            None => None,
        }
        .into_iter()
        .collect();
        if answered.is_none() {
            // One address may be several times a Map-Server of ours, with different keys.
            let all = self.servers.iter().map(|s| &s.config);
            let there = all.filter(|config| cx.names.addresses(&config.host).contains(&source.ip()));
            candidates.extend(there.cloned());
        }
        let mut authentic = None;
        let mut failure = None;
        for server in candidates {
            // Signed with the key that the Map-Register was signed with (RFC 9301 §5.7), which may have been
            // another one than is in use now.
            let keys = server.keys();
            match auth::verify(bytes, &keys).map(|key| keys.get(key).cloned()) {
                Ok(key) => authentic = authentic.or(key.map(|key| (server, key))),
                Err(error) => failure = failure.or(Some((server, error))),
            }
        }
        let Some((server, key)) = authentic else {
            match failure {
                Some((server, error)) => {
                    let detail = format!("Map-Notify of Map-Server {}: {error}", server.name);
                    cx.drop_with(auth_reason(&error), Some(source), detail);
                }
                None => cx.drop(DropReason::NotifyUnknown, Some(source)),
            }
            return news;
        };
        match answered {
            Some(Answered::Bundle(server, bundle)) => {
                self.confirmed(cx, now, server, bundle, &notify);
                if let Some(bundle) = self.servers.get_mut(server).and_then(|s| s.bundles.get_mut(bundle)) {
                    bundle.key = Some((key.id, key.algorithm));
                }
            }
            Some(Answered::Withdrawal(at)) => drop(self.withdrawals.remove(at)),
            // One of our own nonces, but no longer of interest: a duplicate, or overtaken by a change.
            None if self.nonces.used(notify.nonce) => {
                cx.drop(DropReason::NotifyStale, Some(source));
            }
            None => {
                let known = self.servers.iter_mut().find(|s| s.config.name == server.name);
                let repeated = known.is_none_or(|known| {
                    let repeated = known.unsolicited.contains(&notify.nonce);
                    if !repeated {
                        known.unsolicited.push_back(notify.nonce);
                        if known.unsolicited.len() > MAX_UNSOLICITED {
                            known.unsolicited.pop_front();
                        }
                    }
                    repeated
                });
                // Sent again because the Map-Notify-Ack got lost, or replayed: it says nothing new.
                if !repeated {
                    self.compare(cx, &server.name, &notify.records);
                    news.clone_from(&notify.records);
                }
                if !cx.admit(source.ip(), None, source, now) {
                    return news;
                }
                match auth::seal(Message::MapNotifyAck(notify), &key) {
                    Ok(ack) => {
                        let to = SocketAddr::new(source.ip(), CONTROL_PORT);
                        cx.send_encoded(MessageKind::MapNotifyAck, None, to, ack);
                    }
                    Err(error) => cx.drop_with(DropReason::Encode, Some(source), error.to_string()),
                }
            }
        }
        news
    }

    fn confirmed(
        &mut self,
        cx: &mut Context,
        now: Instant,
        server: usize,
        bundle: usize,
        notify: &MapNotify,
    ) {
        let period = cx.timers.register_interval;
        // What was not merged comes back as it was sent, whatever others registered.
        if let Some(config) = self.servers.get(server).map(|s| &s.config).filter(|config| config.merge) {
            let name = config.name.clone();
            self.compare(cx, &name, &notify.records);
        }
        let Some(server) = self.servers.get_mut(server) else { return };
        let Some(bundle) = server.bundles.get_mut(bundle) else { return };
        let accepted: Vec<EidPrefix> = notify.records.iter().filter_map(|r| r.eid.to_prefix().ok()).collect();
        if bundle.may_be_lost() {
            let trust = Trust::heard(cx, now);
            self.trusted.extend(accepted.iter().map(|prefix| (*prefix, trust)));
        }
        let refused: Vec<EidPrefix> =
            bundle.prefixes.iter().copied().filter(|prefix| !accepted.contains(prefix)).collect();
        for prefix in refused.iter().filter(|prefix| !bundle.refused.contains(prefix)) {
            cx.event(Event::RegistrationRefused { map_server: server.config.name.clone(), prefix: *prefix });
        }
        if !bundle.confirmed || server.unreachable {
            cx.event(Event::RegistrationConfirmed {
                map_server: server.config.name.clone(),
                prefixes: bundle.prefixes.len() - refused.len(),
                took: bundle.last_sent.map_or(Duration::ZERO, |sent| now.saturating_since(sent)),
            });
        }
        server.unreachable = false;
        bundle.refused = refused;
        bundle.confirmed = true;
        bundle.forget_earlier();
        bundle.unanswered = 0;
        bundle.attempts = 0;
        bundle.outstanding.clear();
        bundle.last_notified = Some(now);
        bundle.notified += 1;
        let sent = bundle.last_sent.unwrap_or(now);
        bundle.wake = sent + cx.between(period - period / 10, period);
    }

    /// Compares what a Map-Server tells of our prefixes with what we registered there.
    fn compare(&mut self, cx: &mut Context, map_server: &str, told: &[EidRecord]) {
        let Some(server) = self.servers.iter_mut().find(|s| s.config.name == map_server) else { return };
        for record in told {
            let Ok(prefix) = record.eid.to_prefix() else { continue };
            // That what may move is now registered by somebody else is no contradiction.
            let mut ours = server.bundles.iter().filter(|b| !b.mobile).flat_map(|b| &b.records);
            let Some(own) = ours.find(|own| own.eid == record.eid) else { continue };
            if agree(own, record, server.config.merge) {
                server.contradicted.remove(&prefix);
            } else if server.contradicted.insert(prefix) {
                let map_server = server.config.name.clone();
                cx.event(Event::RegistrationContradicted { map_server, prefix });
            }
        }
    }

    fn answered(&self, nonce: Nonce) -> Option<Answered> {
        for (s, server) in self.servers.iter().enumerate() {
            if let Some(b) = server.bundles.iter().position(|b| b.outstanding.contains(&nonce)) {
                return Some(Answered::Bundle(s, b));
            }
        }
        self.withdrawals.iter().position(|w| w.outstanding.contains(&nonce)).map(Answered::Withdrawal)
    }
}

/// Whether a Map-Server tells what we registered: our locators as they are and, unless it merges, no others.
fn agree(own: &EidRecord, told: &EidRecord, merge: bool) -> bool {
    let says = |l: &LocatorRecord| (l.priority, l.weight, l.mpriority, l.mweight);
    let same = |l: &LocatorRecord| {
        told.locators.iter().find(|t| t.address == l.address).is_some_and(|t| says(t) == says(l))
    };
    own.locators.iter().all(same) && (merge || told.locators.len() <= own.locators.len())
}
