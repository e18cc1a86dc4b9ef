//! rtnetlink: interfaces and their addresses, policy rules, routes, and the kernel's announcements of change.
//!
//! Owns the translation between the kernel's messages and the plain structs here. Decides nothing: which
//! rules and routes there should be is `runtime::kernel`'s business.
//!
//! Everything happens in the network namespace of the thread that opens the [`Netlink`] or
//! [`InterfaceMonitor`], within a tokio runtime that has I/O and time enabled.

mod interfaces;
mod monitor;
mod neighbours;
mod routes;
mod rules;
mod virtual_links;

use std::io;

use rtnetlink::Handle;
use thiserror::Error;

pub use interfaces::{Interface, InterfaceAddress};
pub use monitor::{InterfaceMonitor, NetworkEvent};
pub use neighbours::{Liveness, Neighbour, NeighbourMonitor, Proxied};
pub use routes::{Route, RouteTarget};
pub use rules::{ListedRule, Rule};

/// The main routing table (`RT_TABLE_MAIN`).
pub const TABLE_MAIN: u32 = 254;

/// What the kernel answered to a request, and to which.
#[derive(Debug, Error)]
#[error("{operation}: {source}")]
pub struct NetlinkError {
    /// What was asked for.
    pub operation: String,
    /// The kernel's error.
    pub source: io::Error,
}

impl NetlinkError {
    fn new(operation: impl Into<String>, error: rtnetlink::Error) -> Self {
        let source = match error {
            rtnetlink::Error::NetlinkError(message) => message.to_io(),
            other => io::Error::other(other.to_string()),
        };
        Self { operation: operation.into(), source }
    }

    /// Whether the kernel's answer was this `errno`.
    pub fn is(&self, errno: i32) -> bool {
        self.source.raw_os_error() == Some(errno)
    }
}

/// A connection for requests. Cheap to clone; the socket closes with the last clone.
///
/// ```no_run
/// use eidolon::io::netlink::Netlink;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let netlink = Netlink::open()?;
/// for interface in netlink.interfaces().await? {
///     println!("{} {:?}", interface.name, interface.usable_addresses());
/// }
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Netlink {
    handle: Handle,
}

impl Netlink {
    /// Connects. Must be called within a tokio runtime.
    pub fn open() -> io::Result<Self> {
        // Strict checking lets the kernel filter dumps by table and protocol, which spares us a full BGP
        // table. Kernels before 4.20 lack it: filters are applied here as well.
        let (connection, handle) = match rtnetlink::new_connection_with_strict_check() {
            Ok((connection, handle, _)) => (connection, handle),
            Err(_) => {
                let (connection, handle, _) = rtnetlink::new_connection()?;
                (connection, handle)
            }
        };
        tokio::spawn(connection);
        Ok(Self { handle })
    }
}
