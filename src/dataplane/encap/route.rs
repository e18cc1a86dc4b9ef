//! Where each packet goes: step by step, for several packets at once.
//!
//! Owns: the steps, from the packet's addresses to the path of its flow. Must not change or count anything.

use std::net::IpAddr;

use super::Turn;
use crate::dataplane::counters::DropReason;
use crate::dataplane::glance::{Ends, Glance};
use crate::fib::{Entry, EntryAction, EntryPath, InstanceFib, LookupCache, Stats};
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

    /// Reads its headers, and looks whether its source is one of the site's. `local` is one that was, so that
    /// the next packet of the same host is not asked about again.
    #[inline(always)]
    pub(super) fn read(&mut self, turn: &Turn<'a>, packet: &[u8], local: &mut Option<u32>) {
        (self.packets, self.bytes) = (0, 0);
        self.route = if self.glance.read(packet).is_none() {
            Route::Drop(DropReason::Malformed)
        } else if matches!(self.glance.ends, Ends::V4(source, _) if Some(source) == *local)
            || self.may_send(turn, local)
        {
            Route::Unknown
        } else {
            Route::Drop(DropReason::SourceNotLocal)
        };
    }

    /// Whether packets from its source are taken.
    #[inline(never)]
    fn may_send(&self, turn: &Turn<'a>, local: &mut Option<u32>) -> bool {
        let Some(fib) = turn.fib else { return false };
        let is_local = fib.is_local(&self.glance.ends.source());
        if let Ends::V4(source, _) = self.glance.ends
            && is_local
        {
            *local = Some(source);
        }
        is_local || fib.proxies_to(&self.glance.ends.destination())
    }

    /// Finds the entry.
    #[inline(always)]
    pub(super) fn look_up(&mut self, turn: &Turn<'a>, cache: &mut LookupCache) {
        if let (Route::Unknown, Some(fib)) = (self.route, turn.fib) {
            let known = match self.glance.ends {
                Ends::V4(_, destination) => cache.known_v4(fib, destination),
                Ends::V6(_, destination) => cache.known_v6(fib, destination),
            };
            self.route = match known {
                Some(entry) => Route::Entry(entry),
                None => Route::of(fib, self.glance.ends.destination(), cache),
            };
        }
    }

    /// Of the entry's paths, finds the flow's.
    #[inline(always)]
    pub(super) fn choose(&mut self, turn: &Turn<'a>) {
        if let Route::Entry(entry) = self.route {
            self.route = if let EntryAction::Forward(choice) = &entry.action
                && let Some(path) = choice.path(self.glance.flow)
            {
                Route::Path(path, &entry.stats)
            } else {
                Route::refused(entry, turn, &self.glance)
            };
        }
    }
}

impl<'a> Route<'a> {
    /// To a destination that is not remembered. What is remembered was found to be unicast then.
    #[inline(never)]
    fn of(fib: &'a InstanceFib, destination: IpAddr, cache: &mut LookupCache) -> Self {
        if !ip::is_forwardable(&destination) {
            return Self::Drop(DropReason::NotUnicast);
        }
        cache.lookup(fib, &destination).map_or(Self::Miss, Self::Entry)
    }

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
