//! What the data plane is told to do.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::types::InstanceId;

/// Everything that one router's data plane is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataPlaneConfig {
    /// The EID spaces, each with its TUN interface. Data packets of any other instance are dropped.
    pub instances: Vec<Instance>,
    /// Whether packets from the TUNs are encapsulated.
    pub itr: bool,
    /// Whether data packets from the underlay are taken and decapsulated.
    pub etr: bool,
    /// Segmentation and receive offloads.
    pub offload: Offload,
    /// Outer UDP checksum.
    pub udp_checksum: UdpChecksum,
    /// What becomes of the DSCP on decapsulation.
    pub dscp: DscpMode,
    /// Largest outer datagram, headers included, to locators of which no smaller path MTU is known (RFC 9300
    /// §7.1 recommends 1500).
    pub path_mtu: u16,
    /// Queues, each with one ITR and one ETR thread; 0 = chosen at start.
    pub queues: u16,
    /// Outer source ports per queue among which flows are spread (1 to 64).
    pub source_ports: u16,
    /// Most packets that a thread takes in before it processes them.
    pub batch: u16,
    /// Receive buffer of each data socket in bytes; `None` = 4 MiB.
    pub receive_buffer: Option<u32>,
    /// Send buffer of each data socket in bytes; `None` = 4 MiB.
    pub send_buffer: Option<u32>,
    /// ICMP errors per second that one thread sends to the site.
    pub icmp_rate: u32,
    /// Source address of ICMP errors to the site; `None` = as the kernel routes them.
    pub icmp_source_v4: Option<Ipv4Addr>,
    /// The same for ICMPv6.
    pub icmp_source_v6: Option<Ipv6Addr>,
    /// How many destinations may wait for the control plane at once.
    pub pending_limit: usize,
    /// How many punts may wait for the control plane at once.
    pub punt_queue: usize,
    /// Misses per second that one thread tells the control plane of; a quarter of them for one source of
    /// packets.
    pub punt_rate: u32,
}

/// One EID space and its TUN interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// The instance ID.
    pub iid: InstanceId,
    /// Name of the TUN interface, which is created.
    pub tun: String,
}

/// Use of segmentation and receive offloads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offload {
    /// Where kernel and container allow them.
    Auto,
    /// Refuse to start without them.
    On,
    /// Those of the underlay's sockets alone: the TUN passes one packet at a time.
    Underlay,
    /// None: one packet at a time everywhere.
    Off,
}

/// Outer UDP checksum of data packets (RFC 9300 §5.3, RFC 6935).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UdpChecksum {
    /// A real checksum; segmentation offload needs it.
    Computed,
    /// Zero, as RFC 9300 recommends; each packet is then sent on its own.
    Zero,
}

/// What becomes of the DSCP on decapsulation (RFC 2983 describes both).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DscpMode {
    /// The outer one is copied to the inner header, as RFC 9300 §5.3 recommends: the underlay's re-marking
    /// counts.
    Uniform,
    /// The inner one stays as the source set it.
    Pipe,
}

impl Default for DataPlaneConfig {
    fn default() -> Self {
        Self {
            instances: Vec::new(),
            itr: true,
            etr: true,
            offload: Offload::Auto,
            udp_checksum: UdpChecksum::Computed,
            dscp: DscpMode::Uniform,
            path_mtu: 1500,
            queues: 0,
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
