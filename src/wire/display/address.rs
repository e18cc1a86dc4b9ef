//! The readable form of addresses. Long names, lists and opaque content are shown in part.

use std::fmt;

use super::super::{Address, EidAddress, ElpHop, Lcaf, NatTraversal, RleEntry};
use super::Hex;

/// How many bytes of a name or of opaque content are shown.
const SHOWN: usize = 48;
/// How many addresses of a list are shown.
const SHOWN_ITEMS: usize = 8;

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Ip(ip) => ip.fmt(f),
            Self::Mac([a, b, c, d, e, g]) => write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}"),
            Self::DistinguishedName(name) => match name.get(..SHOWN) {
                Some(start) => write!(f, "\"{}…\"", start.escape_ascii()),
                None => write!(f, "\"{}\"", name.escape_ascii()),
            },
            Self::Lcaf(lcaf) => lcaf.fmt(f),
        }
    }
}

impl fmt::Display for Lcaf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::List(list) => {
                f.write_str("list")?;
                items(f, list)
            }
            Self::InstanceId { iid, address, .. } => write!(f, "[{iid}]{address}"),
            Self::NatTraversal(nat) => {
                let NatTraversal { ms_port, etr_port, global_etr, ms, private_etr, rtrs } = nat.as_ref();
                write!(
                    f,
                    "nat(global {global_etr} port {etr_port}, ms {ms} port {ms_port}, private {private_etr}, \
                     rtrs "
                )?;
                items(f, rtrs)?;
                f.write_str(")")
            }
            Self::Multicast { iid, source, source_mask_len, group, group_mask_len, .. } => {
                write!(f, "[{iid}]({source}/{source_mask_len}, {group}/{group_mask_len})")
            }
            Self::ExplicitLocatorPath(hops) => {
                f.write_str("elp")?;
                items(f, hops)
            }
            Self::SecurityKey { address, keys, .. } => write!(f, "{address} with {} keys", keys.len()),
            Self::SourceDest { source, source_mask_len, dest, dest_mask_len } => {
                write!(f, "{source}/{source_mask_len} to {dest}/{dest_mask_len}")
            }
            Self::ReplicationList(entries) => {
                f.write_str("rle")?;
                items(f, entries)
            }
            Self::Opaque { kind, payload, .. } => {
                write!(f, "lcaf-{kind}({}", Hex(payload.get(..SHOWN).unwrap_or(payload)))?;
                if payload.len() > SHOWN {
                    write!(f, "… {} bytes", payload.len())?;
                }
                f.write_str(")")
            }
        }
    }
}

impl fmt::Display for ElpHop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address.fmt(f)?;
        let flags = [(self.lookup, 'L'), (self.probe, 'P'), (self.strict, 'S')];
        for (_, letter) in flags.into_iter().filter(|(set, _)| *set) {
            write!(f, " {letter}")?;
        }
        Ok(())
    }
}

impl fmt::Display for RleEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} level {}", self.address, self.level)
    }
}

impl fmt::Display for EidAddress {
    /// `10.0.0.0/8`, in an instance `[7]10.0.0.0/8`; host bits are shown as they came.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.mask_len)
    }
}

/// The first of `items` in parentheses.
pub(super) fn items<T: fmt::Display>(f: &mut fmt::Formatter<'_>, items: &[T]) -> fmt::Result {
    f.write_str("(")?;
    for (i, item) in items.iter().take(SHOWN_ITEMS).enumerate() {
        write!(f, "{}{item}", if i == 0 { "" } else { ", " })?;
    }
    if let Some(more) = items.len().checked_sub(SHOWN_ITEMS).filter(|more| *more > 0) {
        write!(f, ", {more} more")?;
    }
    f.write_str(")")
}
