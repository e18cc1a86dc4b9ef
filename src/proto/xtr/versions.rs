//! Map-Version numbers of our own mappings (RFC 9302 §6).
//!
//! Owns: which version each mapping has, and when that changes. The data plane's part of the comparisons is
//! in `dataplane`; what follows from them is the ITR's and [`super::signals`]'.

use std::collections::BTreeMap;

use crate::proto::config::HeaderConfig;
use crate::types::{EidPrefix, MapVersion, Mapping};

use super::database::Database;

/// The machine.
#[derive(Debug)]
pub(crate) struct Versions {
    /// The first version of a mapping that nothing is remembered of.
    first: MapVersion,
    /// Each mapping as it was told last, with its version.
    said: BTreeMap<EidPrefix, Mapping>,
}

impl Versions {
    /// `nonce_base` as of [`ControlPlane::new`](crate::proto::control::ControlPlane::new): a wall clock in
    /// seconds, times 2^20. The first version of a mapping counts the minutes of that clock, around the
    /// circle: so a restart that finds nothing of before has a newer version all the same, unless the mapping
    /// had changed more than once a minute, or not at all for a day and a half.
    pub(crate) fn new(nonce_base: u64) -> Self {
        let minutes = (nonce_base >> 20) / 60;
        Self { first: MapVersion::new((minutes % 4095) as u16 + 1), said: BTreeMap::new() }
    }

    /// An earlier life said this: the version goes on from there.
    pub(crate) fn restored(&mut self, mapping: &Mapping) {
        if !mapping.version.is_none() {
            self.said.insert(mapping.eid, mapping.clone());
        }
    }

    /// What was said last of each mapping.
    pub(crate) fn said(&self) -> impl Iterator<Item = &Mapping> {
        self.said.values()
    }

    /// Gives each mapping of the database its version: the next one, if it differs from what was said last.
    /// The mappings that have another one than before.
    pub(crate) fn update(&mut self, config: &HeaderConfig, database: &mut Database) -> Vec<Mapping> {
        let mut changed = Vec::new();
        for entry in database.entries_mut() {
            let told = entry.mapping();
            let before = self.said.get(&told.eid);
            let fixed = config.versions.get(&told.eid);
            entry.version = match (before, fixed) {
                _ if !config.map_version || told.locators.is_empty() => MapVersion::NONE,
                (_, Some(fixed)) => *fixed,
                (None, None) => self.first,
                // While no locator is up nobody hears what is said, as between a start and the first
                // interface.
                (Some(before), None) if told.locators.iter().all(|l| !l.reachable) => before.version,
                (Some(before), None) if same(before, &told) => before.version,
                (Some(before), None) => before.version.next(),
            };
            let told = Mapping { version: entry.version, ..told };
            let heard = told.locators.iter().any(|l| l.reachable);
            if heard && !told.version.is_none() && before != Some(&told) {
                self.said.insert(told.eid, told.clone());
                changed.push(told);
            }
        }
        changed
    }
}

/// Whether two mappings say the same, whatever their versions.
fn same(a: &Mapping, b: &Mapping) -> bool {
    (a.ttl, a.action, &a.locators) == (b.ttl, b.action, &b.locators)
}
