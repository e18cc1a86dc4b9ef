//! A table by EID-prefix with longest-prefix match, per instance and family.

use std::collections::BTreeMap;
use std::ops::Bound;

use ipnet::IpNet;
use prefix_trie::joint::JointPrefixMap;

use crate::types::{Eid, EidPrefix, InstanceId};

/// EID-prefix → `T`. Iteration is ordered by instance, family and prefix.
#[derive(Clone, Debug)]
pub(crate) struct EidTable<T> {
    instances: BTreeMap<InstanceId, JointPrefixMap<IpNet, T>>,
    len: usize,
}

impl<T> Default for EidTable<T> {
    fn default() -> Self {
        Self { instances: BTreeMap::new(), len: 0 }
    }
}

impl<T> EidTable<T> {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Whether there is any prefix of this instance.
    pub(crate) fn has_instance(&self, iid: InstanceId) -> bool {
        self.instances.contains_key(&iid)
    }

    pub(crate) fn get(&self, prefix: &EidPrefix) -> Option<&T> {
        self.instances.get(&prefix.iid)?.get(&prefix.net)
    }

    pub(crate) fn get_mut(&mut self, prefix: &EidPrefix) -> Option<&mut T> {
        self.instances.get_mut(&prefix.iid)?.get_mut(&prefix.net)
    }

    pub(crate) fn insert(&mut self, prefix: EidPrefix, value: T) -> Option<T> {
        let old = self.instances.entry(prefix.iid).or_default().insert(prefix.net, value);
        self.len += usize::from(old.is_none());
        old
    }

    pub(crate) fn remove(&mut self, prefix: &EidPrefix) -> Option<T> {
        let table = self.instances.get_mut(&prefix.iid)?;
        let old = table.remove(&prefix.net)?;
        self.len = self.len.saturating_sub(1);
        if table.is_empty() {
            self.instances.remove(&prefix.iid);
        }
        Some(old)
    }

    /// The longest prefix that contains `eid`.
    pub(crate) fn longest(&self, eid: &Eid) -> Option<(EidPrefix, &T)> {
        self.longest_covering(&eid.to_prefix())
    }

    /// The longest prefix that is `prefix` or covers it.
    pub(crate) fn longest_covering(&self, prefix: &EidPrefix) -> Option<(EidPrefix, &T)> {
        let (net, value) = self.instances.get(&prefix.iid)?.get_lpm(&prefix.net)?;
        Some((EidPrefix { iid: prefix.iid, net }, value))
    }

    /// Every prefix that is `prefix` or covers it, least specific first.
    pub(crate) fn covering(&self, prefix: &EidPrefix) -> impl Iterator<Item = (EidPrefix, &T)> {
        let iid = prefix.iid;
        self.instances
            .get(&iid)
            .into_iter()
            .flat_map(move |table| table.cover(&prefix.net))
            .map(move |(net, value)| (EidPrefix { iid, net }, value))
    }

    /// Every prefix that is `prefix` or inside it, in order.
    pub(crate) fn within(&self, prefix: &EidPrefix) -> impl Iterator<Item = (EidPrefix, &T)> {
        let iid = prefix.iid;
        self.instances
            .get(&iid)
            .into_iter()
            .flat_map(move |table| table.children(&prefix.net))
            .map(move |(net, value)| (EidPrefix { iid, net }, value))
    }

    /// Every prefix strictly inside `prefix`, in order.
    pub(crate) fn strictly_within(&self, prefix: &EidPrefix) -> impl Iterator<Item = (EidPrefix, &T)> {
        let outer = *prefix;
        self.within(prefix).filter(move |(inner, _)| *inner != outer)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (EidPrefix, &T)> {
        self.instances.iter().flat_map(|(iid, table)| {
            table.iter().map(move |(net, value)| (EidPrefix { iid: *iid, net }, value))
        })
    }

    /// What [`iter`](Self::iter) gives after `after`, which need not be there.
    pub(crate) fn iter_after(&self, after: EidPrefix) -> impl Iterator<Item = (EidPrefix, &T)> {
        let this = self.instances.get(&after.iid).into_iter().flat_map(move |table| {
            let v4 = match after.net {
                IpNet::V4(net) => Some(table.t1.iter_from(&net, false)),
                IpNet::V6(_) => None,
            };
            let v6 = match after.net {
                IpNet::V4(_) => table.t2.iter(),
                IpNet::V6(net) => table.t2.iter_from(&net, false),
            };
            let v4 = v4.into_iter().flatten().map(|(net, value)| (IpNet::V4(net), value));
            v4.chain(v6.map(|(net, value)| (IpNet::V6(net), value)))
                .map(move |(net, value)| (EidPrefix { iid: after.iid, net }, value))
        });
        let others = self.instances.range((Bound::Excluded(after.iid), Bound::Unbounded));
        this.chain(others.flat_map(|(iid, table)| {
            table.iter().map(move |(net, value)| (EidPrefix { iid: *iid, net }, value))
        }))
    }

    pub(crate) fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.instances.values_mut().flat_map(JointPrefixMap::values_mut)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn p(text: &str) -> EidPrefix {
        EidPrefix::from(text.parse::<IpNet>().unwrap())
    }

    #[test]
    fn instances_and_families_are_kept_apart() {
        let mut table = EidTable::default();
        let seven = InstanceId::new(7).unwrap();
        table.insert(p("0.0.0.0/0"), 1);
        table.insert(p("10.0.0.0/8"), 2);
        table.insert(EidPrefix::new(seven, "10.0.0.0/8".parse().unwrap()), 3);
        table.insert(p("::/0"), 4);
        let at = |iid, addr: &str| table.longest(&Eid::new(iid, addr.parse().unwrap())).map(|(_, v)| *v);
        assert_eq!(at(InstanceId::DEFAULT, "10.1.1.1"), Some(2));
        assert_eq!(at(InstanceId::DEFAULT, "11.1.1.1"), Some(1));
        assert_eq!(at(seven, "10.1.1.1"), Some(3));
        assert_eq!(at(seven, "11.1.1.1"), None);
        assert_eq!(at(InstanceId::DEFAULT, "2001:db8::1"), Some(4));
        assert_eq!(table.within(&p("0.0.0.0/0")).count(), 2);
        assert_eq!(table.strictly_within(&p("0.0.0.0/0")).count(), 1);
        assert_eq!(table.covering(&p("10.1.0.0/16")).map(|(_, v)| *v).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(table.len(), 4);
    }

    #[test]
    fn iteration_goes_on_after_any_prefix() {
        let mut table = EidTable::default();
        let seven = |s: &str| EidPrefix::new(InstanceId::new(7).unwrap(), s.parse().unwrap());
        for prefix in ["10.0.0.0/8", "10.0.0.0/16", "10.1.0.0/16", "192.0.2.0/24", "2001:db8::/32"] {
            table.insert(p(prefix), ());
            table.insert(seven(prefix), ());
        }
        let all: Vec<EidPrefix> = table.iter().map(|(prefix, ())| prefix).collect();
        assert_eq!(all.len(), 10);
        for (at, prefix) in all.iter().enumerate() {
            let after: Vec<EidPrefix> = table.iter_after(*prefix).map(|(prefix, ())| prefix).collect();
            assert_eq!(after, all[at + 1..], "after {prefix}");
            // The place stays, although what stood there is gone.
            let mut without = table.clone();
            without.remove(prefix);
            let after: Vec<EidPrefix> = without.iter_after(*prefix).map(|(prefix, ())| prefix).collect();
            assert_eq!(after, all[at + 1..], "after {prefix}, which is gone");
        }
    }

    #[test]
    fn removal_gives_everything_back() {
        let mut table = EidTable::default();
        table.insert(p("10.0.0.0/8"), 1);
        assert_eq!(table.insert(p("10.0.0.0/8"), 2), Some(1));
        assert_eq!(table.len(), 1);
        assert_eq!(table.remove(&p("10.0.0.0/9")), None);
        assert_eq!(table.remove(&p("10.0.0.0/8")), Some(2));
        assert_eq!((table.len(), table.instances.len()), (0, 0));
    }
}
