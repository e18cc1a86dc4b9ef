//! Table of the xTRs of the site that the map-cache is synchronised with.

use std::fmt::Write as _;

use super::text::{append, interval, table};
use crate::mgmt::view::{Sync, SyncMember, SyncTransfer};

/// `show sync`
pub fn sync(view: &Sync) -> String {
    let Some(mode) = &view.mode else {
        return "The map-cache is not synchronised with other xTRs: there is no [sync] section\n".into();
    };
    let ack = if view.ack { "with" } else { "without" };
    let mut text = format!(
        "Map-cache synchronised in {mode} mode, {ack} acknowledgements; members: {}; copies: {}\n",
        view.members.len(),
        view.copies
    );
    let mut members = table(
        [
            "Member",
            "State",
            "Since",
            "Sent",
            "Records",
            "Repeated",
            "Unacked",
            "Received",
            "Used",
            "Ignored",
            "Whole cache received",
            "Whole cache sent",
        ],
        &[3, 4, 5, 6, 7, 8, 9],
    );
    for m in &view.members {
        members.add_row([
            m.address.to_string(),
            m.state.clone(),
            interval(m.since),
            m.sent.to_string(),
            m.records_sent.to_string(),
            m.repeated.to_string(),
            m.outstanding.to_string(),
            m.received.to_string(),
            m.records_used.to_string(),
            m.ignored.values().sum::<u64>().to_string(),
            received(m),
            transfer(m.sent_whole.as_ref()),
        ]);
    }
    append(&mut text, &members, 2);
    for m in &view.members {
        for (reason, count) in &m.ignored {
            let _ = writeln!(text, "  {} ignored by {reason}: {count}", m.address);
        }
    }
    text
}

fn received(m: &SyncMember) -> String {
    match (&m.received_whole, m.awaited) {
        (None, true) => "awaited".into(),
        (done, true) => format!("{}, awaited again", transfer(done.as_ref())),
        (done, false) => transfer(done.as_ref()),
    }
}

/// `37 in 12 ms, 00:01:02 ago`
fn transfer(done: Option<&SyncTransfer>) -> String {
    done.map_or_else(
        || "-".into(),
        |done| format!("{} in {} ms, {} ago", done.records, done.took_ms, interval(done.ago)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_shown_with_what_went_wrong() {
        let member = SyncMember {
            address: "192.168.1.2".parse().unwrap(),
            state: "up".into(),
            since: 62,
            awaited: false,
            outstanding: 1,
            received_whole: Some(SyncTransfer { ago: 61, records: 37, took_ms: 12 }),
            sent_whole: None,
            sent: 5,
            bytes_sent: 500,
            records_sent: 7,
            repeated: 2,
            received: 9,
            records_used: 40,
            hellos: 3,
            ignored: [("sync-replayed".to_owned(), 4)].into(),
        };
        let view = Sync { mode: Some("smart".into()), ack: true, copies: 37, members: vec![member.clone()] };
        let text = sync(&view);
        let lines: Vec<String> =
            text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        assert_eq!(
            lines[0],
            "Map-cache synchronised in smart mode, with acknowledgements; members: 1; copies: 37"
        );
        assert_eq!(lines[2], "192.168.1.2 up 00:01:02 5 7 2 1 9 40 4 37 in 12 ms, 00:01:01 ago -");
        assert_eq!(lines[3], "192.168.1.2 ignored by sync-replayed: 4");
        let waiting = SyncMember { awaited: true, received_whole: None, ..member };
        assert!(sync(&Sync { members: vec![waiting], ..view }).contains("awaited"));
        assert!(sync(&Sync::default()).contains("no [sync] section"));
    }
}
