//! Interfaces and addresses.

use std::collections::BTreeMap;
use std::net::IpAddr;

use futures::TryStreamExt;
use rtnetlink::LinkUnspec;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::address::{
    AddressAttribute, AddressFlags, AddressMessage, AddressProtocol, AddressScope,
};
use rtnetlink::packet_route::link::{LinkAttribute, LinkExtentMask, LinkFlags, LinkInfo, LinkMessage};

use super::{Netlink, NetlinkError};

/// A network interface as the kernel describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Kernel's index.
    pub index: u32,
    /// Name.
    pub name: String,
    /// Kind of a virtual interface (`tun`, `veth`, `vlan` …).
    pub kind: Option<String>,
    /// MTU in bytes.
    pub mtu: u32,
    /// Set up by the administrator.
    pub up: bool,
    /// Operational: up, with a carrier.
    pub running: bool,
    /// The loopback interface.
    pub loopback: bool,
    /// Every IPv4 and IPv6 address, in the kernel's order.
    pub addresses: Vec<InterfaceAddress>,
}

impl Interface {
    /// The addresses that packets can be sent from and received at: none while the interface isn't running.
    ///
    /// The order is the kernel's, save that temporary addresses (RFC 8981), which the kernel lists first,
    /// come after the others, as they change daily and should not become a locator where a stable address
    /// exists; and behind those come deprecated ones (RFC 4862 §5.5.4), which still work, but are about to
    /// go.
    pub fn usable_addresses(&self) -> Vec<IpAddr> {
        if !self.running {
            return Vec::new();
        }
        let mut usable: Vec<&InterfaceAddress> = self.addresses.iter().filter(|a| a.usable).collect();
        usable.sort_by_key(|a| (a.deprecated, a.temporary));
        usable.into_iter().map(|a| a.address).collect()
    }

    fn from_message(message: LinkMessage) -> Option<Self> {
        let flags = message.header.flags;
        let (mut name, mut mtu, mut kind) = (None, 0, None);
        for attribute in message.attributes {
            match attribute {
                LinkAttribute::IfName(n) => name = Some(n),
                LinkAttribute::Mtu(m) => mtu = m,
                LinkAttribute::LinkInfo(infos) => {
                    kind = infos.iter().find_map(|info| match info {
                        LinkInfo::Kind(kind) => Some(kind.to_string()),
                        _ => None,
                    });
                }
                _ => {}
            }
        }
        Some(Self {
            index: message.header.index,
            name: name?,
            kind,
            mtu,
            up: flags.contains(LinkFlags::Up),
            running: flags.contains(LinkFlags::Up | LinkFlags::Running),
            loopback: flags.contains(LinkFlags::Loopback),
            addresses: Vec::new(),
        })
    }
}

/// An address of an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterfaceAddress {
    /// The local address.
    pub address: IpAddr,
    /// Length of its subnet's prefix, in bits.
    pub prefix_len: u8,
    /// Of global scope, and neither tentative nor a duplicate.
    pub usable: bool,
    /// Not to be used for anything new (RFC 4862 §5.5.4), because it is about to go, or because the
    /// administrator wants no other use of it than by those who name it.
    pub deprecated: bool,
    /// A temporary IPv6 address (RFC 8981).
    pub temporary: bool,
    /// Made from a Router Advertisement.
    pub autoconfigured: bool,
}

impl InterfaceAddress {
    fn from_message(message: AddressMessage) -> Option<Self> {
        let mut flags = AddressFlags::from_bits_retain(u32::from(message.header.flags.bits()));
        let (mut local, mut address, mut autoconfigured) = (None, None, None);
        for attribute in message.attributes {
            match attribute {
                // On a point-to-point link, IFA_ADDRESS is the peer's.
                AddressAttribute::Local(a) => local = Some(a),
                AddressAttribute::Address(a) => address = Some(a),
                AddressAttribute::Flags(f) => flags = f,
                AddressAttribute::Protocol(p) => {
                    autoconfigured = Some(p == AddressProtocol::RouterAnnouncement);
                }
                _ => {}
            }
        }
        let address = local.or(address)?;
        let unusable = AddressFlags::Tentative | AddressFlags::Dadfailed;
        let global = message.header.scope == AddressScope::Universe;
        Some(Self {
            address,
            prefix_len: message.header.prefix_len,
            usable: global && !flags.intersects(unusable) && !address.is_unspecified(),
            deprecated: flags.contains(AddressFlags::Deprecated),
            // The same bit says "secondary" of an IPv4 address.
            temporary: address.is_ipv6() && flags.contains(AddressFlags::Secondary),
            // Kernels before 5.18 don't say where an address is from: there, one that expires is taken for
            // it.
            autoconfigured: address.is_ipv6()
                && global
                && autoconfigured.unwrap_or(!flags.contains(AddressFlags::Permanent)),
        })
    }
}

impl Netlink {
    /// All interfaces with their addresses, by index.
    pub async fn interfaces(&self) -> Result<Vec<Interface>, NetlinkError> {
        let mut interfaces = BTreeMap::new();
        let mut links = self
            .handle
            .link()
            .get()
            .set_filter_mask(AddressFamily::Unspec, vec![LinkExtentMask::SkipStats])
            .execute();
        let failed = |e| NetlinkError::new("list interfaces", e);
        while let Some(message) = links.try_next().await.map_err(failed)? {
            if let Some(interface) = Interface::from_message(message) {
                interfaces.insert(interface.index, interface);
            }
        }
        let mut addresses = self.handle.address().get().execute();
        let failed = |e| NetlinkError::new("list addresses", e);
        while let Some(message) = addresses.try_next().await.map_err(failed)? {
            let Some(interface) = interfaces.get_mut(&message.header.index) else { continue };
            interface.addresses.extend(InterfaceAddress::from_message(message));
        }
        Ok(interfaces.into_values().collect())
    }

    /// Sets an interface up.
    pub async fn set_up(&self, index: u32) -> Result<(), NetlinkError> {
        self.set_link(LinkUnspec::new_with_index(index).up().build(), "set interface up").await
    }

    /// Sets an interface's MTU, in bytes.
    pub async fn set_mtu(&self, index: u32, mtu: u32) -> Result<(), NetlinkError> {
        let message = LinkUnspec::new_with_index(index).mtu(mtu).build();
        self.set_link(message, &format!("set interface MTU to {mtu}")).await
    }

    /// Takes an interface out of multicast, so that the kernel sends no IGMP or MLD reports there.
    pub async fn set_multicast_off(&self, index: u32) -> Result<(), NetlinkError> {
        let message = LinkUnspec::new_with_index(index).multicast(false).build();
        self.set_link(message, "switch interface multicast off").await
    }

    /// Gives an interface an address that is for this machine alone: of host scope, in no subnet. Fine if it
    /// has it.
    pub async fn add_host_address(&self, index: u32, address: IpAddr) -> Result<(), NetlinkError> {
        let mut request = self.handle.address().add(index, address, if address.is_ipv4() { 32 } else { 128 });
        request.message_mut().header.scope = AddressScope::Host;
        match request.execute().await.map_err(|e| NetlinkError::new(format!("add address {address}"), e)) {
            Err(e) if e.is(libc::EEXIST) => Ok(()),
            result => result,
        }
    }

    async fn set_link(&self, message: LinkMessage, operation: &str) -> Result<(), NetlinkError> {
        self.handle.link().set(message).execute().await.map_err(|e| NetlinkError::new(operation, e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interface(addresses: &[(&str, bool, bool)]) -> Interface {
        Interface {
            index: 2,
            name: "eth0".into(),
            kind: None,
            mtu: 1500,
            up: true,
            running: true,
            loopback: false,
            addresses: addresses
                .iter()
                .map(|(address, usable, temporary)| InterfaceAddress {
                    address: address.parse().unwrap(),
                    prefix_len: 64,
                    usable: *usable,
                    deprecated: *address == "2001:db8::d",
                    temporary: *temporary,
                    autoconfigured: false,
                })
                .collect(),
        }
    }

    #[test]
    fn temporary_and_deprecated_addresses_come_last_and_unusable_ones_not_at_all() {
        let interface = interface(&[
            ("192.0.2.1", true, false),
            ("2001:db8::aaaa", true, true),
            ("2001:db8::d", true, false),
            ("2001:db8::1", true, false),
            ("fe80::1", false, false),
        ]);
        let expected: Vec<IpAddr> =
            ["192.0.2.1", "2001:db8::1", "2001:db8::aaaa", "2001:db8::d"].map(|a| a.parse().unwrap()).into();
        assert_eq!(interface.usable_addresses(), expected);
    }

    #[test]
    fn an_interface_without_carrier_has_no_usable_address() {
        let mut interface = interface(&[("192.0.2.1", true, false)]);
        interface.running = false;
        assert!(interface.usable_addresses().is_empty());
    }

    #[test]
    fn flags_decide_whether_an_address_is_usable() {
        let parse = |scope, flags: AddressFlags, address: &str| {
            let mut message = AddressMessage::default();
            message.header.scope = scope;
            message.header.prefix_len = 64;
            message.attributes =
                vec![AddressAttribute::Address(address.parse().unwrap()), AddressAttribute::Flags(flags)];
            InterfaceAddress::from_message(message).unwrap()
        };
        let permanent = AddressFlags::Permanent;
        assert!(parse(AddressScope::Universe, permanent, "2001:db8::1").usable);
        assert!(!parse(AddressScope::Universe, permanent, "2001:db8::1").autoconfigured);
        assert!(parse(AddressScope::Universe, AddressFlags::empty(), "2001:db8::1").autoconfigured);
        assert!(!parse(AddressScope::Link, permanent, "fe80::1").usable);
        let deprecated = parse(AddressScope::Universe, permanent | AddressFlags::Deprecated, "2001:db8::1");
        assert!(deprecated.usable && deprecated.deprecated);
        for bad in [AddressFlags::Tentative, AddressFlags::Dadfailed] {
            assert!(!parse(AddressScope::Universe, permanent | bad, "2001:db8::1").usable, "{bad:?}");
        }
        assert!(parse(AddressScope::Universe, AddressFlags::Secondary, "2001:db8::1").temporary);
        assert!(!parse(AddressScope::Universe, AddressFlags::Secondary, "192.0.2.1").temporary);
    }

    #[test]
    fn the_local_end_of_a_point_to_point_address_is_taken() {
        let mut message = AddressMessage::default();
        message.attributes = vec![
            AddressAttribute::Address("192.0.2.2".parse().unwrap()),
            AddressAttribute::Local("192.0.2.1".parse().unwrap()),
        ];
        let address = InterfaceAddress::from_message(message).unwrap();
        assert_eq!(address.address, "192.0.2.1".parse::<IpAddr>().unwrap());
    }
}
