//! Which message is for which machine.

use std::net::SocketAddr;

use crate::proto::context::CONTROL_PORT;
use crate::proto::mapping_system::Question;
use crate::proto::request::{Origin, reply_rloc};
use crate::proto::stats::{DropReason, MessageKind};
use crate::proto::xtr::etr;
use crate::types::{EidPrefix, Instant, Rloc};
use crate::wire::{
    Address, CACHE_SYNC, CACHE_SYNC_ACK, DecodeError, Ecm, MapRequest, Message, MessageType, peek_type,
    sub_type,
};

use super::plane::ControlPlane;

/// Records of one Map-Request that are worked on. A sender must send one (RFC 9301 §5.2).
const MAX_RECORDS: usize = 8;

impl ControlPlane {
    pub(super) fn datagram(
        &mut self,
        now: Instant,
        source: SocketAddr,
        destination: SocketAddr,
        payload: &[u8],
    ) {
        if matches!(sub_type_of(payload), Some(CACHE_SYNC | CACHE_SYNC_ACK)) {
            return self.synchronise(now, (source, destination), payload);
        }
        let message = match Message::decode(payload) {
            Ok(message) => message,
            Err(error) => return self.malformed(source, &error),
        };
        self.cx.statistics.count_received(MessageKind::from(&message));
        let cx = &mut self.cx;
        match message {
            Message::Ecm(ecm) => self.encapsulated(now, source, destination, ecm),
            Message::MapRequest(request) => {
                let origin = Origin { peer: source, local: destination, inner: None, len: payload.len() };
                self.map_request(now, origin, request, payload, None);
            }
            Message::MapReply(reply) => match &mut self.itr {
                Some(itr) => itr.map_reply(cx, now, reply, source, &self.database),
                None => cx.drop(DropReason::NoRole, Some(source)),
            },
            Message::MapRegister(register) => match &mut self.mapping_system.server {
                Some(server) => server.map_register(cx, now, register, payload, source, destination),
                None => cx.drop(DropReason::NoRole, Some(source)),
            },
            Message::MapNotify(notify) if self.config.etr.is_some() => {
                let told = self.registrar.map_notify(cx, now, notify, payload, source);
                self.told_of_moves(now, &told);
            }
            Message::MapNotifyAck(ack) => match &mut self.mapping_system.server {
                Some(server) => server.map_notify_ack(cx, now, &ack, payload, source),
                None => cx.drop(DropReason::NoRole, Some(source)),
            },
            Message::MapReferral(referral) => {
                self.mapping_system.map_referral(cx, now, &referral, source, self.database.table());
            }
            Message::MapNotify(_)
            | Message::Info(_)
            | Message::SharedExtension(_)
            | Message::CacheSync(_)
            | Message::CacheSyncAck(_) => cx.drop(DropReason::NoRole, Some(source)),
        }
    }

    /// A message of another xTR of the site: nothing of it is decoded before it is known to be authentic.
    fn synchronise(&mut self, now: Instant, addresses: (SocketAddr, SocketAddr), payload: &[u8]) {
        match (&mut self.sync, &mut self.itr) {
            (Some(sync), Some(itr)) => {
                sync.receive(&mut self.cx, now, payload, addresses, itr, &self.database);
            }
            _ => self.cx.drop(DropReason::SyncStranger, Some(addresses.0)),
        }
    }

    fn malformed(&mut self, source: SocketAddr, error: &DecodeError) {
        self.cx.drop_with(DropReason::from(error), Some(source), error.to_string());
    }

    /// RFC 9301 §5.8. Only Map-Requests are encapsulated in what is built here.
    fn encapsulated(&mut self, now: Instant, source: SocketAddr, destination: SocketAddr, ecm: Ecm) {
        if ecm.ddt && !self.mapping_system.refers() {
            return self.cx.drop(DropReason::EcmDdt, Some(source));
        }
        match Message::decode(&ecm.payload) {
            Ok(Message::MapRequest(request)) => {
                let payload = ecm.payload.clone();
                let inner = Some(ecm.source);
                let origin = Origin { peer: source, local: destination, inner, len: payload.len() };
                if ecm.ddt {
                    return self.ddt_request(now, &origin, &request, ecm);
                }
                self.map_request(now, origin, request, &payload, Some(ecm));
            }
            Ok(_) => self.cx.drop(DropReason::EcmContent, Some(source)),
            Err(error) => self.malformed(source, &error),
        }
    }

    /// Of a Map-Resolver that follows referrals (RFC 8111 §5). It asks for one EID.
    fn ddt_request(&mut self, now: Instant, origin: &Origin, request: &MapRequest, ecm: Ecm) {
        let peer = Some(origin.peer);
        if !self.cx.admit_request(origin.peer, now) {
            return;
        }
        if request.probe {
            return self.cx.drop(DropReason::ProbeMisdirected, peer);
        }
        if request.smr || request.dont_map_reply {
            return self.cx.drop(DropReason::RequestNoReply, peer);
        }
        let Some(record) = request.records.first() else {
            return self.cx.drop(DropReason::RequestEmpty, peer);
        };
        let asked = match record.to_prefix() {
            Ok(prefix) => prefix,
            Err(error) => return self.cx.drop_with(DropReason::RequestEid, peer, error.to_string()),
        };
        // To whom it is passed on, it is a Map-Request like others.
        let ecm = Ecm { ddt: false, ..ecm };
        let local = self.database.table();
        let question = Question { origin, request, eid: asked.first(), asked, ecm: &ecm, ddt: true, local };
        self.mapping_system.ddt_request(&mut self.cx, now, &question);
    }

    fn map_request(
        &mut self,
        now: Instant,
        origin: Origin,
        request: MapRequest,
        encoded: &[u8],
        ecm: Option<Ecm>,
    ) {
        let peer = Some(origin.peer);
        if !self.cx.admit_request(origin.peer, now) {
            return;
        }
        if request.records.is_empty() {
            return self.cx.drop(DropReason::RequestEmpty, peer);
        }
        if request.probe && ecm.is_some() {
            // RFC 9301 §5.8: MUST NOT.
            return self.cx.drop(DropReason::ProbeMisdirected, peer);
        }
        let mut asked: Vec<EidPrefix> = Vec::new();
        for record in request.records.iter().take(MAX_RECORDS) {
            match record.to_prefix() {
                Ok(prefix) => asked.push(prefix),
                Err(error) => self.cx.drop_with(DropReason::RequestEid, peer, error.to_string()),
            }
        }
        if request.records.len() > MAX_RECORDS {
            self.cx.drop(DropReason::RequestRecords, peer);
        }
        if request.smr {
            return self.solicit(now, &origin, &request, &asked);
        }
        if request.dont_map_reply {
            return self.cx.drop(DropReason::RequestNoReply, peer);
        }
        if self.config.etr.is_none() && !self.mapping_system.is_active() {
            return self.cx.drop(DropReason::NoRole, peer);
        }
        // Whoever knows more specifically answers: the site itself, or the mapping system.
        let (ours, others): (Vec<EidPrefix>, Vec<EidPrefix>) =
            asked.into_iter().partition(|prefix| self.is_ours(prefix));
        if !ours.is_empty() {
            etr::answer(&mut self.cx, now, &origin, &request, &ours, &self.database);
            let rlocs: Vec<Rloc> = request.itr_rlocs.iter().filter_map(Address::to_ip).collect();
            for asked in &ours {
                let entry = self.database.home_of(asked).map_or(*asked, |(prefix, _)| prefix);
                self.solicitor.answered(now, &rlocs, &entry, request.smr_invoked);
            }
            if let Some(itr) = &mut self.itr
                && let Ok(source) = request.source_eid.to_eid()
                && !request.probe
            {
                let ours = ours.first().map(|prefix| prefix.first().addr);
                let rlocs = self.database.rlocs();
                let rloc = reply_rloc(&request, origin.peer, |addr| rlocs.reaches(addr));
                match rloc.filter(|_| itr.gleans()) {
                    Some(rloc) => {
                        itr.unverified(&mut self.cx, now, source, ours, rloc, &self.database);
                    }
                    None => itr.expect(&mut self.cx, now, source, ours, &self.database),
                }
            }
        }
        let is_proxy_etr = self.config.etr.as_ref().is_some_and(|etr| !etr.proxy_for.is_empty());
        if request.probe && is_proxy_etr && !others.is_empty() {
            return etr::answer_as_proxy(&mut self.cx, now, &origin, &request, &others);
        }
        let nothing_of_ours = ours.is_empty();
        for prefix in others {
            if !self.mapping_system.is_active() {
                if request.probe && nothing_of_ours {
                    // There is an ETR here, so it answers (RFC 9301 §5.2), although it has nothing to say of
                    // the prefix.
                    etr::answer(&mut self.cx, now, &origin, &request, &[], &self.database);
                    return;
                }
                let detail = prefix.to_string();
                self.cx.drop_with(DropReason::RequestNotOurs, peer, detail);
                continue;
            }
            let ecm = match &ecm {
                Some(ecm) => ecm.clone(),
                // Wrapped up as if it had come encapsulated, in case that it is forwarded.
                None => Ecm {
                    ddt: false,
                    security: None,
                    source: inner_source(&origin, &prefix),
                    destination: SocketAddr::new(prefix.first().addr, CONTROL_PORT),
                    payload: encoded.to_vec(),
                },
            };
            let question = Question {
                origin: &origin,
                request: &request,
                eid: prefix.first(),
                asked: prefix,
                ecm: &ecm,
                ddt: false,
                local: self.database.table(),
            };
            self.mapping_system.map_request(&mut self.cx, now, &question);
        }
    }

    /// Whether the ETR answers for `prefix`.
    fn is_ours(&self, prefix: &EidPrefix) -> bool {
        if self.config.etr.is_none() {
            return false;
        }
        let entry = self.database.answering(prefix);
        entry.is_some_and(|(ours, _)| Some(ours.len()) >= self.mapping_system.longest_known(&prefix.first()))
    }

    /// An SMR (RFC 9301 §6.1). Senders differ on where they put the prefix whose mapping changed: it is the
    /// EID-record, or the source EID when the record names the EID here that they talk to.
    fn solicit(&mut self, now: Instant, origin: &Origin, request: &MapRequest, asked: &[EidPrefix]) {
        let Some(itr) = &mut self.itr else {
            return self.cx.drop(DropReason::NoRole, Some(origin.peer));
        };
        let rlocs = self.database.rlocs();
        let source_eid = request.source_eid.to_eid().ok().map(|eid| eid.to_prefix());
        let mut known = false;
        for prefix in asked.iter().copied().chain(source_eid) {
            known |= itr.solicited(&mut self.cx, now, &prefix, origin.peer, rlocs);
        }
        if !known {
            self.cx.drop(DropReason::SmrNotCached, Some(origin.peer));
        }
    }
}

/// The inner source of a Map-Request that came bare: the requester, if of the EID's family.
fn inner_source(origin: &Origin, prefix: &EidPrefix) -> SocketAddr {
    let ip = origin.peer.ip();
    let ip = match prefix.first().addr {
        std::net::IpAddr::V4(_) if !ip.is_ipv4() => std::net::Ipv4Addr::UNSPECIFIED.into(),
        std::net::IpAddr::V6(_) if !ip.is_ipv6() => std::net::Ipv6Addr::UNSPECIFIED.into(),
        _ => ip,
    };
    SocketAddr::new(ip, origin.peer.port())
}

/// The sub-type of a Shared Extension.
fn sub_type_of(payload: &[u8]) -> Option<u16> {
    (peek_type(payload) == Ok(MessageType::SharedExtension)).then(|| sub_type(payload)).flatten()
}
