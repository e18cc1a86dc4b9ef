//! Counters of FIB entries and paths.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_utils::CachePadded;

use crate::types::Instant;

/// Which of the data plane's writing threads counts: 0-based, and of how many. One thread per index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Worker {
    /// 0 to `count − 1`.
    pub index: u16,
    /// How many there are.
    pub count: u16,
}

impl Worker {
    /// The one thread of a data plane that has no other.
    pub const ONLY: Self = Self { index: 0, count: 1 };
}

/// Counters of a FIB entry or of a path: written by the data plane, read by the control plane at any time.
///
/// Each data thread writes its own shard with plain loads and stores, so that counting costs neither a locked
/// instruction nor a cache line shared with another thread. The first thread's shard is in place; those of
/// others are allocated when one of them first counts here, so that an idle entry costs 48 bytes.
#[derive(Debug, Default)]
pub struct Stats {
    first: Shard,
    others: OnceLock<Box<[CachePadded<Shard>]>>,
}

#[derive(Debug, Default)]
struct Shard {
    packets: AtomicU64,
    bytes: AtomicU64,
    last_used: AtomicU64,
}

impl Shard {
    #[inline]
    fn record(&self, packets: u64, bytes: u64, now: Instant) {
        // One writer per shard: a load and a store lose nothing.
        let add = |counter: &AtomicU64, n| {
            counter.store(counter.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
        };
        add(&self.packets, packets);
        add(&self.bytes, bytes);
        self.last_used.store(now.as_nanos(), Ordering::Relaxed);
    }
}

impl Stats {
    /// Counts packets, and bytes of inner packets, at `now`, as the only data thread.
    pub fn record(&self, packets: u64, bytes: u64, now: Instant) {
        self.first.record(packets, bytes, now);
    }

    /// Counts as one of several data threads.
    #[inline]
    pub fn record_as(&self, worker: Worker, packets: u64, bytes: u64, now: Instant) {
        if worker.index == 0 {
            self.first.record(packets, bytes, now)
        } else {
            self.record_other(worker, packets, bytes, now)
        }
    }

    #[cold]
    fn record_other(&self, worker: Worker, packets: u64, bytes: u64, now: Instant) {
        let others = self.others.get_or_init(|| (1..worker.count).map(|_| CachePadded::default()).collect());
        if let Some(shard) = others.get(usize::from(worker.index) - 1) {
            shard.record(packets, bytes, now);
        }
    }

    fn shards(&self) -> impl Iterator<Item = &Shard> {
        std::iter::once(&self.first).chain(self.others.get().into_iter().flatten().map(|s| &**s))
    }

    /// Packets so far.
    pub fn packets(&self) -> u64 {
        self.shards().map(|s| s.packets.load(Ordering::Relaxed)).fold(0, u64::wrapping_add)
    }

    /// Bytes of inner packets so far.
    pub fn bytes(&self) -> u64 {
        self.shards().map(|s| s.bytes.load(Ordering::Relaxed)).fold(0, u64::wrapping_add)
    }

    /// When a packet was last counted; `None` before the first.
    pub fn last_used(&self) -> Option<Instant> {
        match self.shards().map(|s| s.last_used.load(Ordering::Relaxed)).max() {
            None | Some(0) => None,
            Some(nanos) => Some(Instant::from_nanos(nanos)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_that_count_at_once_lose_nothing() {
        let stats = Stats::default();
        assert_eq!((stats.packets(), stats.bytes(), stats.last_used()), (0, 0, None));
        std::thread::scope(|scope| {
            for index in 0..4 {
                let stats = &stats;
                scope.spawn(move || {
                    for i in 1..=10_000 {
                        stats.record_as(
                            Worker { index, count: 4 },
                            1,
                            100,
                            Instant::from_nanos(i + u64::from(index)),
                        );
                    }
                });
            }
        });
        assert_eq!((stats.packets(), stats.bytes()), (40_000, 4_000_000));
        assert_eq!(stats.last_used(), Some(Instant::from_nanos(10_003)));
    }
}
