//! The DDT node: says who knows more about an EID, without knowing any mapping (RFC 8111 §7.1).
//!
//! Owns: the prefixes that the node is authoritative for, what it delegated or knows by hints, and the
//! contents of Map-Referrals, also those of a Map-Server (§7.2). Forwarding to ETRs is the Map-Server's.

use std::net::IpAddr;

use crate::proto::config::{DdtConfig, DdtDelegation, DdtNodeConfig};
use crate::proto::eid_table::EidTable;
use crate::types::{Action, Eid, EidPrefix, MapVersion, Nonce, Ttl};
use crate::wire::{Address, EidRecord, LocatorRecord, MapReferral, ReferralRecord};

use super::free_prefix::{PrefixSet, free_prefix};
use super::map_server::MapServer;

/// Times to live of referrals (RFC 8111 §6.4, §8.3.1).
const TTL_NODE: Ttl = Ttl(1440);
const TTL_REGISTERED: Ttl = Ttl(1440);
const TTL_NEGATIVE: Ttl = Ttl(15);
const TTL_NOT_REGISTERED: Ttl = Ttl(1);

/// What a Map-Referral says (RFC 8111 §6.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Referral {
    /// Ask these DDT nodes.
    Node,
    /// Ask these Map-Servers.
    MapServer,
    /// The Map-Server forwarded the Map-Request to an ETR, or answered it.
    Acknowledged,
    /// The site has not registered.
    NotRegistered,
    /// Nobody has this prefix.
    Hole,
    /// The wrong node was asked.
    NotAuthoritative,
}

impl Referral {
    /// Every one, by code point.
    pub const ALL: [Self; 6] = [
        Self::Node,
        Self::MapServer,
        Self::Acknowledged,
        Self::NotRegistered,
        Self::Hole,
        Self::NotAuthoritative,
    ];

    /// The RFC's name, in lower case.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Node => "node-referral",
            Self::MapServer => "ms-referral",
            Self::Acknowledged => "ms-ack",
            Self::NotRegistered => "ms-not-registered",
            Self::Hole => "delegation-hole",
            Self::NotAuthoritative => "not-authoritative",
        }
    }

    pub(crate) const fn bits(self) -> u8 {
        match self {
            Self::Node => 0,
            Self::MapServer => 1,
            Self::Acknowledged => 2,
            Self::NotRegistered => 3,
            Self::Hole => 4,
            Self::NotAuthoritative => 5,
        }
    }

    /// `None` = unassigned.
    pub(crate) const fn from_bits(bits: u8) -> Option<Self> {
        Some(match bits {
            0 => Self::Node,
            1 => Self::MapServer,
            2 => Self::Acknowledged,
            3 => Self::NotRegistered,
            4 => Self::Hole,
            5 => Self::NotAuthoritative,
            _ => return None,
        })
    }
}

/// Map-Referrals by what they say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReferralCounts([u64; Referral::ALL.len()]);

impl ReferralCounts {
    /// One more.
    pub(crate) fn count(&mut self, referral: Referral) {
        if let Some(count) = self.0.get_mut(usize::from(referral.bits())) {
            *count += 1;
        }
    }

    /// How many of each, by code point.
    pub fn iter(&self) -> impl Iterator<Item = (Referral, u64)> {
        Referral::ALL.into_iter().zip(self.0)
    }
}

/// The answer to a DDT Map-Request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) referral: Referral,
    pub(crate) prefix: EidPrefix,
    ttl: Ttl,
    incomplete: bool,
    to: Vec<IpAddr>,
}

/// The role's state.
#[derive(Debug, Default)]
pub(crate) struct DdtNode {
    authoritative: EidTable<()>,
    /// Those of hints, too.
    delegations: EidTable<DdtDelegation>,
    /// Map-Servers of the same EID-prefixes.
    peers: Vec<IpAddr>,
}

impl DdtNode {
    pub(crate) fn new(config: &DdtConfig) -> Self {
        let mut node = Self { peers: config.map_server_peers.clone(), ..Self::default() };
        let DdtNodeConfig { authoritative, delegations } = config.node.clone().unwrap_or_default();
        for prefix in authoritative {
            node.authoritative.insert(prefix, ());
        }
        for delegation in delegations {
            node.delegations.insert(delegation.prefix, delegation);
        }
        node
    }

    /// What is to be said of the first EID of `asked` (RFC 8111 §8.3.1), by a node that is a Map-Server too
    /// if there is one. `own` is where the question came to.
    pub(crate) fn answer(&self, asked: &EidPrefix, server: Option<&MapServer>, own: IpAddr) -> Answer {
        let eid = &asked.first();
        let delegation = self.delegations.longest(eid);
        let owned = server.and_then(|server| Some((server.longest_owned(eid)?, server)));
        let len = |prefix: Option<EidPrefix>| prefix.map(|p| p.len());
        if let Some((prefix, server)) = owned
            && Some(prefix.len()) >= len(delegation.map(|(p, _)| p))
        {
            return self.of_site(eid, prefix, server, own);
        }
        if let Some((prefix, delegation)) = delegation {
            let referral = if delegation.map_servers { Referral::MapServer } else { Referral::Node };
            let to = delegation.to.clone();
            return Answer { referral, prefix, ttl: TTL_NODE, incomplete: false, to };
        }
        if self.authoritative.longest(eid).is_some() {
            // §7.1.2: the least specific prefix that has nothing delegated.
            let mut sets: Vec<&dyn PrefixSet> = vec![&self.authoritative, &self.delegations];
            sets.extend(server.map(|server| server.table() as &dyn PrefixSet));
            let prefix = free_prefix(eid, &sets);
            return Answer {
                referral: Referral::Hole,
                prefix,
                ttl: TTL_NEGATIVE,
                incomplete: false,
                to: vec![],
            };
        }
        // §6.1: the prefix of the request, and a time to live of 0.
        Answer {
            referral: Referral::NotAuthoritative,
            prefix: *asked,
            ttl: Ttl(0),
            incomplete: true,
            to: vec![],
        }
    }

    /// Of a prefix that a site of our Map-Server has (RFC 8111 §7.2).
    fn of_site(&self, eid: &Eid, prefix: EidPrefix, server: &MapServer, own: IpAddr) -> Answer {
        let incomplete = self.peers.is_empty();
        if server.longest_registered(eid).is_some_and(|registered| registered.len() >= prefix.len()) {
            // What is delegated elsewhere is not ours to acknowledge; longest_owned left out other sites of
            // ours.
            let prefix = free_prefix(eid, &[&Within(prefix), &self.delegations, &Owned(server)]);
            let mut to = vec![own];
            to.extend(self.peers.iter().filter(|peer| **peer != own));
            let referral = Referral::Acknowledged;
            return Answer { referral, prefix, ttl: TTL_REGISTERED, incomplete, to };
        }
        // §7.3.2: the least specific prefix in which there is no registration.
        let prefix = free_prefix(eid, &[&Within(prefix), &self.delegations, server.table()]);
        let to = self.peers.iter().copied().filter(|peer| *peer != own).collect();
        Answer { referral: Referral::NotRegistered, prefix, ttl: TTL_NOT_REGISTERED, incomplete, to }
    }
}

impl Answer {
    pub(crate) fn message(&self, nonce: Nonce) -> MapReferral {
        let locators = self.to.iter().map(|address| LocatorRecord {
            priority: 1,
            weight: 100,
            mpriority: 255,
            mweight: 0,
            local: false,
            probe: false,
            reachable: true,
            address: Address::from(*address),
        });
        let record = EidRecord {
            ttl: self.ttl,
            action: Action::from_bits(self.referral.bits()),
            authoritative: true,
            version: MapVersion::NONE,
            eid: self.prefix.into(),
            locators: locators.collect(),
        };
        let record = ReferralRecord { incomplete: self.incomplete, record, signatures: Vec::new() };
        MapReferral { nonce, records: vec![record] }
    }
}

/// One prefix, as a set.
pub(super) struct Within(pub(super) EidPrefix);

impl PrefixSet for Within {
    fn longest_member(&self, eid: &Eid) -> Option<EidPrefix> {
        Some(self.0).filter(|prefix| prefix.contains(eid))
    }

    fn any_strictly_within(&self, prefix: &EidPrefix) -> bool {
        self.0 != *prefix && prefix.covers(&self.0)
    }
}

/// The prefixes that sites of a Map-Server have by configuration.
struct Owned<'a>(&'a MapServer);

impl PrefixSet for Owned<'_> {
    fn longest_member(&self, eid: &Eid) -> Option<EidPrefix> {
        self.0.longest_owned(eid)
    }

    fn any_strictly_within(&self, prefix: &EidPrefix) -> bool {
        self.0.table().strictly_within(prefix).any(|(_, known)| known.owner.is_some())
    }
}

#[cfg(test)]
mod tests {
    use ipnet::IpNet;

    use super::*;
    use crate::types::InstanceId;

    fn p(text: &str) -> EidPrefix {
        EidPrefix::from(text.parse::<IpNet>().unwrap())
    }

    fn asked(text: &str) -> EidPrefix {
        match text.contains('/') {
            true => p(text),
            false => Eid::new(InstanceId::DEFAULT, text.parse().unwrap()).to_prefix(),
        }
    }

    fn ddt(node: DdtNodeConfig) -> DdtNode {
        DdtNode::new(&DdtConfig { node: Some(node), ..DdtConfig::default() })
    }

    fn node() -> DdtNode {
        let delegation = |prefix, to: &str, map_servers| DdtDelegation {
            prefix: p(prefix),
            to: vec![to.parse().unwrap()],
            map_servers,
        };
        ddt(DdtNodeConfig {
            authoritative: vec![p("10.0.0.0/8")],
            delegations: vec![
                delegation("10.0.0.0/16", "192.0.2.1", false),
                delegation("10.1.0.0/16", "192.0.2.2", true),
                delegation("0.0.0.0/0", "192.0.2.9", false),
            ],
        })
    }

    fn told(node: &DdtNode, of: &str) -> (Referral, EidPrefix, Ttl, bool) {
        let answer = node.answer(&asked(of), None, "192.0.2.100".parse().unwrap());
        (answer.referral, answer.prefix, answer.ttl, answer.incomplete)
    }

    /// Input: EIDs in delegated prefixes, to nodes and to Map-Servers. Output: NODE-REFERRAL, MS-REFERRAL
    /// (RFC 8111 §7.1.1).
    #[test]
    fn delegations_are_referred_to() {
        let node = node();
        assert_eq!(told(&node, "10.0.5.1"), (Referral::Node, p("10.0.0.0/16"), Ttl(1440), false));
        assert_eq!(told(&node, "10.1.5.1"), (Referral::MapServer, p("10.1.0.0/16"), Ttl(1440), false));
        assert_eq!(told(&node, "11.0.0.1"), (Referral::Node, p("0.0.0.0/0"), Ttl(1440), false), "a hint");
    }

    /// Input: an EID of an authoritative prefix that is delegated to nobody. Output: DELEGATION-HOLE with the
    /// least specific prefix that has no delegation, for 15 minutes (RFC 8111 §7.1.2).
    #[test]
    fn what_nobody_has_is_a_hole() {
        let mut config = DdtNodeConfig { authoritative: vec![p("10.0.0.0/8")], delegations: Vec::new() };
        config.delegations.push(DdtDelegation { prefix: p("10.0.0.0/16"), to: vec![], map_servers: false });
        let node = ddt(config);
        assert_eq!(told(&node, "10.128.0.1"), (Referral::Hole, p("10.128.0.0/9"), Ttl(15), false));
        assert_eq!(told(&node, "10.1.0.1"), (Referral::Hole, p("10.1.0.0/16"), Ttl(15), false));
    }

    /// Input: an EID outside of everything, and an EID-prefix. Output: NOT-AUTHORITATIVE with what was asked
    /// for, incomplete, for no time (RFC 8111 §6.1).
    #[test]
    fn a_node_says_what_is_none_of_its_business() {
        let node = node();
        let expected = (Referral::NotAuthoritative, p("2001:db8::1/128"), Ttl(0), true);
        assert_eq!(told(&node, "2001:db8::1"), expected);
        let node = ddt(DdtNodeConfig { authoritative: vec![p("10.0.0.0/8")], delegations: Vec::new() });
        let expected = (Referral::NotAuthoritative, p("172.16.0.0/16"), Ttl(0), true);
        assert_eq!(told(&node, "172.16.0.0/16"), expected);
    }
}
