//! Addresses in AFI encoding (RFC 9301 §5.1, RFC 8060 §3).
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-------------------------------+-------------------------------+
//! |              AFI              |  0, 4, 6 or 16 bytes, a name   ...
//! +-------------------------------+-------------------------------+
//!
//! AFI 16387 (LCAF):
//! +-------------------------------+---------------+---------------+
//! |          AFI = 16387          |     Rsvd1     |     Flags     |
//! +---------------+---------------+---------------+---------------+
//! |     Type      |     Rsvd2     |   Length of what follows      |
//! +---------------+---------------+-------------------------------+
//! |  by type ...
//! ```

use std::net::IpAddr;

use crate::types::{Eid, InstanceId};

use super::codec::{Reader, Writer};
use super::{DecodeError, EidError, EncodeError, Lcaf};

const AFI_NONE: u16 = 0;
const AFI_IPV4: u16 = 1;
const AFI_IPV6: u16 = 2;
const AFI_MAC: u16 = 6;
const AFI_NAME: u16 = 17;
const AFI_LCAF: u16 = 16387;

/// An address in AFI encoding, as EID or as locator (RFC 9301 §5.4, RFC 8060).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Address {
    /// AFI 0: no address.
    #[default]
    None,
    /// AFI 1 or 2.
    Ip(IpAddr),
    /// AFI 6.
    Mac([u8; 6]),
    /// AFI 17: a NUL-terminated name, kept without its NUL.
    DistinguishedName(Vec<u8>),
    /// AFI 16387.
    Lcaf(Lcaf),
}

impl Address {
    /// Its address family identifier.
    pub const fn afi(&self) -> u16 {
        match self {
            Self::None => AFI_NONE,
            Self::Ip(IpAddr::V4(_)) => AFI_IPV4,
            Self::Ip(IpAddr::V6(_)) => AFI_IPV6,
            Self::Mac(_) => AFI_MAC,
            Self::DistinguishedName(_) => AFI_NAME,
            Self::Lcaf(_) => AFI_LCAF,
        }
    }

    /// The IP address that packets can be sent to, where there is one: the address itself, the one within an
    /// instance ID or security key LCAF, or the first one of a list.
    pub fn to_ip(&self) -> Option<IpAddr> {
        match self {
            Self::Ip(ip) => Some(*ip),
            Self::Lcaf(Lcaf::List(list)) => list.iter().find_map(Self::to_ip),
            Self::Lcaf(Lcaf::InstanceId { address, .. } | Lcaf::SecurityKey { address, .. }) => {
                address.to_ip()
            }
            Self::None | Self::Mac(_) | Self::DistinguishedName(_) | Self::Lcaf(_) => None,
        }
    }

    /// The EID that this is: an IP address, or one within an instance ID LCAF. An instance ID of 0 in an LCAF
    /// is the default instance.
    pub fn to_eid(&self) -> Result<Eid, EidError> {
        match self {
            Self::Ip(ip) => Ok(Eid::new(InstanceId::DEFAULT, *ip)),
            Self::Lcaf(Lcaf::InstanceId { iid, address, .. }) => match address.as_ref() {
                Self::Ip(ip) => Ok(Eid::new(InstanceId::new(*iid).ok_or(EidError::InstanceId(*iid))?, *ip)),
                _ => Err(EidError::NotIp),
            },
            _ => Err(EidError::NotIp),
        }
    }

    /// `field` says in errors whose address this is.
    pub(crate) fn decode(r: &mut Reader<'_>, field: &'static str) -> Result<Self, DecodeError> {
        Self::decode_nested(r, field, 0)
    }

    /// `depth` counts the LCAFs around this address.
    pub(super) fn decode_nested(
        r: &mut Reader<'_>,
        field: &'static str,
        depth: usize,
    ) -> Result<Self, DecodeError> {
        Ok(match r.u16(field)? {
            AFI_NONE => Self::None,
            AFI_IPV4 => Self::Ip(IpAddr::from(r.array::<4>(field)?)),
            AFI_IPV6 => Self::Ip(IpAddr::from(r.array::<16>(field)?)),
            AFI_MAC => Self::Mac(r.array(field)?),
            AFI_NAME => {
                let len = r.peek().iter().position(|&b| b == 0).ok_or(DecodeError::Missing(field))?;
                let name = r.take(len, field)?.to_vec();
                r.u8(field)?;
                Self::DistinguishedName(name)
            }
            AFI_LCAF => Self::Lcaf(Lcaf::decode(r, field, depth)?),
            afi => return Err(DecodeError::UnknownAfi { field, afi }),
        })
    }

    pub(crate) fn encode(&self, w: &mut Writer) -> Result<(), EncodeError> {
        self.encode_nested(w, 0)
    }

    pub(super) fn encode_nested(&self, w: &mut Writer, depth: usize) -> Result<(), EncodeError> {
        w.u16(self.afi());
        match self {
            Self::None => {}
            Self::Ip(IpAddr::V4(ip)) => w.slice(&ip.octets()),
            Self::Ip(IpAddr::V6(ip)) => w.slice(&ip.octets()),
            Self::Mac(mac) => w.slice(mac),
            Self::DistinguishedName(name) => {
                if name.contains(&0) {
                    return Err(EncodeError::InvalidValue("distinguished name"));
                }
                w.slice(name);
                w.u8(0);
            }
            Self::Lcaf(lcaf) => lcaf.encode(w, depth)?,
        }
        Ok(())
    }
}

impl From<IpAddr> for Address {
    fn from(ip: IpAddr) -> Self {
        Self::Ip(ip)
    }
}

impl From<Eid> for Address {
    /// Without an LCAF in the default instance, within an instance ID LCAF in any other.
    fn from(eid: Eid) -> Self {
        let address = Self::Ip(eid.addr);
        if eid.iid.is_default() {
            return address;
        }
        Self::Lcaf(Lcaf::InstanceId { iid_mask_len: 0, iid: eid.iid.get(), address: Box::new(address) })
    }
}
