use rand::rngs::StdRng;

use crate::fib::Punt;
use crate::proto::config::{ControlConfig, Host, LocatorConfig, LocatorSource};
use crate::proto::context::Context;
use crate::proto::event::Event;
use crate::proto::mapping_system::MappingSystem;
use crate::proto::mapping_system::map_resolver::MapResolver;
use crate::proto::persist::Record;
use crate::proto::redundancy::snapshot::Saved;
use crate::proto::redundancy::sync::CacheSync;
use crate::proto::stats::DropReason;
use crate::proto::xtr::Restored;
use crate::proto::xtr::database::{Database, LocalRlocs};
use crate::proto::xtr::itr::Itr;
use crate::proto::xtr::missing_locators::MissingLocators;
use crate::proto::xtr::mobility::{Mobility, World};
use crate::proto::xtr::proxy;
use crate::proto::xtr::register::Registrar;
use crate::proto::xtr::signals::Signals;
use crate::proto::xtr::smr::Solicitor;
use crate::types::{EidPrefix, Instant, LocatorChange};
use crate::wire::EidRecord;

use super::{Command, Input, LigError, Move, MoveError, Output};

/// All protocol machines of one router, without I/O.
///
/// After every [`handle`](Self::handle), [`handle_timeout`](Self::handle_timeout), [`reload`](Self::reload), and after
/// construction, drain [`poll_output`](Self::poll_output) and then ask [`poll_timeout`](Self::poll_timeout) when to
/// call `handle_timeout` next. Every call's `now` is at least the one before it. Calling `handle_timeout` early is
/// harmless.
///
/// ```
/// use eidolon::proto::config::{ControlConfig, EtrConfig, Host, ItrConfig};
/// use eidolon::proto::control::{ControlPlane, Input, Output};
/// use eidolon::types::Instant;
/// use rand::SeedableRng;
/// use rand::rngs::StdRng;
///
/// let resolver = Host::Name("mr.example".into());
/// let config = ControlConfig {
///     itr: Some(ItrConfig { map_resolvers: vec![resolver], ..ItrConfig::default() }),
///     ..ControlConfig::default()
/// };
/// let mut now = Instant::ZERO;
/// // The second argument seeds everything random, the third must grow from one start to the next.
/// let mut control = ControlPlane::new(config, StdRng::seed_from_u64(1), 1_700_000_000 << 20, now);
/// control.handle(now, Input::Interface { name: "eth0", addresses: &["192.0.2.1".parse().unwrap()] });
///
/// let mut resolved = Vec::new();
/// for _ in 0..3 {
///     let mut names = Vec::new();
///     while let Some(output) = control.poll_output() {
///         match output {
///             Output::Send(transmit) => { /* to the socket on port 4342 */ }
///             Output::Fib(update) => { /* to the data plane's table */ }
///             Output::Native { prefix, present } => { /* a throw route appears or goes */ }
///             Output::NativeException { prefix, present } => { /* a route to the TUN inside it, too */ }
///             Output::Resolve { name } => names.push(name),
///             Output::Persist(change) => { /* to the disk, to be given back by Input::Restored */ }
///             Output::DynamicEid { prefix, place } => { /* a host route appears, changes or goes */ }
///             Output::Probe { interface, address } => { /* ARP, or neighbour discovery */ }
///             Output::ListSenders => { /* the data plane says who, and `Input::Senders` passes it on */ }
///             Output::LigReply { id, result } => { /* to the client that asked */ }
///             Output::Event(event) => { /* to the log, at a bounded rate */ }
///         }
///     }
///     // Here a runtime waits for whichever comes first: a datagram, a punt, the answer to a question like this one …
///     for name in &names {
///         control.handle(now, Input::Resolved { name, addresses: &["198.51.100.1".parse().unwrap()] });
///     }
///     resolved.extend(names);
///     // … or this time.
///     let Some(at) = control.poll_timeout() else { break };
///     now = now.max(at);
///     control.handle_timeout(now);
/// }
/// assert_eq!(resolved.first().map(String::as_str), Some("mr.example"));
/// ```
#[derive(Debug)]
pub struct ControlPlane {
    pub(super) cx: Context,
    pub(in crate::proto) config: ControlConfig,
    pub(super) database: Database,
    missing_locators: MissingLocators,
    pub(super) itr: Option<Itr>,
    pub(super) registrar: Registrar,
    pub(super) signals: Signals,
    pub(super) solicitor: Solicitor,
    pub(super) mobility: Mobility,
    pub(super) mapping_system: MappingSystem,
    pub(super) sync: Option<CacheSync>,
    nonce_base: u64,
}

impl ControlPlane {
    /// Starts all roles of `config`. `nonce_base` should be greater than any nonce that this router ever registered with
    /// (RFC 9301 §5.6): Map-Registers count up from it. A wall clock with some room per second will do, as long as it
    /// does not go back; with [`Input::Restored`] it may.
    pub fn new(config: ControlConfig, rng: StdRng, nonce_base: u64, now: Instant) -> Self {
        let mut plane = Self {
            cx: Context::new(config.timers.clone(), rng, now),
            config: ControlConfig::default(),
            database: Database::default(),
            missing_locators: MissingLocators::default(),
            itr: None,
            registrar: Registrar::new(nonce_base),
            signals: Signals::new(nonce_base),
            solicitor: Solicitor::new(now),
            mobility: Mobility::new(now),
            mapping_system: MappingSystem::default(),
            sync: None,
            nonce_base,
        };
        plane.reload(config, now);
        plane
    }

    /// Takes an input in.
    pub fn handle(&mut self, now: Instant, input: Input<'_>) {
        match input {
            Input::Datagram { source, destination, payload } => {
                self.datagram(now, source, destination, payload);
            }
            Input::Punt(punt) if punt.is_of_header() => {
                let (itr, solicitor) = (self.itr.as_mut(), &mut self.solicitor);
                self.signals.punt(&mut self.cx, now, punt, itr, solicitor, &self.database);
            }
            Input::Punt(Punt::NewSource { source }) => self.mobility.sends(&mut self.cx, now, source),
            Input::Punt(Punt::Redirected { destination, rloc }) => {
                let (prefix, rlocs) = (self.mobility.away_of(&destination), self.database.rlocs());
                if let Some(prefix) = prefix {
                    self.solicitor.stale(&mut self.cx, now, rloc, prefix, rlocs);
                }
            }
            Input::Neighbour { interface, address, state } => {
                self.with_mobility(now, |mobility, world| {
                    mobility.neighbour(world, interface, address, state)
                });
            }
            Input::Punt(punt) => match &mut self.itr {
                Some(itr) => itr.punt(&mut self.cx, now, punt, &self.database),
                None => self.cx.drop(DropReason::NoRole, None),
            },
            Input::Interface { name, addresses } => {
                let before = self.database.rlocs().clone();
                if self.database.interface(name, addresses) {
                    self.missing_locators.changed(&self.database);
                    self.sources_changed(now, &before);
                    self.mapping_changed(now);
                }
            }
            Input::Resolved { name, addresses } => {
                let (event, changed) =
                    self.cx.names.resolved(name, addresses, now, self.cx.timers.name_refresh);
                if let Some(event) = event {
                    self.cx.event(event);
                }
                if changed {
                    self.registrar.kick(&self.cx, now);
                    if let Some(itr) = &mut self.itr {
                        itr.update_proxy_etrs(&mut self.cx, &self.database);
                        itr.kick(now);
                    }
                }
            }
            Input::Restored(records) => self.restored(now, records),
            Input::Persisted(record) => {
                if let Record::RegisterNonce { below } = record {
                    self.registrar.reserved(*below);
                }
            }
            Input::Senders(senders) => {
                self.solicitor.senders(&mut self.cx, now, senders, self.database.rlocs());
            }
            Input::Command(command) => self.command(now, command),
        }
        self.handle_timeout(now);
    }

    /// Does whatever is due at `now`.
    pub fn handle_timeout(&mut self, now: Instant) {
        if let Some(itr) = &mut self.itr {
            itr.handle_timeout(&mut self.cx, now, &self.database);
            let mut changed = false;
            for (rloc, up) in itr.take_site_changes() {
                changed |= self.database.other_is_up(rloc, up);
            }
            if changed {
                self.mapping_changed(now);
            }
        }
        if self.mobility.is_due(now) || self.itr.as_ref().is_some_and(Itr::has_located) {
            self.with_mobility(now, Mobility::handle_timeout);
        }
        let doubted = self.registrar.doubted(now);
        if !doubted.is_empty() {
            self.with_mobility(now, |mobility, world| mobility.doubt(world, &doubted));
        }
        self.signals.handle_timeout(&mut self.cx, now, self.itr.as_mut(), &self.database);
        self.missing_locators.handle_timeout(&mut self.cx, now);
        self.registrar.handle_timeout(&mut self.cx, now, self.database.rlocs());
        let cache = self.itr.as_ref().map(Itr::cache);
        self.solicitor.handle_timeout(&mut self.cx, now, cache, &self.registrar, self.database.rlocs());
        self.mapping_system.handle_timeout(&mut self.cx, now);
        if let (Some(sync), Some(itr)) = (&mut self.sync, &mut self.itr) {
            sync.handle_timeout(&mut self.cx, now, itr, &self.database);
        }
        // Last, as any of these may have come to doubt a name.
        for name in self.cx.names.due(now) {
            self.cx.outputs.push_back(Output::Resolve { name });
        }
    }

    /// The next thing to do, in order.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.cx.outputs.pop_front()
    }

    /// When [`handle_timeout`](Self::handle_timeout) is to be called next, unless an input comes first. Never later
    /// than anything is due; `None` when nothing is.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let itr = self.itr.as_ref().and_then(Itr::next);
        let server = self.mapping_system.next();
        let (registrar, signals, solicitor) =
            (self.registrar.next(), self.signals.next(), self.solicitor.next());
        let sync = self.sync.as_ref().and_then(CacheSync::next);
        let (mobility, missing) = (self.mobility.next(), self.missing_locators.next());
        [self.cx.names.next(), itr, registrar, signals, solicitor, server, sync, mobility, missing]
            .into_iter()
            .flatten()
            .min()
    }

    /// Changes to another configuration. What it doesn't change goes on: the map-cache stays, so do registrations of
    /// sites that are still configured, and only changed EID-prefixes are registered anew.
    pub fn reload(&mut self, config: ControlConfig, now: Instant) {
        let cx = &mut self.cx;
        cx.set_timers(&config.timers, now);
        cx.names.set(hosts(&config), now);
        self.signals.configure(cx, &config, self.itr.as_mut(), &self.database);

        self.mobility.configure(cx, now, &config, self.itr.as_mut(), &mut self.database);
        if let Some(itr) = &mut self.itr {
            for entry in config.database.iter().filter(|entry| self.database.get(&entry.eid).is_none()) {
                itr.becomes_local(cx, &entry.eid);
            }
        }
        let rlocs = self.database.rlocs().clone();
        let eids: Vec<EidPrefix> = self.database.iter().map(|(prefix, _)| prefix).collect();
        if config.itr.is_none() || config.probing.is_none_or(|probing| !probing.site) {
            self.database.nobody_is_dead();
        }
        let mut more: Vec<LocatorConfig> = config.locators.clone();
        for locator in config.dynamic_eids.iter().flat_map(|dynamic| &dynamic.locators) {
            if !more.iter().any(|known| known.source == locator.source) {
                more.push(locator.clone());
            }
        }
        self.database.configure(cx, &config.database, &more);
        self.missing_locators.configure(now, &self.database);
        proxy::announce(cx, &self.config, &config);
        let proxied = config.itr.as_ref().map(|itr| &itr.proxy_for[..]).unwrap_or_default();
        let others = self.database.set_proxied(proxied)
            | !self.database.iter().map(|(prefix, _)| prefix).eq(eids.iter().copied());
        if others && let Some(itr) = &mut self.itr {
            // Locators may be among those EIDs now, or no longer.
            itr.eids_changed(cx, &self.database);
        }
        match (&mut self.itr, &config.itr) {
            (Some(itr), Some(config)) => itr.reconfigure(cx, now, config.clone(), &self.database),
            (itr @ None, Some(config)) => *itr = Some(Itr::new(cx, now, config.clone(), &self.database)),
            (itr, None) => {
                if let Some(mut itr) = itr.take() {
                    itr.stop(cx);
                }
            }
        }
        if let Some(itr) = &mut self.itr {
            itr.update_proxy_etrs(cx, &self.database);
        }
        if rlocs != *self.database.rlocs() {
            self.sources_changed(now, &rlocs);
        }
        let cx = &mut self.cx;

        if let Some(itr) = &mut self.itr {
            itr.configure_probing(cx, now, config.probing, &self.database);
        }

        // What is synchronised is the ITR's.
        match (&mut self.sync, config.sync.as_ref().filter(|_| config.itr.is_some())) {
            (Some(sync), Some(config)) => sync.configure(now, config.clone()),
            (sync @ None, Some(config)) => {
                *sync = Some(CacheSync::new(cx, now, config.clone(), self.nonce_base));
            }
            (sync, None) => *sync = None,
        }
        if let Some(itr) = &mut self.itr {
            itr.keep_journal(self.sync.is_some());
        }

        let system = &mut self.mapping_system;
        match (&mut system.server, &config.map_server) {
            (server, Some(config)) => server.get_or_insert_default().configure(cx, now, config),
            (server, None) => {
                if let Some(server) = server.take() {
                    server.stop(cx, now);
                }
            }
        }
        system.resolver = config.map_resolver.as_ref().map(MapResolver::new);
        system.configure_ddt(&config.ddt);

        self.config = config;
        self.mapping_changed(now);
        self.handle_timeout(now);
    }

    /// Takes up where an earlier life ended.
    fn restored(&mut self, now: Instant, records: &[Record]) {
        self.cx.persistent = true;
        let mut below = None;
        for record in records {
            match record {
                Record::RegisterNonce { below: reserved } => below = Some(*reserved),
                Record::LastNonce { .. } | Record::RecentRegister { .. } => {
                    if let Some(server) = &mut self.mapping_system.server {
                        server.restored(&mut self.cx, record);
                    }
                }
                Record::OwnMapping(mapping) => self.signals.restored(mapping),
                Record::Moved { .. } | Record::Away(_) => {
                    self.with_mobility(now, |mobility, world| mobility.restored(world, record));
                }
            }
        }
        self.registrar.restored(below);
        self.mapping_changed(now);
        self.signals.remember(&mut self.cx);
    }

    /// Takes in entries of a [snapshot](crate::proto::redundancy::snapshot) that an earlier life of this router left,
    /// with the times of `now`, and the most recently used first; those that fit. They are used from now on, and
    /// confirmed by the mapping system at a bounded rate. To be called once the interfaces are known; a part at
    /// a time where there are many. What became of each.
    pub fn restore_map_cache(&mut self, entries: &[Saved], now: Instant) -> Restored {
        let Some(itr) = &mut self.itr else {
            return Restored { instance: entries.len(), ..Restored::default() };
        };
        let proxied = self.config.itr.iter().flat_map(|itr| itr.proxy_for.iter());
        let statics = self.config.itr.iter().flat_map(|itr| itr.static_entries.iter()).map(|m| &m.eid);
        let own = self.config.database.iter().map(|entry| &entry.eid);
        let instances = own.chain(proxied).chain(statics).map(|prefix| prefix.iid).collect();
        let restored = itr.restore(&mut self.cx, now, entries, &instances, &self.database);
        self.handle_timeout(now);
        restored
    }

    /// Other locators of ours than `before` may be sources of packets now.
    fn sources_changed(&mut self, now: Instant, before: &LocalRlocs) {
        let after = self.database.rlocs();
        let gone = before.all().iter().filter(|rloc| !after.contains(rloc)).map(|rloc| (*rloc, false));
        let new = after.all().iter().filter(|rloc| !before.contains(rloc)).map(|rloc| (*rloc, true));
        for (rloc, up) in gone.chain(new) {
            self.cx.event(Event::OwnLocator { rloc, up });
        }
        if after.all().is_empty() {
            self.registrar.cut_off(now);
        }
        if let Some(itr) = &mut self.itr {
            itr.locators_changed(&mut self.cx, now, &self.database);
        }
    }

    /// Has an operator's change hold for every locator with this source until the next reload; `None` = as configured
    /// again. How many locators that is about, over all EID-prefixes.
    pub fn set_locator(
        &mut self,
        source: &LocatorSource,
        change: Option<LocatorChange>,
        now: Instant,
    ) -> usize {
        let before = self.database.rlocs().clone();
        let count = self.database.set_locator(source, change);
        if count > 0 {
            if before != *self.database.rlocs() {
                self.sources_changed(now, &before);
            }
            self.mapping_changed(now);
            self.handle_timeout(now);
        }
        count
    }

    /// An operator says where an EID-prefix is that may move.
    ///
    /// # Errors
    /// If that can't be; nothing has changed then.
    pub fn move_eid(&mut self, prefix: EidPrefix, what: Move, now: Instant) -> Result<(), MoveError> {
        let mut result = Ok(());
        self.with_mobility(now, |mobility, world| {
            result = mobility.command(world, prefix, what);
        });
        self.handle_timeout(now);
        result
    }

    /// A Map-Server says by itself what it now tells of these prefixes.
    pub(super) fn told_of_moves(&mut self, now: Instant, records: &[EidRecord]) {
        if !records.is_empty() {
            self.with_mobility(now, |mobility, world| mobility.told(world, records));
        }
    }

    /// Lends mobility what it needs, and has its changes spread.
    fn with_mobility(&mut self, now: Instant, act: impl FnOnce(&mut Mobility, &mut World<'_>)) {
        let mut world = World {
            cx: &mut self.cx,
            now,
            itr: self.itr.as_mut(),
            database: &mut self.database,
            registrar: &mut self.registrar,
            fixed: &self.config.database,
            changed: false,
        };
        act(&mut self.mobility, &mut world);
        if world.changed {
            self.registrar.hurry();
            self.mapping_changed(now);
        }
    }

    /// What we tell others of the site may have changed, by configuration, interface or the death of another xTR: the
    /// one place that has it spread. Cheap where nothing changed.
    fn mapping_changed(&mut self, now: Instant) {
        self.signals.database_changed(&mut self.cx, &mut self.database);
        let prefixes = self.database.take_changed();
        let etr = self.config.etr.clone().unwrap_or_default();
        self.registrar.update(&mut self.cx, now, &etr, &self.database);
        if !prefixes.is_empty() {
            self.cx.event(Event::MappingChanged { prefixes: prefixes.len() });
        }
        let outdated = self.database.take_outdated();
        if self.config.etr.is_some() {
            self.solicitor.changed(now, outdated);
        }
    }

    fn command(&mut self, now: Instant, command: Command) {
        match (command, &mut self.itr) {
            (Command::ClearMapCache(prefix), Some(itr)) => itr.clear(&mut self.cx, prefix),
            (Command::ClearMapCache(_), None) => {}
            (Command::Lig { id, eid, via }, Some(itr)) => {
                itr.lig(&mut self.cx, now, id, eid, via, self.database.rlocs());
            }
            (Command::Lig { id, .. }, None) => {
                self.cx.outputs.push_back(Output::LigReply { id, result: Err(LigError::NoItr) });
            }
        }
    }
}

/// Every host that the configuration names.
fn hosts(config: &ControlConfig) -> impl Iterator<Item = &Host> {
    let resolvers = config.itr.iter().flat_map(|itr| {
        itr.map_resolvers.iter().chain(itr.resolver_spaces.iter().flat_map(|(_, hosts)| hosts))
    });
    let servers = config.etr.iter().flat_map(|etr| &etr.map_servers).map(|server| &server.host);
    let proxies = config.itr.iter().flat_map(|itr| &itr.proxy_etrs).map(|proxy| &proxy.host);
    let forward = config.map_resolver.iter().flat_map(|r| &r.forward).flat_map(|(_, hosts)| hosts);
    resolvers.chain(servers).chain(proxies).chain(forward).chain(&config.ddt.roots)
}
