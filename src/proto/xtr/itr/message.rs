//! Map-Requests as an ITR sends them to a Map-Resolver.
//!
//! Owns: where the answer may go, and the encapsulated control message around the request. Must not know why
//! it is sent.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::proto::context::{CONTROL_PORT, Context, is_unicast};
use crate::proto::stats::DropReason;
use crate::proto::xtr::database::LocalRlocs;
use crate::types::{Eid, Family};
use crate::wire::{Address, Ecm, MapRequest, Message};

/// ITR-RLOCs that fit a Map-Request (RFC 9301 §5.2).
const MAX_ITR_RLOCS: usize = 32;

/// Where a Map-Reply may go: each of our locators, best first.
pub(in crate::proto::xtr) fn itr_rlocs(local: &LocalRlocs) -> Vec<Address> {
    local
        .all()
        .iter()
        .filter(|addr| is_unicast(addr))
        .take(MAX_ITR_RLOCS)
        .map(|addr| Address::from(*addr))
        .collect()
}

/// Sends a Map-Request to a Map-Resolver in an encapsulated control message (RFC 9301 §5.8). The inner
/// destination is the EID; the inner source is of its family: one of our locators, else the EID that asks.
pub(super) fn send_request(
    cx: &mut Context,
    request: &MapRequest,
    eid: Eid,
    source_eid: Option<IpAddr>,
    (from, resolver): (Option<IpAddr>, IpAddr),
    local: &LocalRlocs,
) {
    let family = Family::of(&eid.addr);
    let inner_source = local
        .of_family(family)
        .or(source_eid.filter(|addr| Family::of(addr) == family))
        .unwrap_or(match family {
            Family::Ipv4 => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            Family::Ipv6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        });
    let payload = match Message::MapRequest(request.clone()).encode() {
        Ok(payload) => payload,
        Err(error) => return cx.drop_with(DropReason::Encode, None, error.to_string()),
    };
    let ecm = Ecm {
        ddt: false,
        security: None,
        source: SocketAddr::new(inner_source, CONTROL_PORT),
        destination: SocketAddr::new(eid.addr, CONTROL_PORT),
        payload,
    };
    cx.send(from, SocketAddr::new(resolver, CONTROL_PORT), &Message::Ecm(ecm));
}
