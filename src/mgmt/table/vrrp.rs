//! Table of virtual routers.

use std::fmt::Write as _;

use super::text::{append, interval, or_dash, table};
use crate::mgmt::view::{VirtualRouter, Vrrp};

/// `show vrrp`
pub fn vrrp(view: &Vrrp) -> String {
    let mut text = format!("Virtual routers: {}\n", view.routers.len());
    let mut routers = table(
        [
            "Interface",
            "Family",
            "VRID",
            "State",
            "Since",
            "Priority",
            "Master",
            "Interval",
            "Sent",
            "Received",
            "Dropped",
            "Addresses",
        ],
        &[2, 5, 7, 8, 9, 10],
    );
    for r in &view.routers {
        let addresses: Vec<String> = r.addresses.iter().map(ToString::to_string).collect();
        routers.add_row([
            r.interface.clone(),
            r.family.to_string(),
            r.vrid.to_string(),
            r.state.clone(),
            interval(r.since),
            priority(r),
            master(r),
            format!("{} ms", r.interval_ms),
            r.sent.to_string(),
            r.received.to_string(),
            r.dropped.values().sum::<u64>().to_string(),
            addresses.join(" "),
        ]);
    }
    append(&mut text, &routers, 2);
    for r in &view.routers {
        for (reason, count) in &r.dropped {
            let _ = writeln!(text, "  {} {} dropped by {reason}: {count}", r.interface, r.vrid);
        }
    }
    for (reason, count) in &view.dropped {
        let _ = writeln!(text, "  dropped by {reason}: {count}");
    }
    text
}

/// `110 of 150` where tracking has lowered it.
fn priority(r: &VirtualRouter) -> String {
    match (r.priority, r.configured_priority) {
        (now, configured) if now == configured => now.to_string(),
        (now, configured) => format!("{now} of {configured}"),
    }
}

fn master(r: &VirtualRouter) -> String {
    match (r.state.as_str(), r.master_priority) {
        ("master", _) => "itself".into(),
        (_, Some(priority)) => format!("{} ({priority})", or_dash(r.master)),
        (_, None) => "-".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Family;

    #[test]
    fn virtual_routers_are_shown_with_what_went_wrong() {
        let router = VirtualRouter {
            interface: "lan0".into(),
            family: Family::Ipv4,
            vrid: 10,
            state: "backup".into(),
            since: 62,
            priority: 110,
            configured_priority: 150,
            preempt: true,
            interval_ms: 1000,
            master_down_ms: 3609,
            address: Some("192.168.1.1".parse().unwrap()),
            addresses: vec!["192.168.1.254".parse().unwrap()],
            master: Some("192.168.1.2".parse().unwrap()),
            master_priority: Some(120),
            sent: 3,
            received: 60,
            resignations_sent: 1,
            resignations_received: 0,
            became_master: 1,
            other_addresses: 0,
            dropped: [("checksum".to_owned(), 7)].into(),
        };
        let text = vrrp(&Vrrp { routers: vec![router.clone()], dropped: [("ttl".to_owned(), 2)].into() });
        let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[0].join(" "), "Virtual routers: 1");
        assert_eq!(
            lines[2].join(" "),
            "lan0 IPv4 10 backup 00:01:02 110 of 150 192.168.1.2 (120) 1000 ms 3 60 7 192.168.1.254"
        );
        assert_eq!(lines[3].join(" "), "lan0 10 dropped by checksum: 7");
        assert_eq!(lines[4].join(" "), "dropped by ttl: 2");
        let master = VirtualRouter { state: "master".into(), ..router };
        assert!(vrrp(&Vrrp { routers: vec![master], ..Vrrp::default() }).contains("itself"));
    }
}
