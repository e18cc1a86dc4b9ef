//! The ETR's answers: authoritative Map-Replies for the site's own EID-prefixes.
//!
//! Owns: what a Map-Reply says of the database. Registrations are in [`super::register`].

use crate::proto::context::Context;
use crate::proto::mapping_system::free_prefix::free_prefix;
use crate::proto::request::{Origin, reply};
use crate::proto::stats::DropReason;
use crate::types::{Action, EidPrefix, Instant, Mapping};
use crate::wire::{Address, EidRecord, MapRequest};

use super::database::{Database, Entry};
use super::register::{MAX_RECORD_BYTES, encoded_len};

/// More specific prefixes that a Map-Reply lists beside the one asked for. With more, the reply is for the
/// part of the prefix around the EID that has none.
const MAX_MORE_SPECIFIC: usize = 15;

/// Answers a Map-Request for `asked`, all of them in the database, in one Map-Reply: as many as fit it in
/// whole. An RLOC-probe is about a locator, and answered for the first alone.
pub(crate) fn answer(
    cx: &mut Context,
    now: Instant,
    origin: &Origin,
    request: &MapRequest,
    asked: &[EidPrefix],
    database: &Database,
) {
    let mut records: Vec<EidRecord> = Vec::new();
    let mut bytes = 0;
    for prefix in asked.iter().take(if request.probe { 1 } else { usize::MAX }) {
        let mut more = records_for(database, prefix);
        more.retain(|record| !records.iter().any(|r| r.eid == record.eid));
        let more_bytes: usize = more.iter().map(encoded_len).sum();
        // What is asked for in one message is bounded as one answer is (RFC 9301 §9); the rest has to be
        // asked for again.
        if !records.is_empty() && bytes + more_bytes > MAX_RECORD_BYTES {
            cx.drop_with(DropReason::RequestRecords, Some(origin.peer), prefix.to_string());
            continue;
        }
        bytes += more_bytes;
        records.extend(more);
    }
    if request.probe {
        // p: which locator the probe came to (RFC 9301 §5.4).
        let probed = Address::from(origin.local.ip());
        for record in &mut records {
            if let Some(locator) = record.locators.iter_mut().find(|l| l.address == probed) {
                locator.probe = true;
            }
        }
    }
    let rlocs = database.rlocs();
    reply(cx, now, origin, request, records, |addr| rlocs.reaches(addr));
}

/// Answers an RLOC-probe at a proxy-ETR. Whoever sends it wants to know whether the proxy-ETR lives, and asks
/// for what it reaches by it: something to be forwarded natively, without locators (RFC 6832 §6).
pub(crate) fn answer_as_proxy(
    cx: &mut Context,
    now: Instant,
    origin: &Origin,
    request: &MapRequest,
    asked: &[EidPrefix],
) {
    let ttl = cx.timers.negative_ttl_unconfigured;
    let record = |prefix: &EidPrefix| {
        let mapping = Mapping::negative(*prefix, ttl, Action::NativelyForward);
        EidRecord::from(&Mapping { authoritative: true, ..mapping })
    };
    let records = asked.iter().take(1).map(record).collect();
    reply(cx, now, origin, request, records, |_| true);
}

/// The longest entry that covers `asked`, and the more specific ones inside it: what is asked for may be
/// about to be cached as a whole (RFC 9301 §5.5). All with the least time to live among them.
fn records_for(database: &Database, asked: &EidPrefix) -> Vec<EidRecord> {
    let Some((prefix, entry)) = database.answering(asked) else { return Vec::new() };
    // Who asks for what has moved away, and comes here with that, was sent by a mapping system that knows
    // nobody who has it: it is at home again, or nowhere.
    let elsewhere = |p: &EidPrefix, e: &Entry| !(e.is_away() && p.covers(asked));
    let inside: Vec<&Entry> = database
        .strictly_within(&prefix)
        .filter(|(p, e)| elsewhere(p, e))
        .map(|(_, e)| e)
        .take(MAX_MORE_SPECIFIC + 1)
        .collect();
    // Neither may a reply be cut into fragments, nor draw a short question many bytes (RFC 9301 §9).
    let bytes: usize = inside.iter().map(|e| encoded_len(&e.record())).sum();
    let most = MAX_RECORD_BYTES.saturating_sub(encoded_len(&entry.record()));
    if inside.len() > MAX_MORE_SPECIFIC || (!inside.is_empty() && bytes > most) {
        let free = free_prefix(&asked.first(), &[database.table()]);
        return vec![EidRecord { eid: free.into(), ..entry.record() }];
    }
    let ttl = inside.iter().map(|e| e.config.ttl).chain([entry.config.ttl]).min().unwrap_or(entry.config.ttl);
    std::iter::once(entry).chain(inside).map(|e| EidRecord { ttl, ..e.record() }).collect()
}
