//! Kernel integration: rules and routes that bring the site's packets to the TUN, the TUN's MTU, and the
//! kernel parameters that matter; all of it undone at exit, and cleaned at start where a crash left it.
//!
//! Owns what the kernel is told about routing. Must not create TUN interfaces (`io::tun` does) or take
//! protocol decisions.
//!
//! How packets reach the router is said by three kinds of rules, see the table at `KernelPlan::rules` in
//! `plan.rs`; the rest is the default route of our own table, or the listed prefixes', to the TUN. The
//! operator's own tables are never written to.
//!
//! # The calls, in order
//! ```no_run
//! use eidolon::config::Config;
//! use eidolon::io::netlink::{InterfaceMonitor, Netlink, NetworkEvent};
//! use eidolon::runtime::kernel::{KernelIntegration, KernelPlan, PROTOCOL, StartupError};
//!
//! # async fn run(config: Config) -> Result<(), Box<dyn std::error::Error>> {
//! let plan = KernelPlan::new(&config);
//! let netlink = Netlink::open()?;
//! StartupError::check_privilege()?;
//! StartupError::check_tun_device()?;
//! StartupError::check_tun_names(&plan, &netlink.interfaces().await?)?;
//! // … create the TUN interfaces, by the names in `plan.instances` …
//! let mut kernel = KernelIntegration::install(plan).await?;
//! let mut monitor = InterfaceMonitor::open(netlink, PROTOCOL)?;
//! loop {
//!     tokio::select! {
//!         event = monitor.next() => match event {
//!             NetworkEvent::Interface { name, addresses } => {
//!                 kernel.interfaces_changed(monitor.interfaces()).await?;
//!                 // … feed `Input::Interface` …
//!             }
//!             NetworkEvent::RuleDeleted => kernel.repair().await?,
//!         },
//!         // Output::Native { prefix, present } → kernel.apply_native(prefix, present).await?
//!         // Output::NativeException { prefix, present } → kernel.except_native(prefix, present).await?
//!         // Output::DynamicEid { prefix, place } → kernel.place(prefix, place).await?
//!         // Output::Probe { interface, address } → kernel.probe(&interface, address).await?
//!         // reload → kernel.update(KernelPlan::new(&new_config)).await?
//!         _ = tokio::signal::ctrl_c() => break,
//!     }
//! }
//! kernel.remove().await?;
//! # Ok(()) }
//! ```

mod dynamic;
mod error;
mod lock;
mod plan;
mod sysctls;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;
use tracing::{debug, info, warn};

pub use error::{KernelError, StartupError};
use plan::METRIC_HERE;
pub use plan::{InstancePlan, KernelPlan, PRIORITIES, PROTOCOL};

use crate::config::RoutingMode;
use crate::io::netlink::{Interface, Netlink, NetlinkError, Route, RouteTarget};
use crate::types::{EidPrefix, Family, InstanceId};
use dynamic::Moved;
use lock::{Lock, Resource};
use sysctls::Sysctls;

/// The last priority that our first rule can have: the main table's rule has 32766.
const MAX_PRIORITY: u32 = 32_766 - PRIORITIES;
/// Most natively forwarded prefixes of an instance that the kernel is told of; packets to further ones still
/// come to the TUN. Bounds what a mapping system can do to the kernel's memory.
const MAX_NATIVE: usize = 10_000;
/// The IPv4 dummy address (RFC 7600 §4.8), which the TUN gets: on an interface without any address, even a
/// loose rp_filter drops packets whose answers would leave elsewhere.
const TUN_ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 0, 8);
const FAMILIES: [Family; 2] = [Family::Ipv4, Family::Ipv6];

/// The rules and routes that are installed. [`remove`](Self::remove) takes them back; without it they stay
/// until the next start, harmlessly: the routes to the TUN vanish with the TUN, and lookups in the empty
/// table go on to the next rule.
#[derive(Debug)]
pub struct KernelIntegration {
    netlink: Netlink,
    plan: KernelPlan,
    locks: BTreeMap<Resource, Lock>,
    native: BTreeMap<InstanceId, Native>,
    native_full: bool,
    sysctls: Option<Sysctls>,
    warnings: Vec<String>,
    tuns: BTreeMap<String, Tun>,
    moved: Moved,
}

/// What an instance leaves to the kernel.
#[derive(Debug, Default)]
struct Native {
    /// Natively forwarded prefixes.
    nets: BTreeSet<IpNet>,
    /// Prefixes inside them that are not.
    exceptions: BTreeSet<IpNet>,
}

impl Native {
    fn routes(
        &self,
        instance: &InstancePlan,
        routing: RoutingMode,
        tun: Option<u32>,
        about: Option<IpNet>,
    ) -> BTreeSet<Route> {
        instance.native_routes(routing, &self.nets, &self.exceptions, tun, about)
    }
}

/// Adds or removes; whether that changed anything.
fn change(nets: &mut BTreeSet<IpNet>, net: IpNet, present: bool) -> bool {
    if present { nets.insert(net) } else { nets.remove(&net) }
}

/// What is known of a TUN interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Tun {
    index: u32,
    up: bool,
    mtu: u32,
}

impl KernelIntegration {
    /// Cleans up what a crash left behind, sets the TUN interfaces up (which must exist), and installs routes
    /// and rules. After an error, everything is as before.
    pub async fn install(plan: KernelPlan) -> Result<Self, KernelError> {
        let netlink = Netlink::open()
            .map_err(|source| KernelError::Io { operation: "open a netlink socket", source })?;
        clean(&netlink, &plan).await?;
        let mut this = Self {
            netlink,
            plan: KernelPlan { instances: Vec::new(), ..plan.clone() },
            locks: BTreeMap::new(),
            native: BTreeMap::new(),
            native_full: false,
            sysctls: None,
            warnings: Vec::new(),
            tuns: BTreeMap::new(),
            moved: Moved::default(),
        };
        match this.change(plan.clone()).await {
            Ok(()) => Ok(this),
            Err(error) => {
                this.plan = plan;
                // What could not be installed can perhaps not be removed either; the first error tells why.
                let _ = this.remove().await;
                Err(error)
            }
        }
    }

    /// Goes over to another plan, for a reload: what both have in common is not touched. New TUN interfaces
    /// must exist already; those no longer used may go afterwards. After an error, the old plan holds.
    pub async fn update(&mut self, plan: KernelPlan) -> Result<(), KernelError> {
        if plan == self.plan {
            return Ok(());
        }
        let old = self.plan.clone();
        let result = self.change(plan.clone()).await;
        if result.is_err() {
            // Whatever of it was installed goes again.
            self.plan = plan;
            if let Err(error) = self.change(old).await {
                warn!(%error, "rules and routes could not be put back as they were");
            }
        }
        result
    }

    /// Puts back what somebody else deleted.
    pub async fn repair(&mut self) -> Result<(), KernelError> {
        let plan = self.plan.clone();
        let interfaces = self.netlink.interfaces().await?;
        self.note_tuns(&plan, &interfaces);
        self.moved.note_links(&interfaces);
        self.add_missing(&plan).await?;
        self.keep_answering().await
    }

    /// Follows the interfaces' state, as of [`InterfaceMonitor`](crate::io::netlink::InterfaceMonitor):
    /// adapts the TUNs' MTU to the uplinks, sets up TUNs that were made anew, and puts back the routes that
    /// the kernel drops when a TUN is set down and up.
    pub async fn interfaces_changed(&mut self, interfaces: &[Interface]) -> Result<(), KernelError> {
        let plan = self.plan.clone();
        let before = self.tuns.clone();
        self.note_tuns(&plan, interfaces);
        for instance in &plan.instances {
            if let Some(tun) = self.tuns.get_mut(&instance.tun)
                && before.get(&instance.tun).is_none_or(|old| old.index != tun.index)
            {
                tun.up = true;
                let index = tun.index;
                self.ready_tun(instance, index).await?;
            }
            self.adapt_mtu(&plan, instance, interfaces).await?;
        }
        let back = |(name, tun): (&String, &Tun)| {
            tun.up && before.get(name).is_none_or(|old| !old.up || old.index != tun.index)
        };
        let moved = self.moved.note_links(interfaces);
        if moved || self.tuns.iter().any(back) {
            self.add_missing(&plan).await?;
        }
        self.keep_answering().await?;
        self.check_sysctls(&plan, interfaces);
        Ok(())
    }

    /// Leaves packets to `prefix` to the kernel's own routing (natively-forward, RFC 9301 §5.4), or brings
    /// them to the TUN again. Returns whether the kernel does so now: it does not where the operator routes
    /// by hand, where the site has no EIDs of that family, inside the EID-prefixes that a proxy-ITR is for,
    /// and where there are too many such prefixes. More specific prefixes that have a mapping are told by
    /// [`except_native`](Self::except_native).
    pub async fn apply_native(&mut self, prefix: EidPrefix, present: bool) -> Result<bool, KernelError> {
        let routing = self.plan.routing;
        let Some(instance) = self.instance(prefix.iid) else { return Ok(false) };
        if routing == RoutingMode::None || !instance.may_forward_natively(prefix.net) {
            return Ok(false);
        }
        let native = self.native.entry(prefix.iid).or_default();
        if present && native.nets.len() >= MAX_NATIVE && !native.nets.contains(&prefix.net) {
            if !self.native_full {
                warn!(
                    "more than {MAX_NATIVE} natively forwarded prefixes: further ones are not routed around \
                     the TUN"
                );
            }
            self.native_full = true;
            return Ok(false);
        }
        self.native_full &= present;
        self.change_native(&instance, prefix.net, |native| change(&mut native.nets, prefix.net, present))
            .await?;
        Ok(present)
    }

    /// Brings packets to `prefix` to the TUN, although they lie in a natively forwarded prefix, or no longer.
    pub async fn except_native(&mut self, prefix: EidPrefix, present: bool) -> Result<(), KernelError> {
        let Some(instance) = self.instance(prefix.iid) else { return Ok(()) };
        if self.plan.routing == RoutingMode::None {
            return Ok(());
        }
        self.change_native(&instance, prefix.net, |native| {
            change(&mut native.exceptions, prefix.net, present)
        })
        .await
    }

    fn instance(&self, iid: InstanceId) -> Option<InstancePlan> {
        self.plan.instances.iter().find(|instance| instance.iid == iid).cloned()
    }

    /// Changes what an instance leaves to the kernel, and the routes with it; new ones first.
    async fn change_native(
        &mut self,
        instance: &InstancePlan,
        net: IpNet,
        change: impl FnOnce(&mut Native) -> bool,
    ) -> Result<(), KernelError> {
        let routing = self.plan.routing;
        let index = self.tuns.get(&instance.tun).map(|tun| tun.index);
        let native = self.native.entry(instance.iid).or_default();
        let before = native.routes(instance, routing, index, Some(net));
        if !change(native) {
            return Ok(());
        }
        let after = native.routes(instance, routing, index, Some(net));
        for route in after.difference(&before) {
            self.netlink.replace_route(route).await?;
        }
        // A destination of ours has its own route to the TUN, which stays.
        let ours = instance.tun_destinations(routing);
        for route in before.difference(&after) {
            if route.target == RouteTarget::Throw || !ours.contains(&route.destination) {
                self.netlink.delete_route(route).await?;
            }
        }
        Ok(())
    }

    /// What an operator should look at, in sentences that say what to do. They were logged as well.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// MTU of an instance's TUN, in bytes.
    pub fn tun_mtu(&self, iid: InstanceId) -> Option<u32> {
        let instance = self.plan.instances.iter().find(|instance| instance.iid == iid)?;
        self.tuns.get(&instance.tun).map(|tun| tun.mtu)
    }

    /// Takes rules and routes back, and restores sysctls. All of it is attempted; the first error is
    /// returned.
    pub async fn remove(mut self) -> Result<(), KernelError> {
        let nothing = KernelPlan { instances: Vec::new(), ..self.plan.clone() };
        self.native.clear();
        self.forget_moved().await;
        let result = self.delete_extra(&self.plan.clone(), &nothing).await;
        if let Some(sysctls) = self.sysctls.take() {
            if others_run(&self.netlink).await.unwrap_or(false) {
                info!("sysctls stay as they are, because another router runs here");
            } else {
                sysctls.restore();
            }
        }
        result
    }

    /// From the present plan to another, in an order that loses no packets: what is new is added first.
    async fn change(&mut self, plan: KernelPlan) -> Result<(), KernelError> {
        validate(&plan)?;
        self.take_locks(&plan).await?;
        let interfaces = self.netlink.interfaces().await?;
        self.note_tuns(&plan, &interfaces);
        self.moved.note_links(&interfaces);
        for instance in &plan.instances {
            let tun =
                *self.tuns.get(&instance.tun).ok_or_else(|| KernelError::NoTun(instance.tun.clone()))?;
            if !self.plan.instances.iter().any(|old| old.tun == instance.tun) {
                self.ready_tun(instance, tun.index).await?;
            }
            self.adapt_mtu(&plan, instance, &interfaces).await?;
        }
        self.native.retain(|iid, _| plan.instances.iter().any(|instance| instance.iid == *iid));
        self.add_missing(&plan).await?;
        let old = std::mem::replace(&mut self.plan, plan.clone());
        self.delete_extra(&old, &plan).await?;
        self.locks.retain(|resource, _| needs(&plan, *resource));
        self.tuns.retain(|name, _| plan.instances.iter().any(|instance| instance.tun == *name));
        self.check_sysctls(&plan, &interfaces);
        Ok(())
    }

    /// Becomes the only router of this namespace with the plan's tables and priorities. Tables must not hold
    /// anybody else's routes.
    async fn take_locks(&mut self, plan: &KernelPlan) -> Result<(), KernelError> {
        let tables = plan.tables().into_iter().map(Resource::Table);
        let priorities = plan.priorities().map(Resource::Priority);
        for resource in tables.chain(priorities).filter(|resource| needs(plan, *resource)) {
            if self.locks.contains_key(&resource) {
                continue;
            }
            let lock = Lock::take(resource).map_err(|source| KernelError::Io {
                operation: "reserve tables and rule priorities",
                source,
            })?;
            let Some(lock) = lock else {
                return Err(match resource {
                    Resource::Table(table) => KernelError::TableTaken(table),
                    Resource::Priority(priority) => KernelError::PriorityTaken(priority),
                });
            };
            if let Resource::Table(table) = resource {
                for family in FAMILIES {
                    let routes = self.netlink.routes(family, Some(table), None).await?;
                    if let Some(route) = routes.iter().find(|route| route.protocol != PROTOCOL) {
                        return Err(KernelError::TableInUse { table, destination: route.destination });
                    }
                }
            }
            self.locks.insert(resource, lock);
        }
        Ok(())
    }

    /// Adds the rules and routes of `plan` that are not there; routes first, so that no rule leads to an
    /// empty table.
    async fn add_missing(&self, plan: &KernelPlan) -> Result<(), KernelError> {
        for instance in &plan.instances {
            let wanted = self.wanted_routes(plan, instance);
            if wanted.is_empty() {
                continue;
            }
            let present = self.our_routes(instance.table).await?;
            for route in wanted.difference(&present) {
                match self.netlink.replace_route(route).await {
                    // The TUN was set down or deleted just now; its routes come back with it.
                    Err(error) if error.is(libc::ENETDOWN) || error.is(libc::ENODEV) => {
                        debug!(%error, "route not added");
                    }
                    result => result?,
                }
            }
        }
        for (family, wanted) in by_family(plan) {
            let present = self.netlink.rules(family).await?;
            for rule in wanted.iter().filter(|rule| !present.iter().any(|p| p.complete && p.rule == **rule)) {
                self.netlink.add_rule(rule).await?;
            }
        }
        Ok(())
    }

    /// Deletes our rules and routes in the ranges of `old` and `new` that `new` does not want; rules first.
    async fn delete_extra(&self, old: &KernelPlan, new: &KernelPlan) -> Result<(), KernelError> {
        let mut first_error = Ok(());
        let mut keep_first = |result: Result<(), NetlinkError>| {
            if let (Err(error), true) = (result, first_error.is_ok()) {
                first_error = Err(KernelError::from(error));
            }
        };
        for (family, wanted) in by_family(new) {
            let present = match self.netlink.rules(family).await {
                Ok(rules) => rules,
                Err(error) => {
                    keep_first(Err(error));
                    continue;
                }
            };
            for listed in present.iter().rev() {
                let rule = &listed.rule;
                let ours = rule.protocol == PROTOCOL
                    && (old.priorities().contains(&rule.priority)
                        || new.priorities().contains(&rule.priority))
                    && self.locks.contains_key(&Resource::Priority(rule.priority));
                if ours && !(listed.complete && wanted.contains(rule)) {
                    keep_first(self.netlink.delete_rule(listed).await);
                }
            }
        }
        let tables = old.tables().union(&new.tables()).copied().collect::<BTreeSet<_>>();
        for table in tables.into_iter().filter(|table| self.locks.contains_key(&Resource::Table(*table))) {
            let wanted: BTreeSet<Route> = new
                .instances
                .iter()
                .filter(|instance| instance.table == table)
                .flat_map(|instance| self.wanted_routes(new, instance))
                .collect();
            match self.our_routes(table).await {
                Ok(present) => {
                    for route in present.difference(&wanted) {
                        keep_first(self.netlink.delete_route(route).await);
                    }
                }
                Err(error) => keep_first(Err(error)),
            }
        }
        first_error
    }

    async fn our_routes(&self, table: u32) -> Result<BTreeSet<Route>, NetlinkError> {
        let mut routes = BTreeSet::new();
        for family in FAMILIES {
            routes.extend(self.netlink.routes(family, Some(table), Some(PROTOCOL)).await?);
        }
        Ok(routes)
    }

    fn wanted_routes(&self, plan: &KernelPlan, instance: &InstancePlan) -> BTreeSet<Route> {
        let mut wanted = BTreeSet::new();
        if plan.routing == RoutingMode::None {
            return wanted;
        }
        // Without the TUN, or while it is down, there can be no route to it.
        if let Some(tun) = self.tuns.get(&instance.tun) {
            let destinations = instance.tun_destinations(plan.routing);
            wanted.extend(
                destinations.into_iter().map(|destination| instance.tun_route(destination, tun.index)),
            );
        }
        let index = self.tuns.get(&instance.tun).map(|tun| tun.index);
        wanted.extend(self.moved.routes(instance, index));
        if let Some(native) = self.native.get(&instance.iid) {
            let index = self.tuns.get(&instance.tun).map(|tun| tun.index);
            wanted.extend(native.routes(instance, plan.routing, index, None));
        }
        wanted
    }

    /// Notes which TUNs there are. Those of instances that a change drops stay known until it is done.
    fn note_tuns(&mut self, plan: &KernelPlan, interfaces: &[Interface]) {
        for instance in &plan.instances {
            match interfaces.iter().find(|interface| interface.name == instance.tun) {
                Some(Interface { index, up, mtu, .. }) => {
                    let tun = Tun { index: *index, up: *up, mtu: *mtu };
                    self.tuns.insert(instance.tun.clone(), tun);
                }
                None => {
                    self.tuns.remove(&instance.tun);
                }
            }
        }
    }

    /// Sets up a TUN that has just been made.
    async fn ready_tun(&self, instance: &InstancePlan, index: u32) -> Result<(), KernelError> {
        let no_multicast = self.netlink.set_multicast_off(index);
        let ipv6 = instance.has(Family::Ipv6);
        sysctls::prepare_tun(&instance.tun, &instance.interfaces, ipv6, no_multicast).await;
        if instance.has(Family::Ipv4) {
            self.netlink.add_host_address(index, IpAddr::V4(TUN_ADDRESS)).await?;
        }
        Ok(self.netlink.set_up(index).await?)
    }

    async fn adapt_mtu(
        &mut self,
        plan: &KernelPlan,
        instance: &InstancePlan,
        interfaces: &[Interface],
    ) -> Result<(), KernelError> {
        let (Some(mtu), Some(tun)) = (plan.mtu(instance, interfaces), self.tuns.get_mut(&instance.tun))
        else {
            return Ok(());
        };
        if tun.mtu != mtu {
            match self.netlink.set_mtu(tun.index, mtu).await {
                // It went just now.
                Err(error) if error.is(libc::ENODEV) => return Ok(()),
                result => result?,
            }
            info!(tun = instance.tun, mtu, "MTU set");
            tun.mtu = mtu;
        }
        Ok(())
    }

    /// Looks whether sysctls stand in the way, changes them where that is asked for, and logs what is new.
    fn check_sysctls(&mut self, plan: &KernelPlan, interfaces: &[Interface]) {
        let mut findings = sysctls::check(plan, interfaces);
        if plan.set_sysctls && !findings.is_empty() {
            if self.sysctls.is_none() {
                match Sysctls::new(&plan.state_dir, plan.rule_priority) {
                    Ok(sysctls) => self.sysctls = Some(sysctls),
                    Err(error) => {
                        warn!(%error, "sysctls stay as they are, because the namespace is not known")
                    }
                }
            }
            if let Some(sysctls) = &mut self.sysctls {
                findings = sysctls.apply(findings);
            }
        }
        let warnings: Vec<_> = findings.iter().map(sysctls::Finding::sentence).collect();
        for warning in warnings.iter().filter(|warning| !self.warnings.contains(warning)) {
            warn!("{warning}");
        }
        self.warnings = warnings;
    }
}

/// The plan's rules of each family, also where there are none.
fn by_family(plan: &KernelPlan) -> [(Family, BTreeSet<crate::io::netlink::Rule>); 2] {
    let (ipv4, ipv6) = plan.rules().into_iter().partition(|rule| rule.family == Family::Ipv4);
    [(Family::Ipv4, ipv4), (Family::Ipv6, ipv6)]
}

/// Whether a plan needs a resource for itself: priorities also serve to tell apart who changed which sysctls.
fn needs(plan: &KernelPlan, resource: Resource) -> bool {
    let routes = plan.routing != RoutingMode::None && !plan.instances.is_empty();
    match resource {
        Resource::Table(table) => routes && plan.tables().contains(&table),
        Resource::Priority(priority) => (routes || plan.set_sysctls) && plan.priorities().contains(&priority),
    }
}

fn validate(plan: &KernelPlan) -> Result<(), KernelError> {
    if plan.routing == RoutingMode::None {
        return Ok(());
    }
    if !(1..=MAX_PRIORITY).contains(&plan.rule_priority) {
        return Err(KernelError::PriorityRange(plan.rule_priority));
    }
    if let Some(table) = plan.tables().into_iter().find(|table| matches!(table, 0 | 253..=255)) {
        return Err(KernelError::TableReserved(table));
    }
    if let Some(table) = plan.tables().into_iter().find(|t| plan.instances.iter().any(|i| i.site_table == *t))
    {
        return Err(KernelError::TableIsSite(table));
    }
    for (position, first) in plan.instances.iter().enumerate() {
        for second in plan.instances.iter().skip(position + 1) {
            let told_apart = !first.interfaces.is_empty()
                && !second.interfaces.is_empty()
                && !first.interfaces.iter().any(|name| second.interfaces.contains(name));
            let overlap = second.eid_prefixes.iter().any(|net| first.overlaps(*net));
            if !told_apart && (overlap || first.proxies_overlap(second)) {
                return Err(KernelError::Ambiguous { first: first.iid, second: second.iid });
            }
        }
    }
    Ok(())
}

/// Deletes rules, routes and proxy entries, and restores sysctls, of routers of this namespace that no longer
/// run.
async fn clean(netlink: &Netlink, plan: &KernelPlan) -> Result<(), KernelError> {
    let free = |resource| Lock::take(resource).ok().flatten();
    let (mut cleaned, mut routed) = (0, BTreeSet::new());
    for family in FAMILIES {
        for listed in netlink.rules(family).await?.iter().filter(|listed| listed.rule.protocol == PROTOCOL) {
            if let Some(_lock) = free(Resource::Priority(listed.rule.priority)) {
                netlink.delete_rule(listed).await?;
                cleaned += 1;
            }
        }
        for route in netlink.routes(family, None, Some(PROTOCOL)).await? {
            if route.target != RouteTarget::Other
                && let Some(_lock) = free(Resource::Table(route.table))
            {
                netlink.delete_route(&route).await?;
                cleaned += 1;
            } else {
                routed.insert(route.destination);
            }
        }
    }
    match dynamic::clean_proxied(netlink, &routed).await {
        Ok(proxied) => cleaned += proxied,
        Err(error) => warn!(%error, "this machine may answer for hosts that it has no business with"),
    }
    if cleaned > 0 {
        info!(
            cleaned,
            "removed rules, routes and proxy entries that a router left behind that ended without cleaning up"
        );
    }
    sysctls::restore_stale(&plan.state_dir, others_run(netlink).await?);
    Ok(())
}

/// Whether another router of this namespace has rules of ours, after our own and stale ones are gone.
async fn others_run(netlink: &Netlink) -> Result<bool, KernelError> {
    for family in FAMILIES {
        if netlink.rules(family).await?.iter().any(|listed| listed.rule.protocol == PROTOCOL) {
            return Ok(true);
        }
    }
    Ok(false)
}
