//! One thread that serves a queue in both directions.
//!
//! Both directions in one thread, since a packet from one site to another and its answer then wake one thread
//! less at either end, which costs more than all that is done to them; what one thread can't carry, more
//! queues do.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::STOP;
use super::etr::Etr;
use super::itr::Itr;
use crate::dataplane::Counters;
use crate::io::poll::{Poller, Ready};
use crate::runtime::clock::Clock;
use crate::types::Instant;

/// What a token says beside a number of its own: whose the descriptor is.
pub(super) const ITR: u64 = 1 << 32;
pub(super) const ETR: u64 = 2 << 32;

/// One data thread.
pub(super) struct Worker {
    itr: Option<Itr>,
    etr: Option<Etr>,
    clock: Clock,
    poller: Poller,
}

impl Worker {
    pub(super) fn new(itr: Option<Itr>, etr: Option<Etr>, clock: Clock, poller: Poller) -> io::Result<Self> {
        if let Some(itr) = &itr {
            itr.watch(&poller)?;
        }
        if let Some(etr) = &etr {
            etr.watch(&poller)?;
        }
        Ok(Self { itr, etr, clock, poller })
    }

    /// What the directions count in, by their names.
    pub(super) fn counters(&self, queue: usize) -> Vec<(String, Arc<Counters>)> {
        let itr = self.itr.as_ref().map(|itr| (format!("itr{queue}"), itr.counters()));
        let etr = self.etr.as_ref().map(|etr| (format!("etr{queue}"), etr.counters()));
        itr.into_iter().chain(etr).collect()
    }

    /// Runs until the stop signal.
    pub(super) fn run(mut self) -> io::Result<()> {
        let mut buffers = self.etr.as_ref().map(Etr::buffers);
        let mut ready = Vec::new();
        let mut linger = Linger::default();
        let mut last = Direction::Out;
        loop {
            let busy =
                self.itr.as_ref().is_some_and(Itr::is_busy) || self.etr.as_ref().is_some_and(Etr::is_busy);
            if busy || !self.linger(&mut linger, last, &mut ready)? {
                self.poller.wait(!busy, &mut ready)?;
            }
            if !self.wake(&ready) {
                return Ok(());
            }
            if let Some(itr) = &mut self.itr {
                let bytes = itr.turn(&self.poller);
                linger.moved(bytes);
                if bytes > 0 {
                    last = Direction::Out;
                }
            }
            if let Some((etr, buffers)) = self.etr.as_mut().zip(buffers.as_mut()) {
                let bytes = etr.turn(buffers);
                linger.moved(bytes);
                if bytes > 0 {
                    last = Direction::In;
                }
            }
        }
    }

    /// Tells the directions what is ready; `false` for the stop signal.
    fn wake(&mut self, ready: &[Ready]) -> bool {
        for Ready { token, .. } in ready {
            let index = (token & 0xffff_ffff) as usize;
            match (token & !0xffff_ffff, &mut self.itr, &mut self.etr) {
                _ if *token == STOP => return false,
                (ITR, Some(itr), _) => itr.wake(index),
                (ETR, _, Some(etr)) => etr.wake(index),
                _ => {}
            }
        }
        true
    }

    /// Looks for a while whether something gets ready, where that has paid before; whether it did.
    fn linger(&self, linger: &mut Linger, last: Direction, ready: &mut Vec<Ready>) -> io::Result<bool> {
        let start = self.clock.now();
        if !linger.pays(last, start) {
            return Ok(false);
        }
        loop {
            self.poller.wait(false, ready)?;
            let now = self.clock.now();
            let (found, spent) = (!ready.is_empty(), now.saturating_since(start));
            if found || spent >= Linger::LONGEST {
                linger.learn(last, found, spent);
                return Ok(found);
            }
        }
    }
}

/// Which way packets went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    Out,
    In,
}

/// Whether to look again instead of going to sleep: an answer that comes within microseconds finds the thread
/// awake, and the processor too, whose waking takes longer than the answer. What that may cost is bounded,
/// and it is given up where answers don't come, and while bulk traffic passes: that waits for the processor,
/// not for us.
#[derive(Debug, Default)]
struct Linger {
    /// By the direction of the last packet: how often it paid lately.
    score: [i8; 2],
    /// How often it was passed over since it was last tried.
    passed: [u8; 2],
    /// Time that may be spent.
    credit: Duration,
    since: Instant,
    /// Bulk traffic passed since the last time that looking again was considered.
    bulk: bool,
    /// Not before, because of such traffic.
    not_before: Instant,
}

impl Linger {
    /// The longest that one look takes: an answer from the same building comes sooner.
    const LONGEST: Duration = Duration::from_micros(100);
    /// The share of time that may be spent.
    const SHARE: u32 = 10;
    /// The most that is saved up.
    const MOST: Duration = Duration::from_millis(2);
    /// Where it has not paid it is tried so rarely.
    const RETRY: u8 = 64;
    /// More bytes in one turn than a packet has are bulk traffic.
    const BULK: usize = 2048;
    /// How long that is remembered.
    const AFTER_BULK: Duration = Duration::from_millis(2);

    /// A turn moved so many bytes.
    fn moved(&mut self, bytes: usize) {
        self.bulk |= bytes > Self::BULK;
    }

    fn pays(&mut self, last: Direction, now: Instant) -> bool {
        self.credit = (self.credit + now.saturating_since(self.since) / Self::SHARE).min(Self::MOST);
        self.since = now;
        if std::mem::take(&mut self.bulk) {
            self.not_before = now + Self::AFTER_BULK;
        }
        if now < self.not_before {
            return false;
        }
        let i = last as usize;
        let (Some(score), Some(passed)) = (self.score.get(i), self.passed.get_mut(i)) else { return false };
        if self.credit < Self::LONGEST {
            return false;
        }
        if *score <= 0 {
            *passed = (*passed + 1) % Self::RETRY;
            return *passed == 0;
        }
        true
    }

    fn learn(&mut self, last: Direction, found: bool, spent: Duration) {
        self.credit = self.credit.saturating_sub(spent);
        if let Some(score) = self.score.get_mut(last as usize) {
            *score = if found { (*score + 2).min(8) } else { (*score - 1).max(0) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looking_again_is_given_up_where_it_does_not_pay_and_taken_up_where_it_does() {
        let mut linger = Linger::default();
        let mut now = Instant::from_secs(1);
        let mut tries = |linger: &mut Linger, found: bool, n: u32| {
            (0..n)
                .filter(|_| {
                    now += Duration::from_millis(10);
                    let tried = linger.pays(Direction::Out, now);
                    if tried {
                        linger.learn(Direction::Out, found, Linger::LONGEST);
                    }
                    tried
                })
                .count()
        };
        assert_eq!(tries(&mut linger, false, 640), 10);
        assert!(tries(&mut linger, true, 640) > 570);
        assert!(tries(&mut linger, false, 640) < 20);
        assert!(!linger.pays(Direction::In, now));
    }

    #[test]
    fn nobody_looks_again_amid_bulk_traffic() {
        let mut linger = Linger { score: [8, 8], ..Linger::default() };
        let mut now = Instant::from_secs(1);
        linger.moved(1500);
        assert!(linger.pays(Direction::Out, now));
        linger.moved(60_000);
        linger.moved(60);
        assert!(!linger.pays(Direction::Out, now));
        now += Duration::from_millis(1);
        assert!(!linger.pays(Direction::In, now));
        now += Duration::from_millis(1);
        assert!(linger.pays(Direction::In, now));
    }

    #[test]
    fn looking_again_costs_its_share_of_the_time_at_most() {
        let mut linger = Linger { score: [8, 8], ..Linger::default() };
        let mut now = Instant::from_secs(1);
        let mut spent = Duration::ZERO;
        for _ in 0..100_000 {
            now += Duration::from_micros(60);
            if linger.pays(Direction::In, now) {
                linger.learn(Direction::In, true, Duration::from_micros(50));
                spent += Duration::from_micros(50);
            }
        }
        assert!(spent <= Duration::from_secs(6) / Linger::SHARE + Linger::MOST, "{spent:?}");
    }
}
