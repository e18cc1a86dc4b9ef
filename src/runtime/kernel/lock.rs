//! Which router of this network namespace has which tables and rule priorities.
//!
//! A lock is an abstract Unix socket: such names belong to the network namespace, as tables and rules do, and
//! vanish with the process that bound them, however it ends. So rules and routes with our protocol number
//! whose lock is free were left behind by a crash.

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// What can be owned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Resource {
    /// A routing table.
    Table(u32),
    /// A priority of policy rules.
    Priority(u32),
}

/// Ownership of a resource, until it is dropped.
#[derive(Debug)]
pub(super) struct Lock(#[allow(dead_code, reason = "held for its name alone")] UnixDatagram);

impl Lock {
    /// Takes the resource; `None` where somebody has it.
    pub(super) fn take(resource: Resource) -> io::Result<Option<Self>> {
        let name = match resource {
            Resource::Table(table) => format!("eidolon/table/{table}"),
            Resource::Priority(priority) => format!("eidolon/rule-priority/{priority}"),
        };
        match UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(name)?) {
            Ok(socket) => Ok(Some(Self(socket))),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => Ok(None),
            Err(error) => Err(error),
        }
    }
}
