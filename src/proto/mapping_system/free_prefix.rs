//! The least specific prefix around an EID that touches nothing known (RFC 9301 §8.4): what a negative
//! Map-Reply may claim, so that ITRs need as few negative entries as possible.

use ipnet::IpNet;

use crate::proto::eid_table::EidTable;
use crate::types::{Eid, EidPrefix};

/// A set of EID-prefixes.
pub(crate) trait PrefixSet {
    /// The longest member that contains `eid`.
    fn longest_member(&self, eid: &Eid) -> Option<EidPrefix>;
    /// Whether a member lies strictly inside `prefix`.
    fn any_strictly_within(&self, prefix: &EidPrefix) -> bool;
}

impl<T> PrefixSet for EidTable<T> {
    fn longest_member(&self, eid: &Eid) -> Option<EidPrefix> {
        self.longest(eid).map(|(prefix, _)| prefix)
    }

    fn any_strictly_within(&self, prefix: &EidPrefix) -> bool {
        self.strictly_within(prefix).next().is_some()
    }
}

/// The least specific prefix that contains `eid`, lies within the longest member of `sets` that contains it,
/// if there is one, and has no other member inside it.
pub(crate) fn free_prefix(eid: &Eid, sets: &[&dyn PrefixSet]) -> EidPrefix {
    let host = eid.to_prefix();
    let within = sets.iter().filter_map(|set| set.longest_member(eid)).map(|prefix| prefix.len()).max();
    // The longer a prefix, the less is inside it: search for the first length with nothing. A host prefix has
    // nothing strictly inside.
    let (mut low, mut high) = (within.unwrap_or(0), host.len());
    while low < high {
        let middle = low + (high - low) / 2;
        let candidate = shortened(eid, middle);
        if sets.iter().any(|set| set.any_strictly_within(&candidate)) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    shortened(eid, low)
}

fn shortened(eid: &Eid, len: u8) -> EidPrefix {
    match IpNet::new(eid.addr, len) {
        Ok(net) => EidPrefix::new(eid.iid, net),
        // Never: lengths come from prefixes of the same family.
        Err(_) => eid.to_prefix(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::types::InstanceId;

    fn p(text: &str) -> EidPrefix {
        EidPrefix::from(text.parse::<IpNet>().unwrap())
    }

    fn free(eid: &str, known: &[&str]) -> String {
        let mut table = EidTable::default();
        for k in known {
            table.insert(p(k), ());
        }
        free_prefix(&Eid::new(InstanceId::DEFAULT, eid.parse().unwrap()), &[&table]).to_string()
    }

    #[test]
    fn holes_are_as_large_as_possible() {
        assert_eq!(free("10.1.2.3", &[]), "0.0.0.0/0");
        assert_eq!(free("10.1.2.3", &["192.168.0.0/16"]), "0.0.0.0/1");
        assert_eq!(free("192.169.0.1", &["192.168.0.0/16"]), "192.169.0.0/16");
        assert_eq!(free("10.1.2.3", &["10.0.0.0/8"]), "10.0.0.0/8");
        assert_eq!(free("10.1.2.3", &["10.0.0.0/8", "10.1.0.0/24"]), "10.1.2.0/23");
        assert_eq!(free("10.1.2.3", &["10.1.2.3/32"]), "10.1.2.3/32");
        assert_eq!(free("10.1.2.3", &["10.1.2.2/32"]), "10.1.2.3/32");
        assert_eq!(free("2001:db8::1", &["2001:db8:1::/48"]), "2001:db8::/48");
        assert_eq!(free("2001:db8::1", &["10.0.0.0/8"]), "::/0");
    }

    /// Prefixes and EIDs in a small space, so that they meet often: 203.0.113.0/24, or the last 8 bits of
    /// IPv6.
    fn addr(v6: bool, low: u8) -> std::net::IpAddr {
        if v6 {
            std::net::Ipv6Addr::from(0x2001_0db8_u128 << 96 | u128::from(low)).into()
        } else {
            std::net::Ipv4Addr::from([203, 0, 113, low]).into()
        }
    }

    proptest! {
        #[test]
        fn agrees_with_trying_every_length(
            members in proptest::collection::vec((any::<bool>(), any::<u8>(), 0u8..=10), 0..12),
            v6 in any::<bool>(),
            low in any::<u8>(),
        ) {
            let mut table = EidTable::default();
            let mut list = Vec::new();
            for (v6, low, bits) in members {
                let addr = addr(v6, low);
                let full = if v6 { 128 } else { 32 };
                // Mostly lengths near the end; 10 stands for the whole space.
                let len = if bits == 10 { 0 } else { full - bits.min(9) };
                let prefix = EidPrefix::from(IpNet::new(addr, len).unwrap());
                table.insert(prefix, ());
                list.push(prefix);
            }
            let eid = Eid::new(InstanceId::DEFAULT, addr(v6, low));
            let found = free_prefix(&eid, &[&table]);
            let longest = list.iter().filter(|m| m.contains(&eid)).max_by_key(|m| m.len());
            // Reference: the shortest length at which every member either covers the candidate or is disjoint
            // from it.
            let expected = (0..=if v6 { 128u8 } else { 32 })
                .map(|len| EidPrefix::from(IpNet::new(eid.addr, len).unwrap()))
                .find(|candidate| {
                    longest.is_none_or(|l| l.covers(candidate))
                        && list.iter().all(|m| m == candidate || !candidate.covers(m))
                })
                .unwrap();
            prop_assert_eq!(found, expected);
        }
    }
}
