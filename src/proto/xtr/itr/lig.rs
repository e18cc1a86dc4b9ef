//! Questions to the mapping system that leave the map-cache alone: those of a person, and where a prefix is
//! that may have moved.
//!
//! Owns: these questions, their retransmission, and their answers until they are taken.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::proto::context::Context;
use crate::proto::control::{LigAnswer, LigError, Output};
use crate::proto::stats::DropReason;
use crate::proto::xtr::database::LocalRlocs;
use crate::types::{Eid, EidPrefix, Instant, Mapping, Nonce};
use crate::wire::{EidRecord, MapReply, MapRequest};

use super::Itr;
use super::message::{itr_rlocs, send_request};

/// Map-Requests of a lig before it gives up.
const LIG_REQUESTS: u32 = 3;
/// Ligs under way at once, and questions where EID-prefixes are that may have moved.
const MAX_LIGS: usize = 64;
const MAX_LOCATES: usize = 4096;

/// What the mapping system says of an EID-prefix that may have moved.
#[derive(Debug)]
pub(crate) struct Located {
    pub(crate) prefix: EidPrefix,
    pub(crate) why: Locating,
    /// The mapping around it, and who answered; `None` where nobody did.
    pub(crate) answer: Option<(Mapping, SocketAddr)>,
}

/// What is to be known of an EID-prefix that may have moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Locating {
    /// Where it is.
    Now,
    /// Where it was before it came here.
    Before,
}

/// The questions.
#[derive(Debug, Default)]
pub(super) struct Ligs {
    under_way: BTreeMap<Nonce, Lig>,
    /// Where EID-prefixes are, that was asked by [`Itr::locate`].
    located: Vec<Located>,
}

/// One question.
#[derive(Debug)]
pub(super) struct Lig {
    asker: Asker,
    eid: Eid,
    via: Option<IpAddr>,
    asked: IpAddr,
    requests: u32,
    sent: Instant,
    wake: Instant,
}

/// Who wants to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asker {
    /// A command, with its number.
    Command(u64),
    /// Mobility, of this prefix.
    Mobility(EidPrefix, Locating),
}

impl Ligs {
    /// The question that a Map-Reply with this nonce answers.
    pub(super) fn take(&mut self, nonce: Nonce) -> Option<Lig> {
        self.under_way.remove(&nonce)
    }

    pub(super) fn next(&self) -> Option<Instant> {
        self.under_way.values().map(|lig| lig.wake).min()
    }
}

impl Itr {
    pub(crate) fn lig(
        &mut self,
        cx: &mut Context,
        now: Instant,
        id: u64,
        eid: Eid,
        via: Option<IpAddr>,
        local: &LocalRlocs,
    ) {
        let commands = self.ligs.under_way.values().filter(|lig| matches!(lig.asker, Asker::Command(_)));
        if commands.count() >= MAX_LIGS {
            cx.outputs.push_back(Output::LigReply { id, result: Err(LigError::Busy) });
            return;
        }
        let nonce = cx.nonce();
        let asked = via.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        let asker = Asker::Command(id);
        let lig = Lig { asker, eid, via, asked, requests: 0, sent: now, wake: now };
        self.send_lig(cx, now, nonce, lig, local);
    }

    /// Asks the mapping system where `prefix` is, which may have moved. What it says comes by
    /// [`Self::take_located`].
    pub(crate) fn locate(
        &mut self,
        cx: &mut Context,
        now: Instant,
        (prefix, why): (EidPrefix, Locating),
        local: &LocalRlocs,
    ) {
        let asker = Asker::Mobility(prefix, why);
        if self.ligs.under_way.len() >= MAX_LOCATES {
            return self.lig_failed(cx, asker, LigError::Busy);
        }
        let nonce = cx.nonce();
        let asked = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        let lig = Lig { asker, eid: prefix.first(), via: None, asked, requests: 0, sent: now, wake: now };
        self.send_lig(cx, now, nonce, lig, local);
    }

    /// Whether there is something to take.
    pub(crate) fn has_located(&self) -> bool {
        !self.ligs.located.is_empty()
    }

    /// What came of [`Self::locate`].
    pub(crate) fn take_located(&mut self) -> Vec<Located> {
        std::mem::take(&mut self.ligs.located)
    }

    /// A Map-Reply answers a question.
    pub(super) fn lig_reply(
        &mut self,
        cx: &mut Context,
        now: Instant,
        lig: &Lig,
        reply: MapReply,
        source: SocketAddr,
    ) {
        let took = now.saturating_since(lig.sent);
        self.resolvers.answered(cx, now, lig.asked, (lig.requests == 1).then_some(took));
        let id = match lig.asker {
            Asker::Command(id) => id,
            Asker::Mobility(prefix, why) => {
                return self.locate_reply(cx, (prefix, why), &reply.records, source);
            }
        };
        let answer = LigAnswer {
            records: reply.records,
            responder: source,
            map_resolver: lig.asked,
            rtt: took,
            requests: lig.requests,
        };
        cx.outputs.push_back(Output::LigReply { id, result: Ok(answer) });
    }

    fn locate_reply(
        &mut self,
        cx: &mut Context,
        (prefix, why): (EidPrefix, Locating),
        records: &[EidRecord],
        source: SocketAddr,
    ) {
        let mappings = self.mappings(cx, records, source);
        let eid = prefix.first();
        let answer = mappings.into_iter().filter(|m| m.eid.contains(&eid)).max_by_key(|m| m.eid.len());
        if answer.is_none() {
            cx.drop_with(DropReason::ReplyNotCovering, Some(source), format!("{prefix} was asked for"));
        }
        self.ligs.located.push(Located { prefix, why, answer: answer.map(|mapping| (mapping, source)) });
    }

    /// Asks again what was not answered in time, or gives up.
    pub(super) fn retry_ligs(&mut self, cx: &mut Context, now: Instant, local: &LocalRlocs) {
        let due = self.ligs.under_way.iter().filter(|(_, lig)| lig.wake <= now);
        let due: Vec<Nonce> = due.map(|(nonce, _)| *nonce).collect();
        for nonce in due {
            let Some(lig) = self.ligs.take(nonce) else { continue };
            if lig.requests >= LIG_REQUESTS {
                self.lig_failed(cx, lig.asker, LigError::TimedOut);
            } else {
                self.send_lig(cx, now, nonce, lig, local);
            }
        }
    }

    /// The role ends: nobody is answered any more.
    pub(super) fn stop_ligs(&mut self, cx: &mut Context) {
        for (_, lig) in std::mem::take(&mut self.ligs.under_way) {
            self.lig_failed(cx, lig.asker, LigError::NoItr);
        }
    }

    fn lig_failed(&mut self, cx: &mut Context, asker: Asker, error: LigError) {
        match asker {
            Asker::Command(id) => cx.outputs.push_back(Output::LigReply { id, result: Err(error) }),
            Asker::Mobility(prefix, why) => self.ligs.located.push(Located { prefix, why, answer: None }),
        }
    }

    fn send_lig(&mut self, cx: &mut Context, now: Instant, nonce: Nonce, mut lig: Lig, local: &LocalRlocs) {
        let resolver = match lig.via {
            Some(_) if local.all().is_empty() => Err(LigError::NoLocalRloc),
            Some(via) => Ok(via),
            None => {
                let last = (lig.requests > 0).then_some(lig.asked);
                if let Some(last) = last {
                    self.resolvers.unanswered(cx, now, last, lig.sent);
                }
                self.resolvers.choose(cx, &lig.eid, last, local)
            }
        };
        match resolver {
            Err(error) => self.lig_failed(cx, lig.asker, error),
            Ok(resolver) => {
                let asked = match lig.asker {
                    Asker::Command(_) => lig.eid.to_prefix(),
                    Asker::Mobility(prefix, _) => prefix,
                };
                let request = MapRequest {
                    nonce,
                    itr_rlocs: itr_rlocs(local),
                    records: vec![asked.into()],
                    ..MapRequest::default()
                };
                let from = local.control_source(&resolver, lig.requests as usize);
                send_request(cx, &request, lig.eid, None, (from, resolver), local);
                if lig.via.is_none() {
                    self.resolvers.asked(cx, now, resolver);
                }
                lig.asked = resolver;
                lig.requests += 1;
                lig.sent = now;
                lig.wake = now + cx.timers.request_retry;
                self.ligs.under_way.insert(nonce, lig);
            }
        }
    }
}
