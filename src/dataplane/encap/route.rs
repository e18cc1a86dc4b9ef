//! Where each packet goes: step by step, for several packets at once.
//!
//! Owns: the steps, from the packet's addresses to the path of its flow. Must not change or count anything.

use super::Turn;
use crate::dataplane::counters::DropReason;
use crate::dataplane::glance::{Ends, Glance};
use crate::fib::{Entry, EntryAction, EntryPath, InstanceFib, LookupCache};
use crate::types::Action;
use crate::wire::{data, ip};

/// What is known of a packet so far.
///
/// What a step finds out is written to a field of its own, a word at a time: of an enum with a variant for
/// each step, every step would write the whole.
#[derive(Clone, Copy)]
pub(super) struct Seen<'a> {
    pub(super) glance: Glance,
    /// Of its destination.
    pub(super) entry: Option<&'a Entry>,
    /// Of its flow. Without one, [`Self::refusal`] says why.
    pub(super) path: Option<&'a EntryPath>,
    pub(super) refusal: Option<Refusal>,
    /// The largest packet that the path takes.
    pub(super) mtu: u16,
    /// What became of it.
    pub(super) packets: u32,
    pub(super) bytes: u32,
}

/// Why a packet goes nowhere.
#[derive(Clone, Copy)]
pub(super) enum Refusal {
    /// The control plane has to be asked first.
    Miss,
    /// The mapping says so: the entry counts that.
    Mapping(DropReason),
    /// Anything else.
    Drop(DropReason),
}

impl<'a> Seen<'a> {
    /// Of no packet.
    pub(super) const NOTHING: Self =
        Self { glance: Glance::NONE, entry: None, path: None, refusal: None, mtu: 0, packets: 0, bytes: 0 };

    /// Reads its headers, and looks whether its source is one of the site's. `local` is one that was, so that
    /// the next packet of the same host is not asked about again.
    #[inline(always)]
    pub(super) fn read(&mut self, turn: &Turn<'a>, packet: &[u8], local: &mut Option<u32>) {
        (self.packets, self.bytes) = (0, 0);
        self.refusal = if self.glance.read(packet).is_none() {
            Some(Refusal::Drop(DropReason::Malformed))
        } else if matches!(self.glance.ends, Ends::V4(source, _) if Some(source) == *local)
            || self.may_send(turn, local)
        {
            None
        } else {
            Some(Refusal::Drop(DropReason::SourceNotLocal))
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
        self.entry = match turn.fib {
            Some(fib) if self.refusal.is_none() => {
                let known = match self.glance.ends {
                    Ends::V4(_, destination) => cache.known_v4(fib, destination),
                    Ends::V6(_, destination) => cache.known_v6(fib, destination),
                };
                known.or_else(|| self.search(fib, cache))
            }
            _ => None,
        };
    }

    /// The entry of a destination that is not remembered. What is remembered was found to be unicast then.
    #[inline(never)]
    fn search(&mut self, fib: &'a InstanceFib, cache: &mut LookupCache) -> Option<&'a Entry> {
        let destination = self.glance.ends.destination();
        if !ip::is_forwardable(&destination) {
            self.refusal = Some(Refusal::Drop(DropReason::NotUnicast));
            return None;
        }
        let entry = cache.lookup(fib, &destination);
        if entry.is_none() {
            self.refusal = Some(Refusal::Miss);
        }
        entry
    }

    /// Of the entry's paths, finds the flow's. `path_mtu` is that of paths without a known limit.
    #[inline(always)]
    pub(super) fn choose(&mut self, turn: &Turn<'a>, path_mtu: u16) {
        self.path = None;
        let Some(entry) = self.entry else { return };
        if let EntryAction::Forward(choice) = &entry.action
            && let Some(path) = choice.path(self.glance.flow)
        {
            let way = &path.way;
            let overhead = if way.rloc.is_ipv4() { data::OVERHEAD_V4 } else { data::OVERHEAD_V6 };
            self.mtu = way.mtu().unwrap_or(path_mtu).saturating_sub(overhead);
            self.path = Some(path);
        } else {
            self.refusal = Some(Refusal::of(entry, turn, &self.glance));
        }
    }
}

impl Refusal {
    /// By an entry that has no path.
    #[cold]
    fn of(entry: &Entry, turn: &Turn<'_>, packet: &Glance) -> Self {
        Self::Mapping(match &entry.action {
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
        })
    }
}
