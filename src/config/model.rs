//! What a configuration file says, validated: the plain structs that the runtime starts from.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::time::Duration;

pub use crate::dataplane::{DscpMode, Offload, UdpChecksum};
use crate::proto::config::ControlConfig;
use crate::proto::redundancy::vrrp::config::VirtualRouterConfig;
use crate::types::{EidPrefix, InstanceId};

/// Everything that one router is told. Two equal configurations make equal routers, so a reload compares
/// parts.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Name and places of the router.
    pub router: RouterConfig,
    /// The control plane. Which roles the router has is which of its options are set.
    pub control: ControlConfig,
    /// Every instance ID that the database uses or that is configured, in ascending order. Empty where there
    /// is neither ITR nor ETR role.
    pub instances: Vec<InstanceConfig>,
    /// How packets are brought to the router.
    pub kernel: KernelConfig,
    /// Snapshots of the map-cache; `None` = neither taken nor taken up.
    pub snapshot: Option<SnapshotConfig>,
    /// Virtual routers (VRRP).
    pub vrrp: Vec<VirtualRouterConfig>,
    /// The data plane.
    pub data_plane: DataPlaneConfig,
    /// The control socket.
    pub management: ManagementConfig,
    /// Logging.
    pub log: LogConfig,
}

/// `[router]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouterConfig {
    /// Name for people, in logs and tables.
    pub name: Option<String>,
    /// Directory for what must survive a crash or restart.
    pub state_dir: PathBuf,
}

/// `[map-cache]`: snapshots of it in the state directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotConfig {
    /// From one to the next.
    pub interval: Duration,
    /// How old one may be to be taken up at start.
    pub max_age: Duration,
}

impl Default for SnapshotConfig {
    fn default() -> Self {
        Self { interval: Duration::from_secs(60), max_age: Duration::from_secs(3600) }
    }
}

/// One EID space of this router: its TUN and the site network behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstanceConfig {
    /// The instance ID.
    pub iid: InstanceId,
    /// Name of its TUN interface.
    pub tun: String,
    /// The site's interfaces: packets that come in there belong to this instance. Empty: any interface
    /// (allowed for one instance only).
    pub interfaces: Vec<String>,
    /// Routing table that holds the site's own routes (a VRF's table); `None` is the main table.
    pub site_table: Option<u32>,
    /// Routing table into which the router puts its routes to the TUN: [`KernelConfig::table`] for the first
    /// instance, one more for each further one.
    pub lisp_table: u32,
}

/// `[kernel]`: routes, rules and sysctls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelConfig {
    /// Which packets of the site go to the TUN.
    pub routing: RoutingMode,
    /// Destinations that go to the TUN in [`RoutingMode::Prefixes`].
    pub prefixes: Vec<EidPrefix>,
    /// First routing table number that the router may fill.
    pub table: u32,
    /// Priority of the first policy rule that the router installs.
    pub rule_priority: u32,
    /// Whether sysctls (forwarding, rp_filter) that stand in the way are changed; otherwise only reported.
    pub set_sysctls: bool,
    /// MTU of the TUN interfaces in bytes; `None` = from the underlay's MTU and the encapsulation overhead.
    pub tun_mtu: Option<u16>,
}

/// Which packets of the site go to the TUN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RoutingMode {
    /// All that the site's own routes (default route aside) do not cover.
    Default,
    /// Those to listed destination prefixes.
    Prefixes,
    /// None: the operator routes by hand.
    None,
}

/// `[data-plane]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataPlaneConfig {
    /// Whose the data plane is.
    pub mode: DataPlaneMode,
    /// Where another program's data plane is served, in [`DataPlaneMode::External`].
    pub external: ExternalConfig,
    /// Outer UDP checksum.
    pub udp_checksum: UdpChecksum,
    /// TUN and UDP segmentation offloads.
    pub offload: Offload,
    /// What becomes of the DSCP on decapsulation.
    pub dscp: DscpMode,
    /// Largest outer datagram, in bytes with headers, to locators of which no smaller path MTU is known.
    pub path_mtu: u16,
    /// Queues, each with an ITR and an ETR thread; `None` = chosen at start.
    pub queues: Option<u16>,
    /// Outer UDP source ports per queue among which flows are spread.
    pub source_ports: u16,
    /// Most packets handled between two looks at the clock and the FIB.
    pub batch: u16,
    /// Receive buffer of each data socket, in bytes; `None` = 4 MiB.
    pub receive_buffer: Option<u32>,
    /// Send buffer of each data socket, in bytes; `None` = 4 MiB.
    pub send_buffer: Option<u32>,
    /// ICMP errors per second that one thread sends to the site.
    pub icmp_rate: u32,
    /// Source of ICMP errors to the site; `None` = as the kernel routes them.
    pub icmp_source_v4: Option<Ipv4Addr>,
    /// The same for ICMPv6.
    pub icmp_source_v6: Option<Ipv6Addr>,
    /// Destinations that may wait for their mapping at once.
    pub pending_limit: u32,
    /// Events that may wait for the control plane at once.
    pub punt_queue: u32,
    /// Misses per second that one thread tells the control plane of; a quarter of them for one source of
    /// packets.
    pub punt_rate: u32,
}

/// Who moves the packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DataPlaneMode {
    /// The router itself.
    Internal,
    /// Another program, told what to do over a socket; the router is the control plane alone.
    External,
}

/// `[data-plane.external]`: the socket of a data plane that is another program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExternalConfig {
    /// Path of the Unix socket.
    pub socket: PathBuf,
    /// Its permission bits.
    pub mode: u32,
    /// A user that may connect beside root and the router's own.
    pub user: Option<u32>,
}

/// `[management]`: the control socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManagementConfig {
    /// Path of the Unix socket.
    pub socket: PathBuf,
    /// Its permission bits.
    pub mode: u32,
}

/// `[log]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// Level of every subsystem that [`LogConfig::levels`] doesn't name.
    pub level: Level,
    /// Levels of single subsystems.
    pub levels: BTreeMap<Subsystem, Level>,
    /// How lines look.
    pub format: LogFormat,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { level: Level::Info, levels: BTreeMap::new(), format: LogFormat::Text }
    }
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// Log level.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Nothing.
    Off,
    /// Only what stops the router or a part of it.
    Error,
    /// What an operator should look at.
    Warn,
    /// What a router's log usually says.
    Info,
    /// Every message, decoded.
    Debug,
    /// Every packet.
    Trace,
}

impl Level {
    /// All levels by name.
    pub const NAMES: [(&'static str, Self); 6] = [
        ("off", Self::Off),
        ("error", Self::Error),
        ("warn", Self::Warn),
        ("info", Self::Info),
        ("debug", Self::Debug),
        ("trace", Self::Trace),
    ];
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Self::NAMES.iter().find(|(_, level)| level == self).map_or("", |(name, _)| name))
    }
}

/// A part of the router whose log level can be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subsystem {
    /// `proto::xtr`: ITR and ETR.
    Xtr,
    /// `proto::mapping_system`: Map-Server and Map-Resolver.
    MappingSystem,
    /// All of `proto`.
    Control,
    /// `dataplane`.
    DataPlane,
    /// `io`: system calls.
    Io,
    /// `runtime`: threads, kernel integration.
    Runtime,
    /// `config`.
    Config,
    /// `mgmt`: control socket.
    Management,
}

impl Subsystem {
    /// All subsystems: by name in the configuration, and the target that their log lines have.
    pub const NAMES: [(&'static str, Self, &'static str); 8] = [
        ("control", Self::Control, "eidolon::proto"),
        ("xtr", Self::Xtr, "eidolon::proto::xtr"),
        ("mapping-system", Self::MappingSystem, "eidolon::proto::mapping_system"),
        ("data-plane", Self::DataPlane, "eidolon::dataplane"),
        ("io", Self::Io, "eidolon::io"),
        ("runtime", Self::Runtime, "eidolon::runtime"),
        ("config", Self::Config, "eidolon::config"),
        ("management", Self::Management, "eidolon::mgmt"),
    ];

    /// The target of its log lines.
    pub fn target(self) -> &'static str {
        Self::NAMES
            .iter()
            .find(|(_, subsystem, _)| *subsystem == self)
            .map_or("eidolon", |(_, _, target)| target)
    }
}

/// Where the control socket is when nothing else is said.
pub const DEFAULT_SOCKET: &str = "/run/eidolon/control.sock";
/// Where the data plane's socket is when nothing else is said.
pub const DEFAULT_DATA_PLANE_SOCKET: &str = "/run/eidolon/data-plane.sock";
/// Where state is kept when nothing else is said.
pub const DEFAULT_STATE_DIR: &str = "/var/lib/eidolon";
/// After which time without use a map-cache entry is forgotten when nothing else is said.
pub const DEFAULT_IDLE_TIMEOUT: Duration = Duration::from_secs(3600);
/// Most map-cache entries when nothing else is said: bounds memory to some 100 MB.
pub const DEFAULT_MAP_CACHE_LIMIT: usize = 100_000;

impl Default for RouterConfig {
    fn default() -> Self {
        Self { name: None, state_dir: DEFAULT_STATE_DIR.into() }
    }
}

impl Default for KernelConfig {
    fn default() -> Self {
        Self {
            routing: RoutingMode::Default,
            prefixes: Vec::new(),
            table: 4341,
            rule_priority: 4341,
            set_sysctls: false,
            tun_mtu: None,
        }
    }
}

impl Default for ExternalConfig {
    fn default() -> Self {
        Self { socket: DEFAULT_DATA_PLANE_SOCKET.into(), mode: 0o600, user: None }
    }
}

impl Default for DataPlaneConfig {
    fn default() -> Self {
        Self {
            mode: DataPlaneMode::Internal,
            external: ExternalConfig::default(),
            udp_checksum: UdpChecksum::Computed,
            offload: Offload::Auto,
            dscp: DscpMode::Uniform,
            path_mtu: 1500,
            queues: None,
            source_ports: 16,
            batch: 64,
            receive_buffer: None,
            send_buffer: None,
            icmp_rate: 100,
            icmp_source_v4: None,
            icmp_source_v6: None,
            pending_limit: 8192,
            punt_queue: 1024,
            punt_rate: 4000,
        }
    }
}

impl Default for ManagementConfig {
    fn default() -> Self {
        Self { socket: DEFAULT_SOCKET.into(), mode: 0o600 }
    }
}
