//! Neighbours (`ip neighbour`): what the kernel knows of hosts on a link, asking them, and answering for
//! others.

use std::net::IpAddr;
use std::time::Duration;

use futures::channel::mpsc::UnboundedReceiver;
use futures::{StreamExt, TryStreamExt};
use rtnetlink::MulticastGroup;
use rtnetlink::packet_core::{NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use rtnetlink::packet_route::route::RouteProtocol;
use rtnetlink::sys::SocketAddr;
use tracing::warn;

use super::{Netlink, NetlinkError};

/// Pause before another attempt where the kernel closed the socket.
const RETRY: Duration = Duration::from_secs(1);

/// What the kernel says of a host on a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// Index of the interface.
    pub index: u32,
    /// The host's address.
    pub address: IpAddr,
    /// How it stands.
    pub state: Liveness,
}

/// Whether a host answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Liveness {
    /// It did just now.
    Reachable,
    /// Its link-layer address is known; whether it is still there is not.
    Known,
    /// It does not, or the kernel has forgotten it.
    Gone,
}

impl Neighbour {
    /// `None` where the message says nothing of a host: it is being asked, was configured by hand, or is
    /// answered for.
    fn from_message(message: &NeighbourMessage, deleted: bool) -> Option<Self> {
        let header = &message.header;
        if header.flags.contains(NeighbourFlags::Proxy) {
            return None;
        }
        let address = destination(message)?;
        let state = match header.state {
            _ if deleted => Liveness::Gone,
            NeighbourState::Failed => Liveness::Gone,
            NeighbourState::Reachable => Liveness::Reachable,
            NeighbourState::Stale | NeighbourState::Delay => Liveness::Known,
            _ => return None,
        };
        Some(Self { index: header.ifindex, address, state })
    }
}

/// An address that the kernel answers for on a link, though it has it not (proxy ARP, proxy neighbour
/// discovery).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Proxied {
    /// Index of the interface.
    pub index: u32,
    /// The address.
    pub address: IpAddr,
    /// Who had it set, as of routes; 0 = not said. Kernels before 5.0 never say.
    pub protocol: u8,
}

impl Proxied {
    fn from_message(message: &NeighbourMessage) -> Option<Self> {
        let protocol = message.attributes.iter().find_map(|attribute| match attribute {
            NeighbourAttribute::Protocol(protocol) => Some(u8::from(*protocol)),
            _ => None,
        });
        let (index, address) = (message.header.ifindex, destination(message)?);
        let proxied = message.header.flags.contains(NeighbourFlags::Proxy);
        proxied.then_some(Self { index, address, protocol: protocol.unwrap_or(0) })
    }
}

fn destination(message: &NeighbourMessage) -> Option<IpAddr> {
    message.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::Destination(NeighbourAddress::Inet(a)) => Some(IpAddr::V4(*a)),
        NeighbourAttribute::Destination(NeighbourAddress::Inet6(a)) => Some(IpAddr::V6(*a)),
        _ => None,
    })
}

/// Follows the neighbour tables. The first things told are what they hold at the start.
#[derive(Debug)]
pub struct NeighbourMonitor {
    netlink: Netlink,
    messages: Messages,
    pending: Vec<Neighbour>,
    stale: bool,
}

type Messages = UnboundedReceiver<(NetlinkMessage<RouteNetlinkMessage>, SocketAddr)>;

impl NeighbourMonitor {
    /// Subscribes. Must be called within a tokio runtime.
    pub fn open(netlink: Netlink) -> std::io::Result<Self> {
        Ok(Self { netlink, messages: subscribe()?, pending: Vec::new(), stale: true })
    }

    /// Waits for the next change. Dropping the future loses nothing, so it may stand in a `select!`.
    pub async fn next(&mut self) -> Neighbour {
        loop {
            if let Some(neighbour) = self.pending.pop() {
                return neighbour;
            }
            if self.stale {
                match self.netlink.neighbours().await {
                    Ok(all) => {
                        self.stale = false;
                        self.pending = all;
                        continue;
                    }
                    Err(error) => {
                        warn!(%error, "neighbours could not be listed; trying again");
                        tokio::time::sleep(RETRY).await;
                        continue;
                    }
                }
            }
            match self.messages.next().await.map(|(message, _)| message.payload) {
                Some(NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewNeighbour(m))) => {
                    self.pending.extend(Neighbour::from_message(&m, false));
                }
                Some(NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelNeighbour(m))) => {
                    self.pending.extend(Neighbour::from_message(&m, true));
                }
                Some(NetlinkPayload::Overrun(_)) => self.stale = true,
                Some(_) => {}
                None => {
                    match subscribe() {
                        Ok(messages) => {
                            self.messages = messages;
                            self.stale = true;
                        }
                        Err(error) => {
                            warn!(%error, "no announcements from the kernel; trying again");
                            tokio::time::sleep(RETRY).await;
                        }
                    };
                }
            }
        }
    }
}

fn subscribe() -> std::io::Result<Messages> {
    let (connection, _, messages) = rtnetlink::new_multicast_connection(&[MulticastGroup::Neigh])?;
    tokio::spawn(connection);
    Ok(messages)
}

impl Netlink {
    /// What the kernel knows of hosts on all links.
    pub async fn neighbours(&self) -> Result<Vec<Neighbour>, NetlinkError> {
        let mut messages = self.handle.neighbours().get().execute();
        let mut all = Vec::new();
        let failed = |e| NetlinkError::new("list neighbours", e);
        while let Some(message) = messages.try_next().await.map_err(failed)? {
            all.extend(Neighbour::from_message(&message, false));
        }
        Ok(all)
    }

    /// Has the kernel ask a host for its link-layer address now, whether it thinks that it knows it or not.
    pub async fn probe_neighbour(&self, index: u32, address: IpAddr) -> Result<(), NetlinkError> {
        let request = || self.handle.neighbours().add(index, address);
        // One with a known address is asked at that; the kernel refuses where none is known.
        if request().state(NeighbourState::Probe).replace().execute().await.is_ok() {
            return Ok(());
        }
        let anybody =
            request().state(NeighbourState::None).flags(NeighbourFlags::Use).replace().execute().await;
        anybody.map_err(|e| NetlinkError::new(format!("ask for {address} on #{index}"), e))
    }

    /// The addresses that the kernel answers for on all links.
    pub async fn proxied(&self) -> Result<Vec<Proxied>, NetlinkError> {
        let mut messages = self.handle.neighbours().get().proxies().execute();
        let mut all = Vec::new();
        let failed = |e| NetlinkError::new("list addresses that are answered for", e);
        while let Some(message) = messages.try_next().await.map_err(failed)? {
            all.extend(Proxied::from_message(&message));
        }
        Ok(all)
    }

    /// Answers ARP and neighbour solicitations for an address that is not on the link, or no longer. The
    /// kernel forgets that when the link goes down, without saying so.
    pub async fn answer_for(&self, proxied: &Proxied, present: bool) -> Result<(), NetlinkError> {
        let Proxied { index, address, protocol } = *proxied;
        let mut request = self.handle.neighbours().add(index, address).flags(NeighbourFlags::Proxy).replace();
        let result = if present {
            let protocol = NeighbourAttribute::Protocol(RouteProtocol::from(protocol));
            request.message_mut().attributes.push(protocol);
            request.execute().await
        } else {
            let message = request.message_mut().clone();
            self.handle.neighbours().del(message).execute().await
        };
        match result.map_err(|e| NetlinkError::new(format!("answer for {address} on #{index}"), e)) {
            Err(error) if !present && (error.is(libc::ENOENT) || error.is(libc::ENODEV)) => Ok(()),
            result => result,
        }
    }
}
