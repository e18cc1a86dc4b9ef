//! Virtual addresses and virtual MAC addresses in the kernel.
//!
//! With a virtual MAC address, the addresses are on a MAC VLAN interface of their own, which exists while we are master.
//! Without, they are on the interface itself, marked as ours. What a crash left behind is found by alias or mark, and
//! removed by the next router that does VRRP on the interface; a lock tells it from what another router uses.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use crate::io::netlink::{Netlink, NetlinkError};
use crate::io::sysctl;
use crate::proto::redundancy::vrrp::{Key, VirtualRouterConfig};
use crate::runtime::RunError;
use crate::runtime::kernel::PROTOCOL;
use crate::types::Family;
use crate::wire::vrrp::virtual_mac;

/// The alias of every MAC VLAN interface of ours.
const ALIAS: &str = "eidolon VRRP";

/// What we have of the kernel.
#[derive(Debug)]
pub(super) struct Addresses {
    netlink: Netlink,
    taken: BTreeMap<Key, Taken>,
    /// `arp_ignore` of interfaces under a virtual MAC address, as it was, and how many need it changed.
    arp: BTreeMap<String, (String, usize)>,
    /// By interface; held for their names.
    locks: BTreeMap<String, UnixDatagram>,
}

/// What was done for a virtual router.
#[derive(Debug)]
enum Taken {
    /// The addresses are the interface's own.
    Owner,
    /// They were put on the interface with this index.
    Plain(u32, Vec<IpAddr>),
    /// They are on this interface.
    MacVlan(u32),
}

impl Addresses {
    pub(super) fn new(netlink: Netlink) -> Self {
        Self { netlink, taken: BTreeMap::new(), arp: BTreeMap::new(), locks: BTreeMap::new() }
    }

    /// Becomes the only one to do VRRP on the interfaces of these virtual routers, and removes what a crash left there.
    pub(super) async fn claim(&mut self, configs: &[VirtualRouterConfig]) -> Result<(), RunError> {
        for config in configs {
            let name = &config.key.interface;
            if self.locks.contains_key(name) {
                continue;
            }
            let lock = SocketAddr::from_abstract_name(format!("eidolon/vrrp/{name}"))
                .and_then(|address| UnixDatagram::bind_addr(&address))
                .map_err(|error| match error.kind() {
                    std::io::ErrorKind::AddrInUse => RunError(format!(
                        "another router does VRRP on {name}: stop it, or have all virtual routers in one"
                    )),
                    _ => RunError(format!("VRRP can't reserve {name}: {error}")),
                })?;
            self.locks.insert(name.clone(), lock);
            if let Err(error) = self.clean(name).await {
                tracing::warn!("what an earlier router left on {name} may still be there: {error}");
            }
        }
        Ok(())
    }

    async fn clean(&self, name: &str) -> Result<(), NetlinkError> {
        let interfaces = self.netlink.interfaces().await?;
        let Some(interface) = interfaces.iter().find(|interface| interface.name == name) else {
            return Ok(());
        };
        for (index, parent) in self.netlink.links_with_alias(ALIAS).await? {
            if parent == Some(interface.index) {
                tracing::info!("removed a virtual router's interface on {name} that was left behind");
                self.netlink.delete_link(index).await?;
            }
        }
        self.netlink.delete_addresses(interface.index, PROTOCOL, None).await
    }

    /// Puts a virtual router's addresses on. What fails is logged: the router is master all the same.
    pub(super) async fn take(&mut self, config: &VirtualRouterConfig, index: u32) {
        let key = &config.key;
        let result = match (config.is_owner(), config.virtual_mac) {
            (true, _) => Ok(Taken::Owner),
            (false, false) => self.plain(config, index).await,
            (false, true) => self.mac_vlan(config, index).await,
        };
        match result {
            Ok(taken) => {
                self.taken.insert(key.clone(), taken);
            }
            Err(error) => tracing::warn!("{key}: the virtual addresses can't be used: {error}"),
        }
    }

    /// Takes them off again.
    pub(super) async fn leave(&mut self, key: &Key) {
        let result = match self.taken.remove(key) {
            Some(Taken::MacVlan(index)) => {
                self.restore_arp(key);
                self.netlink.delete_link(index).await
            }
            Some(Taken::Plain(index, addresses)) => {
                self.netlink.delete_addresses(index, PROTOCOL, Some(&addresses)).await
            }
            Some(Taken::Owner) | None => Ok(()),
        };
        if let Err(error) = result {
            tracing::warn!("{key}: the virtual addresses may have stayed: {error}");
        }
    }

    /// Whether a virtual router's addresses have a MAC address of their own now.
    pub(super) fn has_virtual_mac(&self, key: &Key) -> bool {
        matches!(self.taken.get(key), Some(Taken::MacVlan(_)))
    }

    async fn plain(&self, config: &VirtualRouterConfig, index: u32) -> Result<Taken, NetlinkError> {
        for address in &config.addresses {
            self.netlink.add_single_address(index, *address, PROTOCOL).await?;
        }
        Ok(Taken::Plain(index, config.addresses.clone()))
    }

    async fn mac_vlan(&mut self, config: &VirtualRouterConfig, parent: u32) -> Result<Taken, NetlinkError> {
        let key = &config.key;
        let family = match key.family {
            Family::Ipv4 => 4,
            Family::Ipv6 => 6,
        };
        let name = format!("vrrp{family}.{}.{parent}", key.vrid);
        let mac = virtual_mac(key.family, key.vrid);
        let index = self.netlink.add_macvlan(&name, parent, mac, ALIAS).await?;
        // Before it is up: no address of its own, none from routers, and answers for its own addresses only. Packets
        // to the gateway come in here although the way back is by the interface below.
        for (parameter, value) in [
            (format!("net/ipv6/conf/{name}/addr_gen_mode"), "1"),
            (format!("net/ipv6/conf/{name}/accept_ra"), "0"),
            (format!("net/ipv4/conf/{name}/rp_filter"), "2"),
            (format!("net/ipv4/conf/{name}/arp_ignore"), "1"),
        ] {
            if let Err(error) = sysctl::write(&parameter, value) {
                tracing::debug!("{parameter}: {error}");
            }
        }
        if key.family == Family::Ipv4 {
            self.change_arp(key);
        }
        let ready = async {
            self.netlink.set_up(index).await?;
            for address in &config.addresses {
                self.netlink.add_single_address(index, *address, PROTOCOL).await?;
            }
            Ok(())
        };
        if let Err(error) = ready.await {
            self.restore_arp(key);
            let _ = self.netlink.delete_link(index).await;
            return Err(error);
        }
        Ok(Taken::MacVlan(index))
    }

    /// The interface below must not answer ARP for what is on the one above, with another MAC address.
    fn change_arp(&mut self, key: &Key) {
        let name = &key.interface;
        if let Some((_, count)) = self.arp.get_mut(name) {
            *count += 1;
            return;
        }
        let parameter = format!("net/ipv4/conf/{name}/arp_ignore");
        match sysctl::read(&parameter).and_then(|old| sysctl::write(&parameter, "1").map(|()| old)) {
            Ok(old) => {
                self.arp.insert(name.clone(), (old, 1));
            }
            Err(error) => tracing::warn!("{key}: can't set {parameter} to 1: {error}"),
        }
    }

    fn restore_arp(&mut self, key: &Key) {
        if key.family != Family::Ipv4 {
            return;
        }
        let name = &key.interface;
        let Some((old, count)) = self.arp.get_mut(name) else { return };
        *count -= 1;
        if *count == 0 {
            let _ = sysctl::write(&format!("net/ipv4/conf/{name}/arp_ignore"), old);
            self.arp.remove(name);
        }
    }
}
