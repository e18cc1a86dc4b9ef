//! MAC VLAN interfaces and addresses that are put on and taken off while the router runs.

use std::net::IpAddr;

use futures::TryStreamExt;
use rtnetlink::packet_route::address::{
    AddressAttribute, AddressHeaderFlags, AddressMessage, AddressProtocol,
};
use rtnetlink::packet_route::link::{LinkAttribute, MacVlanMode};
use rtnetlink::{LinkMacVlan, LinkUnspec};

use super::{Netlink, NetlinkError};

impl Netlink {
    /// Makes a MAC VLAN interface, down, on top of another, and gives its index. One of the same name is
    /// replaced: names are the caller's own. `alias` is what [`Self::links_by_alias`] finds it by.
    pub async fn add_macvlan(
        &self,
        name: &str,
        parent: u32,
        mac: [u8; 6],
        alias: &str,
    ) -> Result<u32, NetlinkError> {
        let add = async || {
            let message = LinkMacVlan::new(name, parent, MacVlanMode::Private).address(mac.to_vec()).build();
            let failed = |e| NetlinkError::new(format!("make the interface {name}"), e);
            self.handle.link().add(message).execute().await.map_err(failed)
        };
        match add().await {
            Err(error) if error.is(libc::EEXIST) => {
                self.delete_link(self.index_of(name).await?).await?;
                add().await?;
            }
            result => result?,
        }
        let index = self.index_of(name).await?;
        // The kernel takes an alias for interfaces that exist only.
        let alias = LinkAttribute::IfAlias(alias.to_owned());
        let message = LinkUnspec::new_with_index(index).append_extra_attribute(alias).build();
        let failed = |e| NetlinkError::new(format!("mark the interface {name}"), e);
        self.handle.link().set(message).execute().await.map_err(failed)?;
        Ok(index)
    }

    /// The index of the interface with this name.
    pub async fn index_of(&self, name: &str) -> Result<u32, NetlinkError> {
        let failed = |e| NetlinkError::new(format!("find the interface {name}"), e);
        let mut links = self.handle.link().get().match_name(name.to_owned()).execute();
        match links.try_next().await.map_err(failed)? {
            Some(message) => Ok(message.header.index),
            None => Err(failed(rtnetlink::Error::RequestFailed)),
        }
    }

    /// Deletes an interface; fine if it is gone already.
    pub async fn delete_link(&self, index: u32) -> Result<(), NetlinkError> {
        let result = self.handle.link().del(index).execute().await;
        match result.map_err(|e| NetlinkError::new(format!("delete interface {index}"), e)) {
            Err(e) if e.is(libc::ENODEV) => Ok(()),
            result => result,
        }
    }

    /// Index, parent's index and alias of every interface whose alias begins so.
    pub async fn links_by_alias(&self, start: &str) -> Result<Vec<(u32, Option<u32>, String)>, NetlinkError> {
        let mut found = Vec::new();
        let mut links = self.handle.link().get().execute();
        let failed = |e| NetlinkError::new("list interfaces", e);
        while let Some(message) = links.try_next().await.map_err(failed)? {
            let (mut alias, mut parent) = (None, None);
            for attribute in &message.attributes {
                match attribute {
                    LinkAttribute::IfAlias(text) => alias = Some(text.clone()),
                    LinkAttribute::Link(index) => parent = Some(*index),
                    _ => {}
                }
            }
            if let Some(alias) = alias.filter(|alias| alias.starts_with(start)) {
                found.push((message.header.index, parent, alias));
            }
        }
        Ok(found)
    }

    /// Gives an interface an address without a subnet, in use at once (without duplicate address detection),
    /// and marked as installed by `protocol`. Fine if it has it.
    pub async fn add_single_address(
        &self,
        index: u32,
        address: IpAddr,
        protocol: u8,
    ) -> Result<(), NetlinkError> {
        let length = if address.is_ipv4() { 32 } else { 128 };
        let mut request = self.handle.address().add(index, address, length);
        let message = request.message_mut();
        if address.is_ipv6() {
            message.header.flags |= AddressHeaderFlags::Nodad;
        }
        message.attributes.push(AddressAttribute::Protocol(AddressProtocol::Other(protocol)));
        match request.execute().await.map_err(|e| NetlinkError::new(format!("add address {address}"), e)) {
            Err(e) if e.is(libc::EEXIST) => Ok(()),
            result => result,
        }
    }

    /// Takes the addresses that are marked with `protocol` off an interface: all, or only these. Kernels
    /// before 5.18 keep no such marks; there, only what is named is taken off.
    pub async fn delete_addresses(
        &self,
        index: u32,
        protocol: u8,
        only: Option<&[IpAddr]>,
    ) -> Result<(), NetlinkError> {
        let mut found = Vec::new();
        let mut addresses = self.handle.address().get().set_link_index_filter(index).execute();
        let failed = |e| NetlinkError::new("list addresses", e);
        while let Some(message) = addresses.try_next().await.map_err(failed)? {
            if message.header.index == index && matches(&message, protocol, only) {
                found.push(message);
            }
        }
        for message in found {
            let result = self.handle.address().del(message).execute().await;
            match result.map_err(|e| NetlinkError::new("delete an address", e)) {
                Err(e) if e.is(libc::EADDRNOTAVAIL) || e.is(libc::ENODEV) => {}
                result => result?,
            }
        }
        Ok(())
    }
}

fn matches(message: &AddressMessage, protocol: u8, only: Option<&[IpAddr]>) -> bool {
    let (mut address, mut mark) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(a) => address = Some(*a),
            AddressAttribute::Address(a) => address = address.or(Some(*a)),
            AddressAttribute::Protocol(p) => mark = Some(u8::from(*p)),
            _ => {}
        }
    }
    let named = only.is_some_and(|only| address.is_some_and(|a| only.contains(&a)));
    match (only, mark) {
        (None, mark) => mark == Some(protocol),
        (Some(_), Some(mark)) => named && mark == protocol,
        (Some(_), None) => named,
    }
}
