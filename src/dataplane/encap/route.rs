//! Where each packet goes: step by step, for several packets at once.
//!
//! Owns: the steps, from the packet's addresses to the path of its flow. Must not change or count anything.

use super::Turn;
use crate::dataplane::counters::DropReason;
use crate::dataplane::glance::{Ends, Glance};
use crate::fib::{Entry, EntryAction, EntryPath, LookupCache, Stats};
use crate::types::Action;
use crate::wire::ip;

/// What is known of a packet so far.
#[derive(Clone, Copy)]
pub(super) struct Seen<'a> {
    pub(super) glance: Glance,
    pub(super) route: Route<'a>,
    /// What became of it.
    pub(super) packets: u32,
    pub(super) bytes: u32,
}

/// Where a packet goes.
#[derive(Clone, Copy)]
pub(super) enum Route<'a> {
    /// Not looked up yet.
    Unknown,
    /// As this entry says.
    Entry(&'a Entry),
    /// This way, and the entry's counters.
    Path(&'a EntryPath, &'a Stats),
    /// Nowhere, until the control plane has been asked.
    Miss,
    /// Nowhere, as the mapping says; its entry's counters.
    Refused(DropReason, &'a Stats),
    /// Nowhere.
    Drop(DropReason),
}

impl<'a> Seen<'a> {
    /// Of no packet.
    pub(super) const NOTHING: Self =
        Self { glance: Glance::NONE, route: Route::Unknown, packets: 0, bytes: 0 };

    #[inline(always)]
    pub(super) fn read(&mut self, turn: &Turn<'a>, packet: &[u8]) {
        (self.packets, self.bytes) = (0, 0);
        if self.glance.read(packet).is_none() {
            self.route = Route::Drop(DropReason::Malformed);
            return;
        }
        let (source, destination) = (self.glance.ends.source(), self.glance.ends.destination());
        self.route = if !ip::is_forwardable(&destination) {
            Route::Drop(DropReason::NotUnicast)
        } else if !turn.fib.is_some_and(|fib| fib.is_local(&source) || fib.proxies_to(&destination)) {
            Route::Drop(DropReason::SourceNotLocal)
        } else {
            Route::Unknown
        };
    }

    /// Finds the entry.
    #[inline(always)]
    pub(super) fn look_up(&mut self, turn: &Turn<'a>, cache: &mut LookupCache) {
        if let Route::Unknown = self.route {
            let entry = turn.fib.and_then(|fib| match self.glance.ends {
                Ends::V4(_, destination) => cache.lookup_v4(fib, destination),
                Ends::V6(_, destination) => cache.lookup_v6(fib, destination),
            });
            self.route = entry.map_or(Route::Miss, Route::Entry);
        }
    }

    /// Of the entry's paths, finds the flow's.
    #[inline(always)]
    pub(super) fn choose(&mut self, turn: &Turn<'a>) {
        if let Route::Entry(entry) = self.route {
            self.route = match &entry.action {
                EntryAction::Forward(choice) => match choice.path(self.glance.flow) {
                    Some(path) => Route::Path(path, &entry.stats),
                    None => Route::Drop(DropReason::NoPath),
                },
                _ => Route::refused(entry, turn, &self.glance),
            };
        }
    }
}

impl<'a> Route<'a> {
    /// By an entry that has no path.
    #[cold]
    fn refused(entry: &'a Entry, turn: &Turn<'_>, packet: &Glance) -> Self {
        let reason = match &entry.action {
            EntryAction::Forward(_) => return Self::Drop(DropReason::NoPath),
            // It has moved, and where to is forgotten.
            EntryAction::Local if turn.fib.is_some_and(|fib| fib.is_away(&packet.ends.destination())) => {
                return Self::Miss;
            }
            EntryAction::Local => return Self::Drop(DropReason::DestinationLocal),
            EntryAction::Negative(action) => match action {
                Action::SendMapRequest => return Self::Miss,
                Action::NoAction => DropReason::NegativeNoAction,
                Action::NativelyForward => DropReason::NegativeNativelyForward,
                Action::Drop | Action::Unassigned(_) => DropReason::NegativeDrop,
                Action::DropPolicyDenied => DropReason::NegativePolicyDenied,
                Action::DropAuthFailure => DropReason::NegativeAuthFailure,
            },
        };
        Self::Refused(reason, &entry.stats)
    }
}
