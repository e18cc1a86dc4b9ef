//! The control plane's sockets in the event loop: UDP port 4342, one per address family.

use std::io;
use std::net::SocketAddr;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::io::datagram::DatagramSocket;
use crate::proto::control::Transmit;
use crate::types::{CONTROL_PORT, Family};

/// Both control sockets; a family that the host does not have is missing.
#[derive(Debug)]
pub(super) struct ControlSockets {
    v4: Option<AsyncFd<DatagramSocket>>,
    v6: Option<AsyncFd<DatagramSocket>>,
}

impl ControlSockets {
    /// Binds both. An error only where neither family can be had, or where the port is taken in one.
    pub(super) fn bind() -> io::Result<Self> {
        let v4 = bind(Family::Ipv4)?;
        let v6 = bind(Family::Ipv6)?;
        if v4.is_none() && v6.is_none() {
            return Err(io::Error::new(io::ErrorKind::Unsupported, "the host has neither IPv4 nor IPv6"));
        }
        Ok(Self { v4, v6 })
    }

    /// Waits until a datagram may be there.
    pub(super) async fn readable(&self) -> io::Result<()> {
        async fn one(socket: Option<&AsyncFd<DatagramSocket>>) -> io::Result<()> {
            match socket {
                Some(socket) => socket.readable().await.map(|_| ()),
                None => std::future::pending().await,
            }
        }
        tokio::select! {
            ready = one(self.v4.as_ref()) => ready,
            ready = one(self.v6.as_ref()) => ready,
        }
    }

    /// Takes a datagram, if there is one: its length, its sender, and where it was sent to. A datagram that
    /// can't be read is passed over.
    pub(super) fn try_recv(&self, buffer: &mut [u8]) -> Option<(usize, SocketAddr, SocketAddr)> {
        [&self.v4, &self.v6].into_iter().flatten().find_map(|socket| {
            loop {
                match socket.try_io(Interest::READABLE, |socket| socket.recv(buffer)) {
                    Ok((len, source, destination)) if len <= buffer.len() => {
                        return Some((len, source, destination));
                    }
                    Ok(_) => {} // longer than UDP allows: cannot be
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
                    Err(error) => {
                        tracing::debug!(%error, "reading from the control socket");
                        return None;
                    }
                }
            }
        })
    }

    /// Sends; a datagram that the kernel has no room for right now is lost, as it might be on the way.
    pub(super) fn send(&self, transmit: &Transmit) -> io::Result<()> {
        let socket = match transmit.destination {
            SocketAddr::V4(_) => &self.v4,
            SocketAddr::V6(_) => &self.v6,
        };
        match socket {
            Some(socket) => socket.get_ref().send(transmit.source, transmit.destination, &transmit.payload),
            None => {
                Err(io::Error::new(io::ErrorKind::Unsupported, "the host does not have this address family"))
            }
        }
    }
}

fn bind(family: Family) -> io::Result<Option<AsyncFd<DatagramSocket>>> {
    match DatagramSocket::bind(family, CONTROL_PORT) {
        Ok(socket) => socket.into_async().map(Some),
        Err(error) if is_family_missing(&error) => {
            tracing::warn!("this host has no {family}: control messages go over the other family only");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn is_family_missing(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL))
}
