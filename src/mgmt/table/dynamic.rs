//! Tables of EID-prefixes that may move.

use std::fmt::Write as _;

use super::text::{age, append, interval, or_dash, prefix, table};
use crate::mgmt::view::{DynamicEids, MoveOutcome, Moved};

/// `show dynamic-eids`
pub fn dynamic_eids(view: &DynamicEids) -> String {
    let mut text = format!("Dynamic-EIDs here: {}, away: {}\n\n", view.here.len(), view.away.len());
    let mut lines = table(["EID-prefix", "Interface", "Detect", "Here", "Limit"], &[3, 4]);
    for p in &view.configured {
        lines.add_row([
            prefix(&p.prefix),
            or_dash(p.interface.as_ref()),
            if p.detect { "yes" } else { "no" }.into(),
            p.here.to_string(),
            p.limit.to_string(),
        ]);
    }
    append(&mut text, &lines, 0);
    if !view.here.is_empty() {
        let mut lines = table(["Here", "Since", "By", "Seen", "Priority", "Registered"], &[]);
        for h in &view.here {
            lines.add_row([
                prefix(&h.prefix),
                interval(h.since),
                if h.detected { "detection" } else { "command" }.into(),
                if h.seen.is_some() { age(h.seen) } else { "-".into() },
                or_dash(h.priority),
                if h.registered { "yes" } else { "no" }.into(),
            ]);
        }
        text.push('\n');
        append(&mut text, &lines, 0);
    }
    if !view.away.is_empty() {
        let mut lines = table(["Away", "Since", "Until", "Locators"], &[]);
        for a in &view.away {
            let rlocs: Vec<String> = a.rlocs.iter().map(ToString::to_string).collect();
            lines.add_row([prefix(&a.prefix), interval(a.since), interval(a.until), rlocs.join(" ")]);
        }
        text.push('\n');
        append(&mut text, &lines, 0);
    }
    text
}

/// `move`: what came of it and, where that is not what was wanted, what to do.
pub fn moved(view: &Moved) -> String {
    let mut text = prefix(&view.prefix);
    let by = match &view.map_servers[..] {
        [one] => format!("Map-Server {one}"),
        several => format!("the Map-Servers {}", several.join(", ")),
    };
    let _ = match view.outcome {
        MoveOutcome::Underway => write!(text, "{}", if view.here { ": here" } else { ": leaves" }),
        MoveOutcome::Registered => write!(text, ": here and registered"),
        MoveOutcome::Unconfirmed => write!(
            text,
            " is here, but {by} did not confirm that in time, so others may still send to where it was. \
             Registering goes on; check that the Map-Server is up, that the site has the prefix there, or \
             one around it with accept-more-specifics, and that the keys agree: its log says what it refuses"
        ),
        MoveOutcome::Refused => write!(
            text,
            " is here, but refused by {by}, so others still send to where it was: the site needs the prefix \
             there, or one around it with accept-more-specifics"
        ),
        MoveOutcome::Elsewhere => {
            let rloc = view.rloc.map_or_else(|| "another router".to_owned(), |rloc| rloc.to_string());
            write!(
                text,
                " is not here: the site of {rloc} has registered it since, and keeps it. Is the address in \
                 use at both? If it is here, say there that it is not (`eidolon move {} --away`), then again \
                 that it is here",
                prefix(&view.prefix)
            )
        }
        MoveOutcome::NoLocators => write!(
            text,
            " is here, but none of its locators is up, so nobody hears of that: it is registered as soon as \
             one is"
        ),
        MoveOutcome::Left => write!(text, " is not here: it was told to be elsewhere meanwhile"),
    };
    if let (Some(priority), true) = (view.priority, view.outcome.is_good()) {
        let _ = write!(text, ", with priority {priority} beside other sites");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mgmt::view::{DynamicAway, DynamicHere, DynamicPrefix};
    use crate::types::EidPrefix;

    fn eid(text: &str) -> EidPrefix {
        text.parse::<ipnet::IpNet>().unwrap().into()
    }

    #[test]
    fn what_is_here_and_what_is_away_is_shown() {
        let configured = DynamicPrefix {
            prefix: eid("10.9.0.0/16"),
            interface: Some("lan0".into()),
            detect: true,
            here: 1,
            limit: 1000,
        };
        let here = DynamicHere {
            prefix: eid("10.9.0.5/32"),
            since: 62,
            detected: true,
            priority: Some(3),
            seen: Some(2),
            registered: true,
        };
        let rlocs = vec!["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()];
        let away = DynamicAway { prefix: eid("10.9.0.6/32"), since: 5, until: 115, rlocs };
        let view = DynamicEids { configured: vec![configured], here: vec![here], away: vec![away] };
        let text = dynamic_eids(&view);
        let lines: Vec<String> =
            text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        assert_eq!(lines[0], "Dynamic-EIDs here: 1, away: 1");
        assert!(lines.contains(&"10.9.0.0/16 lan0 yes 1 1000".to_owned()), "{text}");
        assert!(lines.iter().any(|l| l.starts_with("10.9.0.5/32 00:01:02 detection")), "{text}");
        assert!(lines.iter().any(|l| l.ends_with("3 yes")), "{text}");
        assert!(lines.contains(&"10.9.0.6/32 00:00:05 00:01:55 192.0.2.1 2001:db8::1".to_owned()), "{text}");
    }

    #[test]
    fn what_came_of_a_move_is_said_and_what_to_do() {
        let said = |outcome, map_servers: &[&str]| {
            let map_servers = map_servers.iter().map(|name| (*name).to_owned()).collect();
            let rloc = Some("192.0.2.1".parse().unwrap());
            let prefix = eid("10.9.0.5/32");
            moved(&Moved { prefix, here: true, priority: Some(3), outcome, map_servers, rloc })
        };
        assert_eq!(said(MoveOutcome::Underway, &[]), "10.9.0.5/32: here, with priority 3 beside other sites");
        assert_eq!(
            said(MoveOutcome::Registered, &[]),
            "10.9.0.5/32: here and registered, with priority 3 beside other sites"
        );
        for (outcome, words) in [
            (MoveOutcome::Refused, &["refused by the Map-Servers a, b", "accept-more-specifics"][..]),
            (MoveOutcome::Unconfirmed, &["the Map-Servers a, b did not confirm", "keys agree", "goes on"]),
            (MoveOutcome::Elsewhere, &["the site of 192.0.2.1", "`eidolon move 10.9.0.5/32 --away`"]),
            (MoveOutcome::NoLocators, &["none of its locators is up"]),
        ] {
            let text = said(outcome, &["a", "b"]);
            assert!(words.iter().all(|word| text.contains(word)), "{text}");
            assert!(!text.contains("priority") && !outcome.is_good(), "{text}");
        }
    }
}
