//! The control thread's event loop: carries inputs to the machines and their outputs to the world.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use futures::FutureExt;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{sleep_until, timeout};

use super::clock::Clock;
use super::control_sockets::ControlSockets;
use super::event_log::EventLog;
use super::external::External;
use super::forwarding::Forwarding;
use super::keeper::Keeper;
use super::kernel::KernelPlan;
use super::moves::{Commanded, Moves};
use super::snapshots::Snapshots;
use super::vrrp::Vrrp;
use super::{RunError, views};
use crate::config::{self, Config, DataPlaneMode};
use crate::fib::Punt;
use crate::io::netlink::{InterfaceMonitor, Liveness, Neighbour, NeighbourMonitor, Netlink, NetworkEvent};
use crate::mgmt::protocol::{LocatorName, Reply, Request};
use crate::mgmt::server::Call;
use crate::mgmt::view;
use crate::proto::config::LocatorSource;
use crate::proto::control::{
    Command, ControlPlane, Input, LigAnswer, LigError, NeighbourState, Output, Place, Transmit,
};
use crate::proto::xtr::MapCacheEntry;
use crate::types::{Eid, EidPrefix, Instant, LocatorChange};
use crate::wire::Message;
use crate::wire::display::HexDump;

/// Datagrams, or punts, that are worked on before the loop looks at anything else.
const TURN: usize = 64;
/// How long the answer of a DNS server is waited for.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long ago a data packet may have come for its sender to hear of a change of our mappings (RFC 9301 §6.1).
const SENT_LATELY: Duration = Duration::from_secs(60);
/// How long the kernel may take to list the interfaces before the loop goes on without.
const INTERFACES_TIMEOUT: Duration = Duration::from_secs(2);
/// How long undoing rules and routes may take at exit.
const REMOVE_TIMEOUT: Duration = Duration::from_secs(5);

/// Everything that the control thread owns.
pub(super) struct ControlLoop {
    pub(super) path: PathBuf,
    pub(super) config: Config,
    pub(super) clock: Clock,
    pub(super) plane: ControlPlane,
    pub(super) sockets: ControlSockets,
    /// Missing where there is neither ITR nor ETR role, or where another program forwards.
    pub(super) forwarding: Option<Forwarding>,
    /// The other program.
    pub(super) external: Option<External>,
    pub(super) monitor: InterfaceMonitor,
    pub(super) calls: mpsc::Receiver<Call>,
    pub(super) keeper: Keeper,
    pub(super) snapshots: Snapshots,
    pub(super) vrrp: Vrrp,
    pub(super) running: Running,
}

/// What only the loop itself uses.
pub(super) struct Running {
    /// What is known of hosts on the site's interfaces, where any are to be found.
    neighbours: Option<NeighbourMonitor>,
    log: EventLog,
    resolved: (mpsc::Sender<Resolved>, mpsc::Receiver<Resolved>),
    ligs: BTreeMap<u64, (Eid, oneshot::Sender<Reply>)>,
    next_lig: u64,
    moves: Moves,
    signals: Signals,
    started: Instant,
}

/// What a DNS lookup found.
struct Resolved {
    name: String,
    addresses: Vec<IpAddr>,
}

struct Signals {
    hangup: Signal,
    interrupt: Signal,
    terminate: Signal,
}

impl Running {
    /// Takes the signals SIGHUP, SIGINT and SIGTERM over.
    pub(super) fn begin(now: Instant) -> Result<Self, RunError> {
        let handler = |kind| signal(kind).map_err(|error| RunError(format!("can't handle signals: {error}")));
        Ok(Self {
            neighbours: None,
            log: EventLog::default(),
            resolved: mpsc::channel(16),
            ligs: BTreeMap::new(),
            next_lig: 0,
            moves: Moves::default(),
            signals: Signals {
                hangup: handler(SignalKind::hangup())?,
                interrupt: handler(SignalKind::interrupt())?,
                terminate: handler(SignalKind::terminate())?,
            },
            started: now,
        })
    }
}

impl ControlLoop {
    /// Runs until a signal says stop; then undoes what was done to the kernel.
    pub(super) async fn run(mut self) -> Result<(), RunError> {
        let mut buffer = vec![0; 1 << 16];
        self.first_interfaces().await;
        self.watch_neighbours();
        self.drain().await;
        // What is known from before comes first, so that the first packets find it.
        self.snapshots.take_up_first(&mut self.plane);
        self.drain().await;
        if let Some(forwarding) = &self.forwarding {
            forwarding.go();
        }
        loop {
            let wake = self.plane.poll_timeout().into_iter().chain(self.running.moves.next()).min();
            let wake = wake.map(|at| self.clock.to_tokio(at));
            tokio::select! {
                ready = self.sockets.readable() => {
                    ready.map_err(|error| RunError(format!("the control socket failed: {error}")))?;
                    for _ in 0..TURN {
                        let Some((len, source, destination)) = self.sockets.try_recv(&mut buffer) else { break };
                        let payload = buffer.get(..len).unwrap_or_default();
                        log_message("received from", source, payload);
                        self.plane.handle(self.clock.now(), Input::Datagram { source, destination, payload });
                    }
                }
                Some(punt) = next_punt(&mut self.forwarding, &mut self.external) => {
                    self.plane.handle(self.clock.now(), Input::Punt(punt));
                    for _ in 1..TURN {
                        let punts = punts(&mut self.forwarding, &mut self.external);
                        let Some(punt) = punts.and_then(|punts| punts.try_recv().ok()) else { break };
                        self.plane.handle(self.clock.now(), Input::Punt(punt));
                    }
                }
                event = self.monitor.next() => self.network(event).await,
                neighbour = next_neighbour(&mut self.running.neighbours) => self.neighbour(neighbour),
                Some(Resolved { name, addresses }) = self.running.resolved.1.recv() => {
                    self.plane.handle(self.clock.now(), Input::Resolved { name: &name, addresses: &addresses });
                }
                record = self.keeper.written() => {
                    self.plane.handle(self.clock.now(), Input::Persisted(&record));
                }
                () = self.snapshots.due() => self.snapshots.act(&mut self.plane),
                Some(call) = self.calls.recv() => self.answer(call).await,
                () = sleep_until(wake.unwrap_or_else(|| self.clock.to_tokio(Instant::FAR_FUTURE))),
                    if wake.is_some() => self.plane.handle_timeout(self.clock.now()),
                _ = self.running.signals.hangup.recv() => drop(self.reload().await),
                _ = self.running.signals.interrupt.recv() => break,
                _ = self.running.signals.terminate.recv() => break,
            }
            self.drain().await;
            self.running.moves.look(&self.plane, self.clock.now());
        }
        tracing::info!("stopping");
        self.stop().await
    }

    /// Takes in how the interfaces are now. Who asks before that would hear that none of our locators is up.
    async fn first_interfaces(&mut self) {
        let Ok(first) = timeout(INTERFACES_TIMEOUT, self.monitor.next()).await else { return };
        self.network(first).await;
        while let Some(event) = self.monitor.next().now_or_never() {
            self.network(event).await;
        }
    }

    /// Does everything that the machines want done.
    async fn drain(&mut self) {
        while let Some(output) = self.plane.poll_output() {
            match output {
                Output::Send(transmit) => self.send(&transmit),
                Output::Fib(update) => {
                    if let Some(forwarding) = &mut self.forwarding {
                        forwarding.fib.apply(update);
                    } else if let Some(external) = &self.external {
                        external.apply(update);
                    }
                }
                Output::Native { prefix, present } => self.native(prefix, present).await,
                Output::NativeException { prefix, present } => self.native_exception(prefix, present).await,
                Output::DynamicEid { prefix, place } => self.place(prefix, place).await,
                Output::Probe { interface, address } => self.probe(&interface, address).await,
                Output::Resolve { name } => self.resolve(name),
                Output::Persist(change) => self.keeper.keep(change),
                Output::ListSenders => {
                    let now = self.clock.now();
                    let since = now - SENT_LATELY;
                    let senders = match (&self.forwarding, &self.external) {
                        (Some(forwarding), _) => Some(forwarding.senders(since)),
                        (None, external) => external.as_ref().map(|external| external.senders(since)),
                    };
                    self.plane.handle(now, Input::Senders(&senders.unwrap_or_default()));
                }
                Output::LigReply { id, result } => self.lig_reply(id, result),
                Output::Event(event) => self.running.log.write(&event, self.clock.now()),
            }
        }
        if let Some(forwarding) = &mut self.forwarding {
            forwarding.fib.publish();
        }
        self.vrrp.locators(!self.plane.local_rlocs().is_empty());
    }

    fn send(&self, transmit: &Transmit) {
        log_message("sent to", transmit.destination, &transmit.payload);
        if let Err(error) = self.sockets.send(transmit) {
            // The machines send again where an answer matters.
            tracing::debug!(destination = %transmit.destination, "not sent: {error}");
        }
    }

    async fn native(&mut self, prefix: EidPrefix, present: bool) {
        let Some(forwarding) = &mut self.forwarding else { return };
        if let Err(error) = forwarding.kernel.apply_native(prefix, present).await {
            tracing::warn!("{prefix} is to be forwarded natively, but stays with the TUN: {error}");
        }
    }

    async fn native_exception(&mut self, prefix: EidPrefix, present: bool) {
        let Some(forwarding) = &mut self.forwarding else { return };
        if let Err(error) = forwarding.kernel.except_native(prefix, present).await {
            tracing::warn!(
                "{prefix} is an exception to what is forwarded natively, but not routed so: {error}"
            );
        }
    }

    async fn place(&mut self, prefix: EidPrefix, place: Option<Place>) {
        let Some(forwarding) = &mut self.forwarding else { return };
        if let Err(error) = forwarding.kernel.place(prefix, place).await {
            tracing::warn!("{prefix} moved, but is not routed so: {error}");
        }
    }

    async fn probe(&mut self, interface: &str, address: IpAddr) {
        let Some(forwarding) = &mut self.forwarding else { return };
        if let Err(error) = forwarding.kernel.probe(interface, address).await {
            tracing::debug!("{address} can't be asked for its address on {interface}: {error}");
        }
    }

    /// Looks a name up beside the loop. As many at once as there are names in the configuration.
    fn resolve(&self, name: String) {
        let answers = self.running.resolved.0.clone();
        tokio::spawn(async move {
            let addresses = match timeout(RESOLVE_TIMEOUT, tokio::net::lookup_host((name.as_str(), 0))).await
            {
                Ok(Ok(found)) => found.map(|addr| addr.ip()).collect(),
                Ok(Err(_)) | Err(_) => Vec::new(),
            };
            // Fails only when the router is stopping.
            let _ = answers.send(Resolved { name, addresses }).await;
        });
    }

    /// Follows the neighbour tables while hosts are to be found by them.
    fn watch_neighbours(&mut self) {
        let wanted = self.config.control.dynamic_eids.iter().any(|dynamic| dynamic.detect.is_some());
        if !wanted || self.running.neighbours.is_some() {
            self.running.neighbours = self.running.neighbours.take().filter(|_| wanted);
            return;
        }
        match Netlink::open().and_then(NeighbourMonitor::open) {
            Ok(monitor) => self.running.neighbours = Some(monitor),
            Err(error) => {
                tracing::warn!("hosts can't be found, as the neighbour tables can't be followed: {error}")
            }
        }
    }

    fn neighbour(&mut self, neighbour: Neighbour) {
        let named = self.monitor.interfaces().iter().find(|interface| interface.index == neighbour.index);
        let Some(interface) = named.map(|interface| interface.name.as_str()) else { return };
        let state = match neighbour.state {
            Liveness::Reachable => NeighbourState::Reachable,
            Liveness::Known => NeighbourState::Known,
            Liveness::Gone => NeighbourState::Gone,
        };
        let input = Input::Neighbour { interface, address: neighbour.address, state };
        self.plane.handle(self.clock.now(), input);
    }

    async fn network(&mut self, event: NetworkEvent) {
        let result = match event {
            NetworkEvent::Interface { name, addresses } => {
                self.plane.handle(self.clock.now(), Input::Interface { name: &name, addresses: &addresses });
                // Packets leave from elsewhere before anything else is done.
                self.drain().await;
                match &mut self.forwarding {
                    Some(forwarding) => forwarding.kernel.interfaces_changed(self.monitor.interfaces()).await,
                    None => Ok(()),
                }
            }
            NetworkEvent::RuleDeleted => match &mut self.forwarding {
                Some(forwarding) => forwarding.kernel.repair().await,
                None => Ok(()),
            },
        };
        if let Err(error) = result {
            tracing::warn!("{error}");
        }
    }

    async fn answer(&mut self, call: Call) {
        let now = self.clock.now();
        if let Some(why) = super::roles::lacking(&call.request, &self.config.control) {
            // Fails only when the client has gone.
            let _ = call.answer.send(Reply::Error(why.into()));
            return;
        }
        let reply = match call.request {
            Request::ShowMapCache { filter } => {
                let limit = self.config.control.itr.as_ref().map_or(0, |itr| itr.map_cache_limit);
                let path_mtu = |rloc: &IpAddr| match (&self.forwarding, &self.external) {
                    (Some(forwarding), _) => forwarding.path_mtu(rloc),
                    (None, external) => external.as_ref()?.path_mtu(rloc),
                };
                Reply::MapCache(views::map_cache(&self.plane, &filter, limit, path_mtu, now))
            }
            Request::ShowDatabase { filter } => Reply::Database(views::database(&self.plane, &filter, now)),
            Request::ShowSites { filter } => Reply::Sites(views::sites(&self.plane, &filter, now)),
            Request::ShowLocators => Reply::Locators(views::locators(&self.plane, &self.config, now)),
            Request::ShowStatistics => Reply::Statistics(view::Statistics {
                uptime: now.saturating_since(self.running.started).as_secs(),
                control: views::control_statistics(&self.plane),
                data: self.forwarding.as_ref().map(Forwarding::statistics).unwrap_or_default(),
                store: view::Store {
                    snapshot: self.snapshots.status().map(Box::new),
                    ..self.keeper.status()
                },
            }),
            Request::ShowInterfaces => Reply::Interfaces(self.interfaces()),
            Request::ShowResolvers => Reply::Resolvers(views::resolvers(&self.plane, now)),
            Request::ShowPending => Reply::Pending(views::pending(&self.plane, now)),
            Request::ShowVrrp => Reply::Vrrp(self.vrrp.view().await),
            Request::ShowSync => Reply::Sync(views::sync(&self.plane, &self.config, now)),
            Request::ShowDdt => Reply::Ddt(views::ddt(&self.plane, now)),
            Request::ClearMapCache { prefix: Some(prefix) }
                if self.plane.map_cache_entry(&prefix).is_some_and(MapCacheEntry::is_static) =>
            {
                Reply::Error(format!("{prefix} is static: remove it from the configuration and reload"))
            }
            Request::ClearMapCache { prefix } => {
                let before = self.plane.map_cache_len();
                self.plane.handle(now, Input::Command(Command::ClearMapCache(prefix)));
                self.snapshots.soon(prefix.as_ref());
                Reply::Cleared(before.saturating_sub(self.plane.map_cache_len()) as u64)
            }
            Request::Lig { eid, via } => {
                let id = self.running.next_lig;
                self.running.next_lig += 1;
                self.running.ligs.insert(id, (eid, call.answer));
                self.plane.handle(now, Input::Command(Command::Lig { id, eid, via }));
                return;
            }
            Request::Move { prefix, away: true, priority: Some(_), .. } => {
                Reply::Error(format!("{prefix} is to be away, and to have a priority here: leave one out"))
            }
            Request::Move { prefix, away, priority, wait } => {
                let command = Commanded { prefix, away, priority, wait };
                return self.running.moves.command(&mut self.plane, command, call.answer, now);
            }
            Request::ShowDynamicEids => {
                Reply::DynamicEids(views::dynamic_eids(&self.plane, &self.config.control.dynamic_eids, now))
            }
            Request::SetLocator { locator, change } => self.set_locator(&locator, change, now),
            Request::Reload => match self.reload().await {
                Ok(reloaded) => Reply::Reloaded(reloaded),
                Err(error) => Reply::Error(error),
            },
        };
        // Fails only when the client has gone.
        let _ = call.answer.send(reply);
    }

    /// `set locator`
    fn set_locator(&mut self, wanted: &LocatorName, change: Option<LocatorChange>, now: Instant) -> Reply {
        let locators = || self.config.control.database.iter().flat_map(|entry| &entry.locators);
        let mut sources: Vec<LocatorSource> = Vec::new();
        for locator in locators().filter(|locator| is_named(&locator.source, wanted)) {
            if !sources.contains(&locator.source) {
                sources.push(locator.source.clone());
            }
        }
        if sources.is_empty() {
            let mut known: Vec<String> = locators().map(|l| l.source.to_string()).collect();
            known.sort();
            known.dedup();
            return Reply::Error(match known.is_empty() {
                true => "this router has no locators".into(),
                false => format!("{wanted} is no locator of this router: they are {}", known.join(", ")),
            });
        }
        for source in &sources {
            self.plane.set_locator(source, change, now);
            match change {
                Some(change) => {
                    tracing::info!("locator {source} set by command until the next reload: {change}")
                }
                None => tracing::info!("locator {source} set by command to what is configured"),
            }
        }
        let warnings = match change {
            Some(LocatorChange { priority: None, weight: None, .. }) | None => Vec::new(),
            Some(_) => views::weight_warnings(&self.plane, &sources),
        };
        for warning in &warnings {
            tracing::warn!("{warning}");
        }
        Reply::LocatorsSet { locators: sources.iter().map(ToString::to_string).collect(), warnings }
    }

    fn lig_reply(&mut self, id: u64, result: Result<LigAnswer, LigError>) {
        let Some((eid, answer)) = self.running.ligs.remove(&id) else { return };
        let reply = match result {
            Ok(found) => Reply::Lig(views::lig(eid, &found)),
            Err(error) => Reply::Error(error.to_string()),
        };
        // Fails only when the client has gone.
        let _ = answer.send(reply);
    }

    fn interfaces(&self) -> view::Interfaces {
        let interfaces = self.monitor.interfaces();
        let tuns = self.forwarding.as_ref().map(|f| f.tuns(&self.config.instances, interfaces));
        let control = &self.config.control;
        view::Interfaces {
            tuns: tuns.unwrap_or_default(),
            locators: views::locator_interfaces(&self.config, interfaces),
            proxy_itr: control.itr.as_ref().map(|itr| itr.proxy_for.clone()).unwrap_or_default(),
            proxy_etr: control.etr.as_ref().map(|etr| etr.proxy_for.clone()).unwrap_or_default(),
            external: self.external.as_ref().map(External::view),
        }
    }

    /// Reads the configuration again, and writes to the log what came of it. After an error, nothing has changed.
    async fn reload(&mut self) -> Result<view::Reloaded, String> {
        let result = self.load_again().await;
        match &result {
            Ok(reloaded) if reloaded.changes.is_empty() => tracing::info!("reloaded: nothing changed"),
            Ok(reloaded) => reloaded.changes.iter().for_each(|change| tracing::info!("reloaded: {change}")),
            Err(error) => {
                // Each line is an entry of its own, so that each has its time.
                error.lines().for_each(|line| tracing::error!("{line}"));
                tracing::error!("not reloaded: the old configuration holds");
            }
        }
        result
    }

    async fn load_again(&mut self) -> Result<view::Reloaded, String> {
        let loaded = config::load(&self.path).map_err(|report| report.to_string())?;
        let (new, old) = (loaded.config, &self.config);
        let old_snapshot = old.snapshot;
        if let Some(what) = super::reload::unchangeable(old, &new, self.lacks_direction(&new)) {
            return Err(format!(
                "{}: {what} can't be changed while the router runs: restart it",
                self.path.display()
            ));
        }
        let mut reloaded = view::Reloaded {
            changes: Vec::new(),
            warnings: loaded.warnings.to_string().lines().map(Into::into).collect(),
        };
        if let Some(forwarding) = &mut self.forwarding {
            let plan = KernelPlan::new(&new);
            if plan != KernelPlan::new(old) {
                forwarding.kernel.update(plan).await.map_err(|error| error.to_string())?;
                reloaded.changes.push("rules and routes changed".into());
            }
        }
        if new.log != old.log {
            super::logging::apply(&new.log).map_err(|error| error.to_string())?;
            reloaded.changes.push("log levels changed".into());
        }
        let commanded = !self.plane.locator_changes().is_empty();
        if new.vrrp != old.vrrp {
            self.vrrp.reload(new.vrrp.clone()).await.map_err(|error| error.to_string())?;
            reloaded.changes.push("virtual routers changed".into());
        }
        if new.control != old.control || commanded {
            reloaded.changes.extend(super::reload::differences(&old.control, &new.control));
            if commanded {
                reloaded.changes.push("locators set by command are as configured again".into());
            }
            self.plane.reload(new.control.clone(), self.clock.now());
        }
        if new.snapshot != old_snapshot {
            reloaded.changes.push("map-cache snapshots changed".into());
        }
        self.config = new;
        self.snapshots.configure(&self.config);
        self.watch_neighbours();
        Ok(reloaded)
    }

    /// Whether packets are to pass in a direction for which there are no threads.
    fn lacks_direction(&self, new: &Config) -> bool {
        self.forwarding.as_ref().is_some_and(|forwarding| {
            let (itr, etr) = forwarding.directions;
            (new.control.itr.is_some() && !itr) || (new.control.etr.is_some() && !etr)
        })
    }

    async fn stop(mut self) -> Result<(), RunError> {
        self.snapshots.last(&mut self.plane).await;
        let undone = Self::undo(self.forwarding).await;
        self.vrrp.close().await;
        self.keeper.close().await;
        self.snapshots.close().await;
        undone
    }

    async fn undo(forwarding: Option<Forwarding>) -> Result<(), RunError> {
        if let Some(forwarding) = forwarding {
            match timeout(REMOVE_TIMEOUT, forwarding.kernel.remove()).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return Err(RunError(format!("not everything could be undone: {error}"))),
                Err(_) => {
                    return Err(RunError("not everything could be undone in time: the kernel hangs".into()));
                }
            }
        }
        Ok(())
    }
}

/// Where misses and other events of the data plane come from.
fn punts<'a>(
    forwarding: &'a mut Option<Forwarding>,
    external: &'a mut Option<External>,
) -> Option<&'a mut mpsc::Receiver<Punt>> {
    let own = forwarding.as_mut().map(|forwarding| &mut forwarding.punts);
    own.or_else(|| external.as_mut().map(|external| &mut external.punts))
}

async fn next_punt(forwarding: &mut Option<Forwarding>, external: &mut Option<External>) -> Option<Punt> {
    match punts(forwarding, external) {
        Some(punts) => punts.recv().await,
        None => std::future::pending().await,
    }
}

async fn next_neighbour(monitor: &mut Option<NeighbourMonitor>) -> Neighbour {
    match monitor {
        Some(monitor) => monitor.next().await,
        None => std::future::pending().await,
    }
}

fn is_named(source: &LocatorSource, wanted: &LocatorName) -> bool {
    match (source, wanted) {
        (LocatorSource::Address(addr), LocatorName::Address(wanted)) => addr == wanted,
        (LocatorSource::Interface { name, family }, LocatorName::Interface { name: wanted, family: of }) => {
            name == wanted && of.is_none_or(|of| of == *family)
        }
        _ => false,
    }
}

/// Whether packets are forwarded at all, be it by another program.
pub(super) fn forwards(config: &Config) -> bool {
    config.control.itr.is_some() || config.control.etr.is_some()
}

/// Whether the router forwards packets itself.
pub(super) fn has_data_plane(config: &Config) -> bool {
    forwards(config) && config.data_plane.mode == DataPlaneMode::Internal
}

/// Every control message at debug level, readable and with its bytes.
fn log_message(what: &str, peer: SocketAddr, payload: &[u8]) {
    if !tracing::enabled!(target: "eidolon::proto::messages", tracing::Level::DEBUG) {
        return;
    }
    let hex = HexDump(payload);
    match Message::decode(payload) {
        Ok(message) => {
            let (summary, tree) = (message.summary(), message.tree());
            tracing::debug!(target: "eidolon::proto::messages", "{what} {peer}: {summary}\n{tree}\n{hex}");
        }
        Err(error) => {
            tracing::debug!(target: "eidolon::proto::messages", "{what} {peer}: not decodable: {error}\n{hex}");
        }
    }
}
