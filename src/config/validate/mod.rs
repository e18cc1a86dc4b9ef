//! What the sections of a file demand of each other, and the step from sections to [`Config`].
//!
//! Every check notes its problem and goes on. A section that could not be read in full makes the checks that
//! would only repeat its problem in other words keep quiet.

mod ddt;
mod dynamic;
mod header;
mod host;
mod map_cache;
mod mapping_system;
mod proxy;
mod secret;
mod site;
mod sync;

use std::path::Path;

pub(super) use secret::MOST_BYTES;

use super::model::{Config, DEFAULT_IDLE_TIMEOUT, DEFAULT_MAP_CACHE_LIMIT, DEFAULT_STATE_DIR, RouterConfig};
use super::problem::{At, Place, Problems};
use super::raw::RawConfig;
use super::sources::Sources;
use super::value::Role;
use crate::proto::config::{ControlConfig, EtrConfig, ItrConfig, MapResolverConfig, MapServerConfig};
use crate::types::{EidPrefix, SiteId, XtrId};

/// What the checks work on.
struct Context<'a> {
    raw: &'a RawConfig,
    problems: &'a Problems<'a>,
    sources: &'a dyn Sources,
    /// Relative paths of key files count from here.
    directory: &'a Path,
}

impl Context<'_> {
    fn is(&self, role: Role) -> bool {
        self.raw.roles.as_ref().is_some_and(|roles| roles.value.iter().any(|r| r.value == role))
    }

    fn is_xtr(&self) -> bool {
        self.is(Role::Itr) || self.is(Role::Etr)
    }

    /// Whether the router has a data plane.
    fn is_tunnel_router(&self) -> bool {
        self.is_xtr() || self.is(Role::ProxyItr) || self.is(Role::ProxyEtr)
    }

    /// Whether it asks for mappings.
    fn asks(&self) -> bool {
        self.is(Role::Itr) || self.is(Role::ProxyItr)
    }

    /// Whether the roles are known, so that what they need may be demanded.
    fn roles_known(&self) -> bool {
        self.raw.roles.is_some()
    }

    /// Notes that a role lacks a section, unless the file has sections that could not be read.
    fn lacks(&self, role: &str, what: &str, remedy: &str) {
        if let (Some(roles), false) = (&self.raw.roles, self.raw.incomplete) {
            self.problems.error(&roles.place, format!("role \"{role}\" needs {what}"), remedy);
        }
    }

    /// Notes that a section is not used, as the router lacks its role.
    fn unused(&self, place: &Place, role: &str) {
        if self.roles_known() && !self.raw.incomplete {
            self.problems.warning(
                place,
                format!("not used without role {role}"),
                "add the role or remove the section",
            );
        }
    }

    /// Notes `what` that stands in the file a second time.
    fn duplicate(&self, place: &Place, what: impl std::fmt::Display, first: &Place, remedy: &str) {
        let line = self.problems.line(first);
        self.problems.error(place, format!("{what} is already in line {line}"), remedy);
    }
}

/// Checks `raw` and makes the configuration of it. What comes back is only of use if no error was noted.
pub(super) fn validate(
    raw: &RawConfig,
    problems: &Problems<'_>,
    sources: &dyn Sources,
    directory: &Path,
) -> Config {
    let cx = Context { raw, problems, sources, directory };
    check_roles(&cx);
    let database = site::database(&cx);
    let map_servers = mapping_system::map_servers(&cx);
    let (map_resolvers, resolver_spaces) = mapping_system::map_resolvers(&cx);
    let sites = mapping_system::sites(&cx);
    let forward = mapping_system::forwards(&cx);
    let proxies = proxy::check(&cx);
    let dynamic_eids = dynamic::dynamic_eids(&cx);
    let own = database.iter().map(|entry| entry.eid).chain(dynamic_eids.iter().map(|entry| entry.prefix));
    let (instances, kernel) = host::instances_and_kernel(&cx, own, &proxies);
    host::check_management(&cx);
    host::check_external(&cx);
    host::check_timers(&cx);

    let map_cache_limit = raw
        .map_cache_limit
        .as_ref()
        .map_or(DEFAULT_MAP_CACHE_LIMIT, |limit| usize::try_from(limit.value).unwrap_or(usize::MAX));
    let xtr_site = match (&raw.router.xtr_id, &raw.router.site_id) {
        (None, None) => None,
        (xtr, site) => Some((
            xtr.as_ref().map_or_else(XtrId::default, |x| x.value),
            site.as_ref().map_or_else(SiteId::default, |s| s.value),
        )),
    };
    let probing = raw.probing.checked(problems);
    let statics = map_cache::statics(&cx, &database, map_cache_limit);
    let control = ControlConfig {
        database,
        locators: proxies.locators,
        itr: cx.asks().then_some(ItrConfig {
            map_resolvers,
            resolver_spaces,
            resolver_selection: raw.resolver_selection.as_ref().map(|s| s.value).unwrap_or_default(),
            map_cache_limit,
            idle_timeout: raw.idle_timeout.as_ref().map_or(DEFAULT_IDLE_TIMEOUT, |timeout| timeout.value.0),
            static_entries: statics,
            expect_return: raw.expect_return.as_ref().is_none_or(|e| e.value),
            glean: raw.glean.as_ref().is_some_and(|g| g.value),
            proxy_etrs: proxies.proxy_etrs,
            proxy_for: proxies.ingress,
        }),
        etr: (cx.is(Role::Etr) || cx.is(Role::ProxyEtr)).then_some(EtrConfig {
            map_servers,
            xtr_site,
            proxy_for: proxies.egress,
        }),
        map_server: cx.is(Role::MapServer).then_some(MapServerConfig { sites }),
        map_resolver: cx.is(Role::MapResolver).then_some(MapResolverConfig { forward }),
        ddt: ddt::check(&cx),
        dynamic_eids,
        header: header::header(&cx),
        probing: probing.filter(|_| cx.asks()),
        sync: sync::sync(&cx),
        timers: raw.timers.timers.clone(),
    };
    let state_dir =
        raw.router.state_dir.as_ref().map_or_else(|| DEFAULT_STATE_DIR.into(), |d| d.value.clone());
    Config {
        router: RouterConfig { name: raw.router.name.as_ref().map(|n| n.value.clone()), state_dir },
        control,
        instances,
        kernel,
        snapshot: map_cache::snapshot(&cx),
        vrrp: super::vrrp::checked(raw, problems),
        data_plane: raw.data_plane.clone(),
        management: raw.management.value.clone(),
        log: raw.log.clone(),
    }
}

fn check_roles(cx: &Context<'_>) {
    let Some(roles) = &cx.raw.roles else { return };
    if roles.value.is_empty() && !cx.problems.has_errors() {
        cx.problems.error(
            &roles.place,
            "is empty",
            "say what the router is, for example roles = [\"itr\", \"etr\"]",
        );
    }
    for (i, role) in roles.value.iter().enumerate() {
        if let Some(first) = roles.value.iter().take(i).find(|r| r.value == role.value) {
            cx.duplicate(&role.place, "this role", &first.place, "remove one of the two");
        }
    }
    if let Some(id) = &cx.raw.router.xtr_id
        && !cx.is(Role::Etr)
    {
        cx.unused(&id.place, "\"etr\"");
    }
    let cache = [
        cx.raw.map_cache_limit.as_ref().map(|limit| &limit.place),
        cx.raw.idle_timeout.as_ref().map(|timeout| &timeout.place),
        cx.raw.snapshot_interval.as_ref().map(|interval| &interval.place),
        cx.raw.snapshot_max_age.as_ref().map(|age| &age.place),
        cx.raw.statics.first().map(|first| &first.place),
        cx.raw.expect_return.as_ref().map(|expect| &expect.place),
        cx.raw.glean.as_ref().map(|glean| &glean.place),
        cx.raw.probing.place.as_ref(),
        cx.raw.resolver_selection.as_ref().map(|selection| &selection.place),
    ];
    for place in cache.into_iter().flatten().filter(|_| !cx.asks()) {
        cx.unused(place, "\"itr\"");
    }
}

/// The shorter prefixes that cover `prefix`, longest first.
fn covering(prefix: &EidPrefix) -> impl Iterator<Item = EidPrefix> {
    let mut net = prefix.net;
    let iid = prefix.iid;
    std::iter::from_fn(move || {
        net = net.supernet()?;
        Some(EidPrefix::new(iid, net))
    })
}

/// The element before index `end` that has `value`.
fn first_with<'l, T: PartialEq>(list: &'l [At<T>], end: usize, value: &T) -> Option<&'l At<T>> {
    list.iter().take(end).find(|item| item.value == *value)
}
