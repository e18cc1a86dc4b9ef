//! What the router and a data plane that is another program say to each other.
//!
//! The router listens at a Unix stream socket (`[data-plane.external] socket`); each data plane, up to
//! [`MOST_CLIENTS`], connects to it. Both sides write lines: a JSON object ([`ToDataPlane`],
//! [`FromDataPlane`]) and `\n`, at most [`LONGEST_LINE`] bytes in all. Members that are not known are to be
//! ignored, so that later versions can add some.
//!
//! ```text
//! ← {"type":"hello","version":1,"router":"xtr1"}
//! ← {"type":"add","instance-id":0,"eid-prefix":"10.1.0.0/16","action":"local","paths":[]}
//! ← {"type":"synced","entries":1}
//! → {"type":"miss","instance-id":0,"source":"10.1.0.5","eid":"10.2.0.9"}
//! ← {"type":"add","instance-id":0,"eid-prefix":"10.2.0.0/16","action":"forward",
//!    "paths":[{"rloc":"203.0.113.1","source":"192.0.2.1","priority":1,"weight":100}]}
//! → {"type":"used","instance-id":0,"eid-prefix":"10.2.0.0/16","packets":3,"bytes":252,
//!    "paths":[{"rloc":"203.0.113.1","packets":3,"bytes":252}]}
//! → {"type":"heard","instance-id":0,"rloc":"203.0.113.1","eid":"10.1.0.5"}
//! ← {"type":"update","instance-id":0,"eid-prefix":"10.2.0.0/16","action":"drop","paths":[]}
//! ← {"type":"delete","instance-id":0,"eid-prefix":"10.2.0.0/16"}
//! ```
//! (The third and fourth lines, and others, are broken here for reading only.)
//!
//! **State, not history.** After `hello` the router tells everything that it knows, then `synced`, and from
//! then on what changes. What counts is the last that was said about a prefix: a data plane that reads slowly
//! is not told what was in between, and the order among different prefixes means nothing. After a reconnect
//! everything is told again, so a data plane starts from an empty table each time.
//!
//! **What a data plane does.** It looks up the longest `eid-prefix` of the packet's instance that covers its
//! destination ([`Action`] says what follows), encapsulates as RFC 9300 §5 has it, and receives data packets
//! on UDP port 4341 itself; those whose inner destination is in no `local` prefix are dropped, but for what
//! [`Proxy`] allows. It reports misses once per destination, until an entry covers it or the router says
//! `unresolved`; and by `used`, every ten seconds or so, what passed: the router refreshes the mappings that
//! are in use, and forgets the others. By `heard` it says who sends to the site, so that they hear of its
//! changes although nothing is sent to them.
//!
//! **Slow readers.** The router never waits for a data plane. One that does not take what it is told for ten
//! seconds is disconnected; one that asks faster than it reads the answers is not read from until it does.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::types::InstanceId;

/// Version of the protocol: another one for anything that an older data plane would misunderstand.
pub const VERSION: u32 = 1;
/// Longest line, in bytes with its end. A record with 255 locators fits several times.
pub const LONGEST_LINE: usize = 65_536;
/// Data planes that may be connected at once.
pub const MOST_CLIENTS: usize = 8;

/// From the router.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case", rename_all_fields = "kebab-case")]
pub enum ToDataPlane {
    /// The first line.
    Hello {
        /// [`VERSION`].
        version: u32,
        /// The router's name, for people.
        router: String,
    },
    /// An entry that this data plane was not told of yet.
    Add(Entry),
    /// An entry that it was told of and that is another now. It replaces the old one.
    Update(Entry),
    /// There is no entry of exactly this prefix any more. It may be one that was never told.
    Delete {
        /// Its instance.
        instance_id: InstanceId,
        /// The prefix.
        eid_prefix: IpNet,
    },
    /// Be a proxy for a prefix, or no longer (RFC 6832).
    Proxy {
        /// Its instance.
        instance_id: InstanceId,
        /// The prefix.
        eid_prefix: IpNet,
        /// In which direction.
        direction: Proxy,
        /// Whether from now on, or no longer.
        present: bool,
    },
    /// The largest datagram to a locator in bytes, outer headers included.
    PathMtu {
        /// The remote locator.
        rloc: IpAddr,
        /// The limit; `null` where none is known any more.
        mtu: Option<u16>,
    },
    /// The miss for this destination led to nothing: it may be reported again with the next packet.
    Unresolved {
        /// Its instance.
        instance_id: InstanceId,
        /// The destination.
        eid: IpAddr,
    },
    /// Everything has been told that there was when the data plane connected.
    Synced {
        /// How many entries there are now.
        entries: u64,
    },
    /// The answer to [`FromDataPlane::Get`].
    Entry {
        /// The question's.
        id: u64,
        /// The entry of the longest prefix that covers the EID.
        entry: Option<Entry>,
    },
    /// A line of the data plane was not understood, and why. It was ignored.
    Error {
        /// For people.
        message: String,
    },
}

/// What happens to packets whose destination is in an EID-prefix.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Entry {
    /// The EID space: in the LISP header of every packet where it is not 0 (RFC 9300 §5.3).
    pub instance_id: InstanceId,
    /// The prefix.
    pub eid_prefix: IpNet,
    /// What happens.
    pub action: Action,
    /// Where to, for [`Action::Forward`]; otherwise empty.
    pub paths: Vec<Path>,
}

/// What a data plane does with packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// Encapsulate to one of the paths with the lowest priority, each flow always to the same and flows in
    /// proportion to the weights (RFC 9300 §5.3, RFC 9301 §5.4).
    Forward,
    /// The site's own: packets from here are encapsulated, packets that come encapsulated to here are
    /// delivered.
    Local,
    /// Forward without encapsulation.
    NativelyForward,
    /// Drop, and report the miss.
    SendMapRequest,
    /// Drop.
    Drop,
    /// Drop: policy denied.
    DropPolicyDenied,
    /// Drop: authentication failure.
    DropAuthFailure,
}

/// A way to a site.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Path {
    /// Outer destination.
    pub rloc: IpAddr,
    /// Outer source.
    pub source: IpAddr,
    /// 0 to 254, lowest wins.
    pub priority: u8,
    /// Share among those of equal priority; all 0 = evenly.
    pub weight: u8,
}

/// The directions of a proxy tunnel router.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Proxy {
    /// Packets to the prefix are encapsulated, whoever sent them.
    Ingress,
    /// Decapsulated packets from the prefix are forwarded, wherever they go.
    Egress,
}

/// From the data plane.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case", rename_all_fields = "kebab-case")]
pub enum FromDataPlane {
    /// A packet has no entry, or one with [`Action::SendMapRequest`].
    Miss {
        /// Its instance; 0 where it is left out.
        #[serde(default)]
        instance_id: InstanceId,
        /// Its source.
        source: IpAddr,
        /// Its destination.
        eid: IpAddr,
    },
    /// Which entry covers an EID? Answered by [`ToDataPlane::Entry`]; asks the mapping system for nothing.
    Get {
        /// Comes back with the answer.
        id: u64,
        /// The instance; 0 where it is left out.
        #[serde(default)]
        instance_id: InstanceId,
        /// The EID.
        eid: IpAddr,
    },
    /// Packets passed by an entry, since the last such line about it.
    Used {
        /// Its instance; 0 where it is left out.
        #[serde(default)]
        instance_id: InstanceId,
        /// Its prefix.
        eid_prefix: IpNet,
        /// Inner packets.
        packets: u64,
        /// Their bytes.
        bytes: u64,
        /// How many of them took which path.
        #[serde(default)]
        paths: Vec<UsedPath>,
    },
    /// Encapsulated packets came to the site: with the first from an outer source, and again every ten
    /// seconds or so while it sends. When a mapping of the site changes, those that were heard within the
    /// last minute are told (SMR, RFC 9301 §6.1). Only what is for a `local` prefix counts, and of very many
    /// senders those that were heard last.
    Heard {
        /// Its instance; 0 where it is left out.
        #[serde(default)]
        instance_id: InstanceId,
        /// Outer source.
        rloc: IpAddr,
        /// Inner destination of the last one.
        eid: IpAddr,
    },
    /// The underlay said that a locator is unreachable (ICMP net, host or port unreachable).
    Unreachable {
        /// The remote locator.
        rloc: IpAddr,
    },
    /// The underlay said that datagrams to a locator may be at most so long.
    PathMtu {
        /// The remote locator.
        rloc: IpAddr,
        /// Bytes, outer headers included.
        mtu: u16,
    },
}

/// Packets that took a path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct UsedPath {
    /// Its locator.
    pub rloc: IpAddr,
    /// Inner packets.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl FromDataPlane {
    /// Reads a line.
    ///
    /// # Errors
    /// What is wrong with it, in a sentence.
    pub fn read(line: &[u8]) -> Result<Self, String> {
        let message: Self = serde_json::from_slice(line).map_err(|e| format!("not understood: {e}"))?;
        match &message {
            Self::Miss { instance_id, .. }
            | Self::Get { instance_id, .. }
            | Self::Heard { instance_id, .. }
            | Self::Used { instance_id, .. }
                if instance_id.get() > InstanceId::MAX =>
            {
                Err(format!("instance-id: {instance_id} does not fit 24 bits"))
            }
            _ => Ok(message),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_look_as_documented() {
        let entry = Entry {
            instance_id: InstanceId::DEFAULT,
            eid_prefix: "10.2.0.0/16".parse().unwrap(),
            action: Action::Forward,
            paths: vec![Path {
                rloc: "203.0.113.1".parse().unwrap(),
                source: "192.0.2.1".parse().unwrap(),
                priority: 1,
                weight: 100,
            }],
        };
        let said = |message: &ToDataPlane| serde_json::to_string(message).unwrap();
        assert_eq!(
            said(&ToDataPlane::Add(entry)),
            concat!(
                r#"{"type":"add","instance-id":0,"eid-prefix":"10.2.0.0/16","action":"forward","#,
                r#""paths":[{"rloc":"203.0.113.1","source":"192.0.2.1","priority":1,"weight":100}]}"#
            )
        );
        assert_eq!(
            said(&ToDataPlane::PathMtu { rloc: "203.0.113.1".parse().unwrap(), mtu: None }),
            r#"{"type":"path-mtu","rloc":"203.0.113.1","mtu":null}"#
        );
        let read = |line: &str| FromDataPlane::read(line.as_bytes());
        assert_eq!(
            read(r#"{"type":"miss","source":"10.1.0.5","eid":"10.2.0.9","colour":"red"}"#),
            Ok(FromDataPlane::Miss {
                instance_id: InstanceId::DEFAULT,
                source: "10.1.0.5".parse().unwrap(),
                eid: "10.2.0.9".parse().unwrap()
            })
        );
        assert_eq!(
            read(r#"{"type":"heard","rloc":"203.0.113.1","eid":"10.1.0.5"}"#),
            Ok(FromDataPlane::Heard {
                instance_id: InstanceId::DEFAULT,
                rloc: "203.0.113.1".parse().unwrap(),
                eid: "10.1.0.5".parse().unwrap()
            })
        );
        assert_eq!(
            read(r#"{"type":"get","id":1,"instance-id":16777216,"eid":"10.2.0.9"}"#),
            Err("instance-id: 16777216 does not fit 24 bits".into())
        );
        for line in ["", "{}", "[]", r#"{"type":"miss"}"#, r#"{"type":"explode"}"#, "\u{ff}"] {
            assert!(read(line).is_err(), "{line}");
        }
    }

    #[test]
    fn the_longest_entry_fits_a_line() {
        let path = Path {
            rloc: "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff".parse().unwrap(),
            source: "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff".parse().unwrap(),
            priority: 254,
            weight: 255,
        };
        let entry = Entry {
            instance_id: InstanceId::new(InstanceId::MAX).unwrap(),
            eid_prefix: "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff/128".parse().unwrap(),
            action: Action::Forward,
            paths: vec![path; 255],
        };
        let line = serde_json::to_vec(&ToDataPlane::Update(entry)).unwrap();
        assert!(line.len() < LONGEST_LINE, "{}", line.len());
    }
}
