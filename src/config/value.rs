//! The values of keys: how each is written, and what is said when it is written wrongly.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use zeroize::Zeroizing;

use super::model::{DataPlaneMode, DscpMode, Level, LogFormat, Offload, RoutingMode, UdpChecksum};
use super::tree::{nearest, shorten};
use crate::auth::Algorithm;
use crate::proto::config::{Host, ResolverSelection, SourceCheck, SyncMode};
use crate::proto::redundancy::vrrp::config::{Checksum, Versions};
use crate::types::{Action, EidPrefix, Family, InstanceId, SiteId, Ttl, XtrId};

/// Why a text is not the value that it should be, and what to write instead.
#[derive(Debug)]
pub(crate) struct Fault {
    pub(crate) message: String,
    pub(crate) remedy: String,
}

fn fault<T>(message: impl Into<String>, remedy: impl Into<String>) -> Result<T, Fault> {
    Err(Fault { message: message.into(), remedy: remedy.into() })
}

/// A value that is written as a string.
pub(crate) trait FromText: Sized {
    /// What it is, with its article.
    const WHAT: &'static str;
    fn from_text(text: &str) -> Result<Self, Fault>;
}

impl FromText for String {
    const WHAT: &'static str = "a string";
    fn from_text(text: &str) -> Result<Self, Fault> {
        if text.is_empty() {
            fault("is empty", "give a text or leave the key out")
        } else {
            Ok(text.to_owned())
        }
    }
}

/// A secret, as text; `Debug` doesn't show it.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretText(pub(super) Zeroizing<String>);

impl std::fmt::Debug for SecretText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SecretText(…)")
    }
}

impl FromText for SecretText {
    const WHAT: &'static str = "a string";
    fn from_text(text: &str) -> Result<Self, Fault> {
        Ok(Self(Zeroizing::new(text.to_owned())))
    }
}

impl FromText for PathBuf {
    const WHAT: &'static str = "a path";
    fn from_text(text: &str) -> Result<Self, Fault> {
        if text.is_empty() || text.contains('\0') {
            return fault("is not a path", "give a path or leave the key out");
        }
        Ok(text.into())
    }
}

/// The name of an environment variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variable(pub(super) String);

impl FromText for Variable {
    const WHAT: &'static str = "the name of an environment variable";
    fn from_text(text: &str) -> Result<Self, Fault> {
        if text.is_empty() || text.contains(['=', '\0']) {
            // Not shown: it may well be the secret itself.
            return fault("is not the name of an environment variable", "give a name as EIDOLON_KEY");
        }
        Ok(Self(text.to_owned()))
    }
}

/// The name of a network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterfaceName(pub(super) String);

impl FromText for InterfaceName {
    const WHAT: &'static str = "an interface name";
    fn from_text(text: &str) -> Result<Self, Fault> {
        // The kernel's rules (IFNAMSIZ and dev_valid_name), and `:`, which it takes for an alias.
        let bad = text.is_empty()
            || text.len() > 15
            || [".", ".."].contains(&text)
            || text.contains(|c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control());
        if bad {
            return fault(
                format!("\"{}\" can't be an interface name", shorten(text)),
                "give 1 to 15 characters without space, slash or colon",
            );
        }
        Ok(Self(text.to_owned()))
    }
}

impl FromText for IpAddr {
    const WHAT: &'static str = "an IP address";
    fn from_text(text: &str) -> Result<Self, Fault> {
        match text.parse() {
            Ok(IpAddr::V6(v6)) if v6.to_ipv4_mapped().is_some() => {
                fault(format!("{v6} is an IPv4 address in IPv6 form"), format!("write {}", v6.to_canonical()))
            }
            Ok(addr) => Ok(addr),
            Err(_) if text.contains('/') => fault(
                format!("\"{}\" is a prefix, not an IP address", shorten(text)),
                "leave out the mask length",
            ),
            Err(_) => fault(
                format!("\"{}\" is not an IP address", shorten(text)),
                "give one as 192.0.2.1 or 2001:db8::1",
            ),
        }
    }
}

/// The source of packets that the router sends to the site.
fn unicast<A>(text: &str, pick: impl FnOnce(IpAddr) -> Option<A>, family: Family) -> Result<A, Fault> {
    let addr = <IpAddr as FromText>::from_text(text)?;
    if addr.is_unspecified() || addr.is_multicast() || addr == IpAddr::V4(Ipv4Addr::BROADCAST) {
        return fault(
            format!("{addr} is not the address of one host"),
            format!("give an {family} address of this router"),
        );
    }
    match pick(addr) {
        Some(addr) => Ok(addr),
        None => fault(
            format!("{addr} is not an {family} address"),
            format!("give an {family} address of this router"),
        ),
    }
}

impl FromText for Ipv4Addr {
    const WHAT: &'static str = "an IPv4 address";
    fn from_text(text: &str) -> Result<Self, Fault> {
        unicast(text, |a| if let IpAddr::V4(v4) = a { Some(v4) } else { None }, Family::Ipv4)
    }
}

impl FromText for Ipv6Addr {
    const WHAT: &'static str = "an IPv6 address";
    fn from_text(text: &str) -> Result<Self, Fault> {
        unicast(text, |a| if let IpAddr::V6(v6) = a { Some(v6) } else { None }, Family::Ipv6)
    }
}

impl FromText for Host {
    const WHAT: &'static str = "an address or DNS name";
    fn from_text(text: &str) -> Result<Self, Fault> {
        let remedy = "give an address without port, as 192.0.2.1 or 2001:db8::1, or a DNS name";
        if text.contains(':') || text.chars().all(|c| c.is_ascii_digit() || c == '.' || c == '/') {
            let addr = match IpAddr::from_text(text) {
                Err(f) if f.message.ends_with("is not an IP address") => return fault(f.message, remedy),
                other => other?,
            };
            let wrong = match addr {
                _ if addr.is_unspecified() => Some("stands for no host"),
                _ if addr.is_multicast() => Some("is a multicast address"),
                IpAddr::V4(v4) if v4.is_broadcast() => Some("is the broadcast address"),
                IpAddr::V6(v6) if v6.is_unicast_link_local() => Some("is a link-local address"),
                _ => None,
            };
            return match wrong {
                Some(why) => fault(format!("{addr} {why}"), "give the address of one host"),
                None => Ok(Self::Address(addr)),
            };
        }
        let name = text.strip_suffix('.').unwrap_or(text);
        let label_ok = |label: &str| {
            (1..=63).contains(&label.len())
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        };
        if name.len() > 253 || !name.split('.').all(label_ok) {
            return fault(format!("\"{}\" is neither an address nor a DNS name", shorten(text)), remedy);
        }
        Ok(Self::Name(name.to_ascii_lowercase()))
    }
}

/// A prefix as written, host bits checked.
impl FromText for IpNet {
    const WHAT: &'static str = "an IP prefix";
    fn from_text(text: &str) -> Result<Self, Fault> {
        let example = "give one as 10.1.0.0/16 or 2001:db8:1::/48";
        let Some((addr, len)) = text.split_once('/') else {
            return match text.parse::<IpAddr>() {
                Ok(addr) => fault(
                    format!("{addr} has no mask length"),
                    format!("write {} for one address, or the right length", IpNet::from(addr)),
                ),
                Err(_) => fault(format!("\"{}\" is not an IP prefix", shorten(text)), example),
            };
        };
        let Ok(addr) = addr.parse::<IpAddr>() else {
            return fault(format!("\"{}\" is not an IP prefix", shorten(text)), example);
        };
        match len.parse::<u32>() {
            Ok(n) if n.to_string() == len => prefix(addr, n),
            _ => fault(
                format!("\"{}\" is not a mask length", shorten(len)),
                format!("give 0 to {}", Family::of(&addr).bits()),
            ),
        }
    }
}

/// A prefix from its parts: the mask length must fit the family, and no host bit may be set.
pub(super) fn prefix(addr: IpAddr, len: u32) -> Result<IpNet, Fault> {
    let family = Family::of(&addr);
    let Some(net) = u8::try_from(len).ok().and_then(|len| IpNet::new(addr, len).ok()) else {
        let bits = family.bits();
        return fault(format!("mask length {len} is too long for {family}"), format!("give 0 to {bits}"));
    };
    if net.trunc() != net {
        return fault(format!("{net} has host bits set"), format!("write {}", net.trunc()));
    }
    let multicast = match net {
        IpNet::V4(n) => n.addr().octets()[0] >= 224,
        IpNet::V6(n) => n.addr().is_multicast(),
    };
    let wrong = match net {
        _ if len == 0 => None,
        _ if multicast => Some("is not unicast"),
        IpNet::V4(n) if n.addr().is_loopback() => Some("is the loopback network"),
        IpNet::V4(n) if n.addr().is_link_local() => Some("is link-local"),
        IpNet::V6(n) if n.addr() == Ipv6Addr::LOCALHOST => Some("is the loopback address"),
        IpNet::V6(n) if n.addr().is_unicast_link_local() => Some("is link-local"),
        IpNet::V6(n) if len >= 96 && n.addr().to_ipv4_mapped().is_some() => Some("is IPv4 in IPv6 form"),
        _ => None,
    };
    match wrong {
        Some(why) => fault(format!("{net} {why}"), "EID-prefixes are unicast prefixes that can be routed"),
        None => Ok(net),
    }
}

/// `10.0.0.0/8` in the default instance, or `[7]10.0.0.0/8` in instance 7.
impl FromText for EidPrefix {
    const WHAT: &'static str = "an EID-prefix";
    fn from_text(text: &str) -> Result<Self, Fault> {
        let Some((iid, net)) = text.strip_prefix('[').and_then(|rest| rest.split_once(']')) else {
            return Ok(Self::new(InstanceId::DEFAULT, IpNet::from_text(text)?));
        };
        let Some(iid) = iid.parse().ok().and_then(InstanceId::new) else {
            return fault(
                format!("\"{}\" is not an instance ID", shorten(iid)),
                format!("give 0 to {}", InstanceId::MAX),
            );
        };
        Ok(Self::new(iid, IpNet::from_text(net)?))
    }
}

/// An underlay address of a router, ours or another's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RlocAddress(pub(in crate::config) IpAddr);

impl FromText for RlocAddress {
    const WHAT: &'static str = "an IP address";
    fn from_text(text: &str) -> Result<Self, Fault> {
        let addr = IpAddr::from_text(text)?;
        let wrong = match addr {
            _ if addr.is_unspecified() => Some("stands for no host"),
            _ if addr.is_multicast() => Some("is a multicast address"),
            _ if addr.is_loopback() => Some("is a loopback address"),
            IpAddr::V4(Ipv4Addr::BROADCAST) => Some("is the broadcast address"),
            IpAddr::V4(v4) if v4.is_link_local() => Some("is a link-local address"),
            IpAddr::V6(v6) if v6.is_unicast_link_local() => Some("is a link-local address"),
            _ => None,
        };
        match wrong {
            Some(why) => fault(format!("{addr} {why}"), "give an address that other routers can reach"),
            None => Ok(Self(addr)),
        }
    }
}

impl FromText for Duration {
    const WHAT: &'static str = "a duration";
    fn from_text(text: &str) -> Result<Self, Fault> {
        const UNITS: [(&str, u64); 6] =
            [("ms", 1), ("s", 1000), ("min", 60_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];
        const LONGEST: u64 = 366 * 86_400_000;
        let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(end);
        let unit = UNITS.iter().find(|(name, _)| *name == unit.trim_start());
        let (false, Some((_, scale))) = (number.is_empty(), unit) else {
            return fault(
                format!("\"{}\" is not a duration", shorten(text)),
                "give a whole number and a unit, as 500ms, 20s, 3min, 1h or 1d",
            );
        };
        match number.parse::<u64>().ok().and_then(|n| n.checked_mul(*scale)) {
            Some(0) => fault("no time at all", "give more than 0"),
            Some(millis) if millis <= LONGEST => Ok(Self::from_millis(millis)),
            _ => fault(format!("\"{}\" is too long", shorten(text)), "give at most 366d"),
        }
    }
}

/// A time after which something is given up, or never: zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeout(pub(super) Duration);

impl FromText for Timeout {
    const WHAT: &'static str = "a duration or \"never\"";
    fn from_text(text: &str) -> Result<Self, Fault> {
        if text == "never" { Ok(Self(Duration::ZERO)) } else { Duration::from_text(text).map(Self) }
    }
}

impl FromText for Ttl {
    const WHAT: &'static str = "a number of minutes or a duration";
    fn from_text(text: &str) -> Result<Self, Fault> {
        let secs = match Duration::from_text(text)? {
            d if d.subsec_millis() == 0 => d.as_secs(),
            _ => 1,
        };
        match u32::try_from(secs / 60) {
            Ok(minutes) if secs % 60 == 0 => Ok(Self(minutes)),
            _ => fault(
                format!("\"{}\" is not a whole number of minutes", shorten(text)),
                "round it to minutes",
            ),
        }
    }
}

/// A number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bytes(pub(super) Option<u64>);

impl FromText for Bytes {
    const WHAT: &'static str = "a number of bytes";
    fn from_text(text: &str) -> Result<Self, Fault> {
        if text == "auto" {
            return Ok(Self(None));
        }
        let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(end);
        let scale = match unit.trim_start() {
            "" | "B" => Some(1),
            "KiB" => Some(1 << 10),
            "MiB" => Some(1 << 20),
            _ => None,
        };
        match scale.and_then(|scale| number.parse::<u64>().ok()?.checked_mul(scale)) {
            Some(n) if Self::RANGE.contains(&n) => Ok(Self(Some(n))),
            Some(n) => fault(format!("{n} bytes is not in 4096–1073741824"), "give 4KiB to 1024MiB"),
            None => fault(
                format!("\"{}\" is not a number of bytes", shorten(text)),
                "give one as \"4MiB\", or \"auto\"",
            ),
        }
    }
}

impl Bytes {
    pub(super) const RANGE: std::ops::RangeInclusive<u64> = 4096..=1 << 30;
}

/// Permission bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mode(pub(super) u32);

impl FromText for Mode {
    const WHAT: &'static str = "permissions in octal";
    fn from_text(text: &str) -> Result<Self, Fault> {
        match u32::from_str_radix(text, 8) {
            Ok(mode) if mode <= 0o777 && !text.starts_with('+') => Ok(Self(mode)),
            _ => fault(format!("\"{}\" is not a file mode", shorten(text)), "give one in octal, as \"0600\""),
        }
    }
}

fn hex(text: &str, bits: usize) -> Result<u128, Fault> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    match u128::from_str_radix(digits, 16) {
        Ok(n) if digits.len() <= bits / 4 && !digits.starts_with('+') => Ok(n),
        _ => fault(
            format!("\"{}\" is not a number of {bits} bits in hex", shorten(text)),
            format!("give up to {} hex digits, as \"0x2a\"", bits / 4),
        ),
    }
}

impl FromText for XtrId {
    const WHAT: &'static str = "a number in hex";
    fn from_text(text: &str) -> Result<Self, Fault> {
        Ok(Self(hex(text, 128)?.to_be_bytes()))
    }
}

impl FromText for SiteId {
    const WHAT: &'static str = "a number in hex";
    fn from_text(text: &str) -> Result<Self, Fault> {
        Ok(Self(u64::try_from(hex(text, 64)?).unwrap_or_default()))
    }
}

/// What a router is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Encapsulates the site's packets.
    Itr,
    /// Decapsulates packets to the site, registers it and answers for it.
    Etr,
    /// Encapsulates anybody's packets to the EID-prefixes that it is for.
    ProxyItr,
    /// Decapsulates packets of the EID-prefixes that it is for, to anybody.
    ProxyEtr,
    /// Takes registrations.
    MapServer,
    /// Answers ITRs.
    MapResolver,
    /// Says who knows more about an EID-prefix.
    DdtNode,
}

/// A value that is one of a few names.
fn choose<T: Copy>(text: &str, choices: &[(&str, T)]) -> Result<T, Fault> {
    if let Some((_, value)) = choices.iter().find(|(name, _)| *name == text) {
        return Ok(*value);
    }
    let remedy = match nearest(text, choices.iter().map(|(name, _)| *name)) {
        Some(near) => format!("did you mean \"{near}\"?"),
        None => {
            let names: Vec<_> = choices.iter().map(|(name, _)| format!("\"{name}\"")).collect();
            match names.split_last() {
                Some((last, rest)) if !rest.is_empty() => format!("give {} or {last}", rest.join(", ")),
                _ => format!("give {}", names.concat()),
            }
        }
    };
    fault(format!("\"{}\" is not possible here", shorten(text)), remedy)
}

macro_rules! choices {
    ($($type:ty, $what:literal: $choices:expr;)*) => {$(
        impl FromText for $type {
            const WHAT: &'static str = $what;
            fn from_text(text: &str) -> Result<Self, Fault> {
                choose(text, &$choices)
            }
        }
    )*};
}

choices! {
    Role, "a role": [
        ("itr", Self::Itr),
        ("etr", Self::Etr),
        ("proxy-itr", Self::ProxyItr),
        ("proxy-etr", Self::ProxyEtr),
        ("map-server", Self::MapServer),
        ("map-resolver", Self::MapResolver),
        ("ddt-node", Self::DdtNode),
    ];
    Action, "an action": [
        ("natively-forward", Self::NativelyForward),
        ("drop", Self::Drop),
        ("drop/policy-denied", Self::DropPolicyDenied),
        ("drop/auth-failure", Self::DropAuthFailure),
        ("send-map-request", Self::SendMapRequest),
    ];
    Family, "an address family": [("ipv4", Self::Ipv4), ("ipv6", Self::Ipv6)];
    Algorithm, "an algorithm": [
        ("sha1", Self::HmacSha1),
        ("sha256", Self::HmacSha256),
        ("sha256-hkdf", Self::HmacSha256Hkdf),
    ];
    RoutingMode, "a routing mode": [
        ("default", Self::Default),
        ("prefixes", Self::Prefixes),
        ("none", Self::None),
    ];
    SyncMode, "a mode": [("smart", Self::Smart), ("naive", Self::Naive)];
    ResolverSelection, "a selection": [("order", Self::Order), ("fastest", Self::Fastest)];
    UdpChecksum, "a checksum mode": [("computed", Self::Computed), ("zero", Self::Zero)];
    Offload, "an offload mode": [
        ("auto", Self::Auto),
        ("on", Self::On),
        ("underlay", Self::Underlay),
        ("off", Self::Off)
    ];
    DataPlaneMode, "a data plane": [("internal", Self::Internal), ("external", Self::External)];
    DscpMode, "a DSCP mode": [("uniform", Self::Uniform), ("pipe", Self::Pipe)];
    SourceCheck, "a source check": [
        ("off", Self::Off),
        ("known", Self::Known),
        ("strict", Self::Strict),
    ];
    Versions, "a VRRP version": [("2", Self::V2), ("3", Self::V3), ("both", Self::Both)];
    Checksum, "a kind of checksum": [
        ("pseudo-header", Self::PseudoHeader),
        ("message-only", Self::MessageOnly),
    ];
    Level, "a log level": Level::NAMES;
    LogFormat, "a log format": [("text", Self::Text), ("json", Self::Json)];
}
