//! What happens next: events in the order of their time, and at one time in the order in which they were
//! scheduled.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use crate::types::Instant;

/// A queue of events whose order depends on nothing but the calls made.
#[derive(Debug)]
pub(super) struct EventQueue<E> {
    heap: BinaryHeap<Scheduled<E>>,
    sequence: u64,
}

#[derive(Debug)]
struct Scheduled<E> {
    at: Instant,
    sequence: u64,
    event: E,
}

impl<E> EventQueue<E> {
    pub(super) const fn new() -> Self {
        Self { heap: BinaryHeap::new(), sequence: 0 }
    }

    pub(super) fn push(&mut self, at: Instant, event: E) {
        self.heap.push(Scheduled { at, sequence: self.sequence, event });
        self.sequence += 1;
    }

    /// The next event, if it is not after `end`.
    pub(super) fn pop(&mut self, end: Instant) -> Option<(Instant, E)> {
        if self.heap.peek()?.at > end {
            return None;
        }
        self.heap.pop().map(|next| (next.at, next.event))
    }
}

impl<E> Ord for Scheduled<E> {
    /// The earliest is the greatest, as the heap gives the greatest first.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.sequence).cmp(&(self.at, self.sequence))
    }
}

impl<E> PartialOrd for Scheduled<E> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> PartialEq for Scheduled<E> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<E> Eq for Scheduled<E> {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_by_time_and_then_as_they_were_scheduled() {
        let at = Instant::from_secs;
        let mut queue = EventQueue::new();
        for (secs, name) in [(3, 'd'), (1, 'a'), (2, 'b'), (2, 'c'), (9, 'z')] {
            queue.push(at(secs), name);
        }
        let order: Vec<_> = std::iter::from_fn(|| queue.pop(at(5))).collect();
        assert_eq!(order, [(at(1), 'a'), (at(2), 'b'), (at(2), 'c'), (at(3), 'd')]);
        assert_eq!(queue.pop(at(9)), Some((at(9), 'z')));
    }
}
