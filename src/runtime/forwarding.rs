//! The data plane and the kernel's share in it, as the control thread holds them: a router without ITR and
//! ETR role has neither.

use tokio::sync::mpsc;

use super::clock::Clock;
use super::data_loop::DataPlane;
use super::kernel::{KernelIntegration, KernelPlan};
use super::{RunError, views};
use crate::config::{Config, InstanceConfig};
use crate::dataplane;
use crate::fib::{self, FibReader, FibWriter, Punt, Sender};
use crate::io::netlink::Interface;
use crate::mgmt::view;
use crate::types::{Instant, Rloc};

/// What moves packets.
#[derive(Debug)]
pub(super) struct Forwarding {
    /// Where the machines' updates go.
    pub(super) fib: FibWriter,
    /// What the data threads hand over.
    pub(super) punts: mpsc::Receiver<Punt>,
    /// Rules and routes.
    pub(super) kernel: KernelIntegration,
    /// Whether there are threads from the site to the underlay, and the other way.
    pub(super) directions: (bool, bool),
    plane: DataPlane,
    reader: FibReader,
}

impl Forwarding {
    /// Makes the TUN interfaces and has the kernel send the site's packets there, where they wait until
    /// [`go`](Self::go).
    pub(super) async fn start(config: &Config, clock: Clock) -> Result<Self, RunError> {
        let told = data_plane(config);
        let fib = fib::new(told.pending_limit);
        let reader = fib.reader();
        let (punts_to, punts) = mpsc::channel(told.punt_queue);
        let plane = DataPlane::prepare(&told, clock, &reader, &punts_to).map_err(RunError::from_display)?;
        let kernel =
            KernelIntegration::install(KernelPlan::new(config)).await.map_err(RunError::from_display)?;
        Ok(Self { fib, punts, kernel, directions: (told.itr, told.etr), plane, reader })
    }

    /// Packets pass from now on.
    pub(super) fn go(&self) {
        self.plane.go();
    }

    /// The path MTU to a locator, if a limit is known.
    pub(super) fn path_mtu(&self, rloc: &Rloc) -> Option<u16> {
        self.reader.path_mtu(rloc)
    }

    /// Who sent data packets to this site since `since`.
    pub(super) fn senders(&self, since: Instant) -> Vec<Sender> {
        self.plane.senders(since)
    }

    /// The data plane's part of `show statistics`.
    pub(super) fn statistics(&self) -> Vec<view::DataStatistics> {
        self.plane
            .per_thread()
            .iter()
            .map(|(thread, totals)| views::data_statistics(thread, totals))
            .collect()
    }

    /// The TUN interfaces' part of `show interfaces`.
    pub(super) fn tuns(&self, instances: &[InstanceConfig], interfaces: &[Interface]) -> Vec<view::Tun> {
        let mode = self.plane.mode();
        let tun = |instance: &InstanceConfig| {
            let found = interfaces.iter().find(|i| i.name == instance.tun);
            view::Tun {
                name: instance.tun.clone(),
                iid: instance.iid,
                up: found.is_some_and(|i| i.up),
                mtu: found.map_or(0, |i| i.mtu),
                queues: mode.queues,
                offload: mode.plain_because.is_none(),
                offload_reason: mode.plain_because.clone(),
                underlay_offload: mode.underlay,
                site_interfaces: instance.interfaces.clone(),
            }
        };
        instances.iter().map(tun).collect()
    }
}

/// The data plane's part of a configuration.
fn data_plane(config: &Config) -> dataplane::DataPlaneConfig {
    let told = &config.data_plane;
    dataplane::DataPlaneConfig {
        instances: config
            .instances
            .iter()
            .map(|instance| dataplane::Instance { iid: instance.iid, tun: instance.tun.clone() })
            .collect(),
        itr: config.control.itr.is_some(),
        etr: config.control.etr.is_some(),
        offload: told.offload,
        udp_checksum: told.udp_checksum,
        dscp: told.dscp,
        path_mtu: told.path_mtu,
        queues: told.queues.unwrap_or(0),
        source_ports: told.source_ports,
        batch: told.batch,
        receive_buffer: told.receive_buffer,
        send_buffer: told.send_buffer,
        icmp_rate: told.icmp_rate,
        icmp_source_v4: told.icmp_source_v4,
        icmp_source_v6: told.icmp_source_v6,
        pending_limit: usize::try_from(told.pending_limit).unwrap_or(usize::MAX),
        punt_queue: usize::try_from(told.punt_queue).unwrap_or(usize::MAX),
        punt_rate: told.punt_rate,
    }
}
