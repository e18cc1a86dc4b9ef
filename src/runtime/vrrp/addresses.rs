//! Virtual addresses and virtual MAC addresses in the kernel.
//!
//! With a virtual MAC address, the addresses are on a MAC VLAN interface of their own, which exists while we
//! are master. Without, they are on the interface itself, marked as ours. What a crash left behind is found
//! by alias or mark, and removed by the next router that does VRRP on the interface; a lock tells it from
//! what another router uses. The alias also says what `arp_ignore` of the interface below was, so that it is
//! put back then.

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

/// How the alias of every MAC VLAN interface of ours begins.
const ALIAS: &str = "eidolon VRRP";
/// What follows in it: a value of [`ARP_IGNORE`].
const ALIAS_ARP: &str = ", arp_ignore was ";
/// Answers for addresses of the interface itself only.
const ARP_IGNORE: &str = "1";

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

    /// Becomes the only one to do VRRP on the interfaces of these virtual routers, and removes what a crash
    /// left there.
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
        for (index, parent, alias) in self.netlink.links_by_alias(ALIAS).await? {
            if parent == Some(interface.index) {
                let was = alias.strip_prefix(ALIAS).and_then(|rest| rest.strip_prefix(ALIAS_ARP));
                if let Some(was) = was.filter(|was| was.parse::<u8>().is_ok()) {
                    put_arp_back(name, was);
                }
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
        let name = link_name(key);
        let mac = virtual_mac(key.family, key.vrid);
        let alias = match self.arp_before(key) {
            Some(was) => format!("{ALIAS}{ALIAS_ARP}{was}"),
            None => ALIAS.to_owned(),
        };
        let index = self.netlink.add_macvlan(&name, parent, mac, &alias).await?;
        // Before it is up: no address of its own, none from routers, and answers for its own addresses only.
        // Packets to the gateway come in here although the way back is by the interface below.
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
        // What the interface below forwards, this one does.
        for family in ["ipv4", "ipv6"] {
            let forwarding = |name: &str| format!("net/{family}/conf/{name}/forwarding");
            if let Ok(value) = sysctl::read(&forwarding(&key.interface))
                && let Err(error) = sysctl::write(&forwarding(&name), &value)
            {
                tracing::debug!("{}: {error}", forwarding(&name));
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

    /// What `arp_ignore` of the interface below was before we came; `None` where we don't touch it.
    fn arp_before(&self, key: &Key) -> Option<String> {
        if key.family != Family::Ipv4 {
            return None;
        }
        match self.arp.get(&key.interface) {
            Some((before, _)) => Some(before.clone()),
            None => sysctl::read(&arp_ignore(&key.interface)).ok(),
        }
    }

    /// The interface below must not answer ARP for what is on the one above, with another MAC address.
    fn change_arp(&mut self, key: &Key) {
        let name = &key.interface;
        if let Some((_, count)) = self.arp.get_mut(name) {
            *count += 1;
            return;
        }
        let parameter = arp_ignore(name);
        match sysctl::read(&parameter).and_then(|old| sysctl::write(&parameter, ARP_IGNORE).map(|()| old)) {
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
            put_arp_back(name, old);
            self.arp.remove(name);
        }
    }
}

/// The name of the interface that a virtual router's addresses are on: the same in every life of this router,
/// so that rules can speak of it while it is not there. The end tells virtual routers of several interfaces
/// apart.
pub(in crate::runtime) fn link_name(key: &Key) -> String {
    let family = match key.family {
        Family::Ipv4 => 4,
        Family::Ipv6 => 6,
    };
    // FNV-1a, folded to 20 bits.
    let hash = key
        .interface
        .bytes()
        .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    format!("vrrp{family}.{}.{:05x}", key.vrid, (hash >> 20) ^ (hash & 0xf_ffff))
}

fn arp_ignore(interface: &str) -> String {
    format!("net/ipv4/conf/{interface}/arp_ignore")
}

/// Sets `arp_ignore` to what it was, unless somebody has set it to something else meanwhile.
fn put_arp_back(interface: &str, was: &str) {
    let parameter = arp_ignore(interface);
    if sysctl::read(&parameter).is_ok_and(|now| now == ARP_IGNORE)
        && let Err(error) = sysctl::write(&parameter, was)
    {
        tracing::warn!("{parameter} could not be set back to {was}: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_the_kernel_and_tell_virtual_routers_apart() {
        let mut names = std::collections::BTreeSet::new();
        for interface in ["eth0", "eth1", "vlan20", "vlan21", "enp0s31f6.4094"] {
            for vrid in [1, 10, 255] {
                for family in [Family::Ipv4, Family::Ipv6] {
                    let name = link_name(&Key { interface: interface.into(), family, vrid });
                    assert!(name.len() <= 15, "{name}");
                    assert!(names.insert(name.clone()), "{name} is there twice");
                }
            }
        }
    }
}
