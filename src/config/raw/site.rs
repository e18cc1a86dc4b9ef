//! The sections of a tunnel router: its locators, EID-prefixes, keys, mapping systems, proxies, and what data
//! packets say.

use std::path::PathBuf;

use ipnet::IpNet;

use crate::auth::Algorithm;
use crate::config::problem::{At, Place};
use crate::config::tree::Section;
use crate::config::value::{InterfaceName, RlocAddress, SecretText, Variable};
use crate::proto::config::{Host, SourceCheck};
use crate::types::{Action, EidPrefix, Family, InstanceId, MapVersion, SiteId, Ttl, XtrId};

use super::{narrow, read_eid_prefix, read_iid, read_keys, read_ttl};

/// `[router]`
#[derive(Clone, Debug, Default)]
pub struct RawRouter {
    /// `name`: for people.
    pub name: Option<At<String>>,
    /// `xtr-id`: up to 128 bits in hex, sent in registrations (RFC 9301 §5.6).
    pub xtr_id: Option<At<XtrId>>,
    /// `site-id`: up to 64 bits, an integer or in hex as a string. Default 0 where `xtr-id` is given.
    pub site_id: Option<At<SiteId>>,
    /// `state-dir`: directory for what must survive a restart. Default `/var/lib/eidolon`.
    pub state_dir: Option<At<PathBuf>>,
}

/// Locators of a set, and whether one was left out because something was wrong with it.
#[derive(Clone, Debug, Default)]
pub struct RawLocators {
    /// The locators that could be read.
    pub list: Vec<RawLocator>,
    /// Some could not be read.
    pub incomplete: bool,
}

/// `[[locator]]` and `[[eid-prefix.locator]]`
#[derive(Clone, Debug)]
pub struct RawLocator {
    /// The section.
    pub place: Place,
    /// `address`, or `interface` together with `family` (`"ipv4"`, `"ipv6"`): its first global address is
    /// used, and followed as it changes. Exactly one is required.
    pub source: At<RawLocatorSource>,
    /// `priority`: 0 to 255, lowest wins, 255 = never use. Default 1.
    pub priority: u8,
    /// `weight`: 0 to 100; those of equal priority sum to 100 or are all 0. Default 100.
    pub weight: u8,
    /// `mpriority`: multicast priority. Default 255.
    pub mpriority: u8,
    /// `mweight`: multicast weight. Default 0.
    pub mweight: u8,
    /// `local`: the locator is this router's own, not another's of the same site. Default true.
    pub local: bool,
}

/// Where a locator's address comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RawLocatorSource {
    /// Fixed.
    Address(RlocAddress),
    /// From an interface.
    Interface(InterfaceName, Family),
}

/// `[[eid-prefix]]`
#[derive(Clone, Debug)]
pub struct RawEidPrefix {
    /// The section.
    pub place: Place,
    /// `prefix`, required: as `10.1.0.0/16`, without host bits.
    pub prefix: Option<At<IpNet>>,
    /// `instance-id`: 0 to 16777215. Default 0.
    pub iid: InstanceId,
    /// `ttl`: how long the mapping may be cached: minutes as an integer (1 to 4294967294), or a string with a
    /// unit (`"90min"`, `"1d"`) that is a whole number of minutes. Default 1440.
    pub ttl: Ttl,
    /// `register`: whether it is registered, or only answered for. Default true.
    pub register: bool,
    /// `map-servers`: names of those that it is registered with. Default: all.
    pub map_servers: Option<At<Vec<At<String>>>>,
    /// `map-version`: 1 to 4095, where the operator counts the versions of its mapping. Default: the router
    /// does.
    pub map_version: Option<At<MapVersion>>,
    /// `[[eid-prefix.locator]]`: its own locators instead of the common ones.
    pub locators: Option<RawLocators>,
}

/// `[[map-cache.static]]`
#[derive(Clone, Debug)]
pub struct RawStatic {
    /// The section.
    pub place: Place,
    /// `prefix`, required, with `instance-id` (default 0).
    pub prefix: Option<At<EidPrefix>>,
    /// `action`: `"natively-forward"`, `"drop"`, `"drop/policy-denied"`, `"drop/auth-failure"` or
    /// `"send-map-request"`; or instead of it `locators`.
    pub action: Option<At<Action>>,
    /// `[[map-cache.static.locator]]`: `address` (required), `priority` (default 1) and `weight` (default
    /// 100).
    pub locators: Vec<(At<RlocAddress>, u8, u8)>,
    /// Some of its keys could not be read.
    pub incomplete: bool,
}

/// The keys of a secret: in `[[map-server]]`, `[[site]]` and `[[site.key]]`.
#[derive(Clone, Debug)]
pub struct RawKey {
    /// `key` (the secret itself), `key-file` (a file that contains it; a relative path counts from the
    /// directory of the configuration; line ends at its end don't belong to the secret) or `key-env` (an
    /// environment variable). Exactly one is required.
    pub source: Option<At<RawKeySource>>,
    /// `key-id`: 0 to 255. Default 0.
    pub id: At<u8>,
    /// `algorithm`: `"sha1"`, `"sha256"` or `"sha256-hkdf"`. Default `"sha256"`.
    pub algorithm: Algorithm,
    /// `truncate`: send digests truncated to 96 or 128 bits. Default false.
    pub truncate: bool,
}

/// Where a secret comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RawKeySource {
    /// The configuration itself.
    Inline(SecretText),
    /// A file.
    File(PathBuf),
    /// An environment variable.
    Environment(Variable),
}

/// `[[map-server]]`
#[derive(Clone, Debug)]
pub struct RawMapServer {
    /// The section.
    pub place: Place,
    /// `name`: for `map-servers` of an EID-prefix. Default: the text of `address`.
    pub name: Option<At<String>>,
    /// `address`, required: an address or DNS name.
    pub host: Option<At<Host>>,
    /// Its key, with the keys of [`RawKey`] in the section itself or, for several, in `[[map-server.key]]`:
    /// the first is preferred.
    pub keys: Vec<RawKey>,
    /// `proxy-reply`: it is to answer Map-Requests itself. Default false.
    pub proxy_reply: bool,
    /// `want-notify`: it is to confirm registrations. Default true.
    pub want_notify: bool,
    /// `use-ttl`: it is to time registrations out by the TTL of the EID-prefix. Default false.
    pub use_ttl: bool,
    /// `merge`: it is to merge the locators with those that other xTRs of the site register. Default false.
    pub merge: bool,
}

/// `[[map-resolver]]`
#[derive(Clone, Debug)]
pub struct RawMapResolver {
    /// The section.
    pub place: Place,
    /// `address`, required: an address or DNS name.
    pub host: Option<At<Host>>,
    /// `eid-prefixes`: the EID space that it is asked for, a list as of a `[[site]]`. Prefixes without an
    /// instance ID in brackets are in the instance of `instance-id`. Default: all EIDs that no other
    /// `[[map-resolver]]` is for.
    pub prefixes: Vec<At<EidPrefix>>,
    /// `instance-id`: without `eid-prefixes`, it is asked for all of the instance.
    pub iid: Option<At<InstanceId>>,
}

/// `[[use-petr]]`
#[derive(Clone, Debug)]
pub struct RawProxyEtr {
    /// The section.
    pub place: Place,
    /// `address`, required: an address or DNS name.
    pub host: Option<At<Host>>,
    /// `priority`: 0 to 255, lowest wins, 255 = never use. Default 1.
    pub priority: u8,
    /// `weight`: 0 to 100, share among those of equal priority. Default 100.
    pub weight: u8,
    /// `eid-family`: `"ipv4"` or `"ipv6"`, the EIDs that it is used for. Default: both.
    pub eid_family: Option<Family>,
}

/// `[proxy-itr]` and `[proxy-etr]`
#[derive(Clone, Debug, Default)]
pub struct RawProxy {
    /// The section.
    pub place: Place,
    /// `eid-prefixes`, required with the role: a list as `["10.2.0.0/16", "[7]10.2.0.0/16"]`, in brackets the
    /// instance ID.
    pub prefixes: Option<At<Vec<At<EidPrefix>>>>,
}

/// `[data-header]`
#[derive(Clone, Debug, Default)]
pub struct RawHeader {
    /// `source-check`: `"off"`, `"known"` or `"strict"`. Default `"off"`.
    pub source_check: Option<At<SourceCheck>>,
    /// `locator-status-bits`. Default false.
    pub locator_status: Option<At<bool>>,
    /// `echo-nonce`. Default false.
    pub echo_nonce: Option<At<bool>>,
    /// `map-versioning`. Default false.
    pub map_version: Option<At<bool>>,
    /// `accept-stale-versions`. Default false.
    pub accept_stale: Option<At<bool>>,
}

impl RawRouter {
    pub(super) fn read(s: Section<'_>) -> Self {
        let raw = Self {
            name: s.text("name"),
            xtr_id: s.text("xtr-id"),
            site_id: s.integer_or_text("site-id", 0..=u64::MAX, SiteId),
            state_dir: s.text("state-dir"),
        };
        s.finish();
        raw
    }
}

impl RawLocators {
    pub(super) fn read(parent: &Section<'_>, key: &'static str) -> Self {
        let mut locators = Self::default();
        for section in parent.sections(key) {
            locators.incomplete |= !RawLocator::read(section, &mut locators.list);
        }
        locators
    }
}

impl RawLocator {
    pub(super) fn read(s: Section<'_>, list: &mut Vec<Self>) -> bool {
        let place = s.place().clone();
        match (s.has("address"), s.has("interface"), s.has("family")) {
            (true, true, _) => s.error("interface", "given beside an address", "keep one of the two"),
            (false, false, _) => {
                s.error("address", "missing", "give an address, or an interface and a family")
            }
            (false, true, false) => {
                s.error("family", "missing", "say which address of the interface: \"ipv4\" or \"ipv6\"")
            }
            (true, false, true) => s.error("family", "given beside an address", "leave it out"),
            _ => {}
        }
        let address = s.text("address").map(|a| a.map(RawLocatorSource::Address));
        let (interface, family) = (s.text("interface"), s.text::<Family>("family"));
        let interface = interface.and_then(|name| {
            let family = family?.value;
            Some(name.map(|name| RawLocatorSource::Interface(name, family)))
        });
        let number = |key, most, default| s.integer(key, 0..=most).map_or(default, |n| narrow(n.value));
        let (priority, weight) = (number("priority", 255, 1), number("weight", 100, 100));
        let (mpriority, mweight) = (number("mpriority", 255, 255), number("mweight", 100, 0));
        let local = s.bool("local").is_none_or(|l| l.value);
        if !local && s.has("interface") {
            s.error(
                "local",
                "false, but the interface is this router's",
                "give the other router's address, or leave `local` out",
            );
        }
        if !s.finish() {
            return false;
        }
        list.extend(address.or(interface).map(|source| Self {
            place,
            source,
            priority,
            weight,
            mpriority,
            mweight,
            local,
        }));
        true
    }
}

impl RawEidPrefix {
    /// TTL where none is given: what routers usually use.
    pub(in crate::config) const DEFAULT_TTL: Ttl = Ttl(1440);

    pub(super) fn read(s: Section<'_>, list: &mut Vec<Self>) -> bool {
        s.require("prefix", "give the EID-prefix, as 10.1.0.0/16");
        list.push(Self {
            place: s.place().clone(),
            prefix: s.text("prefix"),
            iid: read_iid(&s).map_or(InstanceId::DEFAULT, |iid| iid.value),
            ttl: read_ttl(&s, "ttl").unwrap_or(Self::DEFAULT_TTL),
            register: s.bool("register").is_none_or(|r| r.value),
            map_servers: s.texts("map-servers"),
            map_version: s.integer("map-version", 1..=4095).map(|n| n.map(|n| MapVersion::new(narrow(n)))),
            locators: s.has("locator").then(|| RawLocators::read(&s, "locator")),
        });
        s.finish()
    }
}

impl RawStatic {
    pub(super) fn read(s: Section<'_>, list: &mut Vec<Self>) -> bool {
        s.require("prefix", "give the EID-prefix that the mapping is for, as 10.1.0.0/16");
        if s.has("action") == s.has("locator") {
            let remedy = "give either an action, or [[map-cache.static.locator]] sections";
            s.error("action", if s.has("action") { "given beside locators" } else { "missing" }, remedy);
        }
        let mut ok = true;
        let mut locators = Vec::new();
        for section in s.sections("locator") {
            section.require("address", "give the locator's address");
            let number =
                |key, most, default| section.integer(key, 0..=most).map_or(default, |n| narrow(n.value));
            let (priority, weight) = (number("priority", 255, 1), number("weight", 100, 100));
            locators.extend(section.text("address").map(|address| (address, priority, weight)));
            ok &= section.finish();
        }
        let mut raw = Self {
            place: s.place().clone(),
            prefix: read_eid_prefix(&s),
            action: s.text("action"),
            locators,
            incomplete: false,
        };
        ok &= s.finish();
        raw.incomplete = !ok;
        list.push(raw);
        ok
    }
}

impl RawKey {
    pub(super) fn read(s: &Section<'_>) -> Self {
        let given = [s.has("key"), s.has("key-file"), s.has("key-env")];
        match given.iter().filter(|g| **g).count() {
            0 => s.error("key", "missing", "give key, key-file or key-env"),
            1 => {}
            _ => s.error("key", "given more than once", "keep one of key, key-file and key-env"),
        }
        let inline = s.text("key").map(|k| k.map(RawKeySource::Inline));
        let file = s.text("key-file").map(|k| k.map(RawKeySource::File));
        let env = s.text("key-env").map(|k| k.map(RawKeySource::Environment));
        Self {
            source: inline.or(file).or(env),
            id: s
                .integer("key-id", 0..=255)
                .map_or_else(|| At { value: 0, place: s.place().child("key-id") }, |n| n.map(narrow)),
            algorithm: s.text("algorithm").map_or(Algorithm::HmacSha256, |a| a.value),
            truncate: s.bool("truncate").is_some_and(|t| t.value),
        }
    }
}

impl RawMapServer {
    pub(super) fn read(s: Section<'_>, list: &mut Vec<Self>) -> bool {
        s.require("address", "give the Map-Server's address or DNS name");
        let mut ok = true;
        let keys = read_keys(&s, "map-server.key", &mut ok);
        list.push(Self {
            place: s.place().clone(),
            name: s.text("name"),
            host: s.text("address"),
            keys,
            proxy_reply: s.bool("proxy-reply").is_some_and(|p| p.value),
            want_notify: s.bool("want-notify").is_none_or(|w| w.value),
            use_ttl: s.bool("use-ttl").is_some_and(|t| t.value),
            merge: s.bool("merge").is_some_and(|m| m.value),
        });
        s.finish() && ok
    }
}

impl RawMapResolver {
    pub(super) fn read(s: Section<'_>, list: &mut Vec<Self>) -> bool {
        s.require("address", "give the Map-Resolver's address or DNS name");
        let iid = read_iid(&s);
        let listed = s.texts::<EidPrefix>("eid-prefixes");
        if listed.as_ref().is_some_and(|l| l.value.is_empty()) && !s.bad() {
            s.error("eid-prefixes", "is empty", "give EID-prefixes, or leave the key out");
        }
        let mut prefixes = listed.map_or_else(Vec::new, |l| l.value);
        if let Some(iid) = &iid {
            for prefix in &mut prefixes {
                if prefix.value.iid.is_default() {
                    prefix.value.iid = iid.value;
                } else if prefix.value.iid != iid.value {
                    s.error(
                        "eid-prefixes",
                        format!("{} is not in instance {}", prefix.value, iid.value),
                        "leave out instance-id or the prefix",
                    );
                }
            }
        }
        list.push(Self { place: s.place().clone(), host: s.text("address"), prefixes, iid });
        s.finish()
    }
}

impl RawProxyEtr {
    pub(super) fn read(s: Section<'_>, list: &mut Vec<Self>) -> bool {
        s.require("address", "give the proxy-ETR's address or DNS name");
        let number = |key, most, default| s.integer(key, 0..=most).map_or(default, |n| narrow(n.value));
        list.push(Self {
            place: s.place().clone(),
            host: s.text("address"),
            priority: number("priority", 255, 1),
            weight: number("weight", 100, 100),
            eid_family: s.text("eid-family").map(|f| f.value),
        });
        s.finish()
    }
}

impl RawProxy {
    pub(super) fn read(s: Section<'_>) -> Self {
        let raw = Self { place: s.place().clone(), prefixes: s.texts("eid-prefixes") };
        s.finish();
        raw
    }
}

impl RawHeader {
    pub(super) fn read(s: Section<'_>) -> Self {
        let raw = Self {
            source_check: s.text("source-check"),
            locator_status: s.bool("locator-status-bits"),
            echo_nonce: s.bool("echo-nonce"),
            map_version: s.bool("map-versioning"),
            accept_stale: s.bool("accept-stale-versions"),
        };
        s.finish();
        raw
    }
}
