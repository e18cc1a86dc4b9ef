//! IPv4 and IPv6 headers as the data plane sees them: zero-copy, checked once, and changed in place.
//!
//! Owns: the header summary [`Inner`], the Internet checksum and its incremental update (RFC 1071, RFC 1624),
//! pseudo headers. Must not allocate, and must not panic on any bytes.

use std::net::{IpAddr, Ipv4Addr};

use crate::types::Family;

/// Protocol numbers that the data plane treats specially.
pub mod protocol {
    /// IPv6 hop-by-hop options.
    pub const HOP_BY_HOP: u8 = 0;
    /// ICMP.
    pub const ICMP: u8 = 1;
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
    /// IPv6 routing header.
    pub const ROUTING: u8 = 43;
    /// IPv6 fragment header.
    pub const FRAGMENT: u8 = 44;
    /// ICMPv6.
    pub const ICMPV6: u8 = 58;
    /// IPv6 destination options.
    pub const DESTINATION: u8 = 60;
    /// DCCP.
    pub const DCCP: u8 = 33;
    /// SCTP.
    pub const SCTP: u8 = 132;
    /// UDP-Lite.
    pub const UDP_LITE: u8 = 136;
}

/// Length of an IPv4 header without options.
pub const IPV4_HEADER: usize = 20;
/// Length of an IPv6 header without extension headers.
pub const IPV6_HEADER: usize = 40;
/// How many IPv6 extension headers are followed before the chain is taken to be the transport.
const MAX_EXTENSIONS: usize = 8;

/// Why bytes are not an IP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IpError {
    /// Neither 4 nor 6 in the version nibble.
    #[error("IP version {0} is neither 4 nor 6")]
    Version(u8),
    /// Fewer bytes than the fixed header.
    #[error("packet is shorter than its IP header")]
    Truncated,
    /// IPv4 header length below 20 bytes or beyond the total length.
    #[error("IPv4 header length is impossible")]
    HeaderLength,
    /// The header's own total length is below the header's length or beyond the bytes at hand.
    #[error("IP total length exceeds the bytes received")]
    TotalLength,
}

/// What the data plane needs to know of an IP packet, read in one pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inner {
    /// Source address.
    pub source: IpAddr,
    /// Destination address.
    pub destination: IpAddr,
    /// Length in bytes by the packet's own header; trailing bytes are not part of the packet.
    pub len: usize,
    /// TOS or traffic class: DSCP in the upper six bits, ECN in the lower two.
    pub tos: u8,
    /// TTL or hop limit.
    pub ttl: u8,
    /// Transport protocol, after any extension headers that were followed.
    pub protocol: u8,
    /// Offset of the transport header; for a later fragment, of the fragment's data.
    pub transport: usize,
    /// Whether this is a fragment, the first one included.
    pub fragment: bool,
    /// Whether this is a fragment that does not begin with the transport header.
    pub later_fragment: bool,
    /// DF; always set for IPv6.
    pub dont_fragment: bool,
}

impl Default for Inner {
    fn default() -> Self {
        Self::NONE
    }
}

impl Inner {
    /// No packet.
    pub const NONE: Self = Self {
        source: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        destination: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        len: 0,
        tos: 0,
        ttl: 0,
        protocol: 0,
        transport: 0,
        fragment: false,
        later_fragment: false,
        dont_fragment: false,
    };

    /// Reads the headers of the packet at the start of `bytes`; bytes after its total length are allowed.
    #[inline(always)] // so that what it gives need not go through memory
    pub fn parse(bytes: &[u8]) -> Result<Self, IpError> {
        match bytes.first().map(|b| b >> 4) {
            Some(4) => Self::parse_v4(bytes),
            Some(6) => Self::parse_v6(bytes),
            Some(version) => Err(IpError::Version(version)),
            None => Err(IpError::Truncated),
        }
    }

    #[inline(always)]
    fn parse_v4(bytes: &[u8]) -> Result<Self, IpError> {
        let header: &[u8; IPV4_HEADER] = bytes.first_chunk().ok_or(IpError::Truncated)?;
        let transport = usize::from(header[0] & 0x0f) * 4;
        let len = usize::from(u16::from_be_bytes([header[2], header[3]]));
        if transport < IPV4_HEADER || transport > len {
            return Err(IpError::HeaderLength);
        }
        if len > bytes.len() {
            return Err(IpError::TotalLength);
        }
        let flags = u16::from_be_bytes([header[6], header[7]]);
        Ok(Self {
            source: IpAddr::V4(Ipv4Addr::new(header[12], header[13], header[14], header[15])),
            destination: IpAddr::V4(Ipv4Addr::new(header[16], header[17], header[18], header[19])),
            len,
            tos: header[1],
            ttl: header[8],
            protocol: header[9],
            transport,
            fragment: flags & 0x3fff != 0,
            later_fragment: flags & 0x1fff != 0,
            dont_fragment: flags & 0x4000 != 0,
        })
    }

    #[inline(never)]
    fn parse_v6(bytes: &[u8]) -> Result<Self, IpError> {
        let header: &[u8; IPV6_HEADER] = bytes.first_chunk().ok_or(IpError::Truncated)?;
        let len = IPV6_HEADER + usize::from(u16::from_be_bytes([header[4], header[5]]));
        let packet = bytes.get(..len).ok_or(IpError::TotalLength)?;
        let (mut source, mut destination) = ([0; 16], [0; 16]);
        source.copy_from_slice(&header[8..24]);
        destination.copy_from_slice(&header[24..40]);
        let mut inner = Self {
            source: IpAddr::V6(source.into()),
            destination: IpAddr::V6(destination.into()),
            len,
            tos: (header[0] << 4) | (header[1] >> 4),
            ttl: header[7],
            protocol: header[6],
            transport: IPV6_HEADER,
            fragment: false,
            later_fragment: false,
            dont_fragment: true,
        };
        if matches!(inner.protocol, protocol::TCP | protocol::UDP | protocol::ICMPV6) {
            return Ok(inner);
        }
        inner.follow_extensions(packet);
        Ok(inner)
    }

    /// Follows the chain of IPv6 extension headers (RFC 8200 §4). A chain that runs out of bytes ends where
    /// it does: the packet is forwarded as it is, only its flow is known less well.
    fn follow_extensions(&mut self, packet: &[u8]) {
        for _ in 0..MAX_EXTENSIONS {
            let Some(&[next, len, offset_high, offset_low, ..]) =
                packet.get(self.transport..).and_then(<[u8]>::first_chunk::<8>)
            else {
                return;
            };
            let skip = match self.protocol {
                protocol::HOP_BY_HOP | protocol::ROUTING | protocol::DESTINATION => {
                    8 * (usize::from(len) + 1)
                }
                protocol::FRAGMENT => {
                    let offset = u16::from_be_bytes([offset_high, offset_low]);
                    // An atomic fragment (offset 0, no more fragments) is a whole packet (RFC 6946).
                    self.fragment |= offset & 0xfff9 != 0;
                    self.later_fragment |= offset & 0xfff8 != 0;
                    8
                }
                _ => return,
            };
            if self.transport + skip > packet.len() {
                return;
            }
            self.transport += skip;
            self.protocol = next;
            if self.later_fragment {
                return;
            }
        }
    }

    /// The packet's family.
    #[inline]
    pub fn family(&self) -> Family {
        Family::of(&self.source)
    }

    /// Source and destination port as one big-endian number, where the packet has them.
    #[inline]
    pub fn ports(&self, packet: &[u8]) -> Option<u32> {
        use protocol::{DCCP, SCTP, TCP, UDP, UDP_LITE};
        if self.fragment || !matches!(self.protocol, TCP | UDP | SCTP | DCCP | UDP_LITE) {
            return None;
        }
        let ports: &[u8; 4] = packet.get(self.transport..self.len)?.first_chunk()?;
        Some(u32::from_be_bytes(*ports))
    }

    /// The sum of the pseudo header of a transport segment of `len` bytes (RFC 9293 §3.1, RFC 8200 §8.1).
    #[inline]
    pub fn pseudo_sum(&self, len: usize) -> u16 {
        pseudo_sum(&self.source, &self.destination, self.protocol, len)
    }
}

/// The sum of the pseudo header of a transport segment of `len` bytes between two addresses of one family.
#[inline]
pub fn pseudo_sum(source: &IpAddr, destination: &IpAddr, protocol: u8, len: usize) -> u16 {
    let mut total = u64::from(protocol) + (len as u64 & 0xffff) + (len as u64 >> 16);
    for address in [source, destination] {
        total += match address {
            IpAddr::V4(a) => u64::from(a.to_bits() >> 16) + u64::from(a.to_bits() & 0xffff),
            IpAddr::V6(a) => {
                let bits = a.to_bits();
                let (high, low) = ((bits >> 64) as u64, bits as u64);
                (high >> 32) + (high & 0xffff_ffff) + (low >> 32) + (low & 0xffff_ffff)
            }
        };
    }
    fold(total)
}

/// Folds a sum of 16-bit words to 16 bits with end-around carry.
#[inline]
pub const fn fold(mut total: u64) -> u16 {
    total = (total >> 32) + (total & 0xffff_ffff);
    total = (total >> 16) + (total & 0xffff);
    total = (total >> 16) + (total & 0xffff);
    total = (total >> 16) + (total & 0xffff);
    total as u16
}

/// Adds two one's complement sums.
#[inline]
pub const fn add(a: u16, b: u16) -> u16 {
    let (sum, carry) = a.overflowing_add(b);
    sum + carry as u16
}

/// A function that computes what [`sum`] does: the data plane is given the fastest that the processor has.
pub type SumFn = fn(&[u8]) -> u16;

/// The one's complement sum of `bytes` as big-endian 16-bit words, an odd last byte padded with zero (RFC
/// 1071). Not complemented: sums of parts that begin at even offsets can be [`add`]ed. Portable; processors
/// with vector units have faster ones.
pub fn sum(bytes: &[u8]) -> u16 {
    // Any word size and byte order gives the same sum up to a final byte swap (RFC 1071 §2 (B) and (C)).
    let mut total = 0u64;
    let (words, rest) = bytes.as_chunks::<8>();
    for word in words {
        let word = u64::from_ne_bytes(*word);
        total += (word >> 32) + (word & 0xffff_ffff);
    }
    let mut last = [0; 8];
    if let Some(start) = last.get_mut(..rest.len()) {
        start.copy_from_slice(rest);
    }
    let word = u64::from_ne_bytes(last);
    total += (word >> 32) + (word & 0xffff_ffff);
    u16::from_be(fold(total))
}

/// A checksum field after one of the words that it covers changed from `old` to `new` (RFC 1624, equation 3).
#[inline]
pub const fn update_checksum(checksum: u16, old: u16, new: u16) -> u16 {
    !add(add(!checksum, !old), new)
}

/// Whether the header checksum of the IPv4 packet at the start of `bytes` is right.
#[inline]
pub fn ipv4_header_is_valid(bytes: &[u8]) -> bool {
    let Some(&first) = bytes.first() else { return false };
    if first == 0x45
        && let Some(header) = bytes.first_chunk::<IPV4_HEADER>()
    {
        return ipv4_sum20(header) == 0xffff;
    }
    bytes.get(..usize::from(first & 0x0f) * 4).is_some_and(|header| sum(header) == 0xffff)
}

/// Writes the header checksum of the IPv4 packet at the start of `bytes`; does nothing if the header is
/// incomplete.
#[inline]
pub fn write_ipv4_checksum(bytes: &mut [u8]) {
    let Some(&first) = bytes.first() else { return };
    let Some(header) = bytes.get_mut(..usize::from(first & 0x0f) * 4) else { return };
    let Some(fixed) = header.first_chunk_mut::<IPV4_HEADER>() else { return };
    (fixed[10], fixed[11]) = (0, 0);
    let total = if first == 0x45 { ipv4_sum20(fixed) } else { sum(header) };
    if let Some(field) = header.get_mut(10..12) {
        field.copy_from_slice(&(!total).to_be_bytes());
    }
}

/// The sum of an IPv4 header without options: the common case, without a loop.
#[inline]
fn ipv4_sum20(header: &[u8; IPV4_HEADER]) -> u16 {
    let (words, _) = header.as_chunks::<4>();
    fold(words.iter().map(|w| u64::from(u32::from_be_bytes(*w))).sum())
}

/// Sets TOS and TTL (traffic class and hop limit) of the IP packet at the start of `bytes` and repairs an
/// IPv4 header checksum incrementally, so that a wrong one stays wrong.
#[inline]
pub fn set_tos_ttl(bytes: &mut [u8], tos: u8, ttl: u8) {
    match bytes.first().map(|b| b >> 4) {
        Some(4) => {
            let Some(h) = bytes.first_chunk_mut::<IPV4_HEADER>() else { return };
            if h[1] == tos && h[8] == ttl {
                return;
            }
            let mut checksum = u16::from_be_bytes([h[10], h[11]]);
            checksum =
                update_checksum(checksum, u16::from_be_bytes([h[0], h[1]]), u16::from_be_bytes([h[0], tos]));
            checksum =
                update_checksum(checksum, u16::from_be_bytes([h[8], h[9]]), u16::from_be_bytes([ttl, h[9]]));
            (h[1], h[8]) = (tos, ttl);
            [h[10], h[11]] = checksum.to_be_bytes();
        }
        Some(6) => {
            let Some(h) = bytes.first_chunk_mut::<IPV6_HEADER>() else { return };
            h[0] = (h[0] & 0xf0) | (tos >> 4);
            h[1] = (h[1] & 0x0f) | (tos << 4);
            h[7] = ttl;
        }
        _ => {}
    }
}

/// Whether an address can be the source of a forwarded unicast packet: not unspecified, loopback, multicast,
/// broadcast, link-local, or of IPv4's reserved class E.
#[inline]
pub fn is_forwardable(address: &IpAddr) -> bool {
    match address {
        IpAddr::V4(a) => {
            let bits = a.to_bits();
            let first = bits >> 24;
            (1..224).contains(&first) && first != 127 && bits >> 16 != 0xa9fe
        }
        IpAddr::V6(a) => {
            let high = (a.to_bits() >> 112) as u16;
            !(high >= 0xff00 || high & 0xffc0 == 0xfe80 || (high == 0 && a.to_bits() <= 1))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn reference_sum(bytes: &[u8]) -> u16 {
        let mut total = 0u32;
        for pair in bytes.chunks(2) {
            total += u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0));
            total = (total & 0xffff) + (total >> 16);
        }
        total as u16
    }

    /// 0 and 0xffff are the same number in one's complement; only all-zero input may give 0.
    #[test]
    fn sums_match_the_definition_at_every_length() {
        let bytes: Vec<u8> = (0..2000u32).map(|i| ((i * 7919) >> 3) as u8).collect();
        for start in 0..9 {
            for end in start..bytes.len().min(start + 300) {
                assert_eq!(sum(&bytes[start..end]), reference_sum(&bytes[start..end]), "{start}..{end}");
            }
        }
        assert_eq!(sum(&[0xff; 65535]), reference_sum(&[0xff; 65535]));
        assert_eq!(sum(&[]), 0);
    }

    #[test]
    fn headers_of_both_families_are_read() {
        let builder = etherparse::PacketBuilder::ipv4([10, 1, 2, 3], [192, 0, 2, 9], 17).udp(1111, 2222);
        let mut packet = Vec::new();
        builder.write(&mut packet, &[1, 2, 3]).unwrap();
        packet.extend([0; 6]);
        let inner = Inner::parse(&packet).unwrap();
        assert_eq!(inner.source, "10.1.2.3".parse::<IpAddr>().unwrap());
        assert_eq!(inner.destination, "192.0.2.9".parse::<IpAddr>().unwrap());
        assert_eq!((inner.len, inner.ttl, inner.protocol, inner.transport), (31, 17, protocol::UDP, 20));
        assert_eq!(inner.ports(&packet), Some(1111 << 16 | 2222));
        assert!(ipv4_header_is_valid(&packet));

        let builder = etherparse::PacketBuilder::ipv6([1; 16], [2; 16], 9).tcp(5, 6, 7, 8);
        let mut packet = Vec::new();
        builder.write(&mut packet, b"x").unwrap();
        let inner = Inner::parse(&packet).unwrap();
        assert_eq!((inner.len, inner.ttl, inner.protocol, inner.transport), (61, 9, protocol::TCP, 40));
        assert_eq!(inner.ports(&packet), Some(5 << 16 | 6));
        assert!(inner.dont_fragment);
    }

    #[test]
    fn extension_headers_are_followed_to_the_transport_or_to_the_fragment() {
        let mut packet = vec![0x60, 0, 0, 0, 0, 24, protocol::HOP_BY_HOP, 64];
        packet.extend([1; 16]);
        packet.extend([2; 16]);
        packet.extend([protocol::FRAGMENT, 0, 0, 0, 0, 0, 0, 0]);
        packet.extend([protocol::UDP, 0, 0, 1, 0, 0, 0, 1]);
        packet.extend([0, 53, 0, 54, 0, 8, 0, 0]);
        let inner = Inner::parse(&packet).unwrap();
        assert_eq!((inner.protocol, inner.transport), (protocol::UDP, 56));
        assert!(inner.fragment && !inner.later_fragment);
        assert_eq!(inner.ports(&packet), None, "all fragments of a packet must look alike");
        packet[51] = 0;
        assert_eq!(Inner::parse(&packet).unwrap().ports(&packet), Some(53 << 16 | 54), "an atomic fragment");
        packet[50] = 1;
        assert!(Inner::parse(&packet).unwrap().later_fragment);
    }

    #[test]
    fn impossible_lengths_are_refused() {
        let mut packet = vec![0x45; 20];
        (packet[2], packet[3]) = (0, 21);
        assert_eq!(Inner::parse(&packet), Err(IpError::TotalLength));
        (packet[2], packet[3]) = (0, 19);
        assert_eq!(Inner::parse(&packet), Err(IpError::HeaderLength));
        (packet[0], packet[3]) = (0x44, 20);
        assert_eq!(Inner::parse(&packet), Err(IpError::HeaderLength));
        assert_eq!(Inner::parse(&packet[..19]), Err(IpError::Truncated));
        assert_eq!(Inner::parse(&[0x50]), Err(IpError::Version(5)));
        assert_eq!(Inner::parse(&[]), Err(IpError::Truncated));
        assert_eq!(Inner::parse(&[0x60; 40]), Err(IpError::TotalLength));
    }

    #[test]
    fn addresses_that_are_never_forwarded() {
        for bad in [
            "0.0.0.0",
            "127.0.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "169.254.1.1",
            "::",
            "::1",
            "ff02::1",
            "fe80::1",
        ] {
            assert!(!is_forwardable(&bad.parse().unwrap()), "{bad}");
        }
        for good in ["10.0.0.1", "223.255.255.255", "2001:db8::1", "fd00::1", "::2"] {
            assert!(is_forwardable(&good.parse().unwrap()), "{good}");
        }
    }

    proptest! {
        #[test]
        fn nothing_panics(bytes in proptest::collection::vec(any::<u8>(), 0..120), tos: u8, ttl: u8) {
            let mut bytes = bytes;
            for nibble in [4u8, 6] {
                if let Some(b) = bytes.first_mut() { *b = nibble << 4 | (*b & 0xf); }
                if let Ok(inner) = Inner::parse(&bytes) {
                    inner.ports(&bytes);
                    prop_assert!(inner.len <= bytes.len() && inner.transport <= inner.len);
                }
                ipv4_header_is_valid(&bytes);
                set_tos_ttl(&mut bytes, tos, ttl);
                write_ipv4_checksum(&mut bytes);
            }
        }

        #[test]
        fn changing_tos_and_ttl_keeps_a_right_checksum_right_and_a_wrong_one_wrong(
            mut header: [u8; 20], tos: u8, ttl: u8, damage in 1u16..0xffff
        ) {
            header[0] = 0x45;
            write_ipv4_checksum(&mut header);
            let mut good = header;
            set_tos_ttl(&mut good, tos, ttl);
            prop_assert!(ipv4_header_is_valid(&good));
            prop_assert_eq!((good[1], good[8]), (tos, ttl));
            let mut bad = header;
            let field = u16::from_be_bytes([bad[10], bad[11]]);
            bad[10..12].copy_from_slice(&add(field, damage).to_be_bytes());
            let was = ipv4_header_is_valid(&bad);
            set_tos_ttl(&mut bad, tos, ttl);
            prop_assert_eq!(ipv4_header_is_valid(&bad), was);
        }
    }
}
