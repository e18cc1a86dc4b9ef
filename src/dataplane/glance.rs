//! What the fast path wants to know of a packet from the site: less than all that its headers say, in as few
//! steps as that takes for an ordinary packet.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::flow::{flow_hash, flow_hash_v4};
use crate::wire::ip::{IPV4_HEADER, Inner, protocol};

/// The part of [`Inner`] that every packet is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Glance {
    pub(super) ends: Ends,
    /// As [`flow_hash`] gives it.
    pub(super) flow: u64,
    /// Bytes, by the packet's own header.
    pub(super) len: u32,
    pub(super) tos: u8,
    pub(super) ttl: u8,
    pub(super) protocol: u8,
}

/// Source and destination, as numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ends {
    V4(u32, u32),
    V6(u128, u128),
}

impl Ends {
    #[inline]
    pub(super) fn source(&self) -> IpAddr {
        match *self {
            Self::V4(source, _) => Ipv4Addr::from_bits(source).into(),
            Self::V6(source, _) => Ipv6Addr::from_bits(source).into(),
        }
    }

    #[inline]
    pub(super) fn destination(&self) -> IpAddr {
        match *self {
            Self::V4(_, destination) => Ipv4Addr::from_bits(destination).into(),
            Self::V6(_, destination) => Ipv6Addr::from_bits(destination).into(),
        }
    }
}

/// An IPv4 header without options, and the ports behind it.
const HEAD: usize = IPV4_HEADER + 4;

impl Glance {
    /// Of no packet.
    pub(super) const NONE: Self = Self { ends: Ends::V4(0, 0), flow: 0, len: 0, tos: 0, ttl: 0, protocol: 0 };

    /// Becomes that of the packet at the start of `bytes`; `None`, and nothing sensible, where
    /// [`Inner::parse`] gives an error. In place, since a copy made of small writes and wide reads would make
    /// the processor wait.
    #[inline(always)]
    pub(super) fn read(&mut self, bytes: &[u8]) -> Option<()> {
        match bytes.first_chunk::<HEAD>() {
            Some(head) if head[0] == 0x45 => self.ordinary(head, bytes.len()),
            _ => self.other(bytes),
        }
    }

    #[inline(always)]
    fn ordinary(&mut self, head: &[u8; HEAD], at_hand: usize) -> Option<()> {
        let word = |at: usize| u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let len = word(0) & 0xffff;
        if len < IPV4_HEADER as u32 || len as usize > at_hand {
            return None;
        }
        let (source, destination) = (word(12), word(16));
        let protocol = head[9];
        let fragment = word(4) & 0x3fff != 0;
        let has_ports = matches!(
            protocol,
            protocol::TCP | protocol::UDP | protocol::SCTP | protocol::DCCP | protocol::UDP_LITE
        ) && !fragment
            && len >= HEAD as u32;
        let ports = if has_ports { word(IPV4_HEADER) } else { 0 };
        self.ends = Ends::V4(source, destination);
        self.flow = flow_hash_v4(source, destination, ports, protocol);
        self.len = len;
        self.tos = head[1];
        self.ttl = head[8];
        self.protocol = protocol;
        Some(())
    }

    #[inline(never)]
    fn other(&mut self, bytes: &[u8]) -> Option<()> {
        let inner = Inner::parse(bytes).ok()?;
        let ends = match (inner.source, inner.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                Ends::V4(source.to_bits(), destination.to_bits())
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                Ends::V6(source.to_bits(), destination.to_bits())
            }
            // No packet has both.
            _ => return None,
        };
        *self = Self {
            ends,
            flow: flow_hash(&inner, bytes),
            len: inner.len as u32,
            tos: inner.tos,
            ttl: inner.ttl,
            protocol: inner.protocol,
        };
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_glance_sees_what_a_closer_look_does(
            mut bytes in proptest::collection::vec(any::<u8>(), 0..120),
            first in prop_oneof![4 => Just(0x45u8), 1 => 0x40u8..0x50, 1 => 0x60u8..0x70, 1 => any::<u8>()],
            protocol in prop_oneof![Just(6u8), Just(17), Just(132), Just(44), Just(1), any::<u8>()],
            fragment in prop_oneof![2 => Just(0u16), 2 => Just(0x4000), 1 => any::<u16>()],
            len in prop_oneof![any::<u16>(), 0u16..130],
        ) {
            if bytes.len() >= 10 {
                bytes[0] = first;
                let (at, next) = if first >> 4 == 6 { (4, 6) } else { (2, 9) };
                bytes[at..at + 2].copy_from_slice(&len.to_be_bytes());
                if first >> 4 == 4 {
                    bytes[6..8].copy_from_slice(&fragment.to_be_bytes());
                }
                bytes[next] = protocol;
            }
            let (mut glance, mut closer) = (Glance::NONE, Glance::NONE);
            let result = glance.read(&bytes);
            prop_assert_eq!(result, closer.other(&bytes));
            if result.is_some() {
                prop_assert_eq!(glance, closer);
            }
        }
    }
}
