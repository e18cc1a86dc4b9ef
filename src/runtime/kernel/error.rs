//! What can stand between the router and the kernel, each in one sentence that says what to do.

use std::fs::OpenOptions;
use std::io;

use thiserror::Error;

use crate::io::capabilities::{Capabilities, udp_port_holder};
use crate::io::netlink::{Interface, NetlinkError};

/// Why rules and routes could not be installed.
#[derive(Debug, Error)]
pub enum KernelError {
    /// Somebody else's routes are in the table.
    #[error(
        "table {table} already holds routes that are not ours, to {destination} for one; choose another \
         `table` in [kernel]"
    )]
    TableInUse {
        /// The table.
        table: u32,
        /// Where one of those routes leads.
        destination: ipnet::IpNet,
    },
    /// Another router of this network namespace fills the table.
    #[error("another router on this machine uses table {0}; give each its own `table` in [kernel]")]
    TableTaken(u32),
    /// Another router of this network namespace has the priority.
    #[error(
        "another router on this machine uses rule priority {0}; give each its own `rule-priority` in \
         [kernel], at least {priorities} apart", priorities = super::PRIORITIES
    )]
    PriorityTaken(u32),
    /// Rules must come between those for local addresses (0) and the main table's (32766).
    #[error(
        "rule-priority {0} in [kernel] is out of range; choose one from 1 to {max}",
        max = super::MAX_PRIORITY
    )]
    PriorityRange(u32),
    /// The reserved tables cannot be ours.
    #[error("table {0} in [kernel] is reserved by the kernel; choose another one")]
    TableReserved(u32),
    /// Our routes and the site's cannot be in one table.
    #[error("table {0} cannot be both the site's and the router's own; choose another `table` in [kernel]")]
    TableIsSite(u32),
    /// The TUN interface does not exist.
    #[error("the TUN interface {0} is gone; restart the router")]
    NoTun(String),
    /// Packets could not be told apart.
    #[error(
        "instances {first} and {second} share EIDs, so their packets can only be told apart by the interface \
         that they come in by; list the `interfaces` of both in their [[instance]] sections"
    )]
    Ambiguous {
        /// Instance ID of the one.
        first: crate::types::InstanceId,
        /// Instance ID of the other.
        second: crate::types::InstanceId,
    },
    /// Not allowed.
    #[error(
        "not allowed to change routes and rules ({operation}); run the router as root or with the capability \
         CAP_NET_ADMIN"
    )]
    Denied {
        /// What was refused.
        operation: String,
    },
    /// The kernel refused something else.
    #[error("the kernel refused to {}: {}", .0.operation, .0.source)]
    Netlink(NetlinkError),
    /// A system call failed.
    #[error("{operation}: {source}")]
    Io {
        /// What was attempted.
        operation: &'static str,
        /// The error.
        source: io::Error,
    },
}

impl From<NetlinkError> for KernelError {
    fn from(error: NetlinkError) -> Self {
        if error.source.kind() == io::ErrorKind::PermissionDenied {
            Self::Denied { operation: error.operation }
        } else {
            Self::Netlink(error)
        }
    }
}

/// Why a router cannot start here.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum StartupError {
    /// No CAP_NET_ADMIN.
    #[error(
        "not allowed to set up interfaces and routes; run the router as root or with the capability \
         CAP_NET_ADMIN (for example `setcap cap_net_admin+ep` on the program, or AmbientCapabilities= in its \
         systemd unit)"
    )]
    NoPrivilege,
    /// The kernel has no TUN driver, or the container hides it.
    #[error(
        "/dev/net/tun is missing; load the driver by `modprobe tun`, or give the container the device (for \
         example `--device /dev/net/tun`)"
    )]
    NoTunDevice,
    /// The TUN device may not be opened.
    #[error(
        "/dev/net/tun may not be opened ({0}); run the router as root or make the device readable and \
         writable"
    )]
    TunDeviceDenied(String),
    /// A UDP port is taken.
    #[error(
        "UDP port {port} is taken{}; stop that program, or run the router in a network namespace of its own",
        match holder { Some((pid, name)) => format!(" by {name} (process {pid})"), None => String::new() }
    )]
    PortTaken {
        /// The port.
        port: u16,
        /// The process that has it, as far as can be seen.
        holder: Option<(u32, String)>,
    },
    /// An interface has the name that the TUN should get.
    #[error(
        "there is already {kind} named {name}; choose another `tun` name in [[instance]] (instance-id \
         {iid}), or remove it by `ip link delete {name}`"
    )]
    TunNameTaken {
        /// The name.
        name: String,
        /// What has it.
        kind: String,
        /// The instance ID whose TUN it is.
        iid: crate::types::InstanceId,
    },
}

impl StartupError {
    /// The error for a UDP port that could not be bound because it is in use; looks for the process that has
    /// it.
    pub fn port_taken(port: u16) -> Self {
        Self::PortTaken { port, holder: udp_port_holder(port) }
    }

    /// Checks that interfaces, routes and rules may be changed.
    pub fn check_privilege() -> Result<(), Self> {
        match Capabilities::effective() {
            Ok(capabilities) if !capabilities.net_admin() => Err(Self::NoPrivilege),
            // Where /proc can't be read, the first attempt will tell.
            _ => Ok(()),
        }
    }

    /// Checks that TUN interfaces can be made.
    pub fn check_tun_device() -> Result<(), Self> {
        let result = OpenOptions::new().read(true).write(true).open("/dev/net/tun");
        result.map(drop).map_err(|error| Self::tun_device(&error))
    }

    /// The error for `/dev/net/tun` that could not be opened.
    pub fn tun_device(error: &io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::ENOENT | libc::ENODEV | libc::ENXIO) => Self::NoTunDevice,
            _ => Self::TunDeviceDenied(error.to_string()),
        }
    }

    /// Checks that no interface has the name of a TUN that is yet to be made.
    pub fn check_tun_names(plan: &super::KernelPlan, interfaces: &[Interface]) -> Result<(), Self> {
        for instance in &plan.instances {
            if let Some(interface) = interfaces.iter().find(|interface| interface.name == instance.tun) {
                let kind = match interface.kind.as_deref() {
                    Some("tun") => {
                        "a TUN interface (of another running program, or a persistent one)".to_owned()
                    }
                    Some(kind) => format!("a {kind} interface"),
                    None => "an interface".to_owned(),
                };
                return Err(Self::TunNameTaken { name: instance.tun.clone(), kind, iid: instance.iid });
            }
        }
        Ok(())
    }
}
