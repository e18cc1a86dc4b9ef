//! The kernel's announcements: which interfaces changed, and whether somebody deleted rules or routes.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::net::IpAddr;
use std::time::Duration;

use futures::channel::mpsc::UnboundedReceiver;
use futures::{FutureExt, StreamExt};
use rtnetlink::MulticastGroup;
use rtnetlink::packet_core::{NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::link::LinkFlags;
use rtnetlink::packet_route::rule::RuleAttribute;
use rtnetlink::sys::SocketAddr;
use tracing::{debug, warn};

use super::{Interface, Netlink};

/// Pause before another attempt where the kernel refused a listing or closed the socket.
const RETRY: Duration = Duration::from_secs(1);

/// A change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NetworkEvent {
    /// An interface appeared, changed, went, or was down for a moment, at which the kernel forgets things.
    Interface {
        /// Its name. An interface that was renamed goes under its old name and appears under its new one.
        name: String,
        /// Its usable addresses, all of them; see [`Interface::usable_addresses`]. None when it is down or
        /// gone.
        addresses: Vec<IpAddr>,
    },
    /// A rule was deleted that had been installed with the monitor's protocol number, perhaps by us, perhaps
    /// not; or announcements were lost.
    RuleDeleted,
}

/// Follows interfaces, addresses and rules.
///
/// The first events tell every interface that there is, the further ones what changed. Announcements only say
/// that something changed; what is told is the state then listed. So losing some of them (the kernel drops
/// announcements when the socket's buffer is full) costs nothing but the time to list; an interface that was
/// down meanwhile is then told by [`NetworkEvent::RuleDeleted`] alone.
///
/// ```no_run
/// use eidolon::io::netlink::{InterfaceMonitor, Netlink, NetworkEvent};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> std::io::Result<()> {
/// let mut monitor = InterfaceMonitor::open(Netlink::open()?, 153)?;
/// loop {
///     match monitor.next().await {
///         NetworkEvent::Interface { name, addresses } => println!("{name}: {addresses:?}"),
///         NetworkEvent::RuleDeleted => println!("somebody deletes rules"),
///     }
/// }
/// # }
/// ```
#[derive(Debug)]
pub struct InterfaceMonitor {
    netlink: Netlink,
    protocol: u8,
    messages: Messages,
    interfaces: Vec<Interface>,
    pending: VecDeque<NetworkEvent>,
    stale: bool,
    /// Interfaces that were announced as down since the last listing.
    down: BTreeSet<u32>,
}

type Messages = UnboundedReceiver<(NetlinkMessage<RouteNetlinkMessage>, SocketAddr)>;

impl InterfaceMonitor {
    /// Subscribes. `netlink` is used for listings; deletion of rules is told of those with `protocol`. Must
    /// be called within a tokio runtime.
    pub fn open(netlink: Netlink, protocol: u8) -> io::Result<Self> {
        Ok(Self {
            netlink,
            protocol,
            messages: subscribe()?,
            interfaces: Vec::new(),
            pending: VecDeque::new(),
            stale: true,
            down: BTreeSet::new(),
        })
    }

    /// All interfaces, as of the last event.
    pub fn interfaces(&self) -> &[Interface] {
        &self.interfaces
    }

    /// Waits for the next change. Dropping the future loses nothing, so it may stand in a `select!`.
    pub async fn next(&mut self) -> NetworkEvent {
        loop {
            if let Some(event) = self.pending.pop_front() {
                return event;
            }
            if !self.stale {
                match self.messages.next().await {
                    Some((message, _)) => self.note(message),
                    None => self.resubscribe().await,
                }
            }
            // One listing answers all announcements that are already there.
            while let Some(Some((message, _))) = self.messages.next().now_or_never() {
                self.note(message);
            }
            if self.stale {
                match self.netlink.interfaces().await {
                    Ok(interfaces) => {
                        self.stale = false;
                        let down = std::mem::take(&mut self.down);
                        self.pending.extend(changes(&self.interfaces, &interfaces, &down));
                        self.interfaces = interfaces;
                    }
                    Err(error) => {
                        warn!(%error, "interfaces could not be listed; trying again");
                        tokio::time::sleep(RETRY).await;
                    }
                }
            }
        }
    }

    fn note(&mut self, message: NetlinkMessage<RouteNetlinkMessage>) {
        match message.payload {
            NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelRule(rule)) => {
                let protocol = self.protocol;
                let ours =
                    |a: &RuleAttribute| matches!(a, RuleAttribute::Protocol(p) if u8::from(*p) == protocol);
                if rule.attributes.iter().any(ours) {
                    self.rule_deleted();
                }
            }
            NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewRule(_)) => {}
            NetlinkPayload::Overrun(_) => {
                debug!("announcements were lost; listing everything");
                self.stale = true;
                self.rule_deleted();
            }
            NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(link)) => {
                if !link.header.flags.contains(LinkFlags::Up | LinkFlags::Running) {
                    self.down.insert(link.header.index);
                }
                self.stale = true;
            }
            _ => self.stale = true,
        }
    }

    fn rule_deleted(&mut self) {
        if !self.pending.contains(&NetworkEvent::RuleDeleted) {
            self.pending.push_back(NetworkEvent::RuleDeleted);
        }
    }

    async fn resubscribe(&mut self) {
        loop {
            match subscribe() {
                Ok(messages) => {
                    self.messages = messages;
                    self.stale = true;
                    self.rule_deleted();
                    return;
                }
                Err(error) => {
                    warn!(%error, "no announcements from the kernel; trying again");
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }
}

fn subscribe() -> io::Result<Messages> {
    let (connection, _, messages) = rtnetlink::new_multicast_connection(&[
        MulticastGroup::Link,
        MulticastGroup::Ipv4Ifaddr,
        MulticastGroup::Ipv6Ifaddr,
        MulticastGroup::Ipv4Rule,
        MulticastGroup::Ipv6Rule,
    ])?;
    tokio::spawn(connection);
    Ok(messages)
}

/// The events that lead from one listing to the next, by name; first what went. Those in `down` were down
/// between.
fn changes(before: &[Interface], after: &[Interface], down: &BTreeSet<u32>) -> Vec<NetworkEvent> {
    let by_name = |list| -> BTreeMap<String, Interface> {
        <[Interface]>::iter(list).map(|i| (i.name.clone(), i.clone())).collect()
    };
    let (before, after) = (by_name(before), by_name(after));
    let gone = before
        .keys()
        .filter(|name| !after.contains_key(*name))
        .map(|name| NetworkEvent::Interface { name: name.clone(), addresses: Vec::new() });
    let changed = after
        .iter()
        .filter(|(name, now)| before.get(*name) != Some(now) || (now.running && down.contains(&now.index)))
        .map(|(name, i)| NetworkEvent::Interface { name: name.clone(), addresses: i.usable_addresses() });
    gone.chain(changed).collect()
}
