//! Hosts and their applications.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use rand::rngs::StdRng;

use super::packet::{self, Kind, Said};
use super::random::{Popularity, uniform};
use super::scenario::{TrafficKind, TrafficSpec};
use super::topology::NodeId;
use crate::types::Instant;

/// A host.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) site: usize,
    pub(super) addresses: Vec<IpNet>,
}

impl Host {
    pub(super) fn has(&self, address: &IpAddr) -> bool {
        self.addresses.iter().any(|net| net.contains(address))
    }
}

/// One application on one host.
#[derive(Debug)]
pub(super) struct Application {
    pub(super) host: NodeId,
    /// Which kind, by its place in the scenario.
    pub(super) spec: usize,
    id: u32,
    rng: StdRng,
    destination: Option<IpAddr>,
    /// Packets to this destination before another one is chosen.
    left: u32,
    sequence: u32,
    /// When its last packet, or the last answer, arrived, and how many have.
    pub(super) heard: Option<Instant>,
}

impl Application {
    pub(super) const fn new(id: u32, host: NodeId, spec: usize, rng: StdRng) -> Self {
        Self { host, spec, id, rng, destination: None, left: 0, sequence: 0, heard: None }
    }

    /// When it begins.
    pub(super) fn start(&mut self, spec: &TrafficSpec) -> Instant {
        Instant::ZERO + spec.start + uniform(&mut self.rng, Duration::ZERO, spec.start_spread)
    }

    /// When it sends again.
    pub(super) fn next(&mut self, spec: &TrafficSpec, now: Instant) -> Instant {
        now + uniform(&mut self.rng, spec.interval.0, spec.interval.1)
    }

    /// Its next packet. Destinations on the host's own site are passed over.
    pub(super) fn packet(
        &mut self,
        spec: &TrafficSpec,
        popularity: &Popularity,
        host: &Host,
        local: &[IpNet],
    ) -> Option<Vec<u8>> {
        /// Draws before it is believed that there is no destination elsewhere.
        const DRAWS: usize = 64;
        if self.destination.is_none() || spec.packets_each > 0 && self.left == 0 {
            let draw = |_| spec.to.get(popularity.choose(&mut self.rng)).copied();
            let elsewhere = |to: &IpAddr| !local.iter().any(|net| net.contains(to));
            self.destination = Some((0..DRAWS).filter_map(draw).find(elsewhere)?);
            self.left = spec.packets_each;
        }
        self.left = self.left.saturating_sub(1);
        let destination = self.destination?;
        let source =
            host.addresses.iter().map(super::host_address).find(|a| a.is_ipv4() == destination.is_ipv4())?;
        let kind = match spec.kind {
            TrafficKind::Ping => Kind::Ping,
            TrafficKind::Udp => Kind::Datagram,
        };
        let said = Said { application: self.id, sequence: self.sequence, kind };
        self.sequence = self.sequence.wrapping_add(1);
        packet::build(source, destination, said, spec.size)
    }
}
