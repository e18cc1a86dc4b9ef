//! Map-Requests as received: where they came from, and where the Map-Reply goes.

use std::net::{IpAddr, SocketAddr};

use crate::types::Instant;
use crate::wire::{EidRecord, MapReply, MapRequest, Message};

use super::context::{Context, DATA_PORT, is_unicast};
use super::stats::{DropReason, MessageKind};

/// ITR-RLOCs that are looked at; no more fit the message (RFC 9301 §5.2).
const MAX_ITR_RLOCS: usize = 32;

/// Bytes of a Map-Reply for each byte of the Map-Request that one RLOC may draw without a limit in bytes.
const FREE_AMPLIFICATION: usize = 3;

/// How a Map-Request came.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Origin {
    /// Outer source.
    pub(crate) peer: SocketAddr,
    /// Outer destination: one of our addresses.
    pub(crate) local: SocketAddr,
    /// Inner source, when the Map-Request was encapsulated (RFC 9301 §5.8).
    pub(crate) inner: Option<SocketAddr>,
    /// Bytes of the Map-Request, without the encapsulation.
    pub(crate) len: usize,
}

impl Origin {
    /// Where the Map-Reply has to go: the source port of the Map-Request itself (RFC 9301 §5.5).
    fn reply_port(&self) -> u16 {
        self.inner.unwrap_or(self.peer).port()
    }
}

/// Picks the ITR-RLOC that a Map-Reply goes to (RFC 9301 §5.5): the sender itself if it is listed, else the
/// first that `reachable` says can be talked to, else the first.
pub(crate) fn reply_rloc(
    request: &MapRequest,
    peer: SocketAddr,
    reachable: impl Fn(&IpAddr) -> bool,
) -> Option<IpAddr> {
    let rlocs: Vec<IpAddr> = request
        .itr_rlocs
        .iter()
        .take(MAX_ITR_RLOCS)
        .filter_map(|address| address.to_ip())
        .filter(is_unicast)
        .collect();
    let listed = rlocs.iter().find(|rloc| **rloc == peer.ip() && reachable(rloc));
    listed.or_else(|| rlocs.iter().find(|rloc| reachable(rloc))).or_else(|| rlocs.first()).copied()
}

/// Sends a Map-Reply with `records` to the requester, within the rate limits.
pub(crate) fn reply(
    cx: &mut Context,
    now: Instant,
    origin: &Origin,
    request: &MapRequest,
    records: Vec<EidRecord>,
    reachable: impl Fn(&IpAddr) -> bool,
) {
    let (rloc, port) = if request.probe {
        // A probe is answered to where it came from (RFC 9301 §7.1).
        (origin.peer.ip(), origin.peer.port())
    } else {
        let Some(rloc) = reply_rloc(request, origin.peer, reachable) else {
            return cx.drop(DropReason::RequestNoRloc, Some(origin.peer));
        };
        (rloc, origin.reply_port())
    };
    if port == 0 || port == DATA_PORT {
        return cx.drop(DropReason::RequestPort, Some(origin.peer));
    }
    // Probes repeat by their nature; what one RLOC may draw of them is bounded by its share of all replies.
    let record = records.first().filter(|_| !request.probe).and_then(|record| record.eid.to_prefix().ok());
    if !cx.admit(rloc, record, origin.peer, now) {
        return;
    }
    // The address that was asked answers, where the family allows; else the kernel's choice passes uRPF
    // checks.
    let source = Some(origin.local.ip())
        .filter(|addr| origin.inner.is_none() && is_unicast(addr) && addr.is_ipv4() == rloc.is_ipv4());
    // E: who answers for its own site echoes nonces (RFC 9301 §5.4); a Map-Server can't say that of others.
    let ours = records.iter().any(|record| record.authoritative && !record.locators.is_empty());
    let echo_nonce = ours && cx.options.echo_nonce.is_some();
    let (probe, nonce) = (request.probe, request.nonce);
    let reply = MapReply { probe, echo_nonce, nonce, records, ..MapReply::default() };
    let to = SocketAddr::new(rloc, port);
    let payload = match Message::MapReply(reply).encode() {
        Ok(payload) => payload,
        Err(error) => return cx.drop_with(DropReason::Encode, Some(to), error.to_string()),
    };
    // What came from the very address may well be of somebody who is there and asks, but sources can be
    // forged, too.
    let likely = origin.inner.is_none() && origin.peer.ip() == rloc;
    let free = likely && payload.len() <= origin.len.saturating_mul(FREE_AMPLIFICATION);
    if !free && !cx.limiter.admit_unverified(rloc, payload.len(), now) {
        return cx.drop(DropReason::RateUnverified, Some(origin.peer));
    }
    cx.send_encoded(MessageKind::MapReply, source, to, payload);
}
