//! Virtual routers: `[[vrrp]]`, and what cases change of them.

use std::time::Duration;

use super::read::Reader;
use super::*;
use crate::config::{At, FromText as _, InterfaceName, RawVirtualRouter, Section};
use crate::types::Family;

/// The name of every tunnel router's interface to its site.
pub(in crate::sim) const LAN: &str = "lan";

/// What a case says of virtual routers.
pub(super) fn change(section: &Section<'_>) -> VrrpChange {
    VrrpChange {
        interval: section.text("vrrp-interval").map(|i| i.value),
        versions: section.text("vrrp-version").map(|v| v.value),
        preempt: section.bool("vrrp-preempt").map(|p| p.value),
        preempt_delay: section.text("vrrp-preempt-delay").map(|d| d.value),
        backup_priority: section.integer("vrrp-backup-priority", 1..=254).map(|n| n.value as u8),
    }
}

impl VrrpChange {
    /// What a virtual router is like in the case; `first` says whether it is that of its site's first tunnel
    /// router.
    pub(in crate::sim) fn applied(&self, router: VirtualRouterConfig, first: bool) -> VirtualRouterConfig {
        VirtualRouterConfig {
            interval: self.interval.unwrap_or(router.interval),
            versions: self.versions.unwrap_or(router.versions),
            preempt: self.preempt.unwrap_or(router.preempt),
            preempt_delay: self.preempt_delay.unwrap_or(router.preempt_delay),
            priority: self.backup_priority.filter(|_| !first).unwrap_or(router.priority),
            ..router
        }
    }
}

impl<'a> Reader<'a> {
    /// Reads every `[[vrrp]]`. What one may say, alone and with what cases say, is what a router's
    /// configuration may.
    pub(super) fn virtual_routers(&mut self, root: &Section<'a>) {
        for section in root.sections("vrrp") {
            section.require("vrid", "give its number, 1 to 255");
            section.require("addresses", "give the addresses that hosts have as their gateway");
            let site = self.site_of(&section);
            let raw = RawVirtualRouter {
                place: section.place().clone(),
                interface: InterfaceName::from_text(LAN)
                    .ok()
                    .map(|value| At { value, place: section.place().clone() }),
                vrid: section.integer("vrid", 1..=255),
                addresses: section.texts("addresses"),
                priority: None,
                interval: section.text("interval"),
                versions: section.text("version"),
                preempt: section.bool("preempt"),
                preempt_delay: section.text("preempt-delay"),
                checksum: None,
                virtual_mac: None,
                track_interfaces: None,
                track_locators: section.bool("track-locators"),
                decrement: section.integer("decrement", 1..=254),
            };
            let config = raw.checked(self.problems);
            let (Some(site), Some(config), false) = (site, config, section.bad()) else {
                section.finish();
                continue;
            };
            self.check_cases(&section, &raw);
            self.check_site(&section, site, &config);
            section.finish();
            if let Some(site) = self.scenario.sites.get_mut(site) {
                site.vrrp.push(config);
            }
        }
    }

    /// Whether it can be what cases make of it.
    fn check_cases(&self, section: &Section<'_>, raw: &RawVirtualRouter) {
        let place = section.place();
        for change in self.scenario.cases.iter().map(|case| &case.vrrp) {
            if change.interval.is_none() && change.versions.is_none() {
                continue;
            }
            let at = |interval: Duration| At { value: interval, place: place.clone() };
            let interval = change.interval.map(at).or_else(|| raw.interval.clone());
            let versions = change.versions.map(|value| At { value, place: place.clone() });
            let versions = versions.or_else(|| raw.versions.clone());
            RawVirtualRouter { interval, versions, ..raw.clone() }.checked(self.problems);
        }
    }

    fn check_site(&self, section: &Section<'_>, site: usize, config: &VirtualRouterConfig) {
        let Some(site) = self.scenario.sites.get(site) else { return };
        let family = config.key.family;
        if site.vrrp.iter().any(|other| other.key.family == family) {
            let message = format!("{} has a virtual router of {family} already", site.name);
            section.error("site", message, "give all addresses of one family to one virtual router");
        }
        for id in &site.gateways {
            let Some(node) = self.scenario.nodes.get(*id as usize) else { continue };
            let NodeKind::Xtr { lan, .. } = &node.kind else { continue };
            if family == Family::Ipv4 && !lan.iter().any(|address| address.is_ipv4()) {
                let message = format!("{} has no IPv4 address on the LAN", node.name);
                section.error("site", message, "give it `lan-addresses`");
            }
        }
    }
}
