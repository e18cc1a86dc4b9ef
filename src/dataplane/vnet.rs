//! The header that precedes packets on a TUN with offloads (virtio 1.2 §5.1.6, without its last field), in
//! the machine's byte order:
//!
//! ```text
//! flags (1) | gso_type (1) | hdr_len (2) | gso_size (2) | csum_start (2) | csum_offset (2)
//! ```

/// What a packet on a TUN is, beside its bytes. The default is an ordinary packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VnetHeader {
    /// The checksum of the transport segment that begins at [`Self::csum_start`] is not done: its field, at
    /// [`Self::csum_offset`] from there, holds the sum of the pseudo header.
    pub needs_csum: bool,
    /// Whether it is many packets in one.
    pub gso: Option<Gso>,
    /// The sender marks congestion with ECN: CWR is on the first segment only.
    pub ecn: bool,
    /// Length of all headers, as a hint.
    pub hdr_len: u16,
    /// Payload bytes of each packet but the last, where there are many.
    pub gso_size: u16,
    /// Offset of the transport header.
    pub csum_start: u16,
    /// Offset of the checksum field in it.
    pub csum_offset: u16,
}

/// What kind of packets a super-packet consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gso {
    /// TCP over IPv4.
    TcpV4,
    /// TCP over IPv6.
    TcpV6,
    /// UDP datagrams of one flow.
    Udp,
}

impl VnetHeader {
    /// Bytes on the TUN.
    pub const LEN: usize = 10;

    const NEEDS_CSUM: u8 = 1;
    const GSO_TCPV4: u8 = 1;
    const GSO_TCPV6: u8 = 4;
    const GSO_UDP_L4: u8 = 5;
    const GSO_ECN: u8 = 0x80;

    /// `None` for a kind of super-packet that was not asked for.
    pub fn parse(bytes: &[u8; Self::LEN]) -> Option<Self> {
        let &[flags, kind, h0, h1, g0, g1, s0, s1, o0, o1] = bytes;
        let gso = match kind & !Self::GSO_ECN {
            0 => None,
            Self::GSO_TCPV4 => Some(Gso::TcpV4),
            Self::GSO_TCPV6 => Some(Gso::TcpV6),
            Self::GSO_UDP_L4 => Some(Gso::Udp),
            _ => return None,
        };
        Some(Self {
            needs_csum: flags & Self::NEEDS_CSUM != 0,
            gso,
            ecn: kind & Self::GSO_ECN != 0,
            hdr_len: u16::from_ne_bytes([h0, h1]),
            gso_size: u16::from_ne_bytes([g0, g1]),
            csum_start: u16::from_ne_bytes([s0, s1]),
            csum_offset: u16::from_ne_bytes([o0, o1]),
        })
    }

    /// The form on the TUN.
    pub fn to_bytes(self) -> [u8; Self::LEN] {
        let kind = match self.gso {
            None => 0,
            Some(Gso::TcpV4) => Self::GSO_TCPV4,
            Some(Gso::TcpV6) => Self::GSO_TCPV6,
            Some(Gso::Udp) => Self::GSO_UDP_L4,
        };
        let ([h0, h1], [g0, g1]) = (self.hdr_len.to_ne_bytes(), self.gso_size.to_ne_bytes());
        let ([s0, s1], [o0, o1]) = (self.csum_start.to_ne_bytes(), self.csum_offset.to_ne_bytes());
        let flags = if self.needs_csum { Self::NEEDS_CSUM } else { 0 };
        [flags, kind | if self.ecn { Self::GSO_ECN } else { 0 }, h0, h1, g0, g1, s0, s1, o0, o1]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_survive_and_unknown_kinds_are_refused() {
        for gso in [None, Some(Gso::TcpV4), Some(Gso::TcpV6), Some(Gso::Udp)] {
            for flag in [false, true] {
                let header = VnetHeader {
                    needs_csum: flag,
                    gso,
                    ecn: !flag,
                    hdr_len: 54,
                    gso_size: 1388,
                    csum_start: 34,
                    csum_offset: 16,
                };
                assert_eq!(VnetHeader::parse(&header.to_bytes()), Some(header));
            }
        }
        assert_eq!(VnetHeader::parse(&[0; 10]), Some(VnetHeader::default()));
        assert_eq!(VnetHeader::parse(&[0, 3, 0, 0, 0, 0, 0, 0, 0, 0]), None, "UDP fragmentation offload");
    }
}
