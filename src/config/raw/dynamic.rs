//! `[[dynamic-eid]]`: EID-prefixes that may move.

use std::time::Duration;

use crate::config::problem::{At, Place};
use crate::config::tree::Section;
use crate::config::value::InterfaceName;
use crate::types::{EidPrefix, Ttl};

use super::{RawLocators, read_eid_prefix, read_ttl};

/// `[[dynamic-eid]]`
#[derive(Clone, Debug)]
pub struct RawDynamicEid {
    /// The section.
    pub place: Place,
    /// `prefix`, required, with `instance-id` (default 0).
    pub prefix: Option<At<EidPrefix>>,
    /// `ttl`: how long the mapping of what is here may be cached, as of
    /// [`RawEidPrefix`](super::RawEidPrefix). Default 60.
    pub ttl: Ttl,
    /// `map-servers`: names of those that what is here is registered with. Default: all.
    pub map_servers: Option<At<Vec<At<String>>>>,
    /// `interface`: the site's interface that hosts are at. Default: the kernel's routes tell.
    pub interface: Option<At<InterfaceName>>,
    /// `limit`: most EID-prefixes that may be here at once, 1 to 10000. Default 1000.
    pub limit: Option<At<u64>>,
    /// `redirect-time`: how long packets are sent on to where an EID-prefix has moved, 1 s to 1 d. Default 2
    /// minutes.
    pub redirect_time: Option<At<Duration>>,
    /// `detect`: whether hosts are found by what they send. Default false.
    pub detect: Option<At<bool>>,
    /// `detect-rate`: hosts per second that are taken in so, at most, 1 to 10000. Default 20.
    pub detect_rate: Option<At<u64>>,
    /// `detect-timeout`: a host that has not answered for so long is gone, 2 s to 1 d. Default 1 minute.
    pub detect_timeout: Option<At<Duration>>,
    /// `[[dynamic-eid.locator]]`: its own locators instead of the common ones.
    pub locators: Option<RawLocators>,
}

impl RawDynamicEid {
    /// TTL where none is given: shorter than that of what stays.
    const DEFAULT_TTL: Ttl = Ttl(60);

    pub(super) fn read(s: Section<'_>, list: &mut Vec<Self>) -> bool {
        s.require("prefix", "give the EID-prefix of what may move, as 10.1.0.0/16");
        list.push(Self {
            place: s.place().clone(),
            prefix: read_eid_prefix(&s),
            ttl: read_ttl(&s, "ttl").unwrap_or(Self::DEFAULT_TTL),
            map_servers: s.texts("map-servers"),
            interface: s.text("interface"),
            limit: s.integer("limit", 1..=10_000),
            redirect_time: s.text("redirect-time"),
            detect: s.bool("detect"),
            detect_rate: s.integer("detect-rate", 1..=10_000),
            detect_timeout: s.text("detect-timeout"),
            locators: s.has("locator").then(|| RawLocators::read(&s, "locator")),
        });
        s.finish()
    }
}
