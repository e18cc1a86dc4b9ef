//! Encapsulated Control Message (RFC 9301 §5.8; the authentication data: RFC 9303 §6.1).
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-------+-+-+---------------------------------------------------+
//! |Type=8 |S|D|                     Reserved                      |
//! +-------+-+-+---------------------------------------------------+
//! |     S: AD type, ..., OTK, EID authentication data ...         |
//! +---------------------------------------------------------------+
//! |              inner IPv4 or IPv6 header, inner UDP header      |
//! +---------------------------------------------------------------+
//! |                      LISP control message                     |
//! +---------------------------------------------------------------+
//!
//! S, of AD type 1:
//! +---------------+---------------+-------------------------------+
//! |  ECM AD type  |  Unassigned   |       Requested HMAC ID       |
//! +---------------+---------------+---------------+---------------+
//! |          OTK Length           |    Key ID     | OTK Wrap. ID  |
//! +-------------------------------+---------------+---------------+
//! |      one-time key preamble and key, OTK Length bytes ...      |
//! +-------------------------------+-------------------------------+
//! |         EID-AD Length         |            KDF ID             |
//! +-------------------------------+-------------------------------+
//! |      EID-AD Length − 4 bytes (the length counts itself) ...   |
//! +---------------------------------------------------------------+
//! ```

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::codec::{Reader, Writer, flag};
use super::{DecodeError, EncodeError, MessageType};

/// Encapsulated Control Message, type 8 (RFC 9301 §5.8).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ecm {
    /// D: sent by a Map-Resolver that follows DDT.
    pub ddt: bool,
    /// S: LISP-SEC authentication data, opaque, without the S bit itself.
    pub security: Option<Vec<u8>>,
    /// Inner source address and port. For a Map-Request, the port is where the Map-Reply goes.
    pub source: SocketAddr,
    /// Inner destination address and port. For a Map-Request, the address is the EID. Same family as
    /// `source`.
    pub destination: SocketAddr,
    /// The inner control message, still encoded.
    pub payload: Vec<u8>,
}

const UDP: u8 = 17;
const UDP_HEADER: usize = 8;
const IPV4_HEADER: usize = 20;
/// Inner hop limit. Nothing forwards the inner packet hop by hop; a receiver that decapsulates and re-sends
/// it natively wants a usual value.
const HOP_LIMIT: u8 = 64;
/// AD type of LISP-SEC (RFC 9303 §8.1).
const LISP_SEC: u8 = 1;

impl Ecm {
    pub(super) fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let [bits, _, _, _] = r.array("ECM header")?;
        let security = if bits & 0x08 != 0 {
            let len = security_len(*r)?;
            Some(r.take(len, "ECM authentication data")?.to_vec())
        } else {
            None
        };
        let first = r.peek().first().copied().ok_or(DecodeError::Missing("inner IP header"))?;
        let (source, destination, mut udp) = match first >> 4 {
            4 => decode_ipv4(r)?,
            6 => decode_ipv6(r)?,
            version => return Err(DecodeError::InnerVersion(version)),
        };
        let datagram = udp.peek();
        let source_port = udp.u16("inner UDP source port")?;
        let destination_port = udp.u16("inner UDP destination port")?;
        let len = udp.u16("inner UDP length")?;
        let checksum = udp.u16("inner UDP checksum")?;
        if usize::from(len) != datagram.len() {
            return Err(DecodeError::BadLength("inner UDP length"));
        }
        // No checksum at all is allowed over IPv4 only (RFC 768, RFC 8200 §8.1).
        if !(checksum == 0 && source.is_ipv4()) {
            let pseudo = pseudo_header_sum(source, destination, datagram.len());
            if checksum == 0 || fold(sum(datagram, pseudo)) != 0xffff {
                return Err(DecodeError::InnerUdpChecksum);
            }
        }
        Ok(Self {
            ddt: bits & 0x04 != 0,
            security,
            source: SocketAddr::new(source, source_port),
            destination: SocketAddr::new(destination, destination_port),
            payload: udp.take_rest().to_vec(),
        })
    }

    pub(super) fn encode(&self, w: &mut Writer) -> Result<(), EncodeError> {
        w.u8(MessageType::Ecm.first_byte() | flag(self.security.is_some(), 0x08) | flag(self.ddt, 0x04));
        w.slice(&[0; 3]);
        if let Some(security) = &self.security {
            // A receiver finds the inner header only if the data says its own length.
            if security_len(Reader::new(security)) != Ok(security.len()) {
                return Err(EncodeError::InvalidValue("ECM authentication data"));
            }
            w.slice(security);
        }
        let too_long = |max| EncodeError::TooLong { field: "ECM payload", len: self.payload.len(), max };
        let udp_len = self.payload.len() + UDP_HEADER;
        match (self.source.ip(), self.destination.ip()) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let total = u16::try_from(udp_len + IPV4_HEADER)
                    .map_err(|_| too_long(usize::from(u16::MAX) - UDP_HEADER - IPV4_HEADER))?;
                encode_ipv4(w, source, destination, total);
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let len = u16::try_from(udp_len).map_err(|_| too_long(usize::from(u16::MAX) - UDP_HEADER))?;
                // Version 6, traffic class and flow label 0.
                w.u32(6 << 28);
                w.u16(len);
                w.slice(&[UDP, HOP_LIMIT]);
                w.slice(&source.octets());
                w.slice(&destination.octets());
            }
            _ => return Err(EncodeError::FamilyMismatch),
        }
        let mut header = [self.source.port(), self.destination.port(), udp_len as u16, 0];
        let pseudo = pseudo_header_sum(self.source.ip(), self.destination.ip(), udp_len);
        let words = header.iter().fold(pseudo, |total, &word| total + u32::from(word));
        // A computed checksum of 0 is sent as 0xffff, since 0 means none (RFC 768).
        header[3] = match !fold(sum(&self.payload, words)) {
            0 => 0xffff,
            checksum => checksum,
        };
        header.iter().for_each(|&word| w.u16(word));
        w.slice(&self.payload);
        Ok(())
    }
}

/// Length of the authentication data that `r` begins with, by what its own length fields say.
fn security_len(mut r: Reader<'_>) -> Result<usize, DecodeError> {
    let field = "ECM authentication data";
    let [kind, _, _, _] = r.array(field)?;
    if kind != LISP_SEC {
        return Err(DecodeError::UnknownSecurityType(kind));
    }
    let otk_len = usize::from(r.u16("OTK length")?);
    r.u16(field)?;
    r.take(otk_len, "one-time key")?;
    let eid_ad_len = usize::from(r.u16("EID-AD length")?);
    if eid_ad_len < 4 {
        return Err(DecodeError::BadLength("EID-AD length"));
    }
    Ok(8 + otk_len + eid_ad_len)
}

/// Inner addresses and a reader of the UDP datagram. The ECM must end where the inner packet does.
fn decode_ipv4<'a>(r: &mut Reader<'a>) -> Result<(IpAddr, IpAddr, Reader<'a>), DecodeError> {
    let field = "inner IPv4 header";
    let packet = *r;
    let [version_ihl, _] = r.array(field)?;
    let header_len = usize::from(version_ihl & 0x0f) * 4;
    let total = usize::from(r.u16("inner IPv4 total length")?);
    if header_len < IPV4_HEADER || total < header_len {
        return Err(DecodeError::BadLength("inner IPv4 header length"));
    }
    let _id = r.u16(field)?;
    let fragment = r.u16(field)?;
    let [_ttl, protocol] = r.array(field)?;
    let _checksum = r.u16(field)?;
    let source = IpAddr::from(r.array::<4>(field)?);
    let destination = IpAddr::from(r.array::<4>(field)?);
    *r = packet;
    let header = r.take(header_len, "inner IPv4 options")?;
    if fold(sum(header, 0)) != 0xffff {
        return Err(DecodeError::InnerHeaderChecksum);
    }
    // Anything but a zero offset without more-fragments (the reserved bit and DF do not matter).
    if fragment & 0x3fff != 0 {
        return Err(DecodeError::InnerFragment);
    }
    if protocol != UDP {
        return Err(DecodeError::InnerProtocol(protocol));
    }
    let udp = r.sub(total - header_len, "inner packet")?;
    Ok((source, destination, udp))
}

fn decode_ipv6<'a>(r: &mut Reader<'a>) -> Result<(IpAddr, IpAddr, Reader<'a>), DecodeError> {
    let field = "inner IPv6 header";
    r.take(4, field)?;
    let len = usize::from(r.u16(field)?);
    let [next_header, _hop_limit] = r.array(field)?;
    let source = IpAddr::from(r.array::<16>(field)?);
    let destination = IpAddr::from(r.array::<16>(field)?);
    if next_header != UDP {
        return Err(DecodeError::InnerProtocol(next_header));
    }
    let udp = r.sub(len, "inner packet")?;
    Ok((source, destination, udp))
}

fn encode_ipv4(w: &mut Writer, source: Ipv4Addr, destination: Ipv4Addr, total: u16) {
    let mut header = [0; IPV4_HEADER];
    let [a, b, c, d] = source.octets();
    let [e, f, g, h] = destination.octets();
    let [len_hi, len_lo] = total.to_be_bytes();
    // Version 4, IHL 5; identification 0 with DF set is right for a datagram that is never fragmented (RFC
    // 6864 §4.1).
    let fill = |header: &mut [u8; IPV4_HEADER], [hi, lo]: [u8; 2]| {
        *header = [0x45, 0, len_hi, len_lo, 0, 0, 0x40, 0, HOP_LIMIT, UDP, hi, lo, a, b, c, d, e, f, g, h];
    };
    fill(&mut header, [0, 0]);
    let checksum = !fold(sum(&header, 0));
    fill(&mut header, checksum.to_be_bytes());
    w.slice(&header);
}

/// Sum of the pseudo-header's words (RFC 768, RFC 8200 §8.1).
fn pseudo_header_sum(source: IpAddr, destination: IpAddr, len: usize) -> u32 {
    let address = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => sum(&ip.octets(), 0),
        IpAddr::V6(ip) => sum(&Ipv6Addr::octets(&ip), 0),
    };
    address(source) + address(destination) + u32::from(UDP) + len as u32
}

/// Adds the 16-bit words of `bytes` to `initial` (RFC 1071). A control message has at most 65,535 bytes, so
/// that 32 bits cannot overflow.
fn sum(bytes: &[u8], initial: u32) -> u32 {
    let (words, odd) = bytes.as_chunks::<2>();
    let total = words.iter().fold(initial, |total, word| total + u32::from(u16::from_be_bytes(*word)));
    total + odd.first().map_or(0, |&last| u32::from(last) << 8)
}

/// Folds the carries in.
fn fold(mut total: u32) -> u16 {
    while total > 0xffff {
        total = (total & 0xffff) + (total >> 16);
    }
    total as u16
}
