//! From a configuration to a running router, in an order in which a failure leaves nothing behind.

use std::io;
use std::path::Path;

use rand::rngs::StdRng;
use tokio::sync::mpsc;

use super::RunError;
use super::clock::{Clock, wall_clock};
use super::control_loop::{ControlLoop, Running, forwards, has_data_plane};
use super::control_sockets::ControlSockets;
use super::external::External;
use super::forwarding::Forwarding;
use super::keeper::Keeper;
use super::kernel::{KernelPlan, PROTOCOL, StartupError};
use super::snapshots::Snapshots;
use super::vrrp::Vrrp;
use crate::config::Config;
use crate::io::netlink::{InterfaceMonitor, Netlink};
use crate::mgmt::server::Server;
use crate::proto::control::{ControlPlane, Input};
use crate::types::CONTROL_PORT;

/// Requests of the control socket that may wait for the loop.
const CALLS: usize = 16;

/// Starts everything; the loop is yet to be run.
pub(super) async fn start(path: &Path, config: Config) -> Result<ControlLoop, RunError> {
    let clock = Clock::new();
    if has_data_plane(&config) {
        StartupError::check_privilege().map_err(RunError::from_display)?;
        StartupError::check_tun_device().map_err(RunError::from_display)?;
    }
    let sockets = ControlSockets::bind().map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => RunError::from_display(StartupError::port_taken(CONTROL_PORT)),
        _ => RunError(format!("can't open UDP port {CONTROL_PORT}: {error}")),
    })?;
    let server =
        Server::bind(&config.management.socket, config.management.mode).map_err(RunError::from_display)?;
    let netlink =
        Netlink::open().map_err(|error| RunError(format!("can't open a netlink socket: {error}")))?;

    let forwarding = if has_data_plane(&config) {
        let interfaces = netlink.interfaces().await.map_err(RunError::from_display)?;
        StartupError::check_tun_names(&KernelPlan::new(&config), &interfaces)
            .map_err(RunError::from_display)?;
        Some(Forwarding::start(&config, clock).await?)
    } else {
        None
    };

    let external = match forwards(&config) && !has_data_plane(&config) {
        true => Some(External::start(&config, clock)?),
        false => None,
    };

    let monitor = InterfaceMonitor::open(netlink, PROTOCOL)
        .map_err(|error| RunError(format!("can't follow the interfaces: {error}")))?;
    let vrrp = Vrrp::start(config.vrrp.clone(), clock).await?;
    let (calls_to, calls) = mpsc::channel(CALLS);
    tokio::spawn(server.serve(calls_to));
    #[allow(clippy::disallowed_methods)] // the one place that seeds an RNG
    let rng: StdRng = rand::make_rng();
    let (keeper, records) = Keeper::open(&config.router.state_dir).await;
    let snapshots = Snapshots::open(&config, clock, records.is_some()).await;
    let mut plane = ControlPlane::new(config.control.clone(), rng, nonce_base(), clock.now());
    if let Some(records) = records {
        plane.handle(clock.now(), Input::Restored(&records));
    }
    tracing::info!(
        name = config.router.name.as_deref().unwrap_or("eidolon"),
        version = env!("CARGO_PKG_VERSION"),
        "router runs"
    );
    Ok(ControlLoop {
        running: Running::begin(clock.now())?,
        path: path.into(),
        config,
        clock,
        plane,
        sockets,
        forwarding,
        external,
        monitor,
        calls,
        keeper,
        snapshots,
        vrrp,
    })
}

/// Greater than any nonce that an earlier start can have registered with, as long as the wall clock does not
/// go back and there is less than one Map-Register per microsecond (RFC 9301 §5.6). Where it does go back,
/// the store knows better.
fn nonce_base() -> u64 {
    u64::try_from(wall_clock().as_micros()).unwrap_or(u64::MAX >> 1)
}
