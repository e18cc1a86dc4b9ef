//! Packets of the simulated network, and how hosts make and read them.

use std::net::IpAddr;

use etherparse::PacketBuilder;

use super::topology::{NodeId, Transit};
use crate::wire::ip::Inner;

/// A packet under way. Outer headers are kept as values, what is inside as bytes.
#[derive(Clone, Debug)]
pub(super) struct Packet {
    /// The node that is to have it: of a site's packets, the next hop. Meaningless for what goes by MAC
    /// address.
    pub(super) to: NodeId,
    /// Whether it goes through the site's LAN.
    pub(super) lan: bool,
    /// Outer source; meaningless for a site's packets.
    pub(super) source: IpAddr,
    /// Outer destination.
    pub(super) destination: IpAddr,
    /// Outer TTL or hop limit.
    pub(super) ttl: u8,
    /// Outer TOS or traffic class.
    pub(super) tos: u8,
    pub(super) content: Content,
    /// UDP payload; of a site's packets, the whole IP packet; of frames, the whole frame.
    pub(super) bytes: Vec<u8>,
}

/// What a packet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// As hosts send it, within a site.
    Site,
    /// Encapsulated data.
    Data,
    /// A control message, with its source and destination port.
    Control(u16, u16),
    /// As hosts send it, to the virtual router with this MAC address; and whether it was sent everywhere, as
    /// nobody knew where that is.
    Gateway(Mac, bool),
    /// An Ethernet frame of a virtual router to all of its LAN.
    Frame(FrameKind),
}

/// What virtual routers send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FrameKind {
    /// VRRP.
    Advertisement,
    /// Gratuitous ARP, or unsolicited Neighbor Advertisement.
    Announcement,
}

impl FrameKind {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Advertisement => "vrrp",
            Self::Announcement => "announcement",
        }
    }
}

/// A MAC address.
pub(super) type Mac = [u8; 6];

/// Length of an Ethernet header in bytes.
pub(super) const ETHERNET: usize = 14;

impl Packet {
    /// Length of the IP packet in bytes.
    pub(super) fn len(&self) -> usize {
        let headers = match (self.content, self.destination) {
            (Content::Site | Content::Gateway(..), _) => 0,
            // Which every link adds.
            (Content::Frame(_), _) => return self.bytes.len().saturating_sub(ETHERNET),
            (_, IpAddr::V4(_)) => 28,
            (_, IpAddr::V6(_)) => 48,
        };
        self.bytes.len() + headers
    }

    /// Whose frame it is.
    pub(super) fn sender(&self) -> Option<Mac> {
        self.bytes.get(6..12).and_then(|mac| mac.try_into().ok())
    }

    /// Which part of the network it goes through.
    pub(super) fn through(&self) -> Transit {
        if self.lan { Transit::Lan } else { Transit::Underlay }
    }
}

/// What the applications of hosts say to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Said {
    /// Of which application it is.
    pub(super) application: u32,
    /// Its number, from 0.
    pub(super) sequence: u32,
    pub(super) kind: Kind,
}

/// Kinds of messages between hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// ICMP echo request.
    Ping,
    /// ICMP echo reply.
    Pong,
    /// UDP.
    Datagram,
}

/// Bytes of payload that [`Said`] needs.
pub(super) const LEAST_PAYLOAD: usize = 8;
const UDP_PORT: u16 = 40_000;
const TTL: u8 = 64;

/// The packet that says so, with `size` bytes of payload, at least [`LEAST_PAYLOAD`]. `None` where the
/// addresses are of two families.
pub(super) fn build(source: IpAddr, destination: IpAddr, said: Said, size: usize) -> Option<Vec<u8>> {
    let mut payload = vec![0; size.max(LEAST_PAYLOAD)];
    let words = said.application.to_be_bytes().into_iter().chain(said.sequence.to_be_bytes());
    payload.iter_mut().zip(words).for_each(|(to, from)| *to = from);
    let (id, sequence) = (said.application as u16, said.sequence as u16);
    let mut bytes = Vec::with_capacity(payload.len() + 48);
    let written = match (source, destination) {
        (IpAddr::V4(s), IpAddr::V4(d)) => {
            let ip = PacketBuilder::ipv4(s.octets(), d.octets(), TTL);
            match said.kind {
                Kind::Ping => ip.icmpv4_echo_request(id, sequence).write(&mut bytes, &payload),
                Kind::Pong => ip.icmpv4_echo_reply(id, sequence).write(&mut bytes, &payload),
                Kind::Datagram => ip.udp(UDP_PORT | id & 0xfff, UDP_PORT).write(&mut bytes, &payload),
            }
        }
        (IpAddr::V6(s), IpAddr::V6(d)) => {
            let ip = PacketBuilder::ipv6(s.octets(), d.octets(), TTL);
            match said.kind {
                Kind::Ping => ip.icmpv6_echo_request(id, sequence).write(&mut bytes, &payload),
                Kind::Pong => ip.icmpv6_echo_reply(id, sequence).write(&mut bytes, &payload),
                Kind::Datagram => ip.udp(UDP_PORT | id & 0xfff, UDP_PORT).write(&mut bytes, &payload),
            }
        }
        _ => return None,
    };
    written.ok().map(|()| bytes)
}

/// What a packet says, and its headers; `None` where it is nothing that [`build`] makes.
pub(super) fn read(bytes: &[u8]) -> Option<(Inner, Said)> {
    let inner = Inner::parse(bytes).ok()?;
    let transport = bytes.get(inner.transport..inner.len)?;
    let kind = match (inner.protocol, transport.first()?) {
        (1, 8) | (58, 128) => Kind::Ping,
        (1, 0) | (58, 129) => Kind::Pong,
        (17, _) => Kind::Datagram,
        _ => return None,
    };
    let words = transport.get(8..)?;
    let (application, rest) = words.split_first_chunk()?;
    let (sequence, _) = rest.split_first_chunk()?;
    let said =
        Said { application: u32::from_be_bytes(*application), sequence: u32::from_be_bytes(*sequence), kind };
    Some((inner, said))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_understood() {
        for (s, d, headers) in [("10.1.0.1", "10.2.0.1", 28), ("2001:db8::1", "2001:db8::2", 48)] {
            let (s, d): (IpAddr, IpAddr) = (s.parse().unwrap(), d.parse().unwrap());
            for kind in [Kind::Ping, Kind::Pong, Kind::Datagram] {
                let said = Said { application: 70_000, sequence: 5, kind };
                let bytes = build(s, d, said, 56).unwrap();
                assert_eq!(bytes.len(), headers + 56);
                let (inner, read) = read(&bytes).unwrap();
                assert_eq!((inner.source, inner.destination, inner.ttl, read), (s, d, 64, said));
                (0..bytes.len()).for_each(|len| assert_eq!(super::read(&bytes[..len]), None));
            }
        }
        assert_eq!(read(&[]), None);
    }
}
