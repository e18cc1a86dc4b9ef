//! Interworking with the non-LISP Internet (RFC 6832): what a proxy tunnel router is for, and the proxy-ETRs
//! that an ITR sends to.
//!
//! Owns: which locators stand in for those that a natively-forward mapping lacks. Everything that then
//! happens to them, choice, reachability and counters, is the map-cache's, as with any locator.

use crate::fib::{FibUpdate, Proxy};
use crate::proto::config::{ControlConfig, ProxyEtr};
use crate::proto::context::{Context, is_unicast};
use crate::proto::names::Names;
use crate::types::{Action, EidPrefix, Family, Locator, Mapping};

/// Tells the data plane which EID-prefixes this router is a proxy for, and no longer.
pub(crate) fn announce(cx: &mut Context, old: &ControlConfig, new: &ControlConfig) {
    fn of(config: &ControlConfig, proxy: Proxy) -> &[EidPrefix] {
        match proxy {
            Proxy::Ingress => config.itr.as_ref().map(|itr| &itr.proxy_for[..]).unwrap_or_default(),
            Proxy::Egress => config.etr.as_ref().map(|etr| &etr.proxy_for[..]).unwrap_or_default(),
        }
    }
    for proxy in [Proxy::Ingress, Proxy::Egress] {
        let (old, new) = (of(old, proxy), of(new, proxy));
        for &prefix in old.iter().filter(|prefix| !new.contains(prefix)) {
            cx.fib(FibUpdate::Proxy { prefix, proxy, present: false });
        }
        for &prefix in new.iter().filter(|prefix| !old.contains(prefix)) {
            cx.fib(FibUpdate::Proxy { prefix, proxy, present: true });
        }
    }
}

/// The proxy-ETRs of an ITR, with the addresses that their names have at the moment.
#[derive(Debug, Default)]
pub(crate) struct ProxyEtrs {
    known: Vec<(Option<Family>, Locator)>,
}

impl ProxyEtrs {
    /// Takes the configuration and the names' addresses in.
    pub(crate) fn update(&mut self, configured: &[ProxyEtr], names: &Names) {
        let mut known: Vec<(Option<Family>, Locator)> = Vec::new();
        for proxy in configured {
            for address in names.addresses(&proxy.host).iter().filter(|address| is_unicast(address)) {
                let locator = Locator::new(*address, proxy.priority, proxy.weight);
                if !known.iter().any(|(family, l)| *family == proxy.eid_family && l.rloc == *address) {
                    known.push((proxy.eid_family, locator));
                }
            }
        }
        self.known = known;
    }

    /// The locators for EIDs of a family, in ascending order of address.
    fn locators(&self, family: Family) -> Vec<Locator> {
        let mut locators: Vec<Locator> = Vec::new();
        for (_, locator) in self.known.iter().filter(|(only, _)| only.is_none_or(|only| only == family)) {
            if !locators.iter().any(|known| known.rloc == locator.rloc) {
                locators.push(*locator);
            }
        }
        locators.sort_by_key(|locator| locator.rloc);
        locators
    }

    /// Gives a natively-forward mapping the proxy-ETRs as its locators; with none, it stays what it is. Other
    /// mappings lose an action that means nothing beside locators, so that the two can be told apart
    /// ([`Mapping::is_by_proxy`]).
    pub(crate) fn adopt(&self, mapping: &mut Mapping) {
        if !mapping.is_negative() {
            mapping.action = Action::NoAction;
        } else if mapping.action == Action::NativelyForward {
            mapping.locators = self.locators(mapping.eid.family());
        }
    }

    /// The same for a mapping that [`adopt`](Self::adopt) saw before: its locators of now, if they are
    /// others.
    pub(crate) fn changed(&self, mapping: &Mapping) -> Option<Vec<Locator>> {
        if mapping.action != Action::NativelyForward {
            return None;
        }
        let locators = self.locators(mapping.eid.family());
        (locators != mapping.locators).then_some(locators)
    }
}
