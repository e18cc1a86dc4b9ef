//! nft counters in the core: by which of a site's locators its packets come.

use std::thread;
use std::time::{Duration, Instant};

use crate::netns::Netns;
use crate::router::visit;
use crate::topology::{Family, Network};
use crate::wait::{PATIENCE, until};

/// Counts data packets to each of a site's two locators as they pass the core.
pub struct Judge<'a>(&'a Netns);

impl<'a> Judge<'a> {
    /// Counts what comes to site 2.
    pub fn new(net: &'a Network) -> Self {
        Self::of(net, 2)
    }

    /// Counts what comes to a site.
    pub fn of(net: &'a Network, site: usize) -> Self {
        let core = &net.core;
        core.sh("nft add table inet judge && nft add chain inet judge forward '{ type filter hook forward \
                 priority 0; }'");
        for k in 0..2 {
            let rloc = net.site(site).rloc(Family::V4, k);
            core.sh(&format!("nft add counter inet judge to{k}"));
            core.sh(&format!(
                "nft add rule inet judge forward ip daddr {rloc} udp dport 4341 counter name to{k}"
            ));
        }
        Self(core)
    }

    /// Packets to the two locators since the last call.
    pub fn packets(&self) -> [u64; 2] {
        let text = self.0.sh("nft -j reset counters table inet judge");
        let json: serde_json::Value = serde_json::from_str(&text).expect("nft -j");
        [0, 1].map(|k| {
            let mut packets = None;
            visit(&json, &mut |object| {
                if object.get("name").and_then(|n| n.as_str()) == Some(&format!("to{k}")) {
                    packets = object.get("packets").and_then(serde_json::Value::as_u64);
                }
            });
            packets.unwrap_or_else(|| panic!("no counter to{k}: {text}"))
        })
    }

    /// Waits until packets take this locator and not the other, and gives how long that took.
    pub fn wait_for(&self, k: usize) -> Duration {
        let start = Instant::now();
        self.packets();
        until(&format!("traffic over locator {k}"), PATIENCE, || {
            thread::sleep(Duration::from_millis(30));
            let seen = self.packets();
            seen[k] > 5 && seen[1 - k] == 0
        });
        start.elapsed()
    }
}
