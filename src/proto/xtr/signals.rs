//! What data packets say beside their payload: locator-status-bits, versions of mappings, nonces, and sources
//! that nobody knew of (RFC 9300 §9, §10; RFC 9302).
//!
//! Owns: what the data plane is told to say in headers, and what follows from what it heard. The single
//! mechanisms are in [`super::versions`], [`super::locator_status`] and [`super::echo_nonce`].

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::fib::{FibUpdate, Punt, Site};
use crate::proto::config::{ControlConfig, HeaderConfig};
use crate::proto::context::Context;
use crate::proto::event::Event;
use crate::proto::persist::{Change, Record};
use crate::types::{Eid, EidPrefix, Instant, MapVersion, Mapping, Rloc};

use super::database::Database;
use super::echo_nonce::{EchoNonce, Silence};
use super::itr::Itr;
use super::locator_status::LocatorStatus;
use super::smr::Solicitor;
use super::versions::Versions;

/// The machine.
#[derive(Debug)]
pub(crate) struct Signals {
    config: HeaderConfig,
    versions: Versions,
    status: LocatorStatus,
    echo: EchoNonce,
    /// What the data plane was told of our own sites.
    published: BTreeMap<EidPrefix, Said>,
}

/// What the data plane knows of one of our EID-prefixes.
#[derive(Debug, PartialEq)]
struct Said {
    version: MapVersion,
    status: Option<u32>,
    former: Vec<Rloc>,
}

impl Signals {
    /// `nonce_base` as of [`Versions::new`].
    pub(crate) fn new(nonce_base: u64) -> Self {
        Self {
            config: HeaderConfig::default(),
            versions: Versions::new(nonce_base),
            status: LocatorStatus::default(),
            echo: EchoNonce::default(),
            published: BTreeMap::new(),
        }
    }

    /// Takes a configuration in, before anything that depends on it: the data plane is told of the options,
    /// and the map-cache's entries are published with what these need.
    pub(crate) fn configure(
        &mut self,
        cx: &mut Context,
        config: &ControlConfig,
        itr: Option<&mut Itr>,
        database: &Database,
    ) {
        self.config.clone_from(&config.header);
        let options = config.header_options();
        if options == cx.options {
            return;
        }
        let before = std::mem::replace(&mut cx.options, options);
        cx.fib(FibUpdate::Options(options));
        self.published.clear();
        if options.echo_nonce.is_none() {
            self.echo.stop(cx);
        }
        let Some(itr) = itr else { return };
        if !options.locator_status {
            self.status.retain(|_| false);
            itr.cache_mut().all_up(cx, database.rlocs());
        }
        if options.any() && !before.any() {
            itr.cache_mut().republish(cx, database.rlocs());
        }
    }

    /// An earlier life of this router said this of one of our EID-prefixes.
    pub(crate) fn restored(&mut self, mapping: &Mapping) {
        self.versions.restored(mapping);
    }

    /// From now on, what is said is remembered: so is what was said already.
    pub(crate) fn remember(&self, cx: &mut Context) {
        for mapping in self.versions.said() {
            cx.persist(|| Change::Put(Record::OwnMapping(mapping.clone())));
        }
    }

    /// Our own mappings may have changed: gives them their versions, and has the data plane say what is said
    /// of them.
    pub(crate) fn database_changed(&mut self, cx: &mut Context, database: &mut Database) {
        for mapping in self.versions.update(&self.config, database) {
            cx.persist(|| Change::Put(Record::OwnMapping(mapping)));
        }
        // What is elsewhere is the map-cache's to publish.
        self.published.retain(|prefix, _| database.get(prefix).is_some_and(|entry| !entry.is_away()));
        if !cx.options.any() {
            return;
        }
        for (prefix, entry) in database.iter() {
            let bits = entry.locators.iter().take(32).enumerate();
            let status = bits.fold(0, |status, (bit, locator)| status | u32::from(locator.reachable) << bit);
            let status = (self.config.locator_status && !entry.locators.is_empty()).then_some(status);
            let said = Said { version: entry.version, status, former: entry.former().to_vec() };
            if self.published.get(&prefix) != Some(&said) {
                let former = said.former.clone().into();
                let site = Site { local: true, version: entry.version, status, former, ..Site::default() };
                cx.fib(FibUpdate::Site { prefix, site: Arc::new(site) });
                self.published.insert(prefix, said);
            }
        }
    }

    /// Takes a punt that is about headers.
    pub(crate) fn punt(
        &mut self,
        cx: &mut Context,
        now: Instant,
        punt: Punt,
        itr: Option<&mut Itr>,
        solicitor: &mut Solicitor,
        database: &Database,
    ) {
        match (punt, itr) {
            (Punt::StaleVersion { destination, source, rloc }, _) => {
                let ours = Eid::new(source.iid, destination);
                Self::stale(cx, now, ours, rloc, solicitor, database);
            }
            (Punt::NewVersion { source }, Some(itr)) => itr.newer(cx, now, &source, database),
            (Punt::Unverified { source, destination, rloc }, Some(itr)) => {
                itr.unverified(cx, now, source, Some(destination), rloc, database);
            }
            (Punt::LocatorStatus { source, rloc, status }, Some(itr)) => {
                self.locator_status(cx, now, &source, rloc, status, itr, database);
            }
            (Punt::EchoDue { rloc, eid }, Some(itr)) => {
                let found = itr.cache().longest(&eid).and_then(|(_, entry)| entry.site_state(&rloc));
                if let (Some(state), true) = (found, cx.options.echo_nonce.is_some()) {
                    self.echo.ask(cx, now, rloc, state);
                }
            }
            (Punt::Echoed { rloc }, Some(itr)) => {
                let waited_for = self.echo.echoed(cx, rloc);
                if waited_for {
                    itr.arrived(cx, now, rloc, database);
                }
            }
            // Nobody is there any more to make use of it.
            _ => {}
        }
    }

    pub(crate) fn handle_timeout(
        &mut self,
        cx: &mut Context,
        now: Instant,
        itr: Option<&mut Itr>,
        database: &Database,
    ) {
        let Some(itr) = itr else { return };
        for (rloc, silence) in self.echo.handle_timeout(cx, now) {
            let dark = silence == Silence::Dark;
            cx.event(Event::EchoMissing { rloc, dark });
            itr.silent(cx, now, rloc, dark, database);
        }
        while let Some(prefix) = self.status.pop_due(now) {
            let damping = cx.timers.locator_status_damping;
            match itr.cache().get(&prefix) {
                Some(entry) => {
                    if let Some(down) = self.status.apply(now, &entry.mapping, &entry.down_by_status, damping)
                    {
                        let has = |rloc: &Rloc| entry.mapping.locators.iter().any(|l| l.rloc == *rloc);
                        let back = entry.down_by_status.difference(&down).copied();
                        let back: Vec<Rloc> = back.filter(has).collect();
                        if !back.is_empty() {
                            cx.event(Event::LocatorsBack { prefix, rlocs: back });
                        }
                        itr.cache_mut().set_down_by_status(cx, &prefix, down, database.rlocs());
                    }
                }
                None => self.status.forget(&prefix),
            }
        }
    }

    pub(crate) fn next(&self) -> Option<Instant> {
        self.echo.next().into_iter().chain(self.status.next()).min()
    }

    /// Locator-status-bits of a site changed, says one of its locators (RFC 9300 §10).
    #[allow(clippy::too_many_arguments)]
    fn locator_status(
        &mut self,
        cx: &mut Context,
        now: Instant,
        source: &Eid,
        rloc: Rloc,
        status: u32,
        itr: &mut Itr,
        database: &Database,
    ) {
        if !cx.options.locator_status {
            return;
        }
        if self.status.is_full() {
            let cache = itr.cache();
            self.status.retain(|prefix| cache.get(prefix).is_some());
        }
        let Some((prefix, entry)) = itr.cache().longest(source) else { return };
        if !entry.mapping.locators.iter().any(|locator| locator.rloc == rloc) {
            return;
        }
        let damping = cx.timers.locator_status_damping;
        let applied = &entry.down_by_status;
        if let Some(down) = self.status.told(now, &entry.mapping, status, applied, damping) {
            cx.event(Event::LocatorStatus { prefix, rloc, down: down.iter().copied().collect() });
            itr.cache_mut().set_down_by_status(cx, &prefix, down, database.rlocs());
        }
    }

    /// Somebody sends after an old version of one of our mappings: an SMR tells him (RFC 9302 §7.1).
    fn stale(
        cx: &mut Context,
        now: Instant,
        ours: Eid,
        rloc: Rloc,
        solicitor: &mut Solicitor,
        database: &Database,
    ) {
        if let Some((prefix, entry)) = database.longest(&ours)
            && !entry.version.is_none()
        {
            cx.event(Event::StaleVersion { prefix, rloc });
            solicitor.stale(cx, now, rloc, prefix, database.rlocs());
        }
    }
}
