//! UDP header (RFC 768), as found inside of data packets and of encapsulated control messages.

use std::net::IpAddr;

use super::ip::{self, SumFn, protocol};

/// Length of a UDP header.
pub const HEADER: usize = 8;

/// A UDP datagram, header and payload, zero-copy. The payload ends where the header's length says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Udp<'a> {
    bytes: &'a [u8],
    header: &'a [u8; HEADER],
}

impl<'a> Udp<'a> {
    /// `None` if `bytes` are fewer than the header or than the length that it gives, or the length is
    /// below 8.
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        let header: &[u8; HEADER] = bytes.first_chunk()?;
        let len = usize::from(u16::from_be_bytes([header[4], header[5]]));
        (len >= HEADER).then_some(())?;
        Some(Self { bytes: bytes.get(..len)?, header })
    }

    /// Source port.
    pub fn source(&self) -> u16 {
        u16::from_be_bytes([self.header[0], self.header[1]])
    }

    /// Destination port.
    pub fn destination(&self) -> u16 {
        u16::from_be_bytes([self.header[2], self.header[3]])
    }

    /// The checksum field; zero = none was computed.
    pub fn checksum(&self) -> u16 {
        u16::from_be_bytes([self.header[6], self.header[7]])
    }

    /// What the datagram carries.
    pub fn payload(&self) -> &'a [u8] {
        self.bytes.get(HEADER..).unwrap_or_default()
    }

    /// Whether the checksum is right or absent.
    pub fn checksum_is_valid(&self, source: &IpAddr, destination: &IpAddr, sum: SumFn) -> bool {
        self.checksum() == 0
            || ip::add(sum(self.bytes), ip::pseudo_sum(source, destination, protocol::UDP, self.bytes.len()))
                == 0xffff
    }
}

/// Writes a UDP header with its checksum into the first 8 bytes of `datagram`, whose rest is the payload.
/// `false`, with nothing written, if it is shorter than that or longer than 65,535 bytes.
pub fn write_header(
    datagram: &mut [u8],
    source: (IpAddr, u16),
    destination: (IpAddr, u16),
    sum: SumFn,
) -> bool {
    let Ok(len) = u16::try_from(datagram.len()) else { return false };
    let Some(header) = datagram.first_chunk_mut::<HEADER>() else { return false };
    [header[0], header[1]] = source.1.to_be_bytes();
    [header[2], header[3]] = destination.1.to_be_bytes();
    [header[4], header[5]] = len.to_be_bytes();
    [header[6], header[7]] = [0; 2];
    let pseudo = ip::pseudo_sum(&source.0, &destination.0, protocol::UDP, datagram.len());
    let checksum = nonzero(!ip::add(sum(datagram), pseudo));
    if let Some(field) = datagram.get_mut(6..8) {
        field.copy_from_slice(&checksum.to_be_bytes());
    }
    true
}

/// A computed checksum of zero is sent as all ones, since zero means "none" (RFC 768).
pub const fn nonzero(checksum: u16) -> u16 {
    if checksum == 0 { 0xffff } else { checksum }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_written_header_is_read_back_and_agrees_with_etherparse() {
        let (a, b): (IpAddr, IpAddr) = ("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap());
        for payload in [&b""[..], b"x", b"odd", b"even"] {
            let mut datagram = vec![0xa5; HEADER];
            datagram.extend(payload);
            assert!(write_header(&mut datagram, (a, 4342), (b, 61000), ip::sum));
            let udp = Udp::parse(&datagram).unwrap();
            assert_eq!((udp.source(), udp.destination(), udp.payload()), (4342, 61000, payload));
            assert!(udp.checksum_is_valid(&a, &b, ip::sum));
            let header = etherparse::UdpHeader::with_ipv4_checksum(
                4342,
                61000,
                &etherparse::Ipv4Header::new(0, 64, etherparse::IpNumber::UDP, [10, 0, 0, 1], [10, 0, 0, 2])
                    .unwrap(),
                payload,
            )
            .unwrap();
            assert_eq!(header.to_bytes(), datagram[..HEADER]);
            datagram[1] ^= 1;
            assert!(!Udp::parse(&datagram).unwrap().checksum_is_valid(&a, &b, ip::sum));
        }
    }

    #[test]
    fn impossible_lengths_are_refused_and_trailing_bytes_left_out() {
        assert_eq!(Udp::parse(&[0, 1, 0, 2, 0, 7, 0, 0]), None);
        assert_eq!(Udp::parse(&[0, 1, 0, 2, 0, 9, 0, 0]), None);
        assert_eq!(Udp::parse(&[0; 7]), None);
        assert_eq!(Udp::parse(&[0, 1, 0, 2, 0, 9, 0, 0, 7, 8]).unwrap().payload(), [7]);
    }
}
