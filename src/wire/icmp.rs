//! The ICMP errors that an ITR answers with (RFC 792, RFC 4443), as messages without IP header.
//!
//! The kernel puts the IP header around them. ICMPv6 checksums cover addresses that only the kernel knows, so
//! that field is left zero for it to fill in.

use super::ip::{self, Inner};
use crate::types::Family;

/// An error about a packet that was not forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IcmpError {
    /// Fragmentation needed and DF set, or packet too big: the largest packet that fits, in bytes.
    TooBig {
        /// Bytes.
        mtu: u16,
    },
    /// TTL or hop limit exceeded in transit.
    TimeExceeded,
}

/// How much of the offending packet an ICMP (v4) error quotes: as much as fits 576 bytes with a 20-byte IP
/// header (RFC 1812 §4.3.2.3).
const QUOTE_V4: usize = 576 - 20 - 8;
/// How much an ICMPv6 error quotes: as much as fits 1280 bytes with a 40-byte IP header (RFC 4443 §2.4 (c)).
const QUOTE_V6: usize = 1280 - 40 - 8;
/// The longest message that [`write_error`] writes.
pub const MAX_ERROR: usize = 8 + QUOTE_V6;

/// Writes the ICMP message about `packet` into `buffer` and gives its length; `None` where `buffer` is too
/// short (see [`MAX_ERROR`]), where the packet must not be answered (RFC 1122 §3.2.2, RFC 4443 §2.4 (e):
/// later fragments, ICMP errors, senders or destinations that are not unicast) or cannot be.
pub fn write_error(error: IcmpError, inner: &Inner, packet: &[u8], buffer: &mut [u8]) -> Option<usize> {
    if inner.later_fragment || !ip::is_forwardable(&inner.source) || !ip::is_forwardable(&inner.destination) {
        return None;
    }
    let (kind, code, rest, quote) = match (inner.family(), error) {
        (Family::Ipv4, IcmpError::TooBig { mtu }) => (3, 4, u32::from(mtu), QUOTE_V4),
        (Family::Ipv4, IcmpError::TimeExceeded) => (11, 0, 0, QUOTE_V4),
        (Family::Ipv6, IcmpError::TooBig { mtu }) => (2, 0, u32::from(mtu), QUOTE_V6),
        (Family::Ipv6, IcmpError::TimeExceeded) => (3, 0, 0, QUOTE_V6),
    };
    let its_type = packet.get(inner.transport).copied();
    match (inner.protocol, its_type) {
        // Only queries are answered by errors; types that are not known count as errors.
        (ip::protocol::ICMP, kind) if !matches!(kind, Some(0 | 8 | 13..=18)) => return None,
        (ip::protocol::ICMPV6, None | Some(0..=127 | 137)) => return None,
        _ => {}
    }
    let quoted = packet.get(..inner.len.min(quote))?;
    let message = buffer.get_mut(..8 + quoted.len())?;
    let (header, body) = message.split_first_chunk_mut::<8>()?;
    *header = [kind, code, 0, 0, 0, 0, 0, 0];
    header[4..].copy_from_slice(&rest.to_be_bytes());
    body.copy_from_slice(quoted);
    let len = message.len();
    if inner.family() == Family::Ipv4 {
        let checksum = !ip::sum(message);
        message.get_mut(2..4)?.copy_from_slice(&checksum.to_be_bytes());
    }
    Some(len)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn udp(payload: usize) -> Vec<u8> {
        let mut packet = Vec::new();
        etherparse::PacketBuilder::ipv4([10, 1, 2, 3], [192, 0, 2, 9], 17)
            .udp(1111, 2222)
            .write(&mut packet, &vec![7; payload])
            .unwrap();
        packet
    }

    #[test]
    fn fragmentation_needed_quotes_the_packet_and_gives_the_mtu() {
        let packet = udp(1000);
        let mut buffer = [0xa5; MAX_ERROR];
        let inner = Inner::parse(&packet).unwrap();
        let len = write_error(IcmpError::TooBig { mtu: 1464 }, &inner, &packet, &mut buffer).unwrap();
        assert_eq!(len, 556);
        assert_eq!(buffer[..2], [3, 4]);
        assert_eq!(buffer[4..8], [0, 0, 1464u16.to_be_bytes()[0], 1464u16.to_be_bytes()[1]]);
        assert_eq!(buffer[8..len], packet[..548]);
        assert_eq!(ip::sum(&buffer[..len]), 0xffff);
        let slice = etherparse::Icmpv4Slice::from_slice(&buffer[..len]).unwrap();
        assert!(matches!(
            slice.icmp_type(),
            etherparse::Icmpv4Type::DestinationUnreachable(
                etherparse::icmpv4::DestUnreachableHeader::FragmentationNeeded { next_hop_mtu: 1464 }
            )
        ));
    }

    #[test]
    fn packet_too_big_leaves_the_checksum_to_the_kernel() {
        let mut packet = Vec::new();
        etherparse::PacketBuilder::ipv6([0x20; 16], [0x21; 16], 9)
            .udp(5, 6)
            .write(&mut packet, &[1; 1500])
            .unwrap();
        let mut buffer = [0xa5; MAX_ERROR];
        let inner = Inner::parse(&packet).unwrap();
        let len = write_error(IcmpError::TooBig { mtu: 1444 }, &inner, &packet, &mut buffer).unwrap();
        assert_eq!(len, MAX_ERROR);
        assert_eq!(buffer[..8], [2, 0, 0, 0, 0, 0, 5, 164]);
        assert_eq!(buffer[8..len], packet[..1232]);
    }

    #[test]
    fn errors_are_never_answered_by_errors() {
        for (kind, answered) in
            [(8u8, true), (0, true), (3, false), (11, false), (5, false), (12, false), (200, false)]
        {
            let mut packet = udp(20);
            packet[9] = ip::protocol::ICMP;
            packet[20] = kind;
            let inner = Inner::parse(&packet).unwrap();
            let got = write_error(IcmpError::TimeExceeded, &inner, &packet, &mut [0; MAX_ERROR]);
            assert_eq!(got.is_some(), answered, "ICMP type {kind}");
        }
        let mut packet = udp(20);
        packet[7] = 3;
        let inner = Inner::parse(&packet).unwrap();
        assert_eq!(write_error(IcmpError::TimeExceeded, &inner, &packet, &mut [0; MAX_ERROR]), None);
    }
}
