//! From a captured frame to the UDP datagram that may be LISP, or to the VRRP message.

use std::net::{IpAddr, SocketAddr};

use etherparse::{EtherType, LaxNetSlice, LaxSlicedPacket, TransportSlice};
use pcap_file::DataLink;

use crate::types::{CONTROL_PORT, DATA_PORT};
use crate::wire::vrrp::{self, Envelope};

/// What is worth showing.
#[derive(Debug)]
pub(super) enum Found<'a> {
    Lisp(Datagram<'a>),
    Vrrp(Vrrp<'a>),
}

/// A packet of IP protocol 112.
#[derive(Debug)]
pub(super) struct Vrrp<'a> {
    pub(super) envelope: Envelope,
    /// TTL or hop limit.
    pub(super) ttl: u8,
    pub(super) payload: &'a [u8],
    /// Why the payload is not all that was sent.
    pub(super) incomplete: Option<&'static str>,
}

/// A UDP datagram to or from a LISP port.
#[derive(Debug)]
pub(super) struct Datagram<'a> {
    pub(super) source: SocketAddr,
    pub(super) destination: SocketAddr,
    pub(super) plane: Plane,
    pub(super) payload: &'a [u8],
    /// Why the payload is not all that was sent.
    pub(super) incomplete: Option<&'static str>,
}

/// What kind of LISP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Plane {
    Control,
    Data,
}

/// The LISP datagram or VRRP message in a frame, `None` where there is another protocol, or why the frame
/// cannot be understood.
pub(super) fn find<'a>(link: DataLink, frame: &'a [u8]) -> Result<Option<Found<'a>>, String> {
    let Some(packet) = slice(link, frame)? else { return Ok(None) };
    let (source, destination, ttl, ip) = match &packet.net {
        Some(LaxNetSlice::Ipv4(ip)) => (
            IpAddr::from(ip.header().source_addr()),
            IpAddr::from(ip.header().destination_addr()),
            ip.header().ttl(),
            ip.payload(),
        ),
        Some(LaxNetSlice::Ipv6(ip)) => (
            IpAddr::from(ip.header().source_addr()),
            IpAddr::from(ip.header().destination_addr()),
            ip.header().hop_limit(),
            ip.payload(),
        ),
        Some(LaxNetSlice::Arp(_)) | None => {
            return match &packet.stop_err {
                // Cut off before or within the IP header: it may have been LISP.
                Some((error, _)) => Err(error.to_string()),
                None => Ok(None),
            };
        }
    };
    if ip.ip_number.0 == vrrp::PROTOCOL {
        let incomplete = match (ip.fragmented, ip.incomplete) {
            (true, _) => Some("this is a fragment of a larger packet"),
            (false, true) => Some(CUT),
            (false, false) => None,
        };
        let envelope = Envelope { source, destination };
        return Ok(Some(Found::Vrrp(Vrrp { envelope, ttl, payload: ip.payload, incomplete })));
    }
    let Some(TransportSlice::Udp(udp)) = &packet.transport else {
        return match &packet.stop_err {
            Some((error, _)) if ip.ip_number == etherparse::IpNumber::UDP && !ip.fragmented => {
                Err(error.to_string())
            }
            _ => Ok(None),
        };
    };
    let (source, destination) =
        (SocketAddr::new(source, udp.source_port()), SocketAddr::new(destination, udp.destination_port()));
    let plane = match (destination.port(), source.port()) {
        (CONTROL_PORT, _) => Plane::Control,
        (DATA_PORT, _) => Plane::Data,
        (_, CONTROL_PORT) => Plane::Control,
        (_, DATA_PORT) => Plane::Data,
        _ => return Ok(None),
    };
    let missing = usize::from(udp.length()) > udp.slice().len();
    let incomplete = match (ip.fragmented, ip.incomplete || missing) {
        (true, _) => Some("this is the first fragment of a larger datagram"),
        (false, true) => Some(CUT),
        (false, false) => None,
    };
    Ok(Some(Found::Lisp(Datagram { source, destination, plane, payload: udp.payload(), incomplete })))
}

const CUT: &str = "the capture holds only the beginning of the packet";

/// Strips the link layer. `None` where what follows is not IP.
fn slice<'a>(link: DataLink, frame: &'a [u8]) -> Result<Option<LaxSlicedPacket<'a>>, String> {
    let short = |what: &str| format!("the frame ends within its {what} header");
    let by_ether_type =
        |number: u16, rest: &'a [u8]| Ok(Some(LaxSlicedPacket::from_ether_type(EtherType(number), rest)));
    match link {
        DataLink::ETHERNET => LaxSlicedPacket::from_ethernet(frame).map(Some).map_err(|e| e.to_string()),
        DataLink::RAW | DataLink::IPV4 | DataLink::IPV6 => by_version(frame),
        // The two forms of the BSD loopback header: address family in the byte order of the host, or of the
        // network. The value differs between systems, the IP version does not.
        DataLink::NULL | DataLink::LOOP => {
            by_version(frame.split_at_checked(4).ok_or_else(|| short("loopback"))?.1)
        }
        DataLink::LINUX_SLL => {
            let (header, rest) = frame.split_first_chunk::<16>().ok_or_else(|| short("Linux cooked"))?;
            by_ether_type(u16::from_be_bytes([header[14], header[15]]), rest)
        }
        DataLink::LINUX_SLL2 => {
            let (header, rest) = frame.split_first_chunk::<20>().ok_or_else(|| short("Linux cooked v2"))?;
            by_ether_type(u16::from_be_bytes([header[0], header[1]]), rest)
        }
        other => Err(format!("link type {} is not supported", u32::from(other))),
    }
}

fn by_version<'a>(packet: &'a [u8]) -> Result<Option<LaxSlicedPacket<'a>>, String> {
    match packet.first().map(|first| first >> 4) {
        Some(4 | 6) => LaxSlicedPacket::from_ip(packet).map(Some).map_err(|error| error.to_string()),
        Some(_) => Ok(None),
        None => Err("the frame is empty".to_owned()),
    }
}
