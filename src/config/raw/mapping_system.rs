//! The sections of a Map-Server and a Map-Resolver.

use crate::config::problem::{At, Place};
use crate::config::tree::Section;
use crate::proto::config::Host;
use crate::types::EidPrefix;

use super::{RawKey, read_eid_prefix, read_keys};

/// `[[site]]`
#[derive(Clone, Debug)]
pub struct RawSite {
    /// The section.
    pub place: Place,
    /// `name`, required.
    pub name: Option<At<String>>,
    /// Its key, with the keys of [`RawKey`] in the section itself or, for several, in `[[site.key]]`.
    pub keys: Vec<RawKey>,
    /// `eid-prefixes`, a list as `["10.1.0.0/16", "[7]10.1.0.0/16"]` (in brackets the instance ID), and
    /// `[[site.eid-prefix]]` with `prefix` (required), `instance-id` (default 0) and `accept-more-specifics`
    /// (default false). At least one prefix is required. The flag is the last of these.
    pub prefixes: Vec<(At<EidPrefix>, bool)>,
    /// `allow-repeated-nonce`: accept registrations that never change their nonce, without protection against
    /// replay. Default false.
    pub allow_repeated_nonce: bool,
    /// Some prefixes could not be read.
    pub incomplete: bool,
}

/// `[[forward]]`
#[derive(Clone, Debug)]
pub struct RawForward {
    /// `prefix`, required, with `instance-id` (default 0).
    pub prefix: Option<At<EidPrefix>>,
    /// `map-servers`, required: addresses or DNS names; the first that resolves is used.
    pub hosts: Option<At<Vec<At<Host>>>>,
}

impl RawSite {
    pub(super) fn read(s: Section<'_>, list: &mut Vec<Self>) -> bool {
        let mut ok = true;
        s.require("name", "name the site");
        let listed = s.texts::<EidPrefix>("eid-prefixes").map_or_else(Vec::new, |l| l.value);
        let mut prefixes: Vec<_> = listed.into_iter().map(|prefix| (prefix, false)).collect();
        for section in s.sections("eid-prefix") {
            section.require("prefix", "give the EID-prefix, as 10.1.0.0/16");
            let prefix = read_eid_prefix(&section);
            let more_specifics = section.bool("accept-more-specifics").is_some_and(|a| a.value);
            prefixes.extend(prefix.map(|prefix| (prefix, more_specifics)));
            ok &= section.finish();
        }
        let keys = read_keys(&s, "site.key", &mut ok);
        let site = Self {
            place: s.place().clone(),
            name: s.text("name"),
            keys,
            prefixes,
            allow_repeated_nonce: s.bool("allow-repeated-nonce").is_some_and(|a| a.value),
            incomplete: false,
        };
        ok &= s.finish();
        list.push(Self { incomplete: !ok, ..site });
        ok
    }
}

impl RawForward {
    pub(super) fn read(s: Section<'_>, list: &mut Vec<Self>) -> bool {
        s.require("prefix", "give the EID-prefix that the Map-Servers serve, as 10.0.0.0/8");
        s.require("map-servers", "give the Map-Servers' addresses or DNS names");
        let hosts = s.texts("map-servers");
        if hosts.as_ref().is_some_and(|h| h.value.is_empty()) && !s.bad() {
            s.error("map-servers", "is empty", "give the Map-Servers' addresses or DNS names");
        }
        list.push(Self { prefix: read_eid_prefix(&s), hosts });
        s.finish()
    }
}
