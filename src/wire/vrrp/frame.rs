//! What surrounds an advertisement: IP and Ethernet headers, and the frames that tell a link where an address
//! is now.

use std::net::IpAddr;

use super::{Envelope, GROUP_V4, GROUP_V6, PROTOCOL, TTL};
use crate::types::Family;
use crate::wire::ip::{self, IPV4_HEADER, IPV6_HEADER, Inner, IpError};

/// DSCP CS6, network control (RFC 2474 §4.2.2.2), as routing protocols use.
const TOS: u8 = 0xc0;
const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_ARP: u16 = 0x0806;
const ETHERTYPE_IPV6: u16 = 0x86dd;
const BROADCAST: [u8; 6] = [0xff; 6];
/// All nodes of the link.
const ALL_NODES: [u16; 8] = [0xff02, 0, 0, 0, 0, 0, 0, 1];

/// The MAC address of a virtual router: 00-00-5E-00-01-{VRID} for IPv4, 00-00-5E-00-02-{VRID} for IPv6 (RFC
/// 9568 §7.3).
pub const fn virtual_mac(family: Family, vrid: u8) -> [u8; 6] {
    let family = match family {
        Family::Ipv4 => 1,
        Family::Ipv6 => 2,
    };
    [0, 0, 0x5e, 0, family, vrid]
}

/// An IP packet of protocol 112, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    /// Its addresses.
    pub envelope: Envelope,
    /// TTL or hop limit.
    pub ttl: u8,
    /// What follows the IP header and its options.
    pub payload: &'a [u8],
}

/// Why a packet holds no VRRP message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PacketError {
    /// The IP header is wrong.
    #[error(transparent)]
    Ip(#[from] IpError),
    /// The IPv4 header's checksum is wrong.
    #[error("wrong checksum in the IPv4 header")]
    HeaderChecksum,
    /// Another protocol.
    #[error("IP protocol {0} instead of 112")]
    Protocol(u8),
    /// Messages are never so long that they have to be fragmented.
    #[error("the packet is a fragment")]
    Fragment,
}

/// Why there is no frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The message does not fit a packet.
    #[error("a message of {0} bytes does not fit an IP packet")]
    TooLong(usize),
}

impl<'a> Packet<'a> {
    /// Reads the IP packet at the start of `bytes`; padding behind it is left out.
    ///
    /// # Errors
    /// If it holds no VRRP message.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, PacketError> {
        let inner = Inner::parse(bytes)?;
        if inner.family() == Family::Ipv4 && !ip::ipv4_header_is_valid(bytes) {
            return Err(PacketError::HeaderChecksum);
        }
        if inner.protocol != PROTOCOL {
            return Err(PacketError::Protocol(inner.protocol));
        }
        if inner.fragment {
            return Err(PacketError::Fragment);
        }
        let payload = bytes.get(inner.transport..inner.len).ok_or(IpError::TotalLength)?;
        let envelope = Envelope { source: inner.source, destination: inner.destination };
        Ok(Self { envelope, ttl: inner.ttl, payload })
    }
}

/// The Ethernet frame, from `mac`, of the advertisement `message` from `source` to the group.
///
/// # Errors
/// If the message is too long.
pub fn advertisement_frame(mac: [u8; 6], source: IpAddr, message: &[u8]) -> Result<Vec<u8>, FrameError> {
    let too_long = || FrameError::TooLong(message.len());
    match source {
        IpAddr::V4(source) => {
            let total = u16::try_from(IPV4_HEADER + message.len()).map_err(|_| too_long())?;
            // The last 23 bits of the group (RFC 1112 §6.4).
            let [_, b, c, d] = GROUP_V4.octets();
            let mut frame = ethernet([1, 0, 0x5e, b & 0x7f, c, d], mac, ETHERTYPE_IPV4);
            let at = frame.len();
            let [high, low] = total.to_be_bytes();
            frame.extend([0x45, TOS, high, low, 0, 0, 0x40, 0, TTL, PROTOCOL, 0, 0]);
            frame.extend(source.octets());
            frame.extend(GROUP_V4.octets());
            ip::write_ipv4_checksum(frame.get_mut(at..).unwrap_or_default());
            frame.extend(message);
            Ok(frame)
        }
        IpAddr::V6(source) => {
            let len = u16::try_from(message.len()).map_err(|_| too_long())?;
            let mut frame = ethernet(ipv6_multicast(GROUP_V6.octets()), mac, ETHERTYPE_IPV6);
            ipv6_header(&mut frame, len, PROTOCOL, source.octets(), GROUP_V6.octets());
            frame.extend(message);
            Ok(frame)
        }
    }
}

/// The Ethernet frame that tells a whole link that `address` is at `mac` now: a gratuitous ARP request (RFC
/// 9568 §8.1.2, RFC 5227 §3), or an unsolicited Neighbor Advertisement with the flags router and override
/// (§8.2.2).
pub fn announcement_frame(mac: [u8; 6], address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => {
            let mut frame = ethernet(BROADCAST, mac, ETHERTYPE_ARP);
            frame.extend([0, 1, 8, 0, 6, 4, 0, 1]);
            frame.extend(mac);
            frame.extend(address.octets());
            frame.extend([0; 6]);
            frame.extend(address.octets());
            frame
        }
        IpAddr::V6(address) => {
            let all: [u8; 16] = std::net::Ipv6Addr::from(ALL_NODES).octets();
            // Type 136, flags R and O, the address, and the option "target link-layer address" (RFC 4861
            // §4.4).
            let mut message = vec![136, 0, 0, 0, 0xa0, 0, 0, 0];
            message.extend(address.octets());
            message.extend([2, 1]);
            message.extend(mac);
            let parts = [&address.octets()[..], &all[..], &[0, 0, 0, message.len() as u8, 0, 0, 0, 58]];
            let checksum = !ip::sum(&[parts.concat(), message.clone()].concat());
            if let Some(field) = message.get_mut(2..4) {
                field.copy_from_slice(&checksum.to_be_bytes());
            }
            let mut frame = ethernet(ipv6_multicast(all), mac, ETHERTYPE_IPV6);
            ipv6_header(&mut frame, message.len() as u16, ip::protocol::ICMPV6, address.octets(), all);
            frame.extend(message);
            frame
        }
    }
}

fn ethernet(destination: [u8; 6], source: [u8; 6], ethertype: u16) -> Vec<u8> {
    let mut frame = Vec::with_capacity(14 + IPV6_HEADER + 64);
    frame.extend(destination);
    frame.extend(source);
    frame.extend(ethertype.to_be_bytes());
    frame
}

/// 33-33 and the last 32 bits of the group (RFC 2464 §7).
fn ipv6_multicast(group: [u8; 16]) -> [u8; 6] {
    let [.., a, b, c, d] = group;
    [0x33, 0x33, a, b, c, d]
}

fn ipv6_header(frame: &mut Vec<u8>, len: u16, protocol: u8, source: [u8; 16], destination: [u8; 16]) {
    frame.extend([0x60 | TOS >> 4, TOS << 4, 0, 0]);
    frame.extend(len.to_be_bytes());
    frame.extend([protocol, TTL]);
    frame.extend(source);
    frame.extend(destination);
}
