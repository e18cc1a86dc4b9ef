//! Policy rules (`ip rule`).

use std::fmt;

use futures::TryStreamExt;
use ipnet::IpNet;
use rtnetlink::IpVersion;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::route::RouteProtocol;
use rtnetlink::packet_route::rule::{RuleAction, RuleAttribute, RuleFlags, RuleMessage};

use super::{Netlink, NetlinkError};
use crate::types::Family;

/// A rule: packets that match it are looked up in a table.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rule {
    /// Which packets at all.
    pub family: Family,
    /// Its place in the order, lowest first.
    pub priority: u32,
    /// Source prefix to match.
    pub source: Option<IpNet>,
    /// Destination prefix to match.
    pub destination: Option<IpNet>,
    /// Name of the interface that packets came in by, to match. It need not exist. `lo`: packets made on this
    /// machine.
    pub input_interface: Option<String>,
    /// The table to look in.
    pub table: u32,
    /// Routes found there with a prefix of at most this length don't count.
    pub suppress_prefix_length: Option<u32>,
    /// Who installed it (`RTPROT_*`).
    pub protocol: u8,
}

/// A rule that the kernel has.
#[derive(Clone, Debug)]
pub struct ListedRule {
    /// What [`Rule`] can say of it.
    pub rule: Rule,
    /// Whether that is all that there is to say of it.
    pub complete: bool,
    message: RuleMessage,
}

impl fmt::Display for Rule {
    /// As `ip rule` prints it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} rule {}: from ", self.family, self.priority)?;
        match &self.source {
            Some(net) => write!(f, "{net}")?,
            None => f.write_str("all")?,
        }
        if let Some(net) = &self.destination {
            write!(f, " to {net}")?;
        }
        if let Some(name) = &self.input_interface {
            write!(f, " iif {name}")?;
        }
        write!(f, " lookup {}", self.table)?;
        match self.suppress_prefix_length {
            Some(length) => write!(f, " suppress_prefixlength {length}"),
            None => Ok(()),
        }
    }
}

impl Rule {
    fn to_message(&self) -> RuleMessage {
        let mut message = RuleMessage::default();
        message.header.family = address_family(self.family);
        message.header.action = RuleAction::ToTable;
        // The header's table field has 8 bits; the attribute counts.
        message.attributes.push(RuleAttribute::Table(self.table));
        message.attributes.push(RuleAttribute::Priority(self.priority));
        message.attributes.push(RuleAttribute::Protocol(RouteProtocol::from(self.protocol)));
        if let Some(net) = self.source {
            message.header.src_len = net.prefix_len();
            message.attributes.push(RuleAttribute::Source(net.network()));
        }
        if let Some(net) = self.destination {
            message.header.dst_len = net.prefix_len();
            message.attributes.push(RuleAttribute::Destination(net.network()));
        }
        if let Some(name) = &self.input_interface {
            message.attributes.push(RuleAttribute::Iifname(name.clone()));
        }
        if let Some(length) = self.suppress_prefix_length {
            message.attributes.push(RuleAttribute::SuppressPrefixLen(length));
        }
        message
    }
}

impl ListedRule {
    fn from_message(family: Family, message: RuleMessage) -> Self {
        let header = &message.header;
        let mut rule = Rule {
            family,
            priority: 0,
            source: None,
            destination: None,
            input_interface: None,
            table: u32::from(header.table),
            suppress_prefix_length: None,
            protocol: 0,
        };
        let mut complete = header.action == RuleAction::ToTable
            && header.tos == 0
            && !header.flags.contains(RuleFlags::Invert);
        for attribute in &message.attributes {
            match attribute {
                RuleAttribute::Table(table) => rule.table = *table,
                RuleAttribute::Priority(priority) => rule.priority = *priority,
                RuleAttribute::Protocol(protocol) => rule.protocol = u8::from(*protocol),
                RuleAttribute::Source(address) => rule.source = IpNet::new(*address, header.src_len).ok(),
                RuleAttribute::Destination(address) => {
                    rule.destination = IpNet::new(*address, header.dst_len).ok();
                }
                RuleAttribute::Iifname(name) => rule.input_interface = Some(name.clone()),
                // The kernel says "none" by −1.
                RuleAttribute::SuppressPrefixLen(u32::MAX) => {}
                RuleAttribute::SuppressPrefixLen(length) => rule.suppress_prefix_length = Some(*length),
                _ => complete = false,
            }
        }
        Self { rule, complete, message }
    }
}

impl Netlink {
    /// All rules of a family, in order.
    pub async fn rules(&self, family: Family) -> Result<Vec<ListedRule>, NetlinkError> {
        let version = match family {
            Family::Ipv4 => IpVersion::V4,
            Family::Ipv6 => IpVersion::V6,
        };
        let failed = |e| NetlinkError::new(format!("list {family} rules"), e);
        let messages: Vec<_> =
            self.handle.rule().get(version).execute().try_collect().await.map_err(failed)?;
        Ok(messages.into_iter().map(|message| ListedRule::from_message(family, message)).collect())
    }

    /// Adds a rule; fine if it is there already.
    pub async fn add_rule(&self, rule: &Rule) -> Result<(), NetlinkError> {
        let mut request = self.handle.rule().add();
        *request.message_mut() = rule.to_message();
        match request.execute().await.map_err(|e| NetlinkError::new(format!("add {rule}"), e)) {
            Err(e) if e.is(libc::EEXIST) => Ok(()),
            result => result,
        }
    }

    /// Deletes a rule that [`rules`](Self::rules) listed; fine if it is gone already.
    pub async fn delete_rule(&self, listed: &ListedRule) -> Result<(), NetlinkError> {
        let mut message = listed.message.clone();
        // Most flags are the kernel's own notes.
        message.header.flags &= RuleFlags::Invert;
        let request = self.handle.rule().del(message);
        match request.execute().await.map_err(|e| NetlinkError::new(format!("delete {}", listed.rule), e)) {
            Err(e) if e.is(libc::ENOENT) => Ok(()),
            result => result,
        }
    }
}

pub(super) fn address_family(family: Family) -> AddressFamily {
    match family {
        Family::Ipv4 => AddressFamily::Inet,
        Family::Ipv6 => AddressFamily::Inet6,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule() -> Rule {
        Rule {
            family: Family::Ipv4,
            priority: 4341,
            source: Some("10.1.0.0/16".parse().unwrap()),
            destination: None,
            input_interface: Some("eth0".into()),
            table: 254,
            suppress_prefix_length: Some(0),
            protocol: 153,
        }
    }

    #[test]
    fn a_rule_survives_its_message() {
        for rule in [
            rule(),
            Rule { table: 70_000, suppress_prefix_length: None, ..rule() },
            Rule {
                family: Family::Ipv6,
                source: Some("2001:db8::/32".parse().unwrap()),
                input_interface: None,
                ..rule()
            },
            Rule { source: None, destination: Some("10.2.0.0/16".parse().unwrap()), ..rule() },
        ] {
            let listed = ListedRule::from_message(rule.family, rule.to_message());
            assert_eq!((listed.rule, listed.complete), (rule, true));
        }
    }

    #[test]
    fn what_the_struct_cannot_say_is_noticed() {
        let mut message = rule().to_message();
        message.attributes.push(RuleAttribute::FwMark(7));
        assert!(!ListedRule::from_message(Family::Ipv4, message).complete);
        let mut message = rule().to_message();
        message.header.flags = RuleFlags::Invert;
        assert!(!ListedRule::from_message(Family::Ipv4, message).complete);
    }

    #[test]
    fn rules_read_as_ip_rule_prints_them() {
        assert_eq!(
            rule().to_string(),
            "IPv4 rule 4341: from 10.1.0.0/16 iif eth0 lookup 254 suppress_prefixlength 0"
        );
        let to = Rule { source: None, destination: Some("10.2.0.0/16".parse().unwrap()), ..rule() };
        assert_eq!(
            to.to_string(),
            "IPv4 rule 4341: from all to 10.2.0.0/16 iif eth0 lookup 254 suppress_prefixlength 0"
        );
    }
}
