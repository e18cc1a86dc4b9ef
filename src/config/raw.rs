//! The sections of a file as they are written: every key, its type and its default. What the keys of different
//! sections demand of each other is checked afterwards.
//!
//! Every key that [`RawConfig`] and its parts name exists under that name, in kebab-case, in the TOML file;
//! `configs/reference.toml` shows all of them. Fields without a default are `Option`s even where the key is required:
//! a file with mistakes is read to its end. Array elements are counted from 1 in messages.

use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use toml::de::DeTable;

use super::model::{DataPlaneConfig, ExternalConfig, LogConfig, ManagementConfig, RoutingMode, Subsystem};
use super::probing::RawProbing;
use super::problem::{At, Place, Problems};
use super::tree::Section;
use super::value::{Bytes, InterfaceName, Mode, RlocAddress, Role, SecretText, Timeout, Variable};
use super::vrrp::RawVirtualRouter;
use crate::auth::Algorithm;
use crate::proto::config::{Host, ResolverSelection, SourceCheck, Timers};
use crate::types::{Action, EidPrefix, Family, InstanceId, MapVersion, SiteId, Ttl, XtrId};

/// A whole file.
#[derive(Clone, Debug, Default)]
pub struct RawConfig {
    /// `roles`, required: `"itr"`, `"etr"`, `"proxy-itr"`, `"proxy-etr"`, `"map-server"`, `"map-resolver"`, in any
    /// combination.
    pub roles: Option<At<Vec<At<Role>>>>,
    /// `[router]`
    pub router: RawRouter,
    /// `[[locator]]`: the locators of every EID-prefix that has none of its own.
    pub locators: RawLocators,
    /// `[[eid-prefix]]`: the site's EID-prefixes.
    pub eid_prefixes: Vec<RawEidPrefix>,
    /// `[[map-server]]`: where an ETR registers.
    pub map_servers: Vec<RawMapServer>,
    /// `[[map-resolver]]`: whom an ITR asks, in order of preference.
    pub map_resolvers: Vec<RawMapResolver>,
    /// `[map-cache]`, `limit`: most entries, 1 to 16777216. Default 100000.
    pub map_cache_limit: Option<At<u64>>,
    /// `[map-cache]`, `idle-timeout`: an entry that no packet has used for so long is forgotten, or `"never"`. Default
    /// one hour.
    pub idle_timeout: Option<At<Timeout>>,
    /// `[[map-cache.static]]`: mappings that the map-cache always has.
    pub statics: Vec<RawStatic>,
    /// `[map-cache]`, `expect-return`: whether the EID for which another ITR asks for one of ours is asked for at once.
    /// Default true.
    pub expect_return: Option<At<bool>>,
    /// `[map-cache]`, `glean`: whether what packets and Map-Requests say of an unknown EID's locator is used for some
    /// seconds, until it is verified. Default false.
    pub glean: Option<At<bool>>,
    /// `[data-header]`
    pub header: RawHeader,
    /// `[[use-petr]]`: proxy-ETRs that an ITR sends to what would be forwarded natively otherwise.
    pub proxy_etrs: Vec<RawProxyEtr>,
    /// `[proxy-itr]`
    pub proxy_itr: RawProxy,
    /// `[proxy-etr]`
    pub proxy_etr: RawProxy,
    /// `[[vrrp]]`: virtual routers.
    pub vrrp: Vec<RawVirtualRouter>,
    /// `[probing]`
    pub probing: RawProbing,
    /// `[map-cache]`, `resolver-selection`: `"order"` or `"fastest"`. Default `"order"`.
    pub resolver_selection: Option<At<ResolverSelection>>,
    /// `[[site]]`: who may register with our Map-Server.
    pub sites: Vec<RawSite>,
    /// `[[forward]]`: other Map-Servers that our Map-Resolver knows.
    pub forwards: Vec<RawForward>,
    /// `[[instance]]`: options of single EID spaces.
    pub instances: Vec<RawInstance>,
    /// `[kernel]`
    pub kernel: RawKernel,
    /// `[data-plane]`: `mode` (`"internal"`, `"external"`), `udp-checksum` (`"computed"`, `"zero"`), `offload` (`"auto"`, `"on"`, `"off"`), `queues`
    /// (1 to 256 or `"auto"`), `source-ports` (1 to 64), `batch` (1 to 1024), `receive-buffer` and `send-buffer`
    /// (bytes, a string as `"4MiB"`, or `"auto"`), `dscp` (`"uniform"`, `"pipe"`), `path-mtu` (576 to 65535 bytes),
    /// `icmp-rate` (per second, 0 to 1000000), `icmp-source-ipv4` and `icmp-source-ipv6` (addresses), `pending-limit`
    /// and `punt-queue` (16 to 1048576), `punt-rate` (per second, 1 to 10000000); in `[data-plane.external]`, `socket`
    /// (path), `mode` (permissions, an octal string) and `user-id` (0 to 4294967294).
    pub data_plane: DataPlaneConfig,
    /// The section `[data-plane.external]`.
    pub external: Place,
    /// `[management]`: `socket` (path of the control socket) and `mode` (its permissions, an octal string).
    pub management: At<ManagementConfig>,
    /// `[log]`: `level`, `format` and, in `[log.levels]`, the level of each of [`Subsystem::NAMES`].
    pub log: LogConfig,
    /// `[timers]`: every field of [`Timers`]: durations are strings with a unit (`"500ms"`, `"20s"`, `"3min"`, `"1h"`,
    /// `"1d"`), times to live as in [`RawEidPrefix::ttl`].
    pub timers: RawTimers,
    /// Something was so wrong that sections may be missing here which the file has: absence proves nothing.
    pub incomplete: bool,
}

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
    /// `address`, or `interface` together with `family` (`"ipv4"`, `"ipv6"`): its first global address is used, and
    /// followed as it changes. Exactly one is required.
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
    /// `ttl`: how long the mapping may be cached: minutes as an integer (1 to 4294967294), or a string with a unit
    /// (`"90min"`, `"1d"`) that is a whole number of minutes. Default 1440.
    pub ttl: Ttl,
    /// `register`: whether it is registered, or only answered for. Default true.
    pub register: bool,
    /// `map-servers`: names of those that it is registered with. Default: all.
    pub map_servers: Option<At<Vec<At<String>>>>,
    /// `map-version`: 1 to 4095, where the operator counts the versions of its mapping. Default: the router does.
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
    /// `[[map-cache.static.locator]]`: `address` (required), `priority` (default 1) and `weight` (default 100).
    pub locators: Vec<(At<RlocAddress>, u8, u8)>,
    /// Some of its keys could not be read.
    pub incomplete: bool,
}

/// The keys of a secret: in `[[map-server]]`, `[[site]]` and `[[site.key]]`.
#[derive(Clone, Debug)]
pub struct RawKey {
    /// `key` (the secret itself), `key-file` (a file that contains it; a relative path counts from the directory of
    /// the configuration; line ends at its end don't belong to the secret) or `key-env` (an environment variable).
    /// Exactly one is required.
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
    /// Its key, with the keys of [`RawKey`] in the section itself or, for several, in `[[map-server.key]]`: the first
    /// is preferred.
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
    /// `eid-prefixes`: the EID space that it is asked for, a list as of a `[[site]]`. Prefixes without an instance ID in
    /// brackets are in the instance of `instance-id`. Default: all EIDs that no other `[[map-resolver]]` is for.
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
    /// `eid-prefixes`, required with the role: a list as `["10.2.0.0/16", "[7]10.2.0.0/16"]`, in brackets the instance
    /// ID.
    pub prefixes: Option<At<Vec<At<EidPrefix>>>>,
}

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
    /// `[[site.eid-prefix]]` with `prefix` (required), `instance-id` (default 0) and `accept-more-specifics` (default
    /// false). At least one prefix is required. The flag is the last of these.
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

/// `[[instance]]`
#[derive(Clone, Debug)]
pub struct RawInstance {
    /// The section.
    pub place: Place,
    /// `instance-id`, required.
    pub iid: Option<At<InstanceId>>,
    /// `tun`: name of the TUN interface. Default `lisp` and the instance ID.
    pub tun: Option<At<InterfaceName>>,
    /// `interfaces`: the site's interfaces in this EID space. Default: all.
    pub interfaces: Vec<At<InterfaceName>>,
    /// `table`: number of the routing table that holds the site's own routes. Default: the main table.
    pub table: Option<At<u32>>,
}

/// `[kernel]`
#[derive(Clone, Debug, Default)]
pub struct RawKernel {
    /// `routing`: `"default"`, `"prefixes"` or `"none"`. Default `"default"`.
    pub routing: Option<At<RoutingMode>>,
    /// `prefixes`: destinations for `routing = "prefixes"`.
    pub prefixes: Option<At<Vec<At<EidPrefix>>>>,
    /// `table`: first routing table to fill, one per instance. Default 4341.
    pub table: Option<At<u32>>,
    /// `rule-priority`: 1 to 32000. Default 4341.
    pub rule_priority: Option<At<u32>>,
    /// `set-sysctls`. Default false.
    pub set_sysctls: bool,
    /// `tun-mtu`: 1280 to 65535 bytes, or `"auto"`. Default `"auto"`.
    pub tun_mtu: Option<u16>,
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
}

/// `[timers]`
#[derive(Clone, Debug, Default)]
pub struct RawTimers {
    /// The section.
    pub place: Place,
    /// Its values.
    pub timers: Timers,
}

impl RawConfig {
    /// Reads the tree of a file, noting problems.
    pub(super) fn read(table: &DeTable<'_>, problems: &Problems<'_>) -> Self {
        let root = Section::root(table, problems);
        root.require("roles", "say what the router is, for example roles = [\"itr\", \"etr\"]");
        let mut ok = true;
        let mut each = |key, read: &mut dyn FnMut(Section<'_>) -> bool| {
            for section in root.sections(key) {
                ok &= read(section);
            }
        };
        let mut eid_prefixes = Vec::new();
        each("eid-prefix", &mut |s| RawEidPrefix::read(s, &mut eid_prefixes));
        let mut map_servers = Vec::new();
        each("map-server", &mut |s| RawMapServer::read(s, &mut map_servers));
        let mut map_resolvers = Vec::new();
        each("map-resolver", &mut |s| RawMapResolver::read(s, &mut map_resolvers));
        let mut proxy_etrs = Vec::new();
        each("use-petr", &mut |s| RawProxyEtr::read(s, &mut proxy_etrs));
        let mut sites = Vec::new();
        each("site", &mut |s| RawSite::read(s, &mut sites));
        let mut forwards = Vec::new();
        each("forward", &mut |s| RawForward::read(s, &mut forwards));
        let mut vrrp = Vec::new();
        each("vrrp", &mut |s| RawVirtualRouter::read(s, &mut vrrp));
        let mut instances = Vec::new();
        each("instance", &mut |s| RawInstance::read(s, &mut instances));

        let map_cache = root.section("map-cache");
        let map_cache_limit = map_cache.integer("limit", 1..=1 << 24);
        let idle_timeout = map_cache.text("idle-timeout");
        let expect_return = map_cache.bool("expect-return");
        let glean = map_cache.bool("glean");
        let mut statics = Vec::new();
        for section in map_cache.sections("static") {
            ok &= RawStatic::read(section, &mut statics);
        }
        let resolver_selection = map_cache.text("resolver-selection");
        ok &= map_cache.finish();
        let (data_plane, external) = read_data_plane(root.section("data-plane"));
        let raw = Self {
            roles: root.texts("roles"),
            router: RawRouter::read(root.section("router")),
            locators: RawLocators::read(&root, "locator"),
            eid_prefixes,
            map_servers,
            map_resolvers,
            map_cache_limit,
            idle_timeout,
            statics,
            expect_return,
            glean,
            header: RawHeader::read(root.section("data-header")),
            proxy_etrs,
            proxy_itr: RawProxy::read(root.section("proxy-itr")),
            proxy_etr: RawProxy::read(root.section("proxy-etr")),
            vrrp,
            probing: RawProbing::read(&root),
            resolver_selection,
            sites,
            forwards,
            instances,
            kernel: RawKernel::read(root.section("kernel")),
            data_plane,
            external,
            management: read_management(root.section("management")),
            log: read_log(root.section("log")),
            timers: RawTimers::read(root.section("timers")),
            incomplete: false,
        };
        let incomplete = !root.finish() || !ok;
        Self { incomplete, ..raw }
    }
}

impl RawRouter {
    fn read(s: Section<'_>) -> Self {
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
    fn read(parent: &Section<'_>, key: &'static str) -> Self {
        let mut locators = Self::default();
        for section in parent.sections(key) {
            locators.incomplete |= !RawLocator::read(section, &mut locators.list);
        }
        locators
    }
}

impl RawLocator {
    fn read(s: Section<'_>, list: &mut Vec<Self>) -> bool {
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
    pub(super) const DEFAULT_TTL: Ttl = Ttl(1440);

    fn read(s: Section<'_>, list: &mut Vec<Self>) -> bool {
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
    fn read(s: Section<'_>, list: &mut Vec<Self>) -> bool {
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
    fn read(s: &Section<'_>) -> Self {
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
    fn read(s: Section<'_>, list: &mut Vec<Self>) -> bool {
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
    fn read(s: Section<'_>, list: &mut Vec<Self>) -> bool {
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
    fn read(s: Section<'_>, list: &mut Vec<Self>) -> bool {
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
    fn read(s: Section<'_>) -> Self {
        let raw = Self { place: s.place().clone(), prefixes: s.texts("eid-prefixes") };
        s.finish();
        raw
    }
}

impl RawSite {
    fn read(s: Section<'_>, list: &mut Vec<Self>) -> bool {
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
    fn read(s: Section<'_>, list: &mut Vec<Self>) -> bool {
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

impl RawInstance {
    fn read(s: Section<'_>, list: &mut Vec<Self>) -> bool {
        s.require("instance-id", "say which EID space this is about, 0 for the default one");
        list.push(Self {
            place: s.place().clone(),
            iid: read_iid(&s),
            tun: s.text("tun"),
            interfaces: s.texts("interfaces").map_or_else(Vec::new, |l| l.value),
            table: read_table(&s),
        });
        s.finish()
    }
}

impl RawKernel {
    fn read(s: Section<'_>) -> Self {
        let raw = Self {
            routing: s.text("routing"),
            prefixes: s.texts("prefixes"),
            table: read_table(&s),
            rule_priority: s.integer("rule-priority", 1..=32_000).map(|n| n.map(narrow)),
            set_sysctls: s.bool("set-sysctls").is_some_and(|b| b.value),
            tun_mtu: s.integer_or_auto("tun-mtu", 1280..=65_535).and_then(|n| n.value.map(narrow)),
        };
        s.finish();
        raw
    }
}

impl RawHeader {
    fn read(s: Section<'_>) -> Self {
        let raw = Self {
            source_check: s.text("source-check"),
            locator_status: s.bool("locator-status-bits"),
            echo_nonce: s.bool("echo-nonce"),
            map_version: s.bool("map-versioning"),
        };
        s.finish();
        raw
    }
}

impl RawTimers {
    fn read(s: Section<'_>) -> Self {
        let mut timers = Timers::default();
        for (key, field) in durations(&mut timers) {
            if let Some(d) = s.text::<Duration>(key) {
                *field = d.value;
            }
        }
        for (key, field) in [
            ("negative-ttl-unconfigured", &mut timers.negative_ttl_unconfigured),
            ("negative-ttl-unregistered", &mut timers.negative_ttl_unregistered),
        ] {
            if let Some(ttl) = read_ttl(&s, key) {
                *field = ttl;
            }
        }
        for (key, field, range) in [
            ("request-retries", &mut timers.request_retries, 0..=100),
            ("smr-attempts", &mut timers.smr_attempts, 0..=100),
            ("requests-per-source", &mut timers.requests_per_source, 1..=10_000_000),
            ("unverified-bytes-per-rloc", &mut timers.unverified_bytes_per_rloc, 1500..=1_000_000_000),
            ("replies-per-record", &mut timers.replies_per_record, 1..=1_000_000),
            ("replies-per-rloc", &mut timers.replies_per_rloc, 1..=1_000_000),
            ("replies-total", &mut timers.replies_total, 1..=10_000_000),
        ] {
            if let Some(n) = s.integer(key, range) {
                *field = narrow(n.value);
            }
        }
        for (key, field) in [
            ("pending-requests", &mut timers.pending_requests),
            ("registrations-per-site", &mut timers.registrations_per_site),
            ("registrations-total", &mut timers.registrations_total),
        ] {
            if let Some(n) = s.integer(key, 1..=1 << 24) {
                *field = narrow(n.value);
            }
        }
        let place = s.place().clone();
        s.finish();
        Self { place, timers }
    }
}

/// The durations among the timers, by key.
fn durations(timers: &mut Timers) -> [(&'static str, &mut Duration); 14] {
    [
        ("register-interval", &mut timers.register_interval),
        ("quick-register-interval", &mut timers.quick_register_interval),
        ("quick-register-time", &mut timers.quick_register_time),
        ("register-retry", &mut timers.register_retry),
        ("register-retry-max", &mut timers.register_retry_max),
        ("notify-retry", &mut timers.notify_retry),
        ("registration-timeout", &mut timers.registration_timeout),
        ("request-retry", &mut timers.request_retry),
        ("request-rest", &mut timers.request_rest),
        ("echo-nonce-interval", &mut timers.echo_nonce_interval),
        ("echo-nonce-timeout", &mut timers.echo_nonce_timeout),
        ("locator-status-damping", &mut timers.locator_status_damping),
        ("smr-interval", &mut timers.smr_interval),
        ("name-refresh", &mut timers.name_refresh),
    ]
}

fn read_data_plane(s: Section<'_>) -> (DataPlaneConfig, Place) {
    let default = DataPlaneConfig::default();
    let section = s.section("external");
    let place = section.place().clone();
    let external = ExternalConfig {
        socket: section.text("socket").map_or(default.external.socket, |socket| socket.value),
        mode: section.text::<Mode>("mode").map_or(default.external.mode, |mode| mode.value.0),
        user: section.integer("user-id", 0..=u64::from(u32::MAX - 1)).map(|n| narrow(n.value)),
    };
    section.finish();
    let buffer = |key| {
        let bytes = s.integer_or_text(key, Bytes::RANGE, |n| Bytes(Some(n)));
        bytes.and_then(|b| b.value.0).map(narrow)
    };
    let config = DataPlaneConfig {
        mode: s.text("mode").map_or(default.mode, |v| v.value),
        external,
        udp_checksum: s.text("udp-checksum").map_or(default.udp_checksum, |v| v.value),
        offload: s.text("offload").map_or(default.offload, |v| v.value),
        dscp: s.text("dscp").map_or(default.dscp, |v| v.value),
        path_mtu: s.integer("path-mtu", 576..=65_535).map_or(default.path_mtu, |n| narrow(n.value)),
        queues: s.integer_or_auto("queues", 1..=256).and_then(|n| n.value.map(narrow)),
        source_ports: s.integer("source-ports", 1..=64).map_or(default.source_ports, |n| narrow(n.value)),
        batch: s.integer("batch", 1..=1024).map_or(default.batch, |n| narrow(n.value)),
        receive_buffer: buffer("receive-buffer"),
        send_buffer: buffer("send-buffer"),
        icmp_rate: s.integer("icmp-rate", 0..=1_000_000).map_or(default.icmp_rate, |n| narrow(n.value)),
        icmp_source_v4: s.text("icmp-source-ipv4").map(|a| a.value),
        icmp_source_v6: s.text("icmp-source-ipv6").map(|a| a.value),
        pending_limit: s
            .integer("pending-limit", 16..=1 << 20)
            .map_or(default.pending_limit, |n| narrow(n.value)),
        punt_queue: s.integer("punt-queue", 16..=1 << 20).map_or(default.punt_queue, |n| narrow(n.value)),
        punt_rate: s.integer("punt-rate", 1..=10_000_000).map_or(default.punt_rate, |n| narrow(n.value)),
    };
    s.finish();
    (config, place)
}

fn read_management(s: Section<'_>) -> At<ManagementConfig> {
    let default = ManagementConfig::default();
    let place = s.place().child("socket");
    let (socket, mode) = (s.text::<PathBuf>("socket"), s.text::<Mode>("mode"));
    s.finish();
    let place = socket.as_ref().map_or(place, |socket| socket.place.clone());
    let socket = socket.map_or(default.socket, |socket| socket.value);
    At { value: ManagementConfig { socket, mode: mode.map_or(default.mode, |m| m.value.0) }, place }
}

fn read_log(s: Section<'_>) -> LogConfig {
    let mut config = LogConfig::default();
    if let Some(level) = s.text("level") {
        config.level = level.value;
    }
    if let Some(format) = s.text("format") {
        config.format = format.value;
    }
    let levels = s.section("levels");
    for (name, subsystem, _) in Subsystem::NAMES {
        if let Some(level) = levels.text(name) {
            config.levels.insert(subsystem, level.value);
        }
    }
    levels.finish();
    s.finish();
    config
}

/// One key in the section itself, or several in sections below it, called `name`. `ok` is false afterwards if one of
/// these could not be read in full.
fn read_keys(s: &Section<'_>, name: &str, ok: &mut bool) -> Vec<RawKey> {
    if !s.has_sections("key") {
        return vec![RawKey::read(s)];
    }
    for key in ["key-file", "key-env", "key-id", "algorithm", "truncate"] {
        if s.has(key) {
            s.error(key, format!("given beside [[{name}]]"), format!("move it into [[{name}]]"));
        }
    }
    let mut keys = Vec::new();
    for section in s.sections("key") {
        keys.push(RawKey::read(&section));
        *ok &= section.finish();
    }
    keys
}

fn read_iid(s: &Section<'_>) -> Option<At<InstanceId>> {
    let iid = s.integer("instance-id", 0..=u64::from(InstanceId::MAX))?;
    Some(iid.map(|n| InstanceId::new(narrow(n)).unwrap_or_default()))
}

fn read_eid_prefix(s: &Section<'_>) -> Option<At<EidPrefix>> {
    let iid = read_iid(s).map_or(InstanceId::DEFAULT, |iid| iid.value);
    Some(s.text::<IpNet>("prefix")?.map(|net| EidPrefix::new(iid, net)))
}

fn read_ttl(s: &Section<'_>, key: &'static str) -> Option<Ttl> {
    Some(s.integer_or_text(key, 1..=u64::from(u32::MAX - 1), |n| Ttl(narrow(n)))?.value)
}

/// The number of a routing table that is free to use: not unspec, default, main or local.
fn read_table(s: &Section<'_>) -> Option<At<u32>> {
    let table = s.integer("table", 1..=u64::from(u32::MAX) - 256)?.map(narrow);
    if (253..=255).contains(&table.value) {
        s.error("table", format!("{} is the kernel's own", table.value), "give another number, as 1000");
        return None;
    }
    Some(table)
}

/// A number that was checked to fit.
fn narrow<T: TryFrom<u64> + Default>(n: u64) -> T {
    T::try_from(n).unwrap_or_default()
}
