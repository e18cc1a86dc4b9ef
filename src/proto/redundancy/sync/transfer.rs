//! The walk through the whole cache, as it is told to one member.
//!
//! Owns: how far it has come. It looks at no more of the map-cache at a time than fits some messages, as
//! routers forward and answer meanwhile; what changes behind it is told as all changes are.

use std::time::Duration;

use crate::types::{EidPrefix, Instant, Nonce};

use super::record::{Item, MOST_RECORDS, Material};

/// Entries of the map-cache that are looked at at a time; sets of overlapping ones are never parted.
const STRIDE: usize = 1024;

/// Why something is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// It changed.
    Single,
    /// Something else changed.
    Naive,
    /// The member (re)appeared.
    Whole,
}

/// The whole cache was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Finished {
    pub(super) records: u64,
    pub(super) took: Duration,
}

/// A whole cache on its way.
#[derive(Debug)]
pub(super) struct Transfer {
    pub(super) kind: Kind,
    /// What comes next, the last one first.
    pub(super) items: Vec<Item>,
    rest: Rest,
    pub(super) started: Instant,
    /// Not before this does it go on.
    pub(super) resume: Instant,
    pub(super) records: u64,
    /// Its last message was sent.
    pub(super) ended: bool,
    /// The nonce of its first message.
    pub(super) first: Option<Nonce>,
    /// How many messages were sent.
    pub(super) messages: u32,
}

/// What comes after the items.
#[derive(Clone, Copy, Debug)]
enum Rest {
    /// The entries after this one, or all; then the locators.
    Mappings(Option<EidPrefix>),
    /// The locators, after the mappings that have them.
    Locators,
    Nothing,
}

impl Transfer {
    pub(super) fn new(kind: Kind, material: Material<'_>) -> Self {
        let mut transfer = Self {
            kind,
            items: Vec::new(),
            rest: Rest::Mappings(None),
            started: material.now,
            resume: material.now,
            records: 0,
            ended: false,
            first: None,
            messages: 0,
        };
        if kind == Kind::Whole {
            transfer.items.extend(material.itr.withdrawn_prefixes().map(Item::Gone));
        }
        transfer
    }

    /// Sees to it that a message's worth is there, unless that is all. Whether anything is.
    pub(super) fn refill(&mut self, material: Material<'_>) -> bool {
        let whole = self.kind == Kind::Whole;
        while self.items.len() < MOST_RECORDS {
            let mut more: Vec<Item> = Vec::new();
            match self.rest {
                Rest::Mappings(after) => {
                    let (prefixes, last) = material.itr.told_after(after, whole, STRIDE);
                    more.extend(prefixes.into_iter().map(Item::Mapping));
                    self.rest = last.map_or(Rest::Locators, |last| Rest::Mappings(Some(last)));
                }
                Rest::Locators => {
                    if whole {
                        more.extend(material.itr.found_down(material.database).map(Item::Locator));
                    }
                    self.rest = Rest::Nothing;
                }
                Rest::Nothing => break,
            }
            more.append(&mut self.items);
            self.items = more;
        }
        !self.items.is_empty()
    }
}
