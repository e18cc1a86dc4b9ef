//! VRRP: one of several routers of a link has the virtual addresses (RFC 9568; version 2 by RFC 3768).
//!
//! Owns the virtual routers of this machine: their states, elections and timers. Must not touch sockets or
//! interfaces: [`Vrrp`] is told of packets and interfaces, and says what to send and when to take or leave
//! addresses. What it is driven by is the contract of [`crate::proto`].
//!
//! What another machine calls active router is called master here, as operators do.

pub mod config;
mod event;
mod router;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::types::{Family, Instant};
use crate::wire::vrrp::{self, Advertisement, Packet, TTL};

pub use config::{Key, Tracked, Versions, VirtualRouterConfig};
pub use event::{Cause, Change, DropReason, Event};
pub use router::{Counters, Peer, State, VirtualRouter};

/// What can happen.
#[derive(Clone, Copy, Debug)]
pub enum Input<'a> {
    /// A frame came in whose payload is an IP packet that says it is of protocol 112: whole, with its IP
    /// header and perhaps padding.
    Packet {
        /// The interface that it came in by.
        interface: &'a str,
        /// From the IP header on.
        packet: &'a [u8],
    },
    /// An interface appeared, changed or went. Those that no virtual router is on and that none tracks are
    /// ignored.
    Interface {
        /// Its name.
        name: &'a str,
        /// What it is like now.
        state: InterfaceState,
    },
    /// Whether any of the site's locators can be reached, which they can until something else is said.
    Locators {
        /// Any can.
        reachable: bool,
    },
}

/// What an interface is like. The default is that of one that is not there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InterfaceState {
    /// Up, with a carrier.
    pub running: bool,
    /// The address that IPv4 advertisements come from: its primary address.
    pub ipv4: Option<Ipv4Addr>,
    /// The address that IPv6 advertisements come from: its link-local address.
    pub ipv6: Option<Ipv6Addr>,
}

impl InterfaceState {
    fn source(&self, family: Family) -> Option<IpAddr> {
        match family {
            _ if !self.running => None,
            Family::Ipv4 => self.ipv4.map(IpAddr::V4),
            Family::Ipv6 => self.ipv6.map(IpAddr::V6),
        }
    }
}

/// What is to be done, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send an advertisement to the group by the virtual router's interface, from its MAC address.
    Send {
        /// Which virtual router.
        key: Key,
        /// The source address.
        source: IpAddr,
        /// The VRRP message.
        message: Vec<u8>,
    },
    /// Take the virtual addresses, and the virtual MAC address.
    Take(Key),
    /// Leave them.
    Leave(Key),
    /// Tell the link where the addresses are (gratuitous ARP, unsolicited Neighbor Advertisement). Comes
    /// after [`Output::Take`], and again some seconds later.
    Announce(Key),
    /// Something for the log.
    Event(Event),
}

/// The virtual routers of this machine.
#[derive(Debug, Default)]
pub struct Vrrp {
    routers: BTreeMap<Key, VirtualRouter>,
    interfaces: BTreeMap<String, InterfaceState>,
    locators_down: bool,
    outputs: VecDeque<Output>,
    strays: BTreeMap<DropReason, u64>,
}

impl Vrrp {
    /// These virtual routers, all of which are in [`State::Initialize`] until their interfaces are told of.
    /// Two with the same key are one, the latter.
    pub fn new(configs: Vec<VirtualRouterConfig>) -> Self {
        let mut vrrp = Self::default();
        vrrp.reload(Instant::ZERO, configs);
        vrrp
    }

    /// Takes another configuration in. Virtual routers that did not change go on as they are, others resign
    /// first.
    pub fn reload(&mut self, now: Instant, configs: Vec<VirtualRouterConfig>) {
        let mut wanted: BTreeMap<Key, VirtualRouterConfig> =
            configs.into_iter().map(|config| (config.key.clone(), config)).collect();
        let outputs = &mut self.outputs;
        self.routers.retain(|key, router| match wanted.get(key) {
            Some(config) if config == router.config() => {
                wanted.remove(key);
                true
            }
            _ => {
                router.stop(Cause::Reconfigured, outputs);
                false
            }
        });
        for (key, config) in wanted {
            self.routers.insert(key, VirtualRouter::new(config));
        }
        self.update(now);
    }

    /// Something happened.
    pub fn handle(&mut self, now: Instant, input: Input<'_>) {
        match input {
            Input::Packet { interface, packet } => {
                if let Err(reason) = self.packet(now, interface, packet) {
                    *self.strays.entry(reason).or_default() += 1;
                }
            }
            Input::Interface { name, state } => {
                let watched = self.routers.values().any(|router| router.config().watches(name));
                if watched && self.interfaces.insert(name.to_owned(), state) != Some(state) {
                    self.update(now);
                }
            }
            Input::Locators { reachable } => {
                if self.locators_down == reachable {
                    self.locators_down = !reachable;
                    self.update(now);
                }
            }
        }
    }

    /// Time passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        for router in self.routers.values_mut() {
            router.timeout(now, &mut self.outputs);
        }
    }

    /// Ends everything: masters resign, so that others need not wait for their silence (RFC 9568 §6.4.3).
    pub fn shutdown(&mut self) {
        for router in self.routers.values_mut() {
            router.stop(Cause::Shutdown, &mut self.outputs);
        }
    }

    /// What is to be done next.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`Self::handle_timeout`] is to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.routers.values().filter_map(VirtualRouter::deadline).min()
    }

    /// The virtual routers, in order.
    pub fn routers(&self) -> impl Iterator<Item = &VirtualRouter> {
        self.routers.values()
    }

    /// One of them.
    pub fn router(&self, key: &Key) -> Option<&VirtualRouter> {
        self.routers.get(key)
    }

    /// Packets that were dropped before it was known which virtual router they are for, by reason.
    pub fn strays(&self) -> &BTreeMap<DropReason, u64> {
        &self.strays
    }

    /// Takes a packet to its virtual router, where there is one; what is wrong before that is the error.
    fn packet(&mut self, now: Instant, interface: &str, packet: &[u8]) -> Result<(), DropReason> {
        let packet = Packet::parse(packet).map_err(|_| DropReason::IpHeader)?;
        let family = Family::of(&packet.envelope.source);
        // The order is that of RFC 9568 §7.1.
        if packet.ttl != TTL {
            return Err(DropReason::Ttl);
        }
        if packet.envelope.destination != vrrp::group(family) {
            return Err(DropReason::Destination);
        }
        let advertisement = Advertisement::decode(packet.payload, &packet.envelope);
        let (advertisement, _) = advertisement.map_err(DropReason::from)?;
        let key = Key { interface: interface.to_owned(), family, vrid: advertisement.vrid };
        let router = self.routers.get_mut(&key).ok_or(DropReason::Vrid)?;
        router.receive(now, packet.envelope.source, &advertisement, &mut self.outputs);
        Ok(())
    }

    /// Tells every virtual router what it depends on.
    fn update(&mut self, now: Instant) {
        for (key, router) in &mut self.routers {
            let lost = |tracked: &Tracked| match tracked {
                Tracked::Interface { name, .. } => {
                    !self.interfaces.get(name).is_some_and(|state| state.running)
                }
                Tracked::Locators { .. } => self.locators_down,
            };
            let decrement = router.config().tracked.iter().filter(|t| lost(t)).map(Tracked::decrement).sum();
            let interface = self.interfaces.get(&key.interface).copied().unwrap_or_default();
            router.set_decrement(now, decrement, &mut self.outputs);
            router.set_source(now, interface.source(key.family), &mut self.outputs);
        }
    }
}
