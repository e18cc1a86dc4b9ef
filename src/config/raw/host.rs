//! The sections about the machine that the router runs on: instances, kernel, data plane, management, log,
//! timers.

use std::path::PathBuf;
use std::time::Duration;

use crate::config::model::{
    DataPlaneConfig, ExternalConfig, LogConfig, ManagementConfig, RoutingMode, Subsystem,
};
use crate::config::problem::{At, Place};
use crate::config::tree::Section;
use crate::config::value::{Bytes, InterfaceName, Mode};
use crate::proto::config::Timers;
use crate::types::{EidPrefix, InstanceId};

use super::{narrow, read_iid, read_ttl};

/// `[[instance]]`
#[derive(Clone, Debug)]
pub struct RawInstance {
    /// The section.
    pub place: Place,
    /// `instance-id`, required.
    pub iid: Option<At<InstanceId>>,
    /// `tun`: name of the TUN interface. Default `lisp` and the instance ID.
    pub tun: Option<At<InterfaceName>>,
    /// `interfaces`: the site's interfaces in this EID space. Default: all.
    pub interfaces: Vec<At<InterfaceName>>,
    /// `table`: number of the routing table that holds the site's own routes. Default: the main table.
    pub table: Option<At<u32>>,
}

/// `[kernel]`
#[derive(Clone, Debug, Default)]
pub struct RawKernel {
    /// `routing`: `"default"`, `"prefixes"` or `"none"`. Default `"default"`.
    pub routing: Option<At<RoutingMode>>,
    /// `prefixes`: destinations for `routing = "prefixes"`.
    pub prefixes: Option<At<Vec<At<EidPrefix>>>>,
    /// `table`: first routing table to fill, one per instance. Default 4341.
    pub table: Option<At<u32>>,
    /// `rule-priority`: 1 to 32000. Default 4341.
    pub rule_priority: Option<At<u32>>,
    /// `set-sysctls`. Default false.
    pub set_sysctls: bool,
    /// `tun-mtu`: 1280 to 65535 bytes, or `"auto"`. Default `"auto"`.
    pub tun_mtu: Option<u16>,
}

/// `[timers]`
#[derive(Clone, Debug, Default)]
pub struct RawTimers {
    /// The section.
    pub place: Place,
    /// Its values.
    pub timers: Timers,
}

impl RawInstance {
    pub(super) fn read(s: Section<'_>, list: &mut Vec<Self>) -> bool {
        s.require("instance-id", "say which EID space this is about, 0 for the default one");
        list.push(Self {
            place: s.place().clone(),
            iid: read_iid(&s),
            tun: s.text("tun"),
            interfaces: s.texts("interfaces").map_or_else(Vec::new, |l| l.value),
            table: read_table(&s),
        });
        s.finish()
    }
}

impl RawKernel {
    pub(super) fn read(s: Section<'_>) -> Self {
        let raw = Self {
            routing: s.text("routing"),
            prefixes: s.texts("prefixes"),
            table: read_table(&s),
            rule_priority: s.integer("rule-priority", 1..=32_000).map(|n| n.map(narrow)),
            set_sysctls: s.bool("set-sysctls").is_some_and(|b| b.value),
            tun_mtu: s.integer_or_auto("tun-mtu", 1280..=65_535).and_then(|n| n.value.map(narrow)),
        };
        s.finish();
        raw
    }
}

impl RawTimers {
    pub(super) fn read(s: Section<'_>) -> Self {
        let mut timers = Timers::default();
        for (key, field) in durations(&mut timers) {
            if let Some(d) = s.text::<Duration>(key) {
                *field = d.value;
            }
        }
        for (key, field) in [
            ("negative-ttl-unconfigured", &mut timers.negative_ttl_unconfigured),
            ("negative-ttl-unregistered", &mut timers.negative_ttl_unregistered),
        ] {
            if let Some(ttl) = read_ttl(&s, key) {
                *field = ttl;
            }
        }
        for (key, field, range) in [
            ("request-retries", &mut timers.request_retries, 0..=100),
            ("smr-attempts", &mut timers.smr_attempts, 0..=100),
            ("requests-per-source", &mut timers.requests_per_source, 1..=10_000_000),
            ("unverified-bytes-per-rloc", &mut timers.unverified_bytes_per_rloc, 1500..=1_000_000_000),
            ("replies-per-record", &mut timers.replies_per_record, 1..=1_000_000),
            ("replies-per-rloc", &mut timers.replies_per_rloc, 1..=1_000_000),
            ("replies-total", &mut timers.replies_total, 1..=10_000_000),
        ] {
            if let Some(n) = s.integer(key, range) {
                *field = narrow(n.value);
            }
        }
        for (key, field) in [
            ("pending-requests", &mut timers.pending_requests),
            ("registrations-per-site", &mut timers.registrations_per_site),
            ("registrations-total", &mut timers.registrations_total),
        ] {
            if let Some(n) = s.integer(key, 1..=1 << 24) {
                *field = narrow(n.value);
            }
        }
        let place = s.place().clone();
        s.finish();
        Self { place, timers }
    }
}

/// The durations among the timers, by key.
fn durations(timers: &mut Timers) -> [(&'static str, &mut Duration); 14] {
    [
        ("register-interval", &mut timers.register_interval),
        ("quick-register-interval", &mut timers.quick_register_interval),
        ("quick-register-time", &mut timers.quick_register_time),
        ("register-retry", &mut timers.register_retry),
        ("register-retry-max", &mut timers.register_retry_max),
        ("notify-retry", &mut timers.notify_retry),
        ("registration-timeout", &mut timers.registration_timeout),
        ("request-retry", &mut timers.request_retry),
        ("request-rest", &mut timers.request_rest),
        ("echo-nonce-interval", &mut timers.echo_nonce_interval),
        ("echo-nonce-timeout", &mut timers.echo_nonce_timeout),
        ("locator-status-damping", &mut timers.locator_status_damping),
        ("smr-interval", &mut timers.smr_interval),
        ("name-refresh", &mut timers.name_refresh),
    ]
}

pub(super) fn read_data_plane(s: Section<'_>) -> (DataPlaneConfig, Place) {
    let default = DataPlaneConfig::default();
    let section = s.section("external");
    let place = section.place().clone();
    let external = ExternalConfig {
        socket: section.text("socket").map_or(default.external.socket, |socket| socket.value),
        mode: section.text::<Mode>("mode").map_or(default.external.mode, |mode| mode.value.0),
        user: section.integer("user-id", 0..=u64::from(u32::MAX - 1)).map(|n| narrow(n.value)),
    };
    section.finish();
    let buffer = |key| {
        let bytes = s.integer_or_text(key, Bytes::RANGE, |n| Bytes(Some(n)));
        bytes.and_then(|b| b.value.0).map(narrow)
    };
    let config = DataPlaneConfig {
        mode: s.text("mode").map_or(default.mode, |v| v.value),
        external,
        udp_checksum: s.text("udp-checksum").map_or(default.udp_checksum, |v| v.value),
        offload: s.text("offload").map_or(default.offload, |v| v.value),
        dscp: s.text("dscp").map_or(default.dscp, |v| v.value),
        path_mtu: s.integer("path-mtu", 576..=65_535).map_or(default.path_mtu, |n| narrow(n.value)),
        queues: s.integer_or_auto("queues", 1..=256).and_then(|n| n.value.map(narrow)),
        source_ports: s.integer("source-ports", 1..=64).map_or(default.source_ports, |n| narrow(n.value)),
        batch: s.integer("batch", 1..=1024).map_or(default.batch, |n| narrow(n.value)),
        receive_buffer: buffer("receive-buffer"),
        send_buffer: buffer("send-buffer"),
        icmp_rate: s.integer("icmp-rate", 0..=1_000_000).map_or(default.icmp_rate, |n| narrow(n.value)),
        icmp_source_v4: s.text("icmp-source-ipv4").map(|a| a.value),
        icmp_source_v6: s.text("icmp-source-ipv6").map(|a| a.value),
        pending_limit: s
            .integer("pending-limit", 16..=1 << 20)
            .map_or(default.pending_limit, |n| narrow(n.value)),
        punt_queue: s.integer("punt-queue", 16..=1 << 20).map_or(default.punt_queue, |n| narrow(n.value)),
        punt_rate: s.integer("punt-rate", 1..=10_000_000).map_or(default.punt_rate, |n| narrow(n.value)),
    };
    s.finish();
    (config, place)
}

pub(super) fn read_management(s: Section<'_>) -> At<ManagementConfig> {
    let default = ManagementConfig::default();
    let place = s.place().child("socket");
    let (socket, mode) = (s.text::<PathBuf>("socket"), s.text::<Mode>("mode"));
    s.finish();
    let place = socket.as_ref().map_or(place, |socket| socket.place.clone());
    let socket = socket.map_or(default.socket, |socket| socket.value);
    At { value: ManagementConfig { socket, mode: mode.map_or(default.mode, |m| m.value.0) }, place }
}

pub(super) fn read_log(s: Section<'_>) -> LogConfig {
    let mut config = LogConfig::default();
    if let Some(level) = s.text("level") {
        config.level = level.value;
    }
    if let Some(format) = s.text("format") {
        config.format = format.value;
    }
    let levels = s.section("levels");
    for (name, subsystem, _) in Subsystem::NAMES {
        if let Some(level) = levels.text(name) {
            config.levels.insert(subsystem, level.value);
        }
    }
    levels.finish();
    s.finish();
    config
}

/// The number of a routing table that is free to use: not unspec, default, main or local.
fn read_table(s: &Section<'_>) -> Option<At<u32>> {
    let table = s.integer("table", 1..=u64::from(u32::MAX) - 256)?.map(narrow);
    if (253..=255).contains(&table.value) {
        s.error("table", format!("{} is the kernel's own", table.value), "give another number, as 1000");
        return None;
    }
    Some(table)
}
