//! The figures of a study as tables.

use std::fmt::Write as _;

use comfy_table::Table;

use crate::mgmt::table::{append, table};
use crate::sim::{CaseResult, Study, Summary};

/// The tables of all cases.
pub(super) fn report(study: &Study) -> String {
    let mut text = String::new();
    if !study.title.is_empty() {
        let _ = writeln!(text, "{}", study.title);
    }
    for case in &study.cases {
        let runs = case.runs.len();
        let seeds = match (case.runs.first(), case.runs.last()) {
            (Some(first), Some(last)) if runs > 1 => {
                format!("{runs} runs, seeds {} to {}", first.seed, last.seed)
            }
            (Some(only), _) => format!("seed {}, fingerprint {}", only.seed, only.fingerprint),
            _ => String::new(),
        };
        let _ = writeln!(text, "\n{}: {} s, {seeds}", case.name, study.duration_s);
        if runs > 1 {
            let _ = writeln!(text, "  mean ± standard deviation of the runs");
        }
        routers(case, &mut text);
        virtual_routers(case, &mut text);
        hosts(case, &mut text);
        parts(case, &mut text);
    }
    text
}

fn routers(case: &CaseResult, text: &mut String) {
    let mut lines = table(
        [
            "Router",
            "From site",
            "Dropped",
            "No mapping",
            "Known before",
            "Miss rate",
            "Encapsulated",
            "Decapsulated",
            "Control sent",
            "Bytes",
            "Largest cache",
        ],
        &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10],
    );
    for group in case.groups() {
        if case.summary(group, "control-sent").is_none() {
            continue;
        }
        let get = |figure| cell(case.summary(group, figure));
        let percent = |s: Summary| Summary { mean: s.mean / 1e4, spread: s.spread / 1e4, ..s };
        let misses = case.summary(group, "miss-rate-ppm").map(percent);
        lines.add_row([
            group.to_owned(),
            get("from-site"),
            get("itr-dropped"),
            get("itr-dropped/no-mapping"),
            get("itr-dropped-known"),
            misses.map_or_else(|| "-".into(), |m| format!("{:.2}%", m.mean)),
            get("encapsulated"),
            get("decapsulated"),
            get("control-sent"),
            get("control-sent-bytes"),
            get("map-cache-largest"),
        ]);
    }
    text.push('\n');
    append(text, &lines, 2);
}

fn virtual_routers(case: &CaseResult, text: &mut String) {
    let lines = table(
        ["Virtual router of", "Became master", "Advertisements sent", "Bytes", "Received", "Bytes"],
        &[1, 2, 3, 4, 5],
    );
    let figures =
        ["vrrp-became-master", "vrrp-sent", "vrrp-sent-bytes", "vrrp-received", "vrrp-received-bytes"];
    of_each(case, text, lines, "vrrp-sent", &figures);
}

fn hosts(case: &CaseResult, text: &mut String) {
    let lines = table(
        ["Host", "Sent", "Received", "Pings", "Unanswered", "Datagrams", "Not arrived", "Longest gap ms"],
        &[1, 2, 3, 4, 5, 6, 7],
    );
    let figures = [
        "sent",
        "received",
        "pings-sent",
        "pings-lost",
        "datagrams-sent",
        "datagrams-lost",
        "longest-gap-ms",
    ];
    of_each(case, text, lines, "sent", &figures);
}

/// A line with these figures for each group that has `needed`.
fn of_each(case: &CaseResult, text: &mut String, mut lines: Table, needed: &str, figures: &[&str]) {
    for group in case.groups().into_iter().filter(|group| case.summary(group, needed).is_some()) {
        let cells = figures.iter().map(|figure| cell(case.summary(group, figure)));
        lines.add_row(std::iter::once(group.to_owned()).chain(cells));
    }
    if !lines.is_empty() {
        text.push('\n');
        append(text, &lines, 2);
    }
}

/// Figures that have parts: messages by type, drops by reason.
fn parts(case: &CaseResult, text: &mut String) {
    let mut messages = table(["Router", "Message", "Sent", "Bytes", "Received", "Bytes"], &[2, 3, 4, 5]);
    let mut drops = table(["Node", "Packets lost", "Why", "Number"], &[3]);
    for group in case.groups() {
        let figures = case.figures(group);
        let mut types: Vec<&str> = figures
            .iter()
            .filter_map(|name| {
                name.strip_prefix("control-sent/").or_else(|| name.strip_prefix("control-received/"))
            })
            .collect();
        types.sort_unstable();
        types.dedup();
        for kind in types {
            let get = |what: &str| cell(case.summary(group, &format!("{what}/{kind}")));
            messages.add_row([
                group.to_owned(),
                kind.to_owned(),
                get("control-sent"),
                get("control-sent-bytes"),
                get("control-received"),
                get("control-received-bytes"),
            ]);
        }
        for (prefix, place) in
            [("itr-dropped/", "by the ITR"), ("etr-dropped/", "by the ETR"), ("lost/", "by the network")]
        {
            for (name, why) in figures.iter().filter_map(|name| Some((name, name.strip_prefix(prefix)?))) {
                drops.add_row([
                    group.to_owned(),
                    place.to_owned(),
                    why.to_owned(),
                    cell(case.summary(group, name)),
                ]);
            }
        }
    }
    for lines in [messages, drops] {
        if !lines.is_empty() {
            text.push('\n');
            append(text, &lines, 2);
        }
    }
}

/// `19.4 ± 1.6`; of figures that are the same in all runs, only that.
fn cell(summary: Option<Summary>) -> String {
    match summary {
        None => "-".into(),
        Some(s) if s.min == s.max => s.min.to_string(),
        Some(s) => format!("{:.1} ± {:.1}", s.mean, s.spread),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_a_spread_only_where_runs_differ() {
        let summary = |mean, spread, min, max| Some(Summary { mean, spread, min, max });
        assert_eq!(cell(None), "-");
        assert_eq!(cell(summary(7.0, 0.0, 7, 7)), "7");
        assert_eq!(cell(summary(19.44, 1.62, 17, 22)), "19.4 ± 1.6");
    }
}
