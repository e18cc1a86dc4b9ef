//! `[[vrrp]]`: virtual routers.

use std::net::IpAddr;
use std::time::Duration;

use super::problem::{At, Place, Problems};
use super::raw::RawConfig;
use super::tree::Section;
use super::value::InterfaceName;
use crate::proto::redundancy::vrrp::config::{Checksum, Key, Tracked, Versions, VirtualRouterConfig};
use crate::types::Family;

/// The shortest interval, a centisecond, which is what version 3 counts in.
const SHORTEST: Duration = Duration::from_millis(10);
/// The longest, which 12 bits can tell.
const LONGEST: Duration = Duration::from_millis(40_950);
/// How much lower the priority is for each thing that is lost, where nothing else is said.
const DECREMENT: u64 = 60;

/// `[[vrrp]]`
#[derive(Clone, Debug)]
pub struct RawVirtualRouter {
    /// The section.
    pub place: Place,
    /// `interface`, required.
    pub interface: Option<At<InterfaceName>>,
    /// `vrid`, required: 1 to 255.
    pub vrid: Option<At<u64>>,
    /// `addresses`, required: the virtual router's addresses, of one family; of IPv6, the first is
    /// link-local.
    pub addresses: Option<At<Vec<At<IpAddr>>>>,
    /// `priority`: 1 to 254, or 255 for the owner of the addresses. Default 100.
    pub priority: Option<At<u64>>,
    /// `interval`: between advertisements, 10 ms to 40.95 s; with version 2, whole seconds. Default 1 s.
    pub interval: Option<At<Duration>>,
    /// `version`: `"2"`, `"3"` or `"both"`. Default `"3"`.
    pub versions: Option<At<Versions>>,
    /// `preempt`: whether a master of lower priority is replaced. Default true.
    pub preempt: Option<At<bool>>,
    /// `preempt-delay`: how long it is left in peace first. Default not at all.
    pub preempt_delay: Option<At<Duration>>,
    /// `checksum`: of version 3 over IPv4, `"pseudo-header"` or `"message-only"`. Default `"pseudo-header"`.
    pub checksum: Option<At<Checksum>>,
    /// `virtual-mac`: whether the addresses have the virtual router's MAC address. Default true, but for the
    /// owner.
    pub virtual_mac: Option<At<bool>>,
    /// `track-interfaces`: interfaces whose loss lowers the priority.
    pub track_interfaces: Option<At<Vec<At<InterfaceName>>>>,
    /// `track-locators`: whether the loss of all locators of the site does so too. Default false.
    pub track_locators: Option<At<bool>>,
    /// `decrement`: by how much each loss lowers it, 1 to 254. Default 60.
    pub decrement: Option<At<u64>>,
}

impl RawVirtualRouter {
    pub(super) fn read(s: Section<'_>, list: &mut Vec<Self>) -> bool {
        s.require("interface", "name the site's interface that the virtual router is on");
        s.require("vrid", "give the number that all routers of the group have, 1 to 255");
        s.require("addresses", "give the addresses that hosts have as their gateway");
        list.push(Self {
            place: s.place().clone(),
            interface: s.text("interface"),
            vrid: s.integer("vrid", 1..=255),
            addresses: s.texts("addresses"),
            priority: s.integer("priority", 1..=255),
            interval: s.text("interval"),
            versions: s.text("version"),
            preempt: s.bool("preempt"),
            preempt_delay: s.text("preempt-delay"),
            checksum: s.text("checksum"),
            virtual_mac: s.bool("virtual-mac"),
            track_interfaces: s.texts("track-interfaces"),
            track_locators: s.bool("track-locators"),
            decrement: s.integer("decrement", 1..=254),
        });
        s.finish()
    }

    /// What the values mean together; `None` where that can't be told. Notes contradictions.
    pub(crate) fn checked(&self, problems: &Problems<'_>) -> Option<VirtualRouterConfig> {
        let (interface, vrid) = (self.interface.as_ref()?, self.vrid.as_ref()?);
        let given = self.addresses.as_ref()?;
        let addresses: Vec<IpAddr> = given.value.iter().map(|address| address.value).collect();
        let Some(first) = addresses.first() else {
            problems.error(&given.place, "is empty", "give the addresses that hosts have as their gateway");
            return None;
        };
        let family = Family::of(first);
        self.check_addresses(given, family, problems);
        let key = Key {
            interface: interface.value.0.clone(),
            family,
            vrid: u8::try_from(vrid.value).unwrap_or(u8::MAX),
        };
        let new = VirtualRouterConfig::new(key, addresses);
        let byte = |n: &Option<At<u64>>, default| {
            n.as_ref().map_or(default, |n| u8::try_from(n.value).unwrap_or(u8::MAX))
        };
        let decrement = byte(&self.decrement, DECREMENT as u8);
        let interfaces = self.track_interfaces.iter().flat_map(|list| &list.value);
        let tracked =
            interfaces.map(|name| Tracked::Interface { name: name.value.0.clone(), decrement }).chain(
                self.track_locators
                    .as_ref()
                    .is_some_and(|track| track.value)
                    .then_some(Tracked::Locators { decrement }),
            );
        let config = VirtualRouterConfig {
            priority: byte(&self.priority, new.priority),
            interval: self.interval.as_ref().map_or(new.interval, |i| i.value),
            versions: self.versions.as_ref().map_or(new.versions, |v| v.value),
            preempt: self.preempt.as_ref().is_none_or(|p| p.value),
            preempt_delay: self.preempt_delay.as_ref().map_or(new.preempt_delay, |d| d.value),
            checksum: self.checksum.as_ref().map_or(new.checksum, |c| c.value),
            tracked: tracked.collect(),
            virtual_mac: true,
            ..new
        };
        let virtual_mac = self.virtual_mac.as_ref().map_or(!config.is_owner(), |v| v.value);
        let config = VirtualRouterConfig { virtual_mac, ..config };
        self.check_together(&config, problems);
        Some(config)
    }

    fn check_addresses(&self, given: &At<Vec<At<IpAddr>>>, family: Family, problems: &Problems<'_>) {
        if given.value.len() > 255 {
            problems.error(&given.place, "more than 255 addresses", "make several virtual routers of them");
        }
        for (i, address) in given.value.iter().enumerate() {
            let wrong = match address.value {
                a if Family::of(&a) != family => {
                    problems.error(
                        &address.place,
                        format!("{a} is not of the family of the first address"),
                        "make one [[vrrp]] section for IPv4 and one for IPv6",
                    );
                    continue;
                }
                a if a.is_unspecified() || a.is_loopback() || a.is_multicast() => true,
                IpAddr::V4(a) => a.is_broadcast(),
                IpAddr::V6(_) => false,
            };
            if wrong {
                let message = format!("{} is not the address of one host", address.value);
                problems.error(&address.place, message, "give the gateway's address");
            }
            if given.value.iter().take(i).any(|other| other.value == address.value) {
                problems.error(&address.place, "twice in the list", "remove one of the two");
            }
            if let (0, IpAddr::V6(first)) = (i, address.value)
                && !first.is_unicast_link_local()
            {
                problems.error(
                    &address.place,
                    format!("{first} is not link-local"),
                    "begin the list with a link-local address, as fe80::1, that all routers of the group \
                     have in common",
                );
            }
        }
    }

    fn check_together(&self, config: &VirtualRouterConfig, problems: &Problems<'_>) {
        let interval = config.interval;
        if let Some(given) = &self.interval {
            let place = &given.place;
            if !(SHORTEST..=LONGEST).contains(&interval) {
                problems.error(place, format!("{interval:?} can't be"), "give 10ms to 40950ms");
            } else if !interval.as_millis().is_multiple_of(10) {
                let message = format!("{interval:?} is no whole number of centiseconds");
                problems.error(place, message, "round it to 10 ms");
            } else if config.versions == Versions::V2 && !interval.as_millis().is_multiple_of(1000) {
                let message =
                    format!("{interval:?} is no whole number of seconds, which version 2 counts in");
                problems.error(place, message, "give whole seconds, or use version 3");
            }
        }
        if let Some(given) = &self.versions
            && config.key.family == Family::Ipv6
            && config.versions != Versions::V3
        {
            problems.error(&given.place, "version 2 has no IPv6", "leave it out, or give \"3\"");
        }
        if config.is_owner() {
            if let Some(given) = &self.virtual_mac
                && given.value
            {
                problems.error(
                    &given.place,
                    "not possible for the owner, whose addresses are the interface's own",
                    "give priority 254 or less, or virtual-mac = false",
                );
            }
            if !config.tracked.is_empty() {
                problems.error(
                    &self.place,
                    "the owner's priority never changes, so that there is nothing to track for",
                    "give priority 254 or less, or track nothing",
                );
            }
        }
    }
}

/// All virtual routers; notes those that are there twice.
pub(super) fn checked(raw: &RawConfig, problems: &Problems<'_>) -> Vec<VirtualRouterConfig> {
    let mut configs: Vec<VirtualRouterConfig> = Vec::new();
    for one in &raw.vrrp {
        let Some(config) = one.checked(problems) else { continue };
        if configs.iter().any(|other| other.key == config.key) {
            problems.error(&one.place, format!("{} is there twice", config.key), "give it another vrid");
        }
        configs.push(config);
    }
    configs
}
