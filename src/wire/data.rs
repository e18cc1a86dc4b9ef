//! The LISP header of data packets (RFC 9300 §5.1, §5.3):
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |N|L|E|V|I|R|K|K|            Nonce/Map-Version                  |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |                 Instance ID/Locator-Status-Bits               |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! ```
//!
//! With I set the second word is a 24-bit instance ID and eight locator-status-bits, otherwise 32 of them.

use crate::types::{InstanceId, MapVersion};

/// Length of the LISP header.
pub const HEADER: usize = 8;
/// Bytes that encapsulation over IPv4 adds: IPv4, UDP and LISP header.
pub const OVERHEAD_V4: u16 = 36;
/// Bytes that encapsulation over IPv6 adds.
pub const OVERHEAD_V6: u16 = 56;

/// The LISP header of a data packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DataHeader {
    /// N and the nonce field: 24 bits.
    pub nonce: Option<u32>,
    /// E: the sender asks for the nonce to be echoed. Means nothing without a nonce.
    pub echo_nonce: bool,
    /// V and the field: source and destination map-version (RFC 9302). Never together with a nonce.
    pub versions: Option<(MapVersion, MapVersion)>,
    /// I and the field.
    pub instance: Option<InstanceId>,
    /// L and the locator-status-bits: 32, or 8 with an instance ID.
    pub locator_status: Option<u32>,
    /// R, reserved: kept as it came.
    pub reserved: bool,
    /// KK: which key encrypts the payload (RFC 8061); 0 = it is not encrypted.
    pub key: u8,
}

/// Of a header, what every packet is asked for: which key encrypts it (KK), and its instance.
#[inline]
pub fn key_and_instance(header: &[u8; HEADER]) -> (u8, InstanceId) {
    let &[flags, _, _, _, a, b, c, _] = header;
    let instance = if flags & 0x08 != 0 { InstanceId::new(u32::from_be_bytes([0, a, b, c])) } else { None };
    (flags & 0x03, instance.unwrap_or_default())
}

impl DataHeader {
    /// The header that carries nothing but the instance, and that only where it is not the default one.
    pub fn of_instance(iid: InstanceId) -> Self {
        Self { instance: (!iid.is_default()).then_some(iid), ..Self::default() }
    }

    /// Reads the first 8 bytes. N and V exclude each other: where both are set, the field is a nonce.
    #[inline]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let &[flags, a, b, c, d, e, f, g] = bytes.first_chunk::<HEADER>()?;
        let (first, second) = (u32::from_be_bytes([0, a, b, c]), u32::from_be_bytes([d, e, f, g]));
        let set = |bit: u8| flags & bit != 0;
        let instance = set(0x08).then(|| InstanceId::new(second >> 8)).flatten();
        let status = if instance.is_some() { second & 0xff } else { second };
        Some(Self {
            nonce: set(0x80).then_some(first),
            echo_nonce: set(0x20),
            versions: (set(0x10) && !set(0x80))
                .then(|| (MapVersion::new((first >> 12) as u16), MapVersion::new(first as u16))),
            instance,
            locator_status: set(0x40).then_some(status),
            reserved: set(0x04),
            key: flags & 0x03,
        })
    }

    /// The wire form. Bits beyond a field's width are dropped; a version beside a nonce is left out.
    #[inline]
    pub fn to_bytes(&self) -> [u8; HEADER] {
        let mut flags = self.key & 0x03;
        let mut first = 0u32;
        let mut second = 0u32;
        if let Some((source, destination)) = self.versions {
            flags |= 0x10;
            first = u32::from(source.get()) << 12 | u32::from(destination.get());
        }
        if let Some(nonce) = self.nonce {
            flags = flags & !0x10 | 0x80;
            first = nonce & 0x00ff_ffff;
        }
        if let Some(iid) = self.instance {
            flags |= 0x08;
            second = iid.get() << 8;
        }
        if let Some(status) = self.locator_status {
            flags |= 0x40;
            second |= if self.instance.is_some() { status & 0xff } else { status };
        }
        flags |= if self.echo_nonce { 0x20 } else { 0 } | if self.reserved { 0x04 } else { 0 };
        let ([_, a, b, c], [d, e, f, g]) = (first.to_be_bytes(), second.to_be_bytes());
        [flags, a, b, c, d, e, f, g]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_short_way_to_key_and_instance_agrees(bytes: [u8; HEADER]) {
            let whole = DataHeader::parse(&bytes).unwrap();
            prop_assert_eq!(key_and_instance(&bytes), (whole.key, whole.instance.unwrap_or_default()));
        }
    }

    #[test]
    fn golden_headers_both_ways() {
        let iid = |v| InstanceId::new(v).unwrap();
        let cases = [
            (DataHeader::default(), [0; 8]),
            (DataHeader::of_instance(InstanceId::DEFAULT), [0; 8]),
            (DataHeader::of_instance(iid(0x01_0203)), [0x08, 0, 0, 0, 1, 2, 3, 0]),
            (
                DataHeader {
                    nonce: Some(0x00ab_cdef),
                    locator_status: Some(0x8000_0003),
                    ..Default::default()
                },
                [0xc0, 0xab, 0xcd, 0xef, 0x80, 0, 0, 3],
            ),
            (
                DataHeader {
                    versions: Some((MapVersion::new(0x123), MapVersion::new(0xabc))),
                    instance: Some(iid(7)),
                    locator_status: Some(5),
                    key: 1,
                    ..Default::default()
                },
                [0x59, 0x12, 0x3a, 0xbc, 0, 0, 7, 5],
            ),
            (
                DataHeader { nonce: Some(1), echo_nonce: true, reserved: true, ..Default::default() },
                [0xa4, 0, 0, 1, 0, 0, 0, 0],
            ),
        ];
        for (header, bytes) in cases {
            assert_eq!(header.to_bytes(), bytes);
            assert_eq!(DataHeader::parse(&bytes), Some(header));
        }
    }

    #[test]
    fn a_nonce_excludes_versions() {
        let header = DataHeader::parse(&[0x90, 1, 2, 3, 0, 0, 0, 0]).unwrap();
        assert_eq!((header.nonce, header.versions), (Some(0x01_0203), None));
        assert_eq!(DataHeader::parse(&[0; 7]), None);
    }

    proptest! {
        #[test]
        fn fields_survive(bytes: [u8; 8]) {
            let header = DataHeader::parse(&bytes).unwrap();
            prop_assert_eq!(DataHeader::parse(&header.to_bytes()), Some(header));
        }
    }
}
