//! What all tables share.

use std::fmt::Display;

use comfy_table::{CellAlignment, Row, Table, presets::NOTHING};

use crate::mgmt::view::KeyInUse;
use crate::types::{EidPrefix, Ttl};

/// What is said of a locator that a command changed.
pub(super) const BY_COMMAND: &str = "set by command, until the next reload or restart";

/// A span of time as routers print it: `00:01:02` below a day, then `1d02h`, `3w4d`, `1y12w`.
pub fn interval(seconds: u64) -> String {
    const HOUR: u64 = 3600;
    const DAY: u64 = 24 * HOUR;
    const WEEK: u64 = 7 * DAY;
    const YEAR: u64 = 365 * DAY;
    match seconds {
        s if s < DAY => format!("{:02}:{:02}:{:02}", s / HOUR, s / 60 % 60, s % 60),
        s if s < WEEK => format!("{}d{:02}h", s / DAY, s % DAY / HOUR),
        s if s < YEAR => format!("{}w{}d", s / WEEK, s % WEEK / DAY),
        s => format!("{}y{}w", s / YEAR, s % YEAR / WEEK),
    }
}

/// A span of time, or `never`.
pub fn age(seconds: Option<u64>) -> String {
    seconds.map_or_else(|| "never".into(), interval)
}

/// A value, or `-`.
pub(super) fn or_dash(value: Option<impl Display>) -> String {
    value.map_or_else(|| "-".into(), |v| v.to_string())
}

/// A key's id and algorithm: `1 HMAC-SHA-256-128`.
pub(super) fn key(key: Option<&KeyInUse>) -> String {
    key.map_or_else(|| "-".into(), |key| format!("{} {}", key.id, key.algorithm))
}

/// `1 entry`, `2 entries`.
pub(super) fn count(n: usize, one: &str, many: &str) -> String {
    if n == 1 { format!("1 {one}") } else { format!("{n} {many}") }
}

/// `, instance 7` where it is not the default one.
pub(super) fn prefix(eid: &EidPrefix) -> String {
    if eid.iid.is_default() { eid.net.to_string() } else { format!("{}, instance {}", eid.net, eid.iid) }
}

pub(super) fn ttl(ttl: Ttl) -> String {
    ttl.duration().map_or_else(|| "as you like".into(), |d| interval(d.as_secs()))
}

/// A table without lines, the columns at the indices in `right` aligned to the right.
pub fn table<const N: usize>(header: [&str; N], right: &[usize]) -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING);
    table.set_header(Row::from(header));
    for &column in right {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// Appends the table's lines to `text`, each after `indent` spaces and without spaces at its end. A table
/// without rows is left out.
pub fn append(text: &mut String, table: &Table, indent: usize) {
    if table.is_empty() {
        return;
    }
    for line in table.lines() {
        // The first column's padding is part of the indentation.
        let line = line.strip_prefix(' ').unwrap_or(&line);
        text.push_str(format!("{:indent$}{line}", "").trim_end());
        text.push('\n');
    }
}
