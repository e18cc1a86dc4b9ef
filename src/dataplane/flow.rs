//! Which packets belong together.

use std::net::IpAddr;

use crate::wire::ip::Inner;

/// A hash of the packet's flow: addresses, protocol and, unless it is a fragment, ports. All fragments of a
/// packet have the same hash, so that they take the same path. The outer source port and the choice among
/// locators come from it (RFC 9300 §5.3), from different bits.
#[inline]
pub fn flow_hash(inner: &Inner, packet: &[u8]) -> u64 {
    let ports = inner.ports(packet).unwrap_or(0);
    match (inner.source, inner.destination) {
        (IpAddr::V4(s), IpAddr::V4(d)) => flow_hash_v4(s.to_bits(), d.to_bits(), ports, inner.protocol),
        (s, d) => {
            let (s, d) = (bits(s), bits(d));
            let addresses = fold_multiply((s >> 64) as u64 ^ K[0], s as u64 ^ K[1])
                ^ fold_multiply((d >> 64) as u64 ^ K[2], d as u64 ^ K[3]);
            mix(addresses, ports, inner.protocol)
        }
    }
}

/// [`flow_hash`] of an IPv4 packet; without ports, these are 0.
#[inline]
pub(super) fn flow_hash_v4(source: u32, destination: u32, ports: u32, protocol: u8) -> u64 {
    mix(u64::from(source) << 32 | u64::from(destination), ports, protocol)
}

/// Odd constants without pattern, from the fractional parts of square roots.
const K: [u64; 4] =
    [0x6a09_e667_f3bc_c909, 0xbb67_ae85_84ca_a73b, 0x3c6e_f372_fe94_f82b, 0xa54f_f53a_5f1d_36f1];

#[inline]
const fn mix(addresses: u64, ports: u32, protocol: u8) -> u64 {
    let transport = (ports as u64) << 8 | protocol as u64;
    fold_multiply(fold_multiply(addresses ^ K[0], transport ^ K[1]) ^ K[2], K[3])
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(a) => u128::from(a.to_bits()),
        IpAddr::V6(a) => a.to_bits(),
    }
}

/// The two halves of the 128-bit product, xored: every bit of the result depends on every bit of both
/// factors.
#[inline]
const fn fold_multiply(a: u64, b: u64) -> u64 {
    let product = a as u128 * b as u128;
    product as u64 ^ (product >> 64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn udp(source_port: u16, fragment: u16) -> u64 {
        let mut packet = Vec::new();
        etherparse::PacketBuilder::ipv4([10, 1, 2, 3], [192, 0, 2, 9], 17)
            .udp(source_port, 2222)
            .write(&mut packet, &[7; 64])
            .unwrap();
        packet[6..8].copy_from_slice(&fragment.to_be_bytes());
        flow_hash(&Inner::parse(&packet).unwrap(), &packet)
    }

    #[test]
    fn ports_tell_flows_apart_but_not_fragments() {
        assert_eq!(udp(1, 0), udp(1, 0x4000), "DF is not part of a flow");
        assert_ne!(udp(1, 0), udp(2, 0));
        assert_eq!(udp(1, 0x2000), udp(2, 7), "first and later fragment");
        assert_ne!(udp(1, 0x2000), udp(1, 0));
    }

    /// The routers of a site must agree, so that a flow that moves from one to another takes the same
    /// locator.
    #[test]
    fn every_router_in_every_run_computes_the_same() {
        assert_eq!(udp(1000, 0), 0xfbb0_fe55_c9f3_a5c0);
    }

    #[test]
    fn consecutive_ports_spread_evenly() {
        let mut low = [0u32; 16];
        let mut high = [0u32; 16];
        for port in 0..16_000 {
            let hash = udp(port, 0);
            low[(hash & 15) as usize] += 1;
            high[(hash >> 60) as usize] += 1;
        }
        assert!(low.iter().chain(&high).all(|&n| (850..1150).contains(&n)), "{low:?} {high:?}");
    }
}
