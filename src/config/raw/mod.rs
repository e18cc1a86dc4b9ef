//! The sections of a file as they are written: every key, its type and its default. What the keys of
//! different sections demand of each other is checked afterwards.
//!
//! Every key that [`RawConfig`] and its parts name exists under that name, in kebab-case, in the TOML file;
//! `configs/reference.toml` shows all of them. Fields without a default are `Option`s even where the key is
//! required: a file with mistakes is read to its end. Array elements are counted from 1 in messages.

mod ddt;
mod dynamic;
mod host;
mod mapping_system;
mod site;
mod sync;

use std::time::Duration;

use ipnet::IpNet;
use toml::de::DeTable;

use crate::config::model::{DataPlaneConfig, LogConfig, ManagementConfig};
use crate::config::probing::RawProbing;
use crate::config::problem::{At, Place, Problems};
use crate::config::tree::Section;
use crate::config::value::{Role, Timeout};
use crate::config::vrrp::RawVirtualRouter;
use crate::proto::config::ResolverSelection;
use crate::types::{EidPrefix, InstanceId, Ttl};

pub use ddt::{RawDdt, RawDelegation};
pub use host::{RawInstance, RawKernel, RawTimers};
pub use mapping_system::{RawForward, RawSite};
pub use site::{
    RawEidPrefix, RawHeader, RawKey, RawKeySource, RawLocator, RawLocatorSource, RawLocators, RawMapResolver,
    RawMapServer, RawProxy, RawProxyEtr, RawRouter, RawStatic,
};
pub use sync::RawSync;

pub use dynamic::RawDynamicEid;
use host::{read_data_plane, read_log, read_management};

/// A whole file.
#[derive(Clone, Debug, Default)]
pub struct RawConfig {
    /// `roles`, required: `"itr"`, `"etr"`, `"proxy-itr"`, `"proxy-etr"`, `"map-server"`, `"map-resolver"`,
    /// `"ddt-node"`, in any combination.
    pub roles: Option<At<Vec<At<Role>>>>,
    /// `[router]`
    pub router: RawRouter,
    /// `[[locator]]`: the locators of every EID-prefix that has none of its own.
    pub locators: RawLocators,
    /// `[[eid-prefix]]`: the site's EID-prefixes.
    pub eid_prefixes: Vec<RawEidPrefix>,
    /// `[[dynamic-eid]]`: EID-prefixes that may move.
    pub dynamic_eids: Vec<RawDynamicEid>,
    /// `[[map-server]]`: where an ETR registers.
    pub map_servers: Vec<RawMapServer>,
    /// `[[map-resolver]]`: whom an ITR asks, in order of preference.
    pub map_resolvers: Vec<RawMapResolver>,
    /// `[map-cache]`, `limit`: most entries, 1 to 16777216. Default 100000.
    pub map_cache_limit: Option<At<u64>>,
    /// `[map-cache]`, `idle-timeout`: an entry that no packet has used for so long is forgotten, or
    /// `"never"`. Default one hour.
    pub idle_timeout: Option<At<Timeout>>,
    /// `[map-cache]`, `snapshot-interval`: how often the map-cache is written to the state directory, or
    /// `"never"`. Default one minute.
    pub snapshot_interval: Option<At<Timeout>>,
    /// `[map-cache]`, `snapshot-max-age`: how old a snapshot may be to be taken up at start. Default one
    /// hour.
    pub snapshot_max_age: Option<At<Duration>>,
    /// `[[map-cache.static]]`: mappings that the map-cache always has.
    pub statics: Vec<RawStatic>,
    /// `[map-cache]`, `expect-return`: whether the EID for which another ITR asks for one of ours is asked
    /// for at once. Default true.
    pub expect_return: Option<At<bool>>,
    /// `[map-cache]`, `glean`: whether what packets and Map-Requests say of an unknown EID's locator is used
    /// for some seconds, until it is verified. Default false.
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
    /// `[sync]`, where the file has it.
    pub sync: Option<RawSync>,
    /// `[map-cache]`, `resolver-selection`: `"order"` or `"fastest"`. Default `"order"`.
    pub resolver_selection: Option<At<ResolverSelection>>,
    /// `[[site]]`: who may register with our Map-Server.
    pub sites: Vec<RawSite>,
    /// `[[forward]]`: other Map-Servers that our Map-Resolver knows.
    pub forwards: Vec<RawForward>,
    /// `[ddt]`
    pub ddt: RawDdt,
    /// `[[instance]]`: options of single EID spaces.
    pub instances: Vec<RawInstance>,
    /// `[kernel]`
    pub kernel: RawKernel,
    /// `[data-plane]`: `mode` (`"internal"`, `"external"`), `udp-checksum` (`"computed"`, `"zero"`),
    /// `offload` (`"auto"`, `"on"`, `"off"`), `queues` (1 to 256 or `"auto"`), `source-ports` (1 to 64),
    /// `batch` (1 to 1024), `receive-buffer` and `send-buffer` (bytes, a string as `"4MiB"`, or `"auto"`),
    /// `dscp` (`"uniform"`, `"pipe"`), `path-mtu` (576 to 65535 bytes), `icmp-rate` (per second, 0 to
    /// 1000000), `icmp-source-ipv4` and `icmp-source-ipv6` (addresses), `pending-limit` and `punt-queue` (16
    /// to 1048576), `punt-rate` (per second, 1 to 10000000); in `[data-plane.external]`, `socket` (path),
    /// `mode` (permissions, an octal string) and `user-id` (0 to 4294967294).
    pub data_plane: DataPlaneConfig,
    /// The section `[data-plane.external]`.
    pub external: Place,
    /// `[management]`: `socket` (path of the control socket) and `mode` (its permissions, an octal string).
    pub management: At<ManagementConfig>,
    /// `[log]`: `level`, `format` and, in `[log.levels]`, the level of each of
    /// [`Subsystem::NAMES`](crate::config::model::Subsystem::NAMES).
    pub log: LogConfig,
    /// `[timers]`: every field of [`Timers`](crate::proto::config::Timers): durations are strings with a unit
    /// (`"500ms"`, `"20s"`, `"3min"`, `"1h"`, `"1d"`), times to live as in [`RawEidPrefix::ttl`].
    pub timers: RawTimers,
    /// Something was so wrong that sections may be missing here which the file has: absence proves nothing.
    pub incomplete: bool,
}

impl RawConfig {
    /// Reads the tree of a file, noting problems.
    pub(in crate::config) fn read(table: &DeTable<'_>, problems: &Problems<'_>) -> Self {
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
        let mut dynamic_eids = Vec::new();
        each("dynamic-eid", &mut |s| RawDynamicEid::read(s, &mut dynamic_eids));
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
        let snapshot_interval = map_cache.text("snapshot-interval");
        let snapshot_max_age = map_cache.text("snapshot-max-age");
        let expect_return = map_cache.bool("expect-return");
        let glean = map_cache.bool("glean");
        let mut statics = Vec::new();
        for section in map_cache.sections("static") {
            ok &= RawStatic::read(section, &mut statics);
        }
        let resolver_selection = map_cache.text("resolver-selection");
        ok &= map_cache.finish();
        let ddt = RawDdt::read(root.section("ddt"), &mut ok);
        let (data_plane, external) = read_data_plane(root.section("data-plane"));
        let raw = Self {
            roles: root.texts("roles"),
            router: RawRouter::read(root.section("router")),
            locators: RawLocators::read(&root, "locator"),
            eid_prefixes,
            dynamic_eids,
            map_servers,
            map_resolvers,
            map_cache_limit,
            idle_timeout,
            snapshot_interval,
            snapshot_max_age,
            statics,
            expect_return,
            glean,
            header: RawHeader::read(root.section("data-header")),
            proxy_etrs,
            proxy_itr: RawProxy::read(root.section("proxy-itr")),
            proxy_etr: RawProxy::read(root.section("proxy-etr")),
            vrrp,
            probing: RawProbing::read(&root),
            sync: RawSync::read(&root),
            resolver_selection,
            sites,
            forwards,
            ddt,
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

/// One key in the section itself, or several in sections below it, called `name`. `ok` is false afterwards if
/// one of these could not be read in full.
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

/// A number that was checked to fit.
fn narrow<T: TryFrom<u64> + Default>(n: u64) -> T {
    T::try_from(n).unwrap_or_default()
}
