//! What there is to tell, and the records that tell it.
//!
//! Owns: which records fit one message. What waits is kept as names only; the records are made when a message
//! is sent, so that it tells what holds by then.

use std::collections::BTreeSet;

use crate::proto::xtr::database::Database;
use crate::proto::xtr::itr::Itr;
use crate::types::{Action, EidPrefix, Instant, Mapping, Rloc, Ttl};
use crate::wire::{Address, EidRecord, SyncMapping, SyncRecord};

/// Bytes of a message beside those of its records: its header, the authentication data, the sessions, and the
/// record that ends a whole cache.
pub(super) const HEADERS: usize = 16 + 32 + 16 + 16;
/// Bytes of a message's records, so that no link on the way cuts it.
const ROOM: usize = 1400 - HEADERS;
/// The same where larger ones do not arrive: such messages get through wherever IP does.
pub(super) const LEAST_ROOM: usize = ROOM / 4;
/// Records of one message.
pub(super) const MOST_RECORDS: usize = 254;

/// Something to tell, the last of all first: of mappings that lie in each other the inner one, as the outer
/// one alone would have its packets (RFC 9301 §5.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Item {
    /// Whether a locator can be reached.
    Locator(Rloc),
    /// An entry.
    Mapping(EidPrefix),
    /// There is no mapping any more.
    Gone(EidPrefix),
}

/// What a message is made from.
#[derive(Clone, Copy)]
pub(super) struct Material<'a> {
    pub(super) itr: &'a Itr,
    pub(super) database: &'a Database,
    pub(super) now: Instant,
}

/// What of all that a member is told, and in how large messages.
#[derive(Clone, Debug)]
pub(super) struct Limits {
    /// Bytes of a message's records.
    pub(super) room: usize,
    /// Mappings that are too large for it, and did not arrive.
    pub(super) left_out: BTreeSet<EidPrefix>,
}

impl Default for Limits {
    fn default() -> Self {
        Self { room: ROOM, left_out: BTreeSet::new() }
    }
}

/// What waits to be told.
pub(super) trait Waiting {
    /// What comes next.
    fn next(&self) -> Option<Item>;
    /// Takes it out.
    fn advance(&mut self);
}

impl Waiting for Vec<Item> {
    fn next(&self) -> Option<Item> {
        self.last().copied()
    }

    fn advance(&mut self) {
        self.pop();
    }
}

impl Waiting for BTreeSet<Item> {
    fn next(&self) -> Option<Item> {
        self.last().copied()
    }

    fn advance(&mut self) {
        self.pop_last();
    }
}

/// The content of a message.
#[derive(Debug, Default)]
pub(super) struct Page {
    /// What the records are about.
    pub(super) items: Vec<Item>,
    pub(super) records: Vec<SyncRecord>,
}

/// As many records as fit a message; what is no longer there is left out. `copies`: what other members told
/// counts, too.
pub(super) fn page(items: &mut impl Waiting, copies: bool, limits: &Limits, material: Material<'_>) -> Page {
    let mut page = Page::default();
    let mut room = limits.room;
    while let Some(item) = items.next() {
        let left_out = matches!(item, Item::Mapping(prefix) if limits.left_out.contains(&prefix));
        let record = record(item, copies, material).filter(|_| !left_out);
        let Some((record, len)) = record.and_then(|r| r.encoded_len().ok().map(|len| (r, len))) else {
            items.advance();
            continue;
        };
        // One that fits no message goes alone.
        let full = page.records.len() == MOST_RECORDS || len > room;
        if full && !page.records.is_empty() {
            break;
        }
        room = room.saturating_sub(len);
        items.advance();
        page.items.push(item);
        page.records.push(record);
    }
    page
}

fn record(item: Item, copies: bool, material: Material<'_>) -> Option<SyncRecord> {
    let Material { itr, database, now } = material;
    match item {
        Item::Mapping(prefix) => itr.told(&prefix, copies, now).map(SyncRecord::Mapping),
        Item::Gone(prefix) => {
            let Some(since) = itr.withdrawn(&prefix) else {
                // It has come back.
                return itr.told(&prefix, false, now).map(SyncRecord::Mapping);
            };
            let gone = Mapping::negative(prefix, Ttl::WITHDRAWN, Action::NoAction);
            Some(SyncRecord::Mapping(SyncMapping {
                copy: false,
                echoes: false,
                seconds: 0,
                millis: 0,
                inside: 0,
                age: SyncMapping::millis(now.saturating_since(since)),
                record: EidRecord::from(&gone),
            }))
        }
        Item::Locator(rloc) => {
            Some(SyncRecord::Locator { address: Address::from(rloc), up: itr.is_reached(&rloc, database) })
        }
    }
}
