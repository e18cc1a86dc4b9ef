//! Token buckets: one, and one per RLOC in a bounded table.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use crate::types::Instant;

use super::stats::DropReason;

/// One token, in the unit in which buckets count: a token grows within a second at a rate of one per second.
const TOKEN: u64 = 1_000_000_000;

/// A bucket of twice as many tokens as `rate` gives in a second, full at start.
#[derive(Clone, Debug)]
pub(crate) struct TokenBucket {
    level: u64,
    updated: Instant,
}

impl TokenBucket {
    pub(crate) fn new(rate: u32, now: Instant) -> Self {
        Self { level: capacity(rate), updated: now }
    }

    /// Takes a token, if there is one.
    pub(crate) fn take(&mut self, rate: u32, now: Instant) -> bool {
        self.refill(rate, now);
        match self.level.checked_sub(TOKEN) {
            Some(rest) => {
                self.level = rest;
                true
            }
            None => false,
        }
    }

    fn refill(&mut self, rate: u32, now: Instant) {
        // Two seconds fill any bucket, and keep the product within 64 bits.
        let elapsed = now.saturating_since(self.updated).min(Duration::from_secs(2));
        let grown = u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX).saturating_mul(u64::from(rate));
        self.level = self.level.saturating_add(grown).min(capacity(rate));
        self.updated = now;
    }

    fn is_full(&mut self, rate: u32, now: Instant) -> bool {
        self.refill(rate, now);
        self.level == capacity(rate)
    }
}

fn capacity(rate: u32) -> u64 {
    u64::from(rate).saturating_mul(2 * TOKEN)
}

/// Limits what requesters can make this router send: in all, and per RLOC (RFC 9301 §5.4, §9).
#[derive(Clone, Debug)]
pub(crate) struct ReplyLimiter {
    total: TokenBucket,
    per_rloc: BTreeMap<IpAddr, TokenBucket>,
    /// For RLOCs that found the table full.
    overflow: TokenBucket,
    swept: Instant,
}

impl ReplyLimiter {
    /// RLOCs that have a bucket of their own.
    pub(crate) const MAX_RLOCS: usize = 4096;

    pub(crate) fn new(per_rloc: u32, total: u32, now: Instant) -> Self {
        Self {
            total: TokenBucket::new(total, now),
            per_rloc: BTreeMap::new(),
            overflow: TokenBucket::new(per_rloc, now),
            swept: now,
        }
    }

    /// Whether something may be sent on behalf of `rloc` now; if not, why.
    pub(crate) fn admit(
        &mut self,
        rloc: IpAddr,
        per_rloc: u32,
        total: u32,
        now: Instant,
    ) -> Result<(), DropReason> {
        if self.per_rloc.len() >= Self::MAX_RLOCS
            && !self.per_rloc.contains_key(&rloc)
            && now.saturating_since(self.swept) >= Duration::from_secs(1)
        {
            // A full bucket says no more than none at all.
            self.swept = now;
            self.per_rloc.retain(|_, bucket| !bucket.is_full(per_rloc, now));
        }
        let room = self.per_rloc.len() < Self::MAX_RLOCS;
        let bucket = match self.per_rloc.get_mut(&rloc) {
            Some(bucket) => bucket,
            None if room => self.per_rloc.entry(rloc).or_insert_with(|| TokenBucket::new(per_rloc, now)),
            None => &mut self.overflow,
        };
        if !bucket.take(per_rloc, now) {
            return Err(DropReason::RateRloc);
        }
        if !self.total.take(total, now) {
            return Err(DropReason::RateTotal);
        }
        Ok(())
    }

    #[cfg(test)]
    pub(crate) fn tracked(&self) -> usize {
        self.per_rloc.len()
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn a_bucket_holds_two_seconds_worth_and_refills_at_its_rate() {
        let mut bucket = TokenBucket::new(10, Instant::ZERO);
        let burst = (0..100).filter(|_| bucket.take(10, Instant::ZERO)).count();
        assert_eq!(burst, 20);
        let later = Instant::from_secs(1);
        assert_eq!((0..100).filter(|_| bucket.take(10, later)).count(), 10);
        // After a long time it holds no more than at start.
        let much_later = Instant::from_secs(1_000_000);
        assert_eq!((0..100).filter(|_| bucket.take(10, much_later)).count(), 20);
    }

    #[test]
    fn one_loud_rloc_leaves_the_others_their_share_and_the_table_stays_bounded() {
        let mut limiter = ReplyLimiter::new(2, 1_000_000, Instant::ZERO);
        let rloc = |n: u32| IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + n));
        let loud = (0..100).filter(|_| limiter.admit(rloc(0), 2, 1_000_000, Instant::ZERO).is_ok()).count();
        assert_eq!(loud, 4);
        assert_eq!(limiter.admit(rloc(1), 2, 1_000_000, Instant::ZERO), Ok(()));
        for n in 0..20_000 {
            let _ = limiter.admit(rloc(n), 2, 1_000_000, Instant::ZERO);
        }
        assert_eq!(limiter.tracked(), ReplyLimiter::MAX_RLOCS);
        // Once they have been quiet for a while, their places are free again.
        let later = Instant::from_secs(10);
        assert_eq!(limiter.admit(rloc(99_999), 2, 1_000_000, later), Ok(()));
        assert_eq!(limiter.tracked(), 1);
    }

    #[test]
    fn the_total_is_limited_whoever_asks() {
        let mut limiter = ReplyLimiter::new(100, 5, Instant::ZERO);
        let outcomes: Vec<_> =
            (0..20u32).map(|n| limiter.admit(IpAddr::V4(Ipv4Addr::from(n)), 100, 5, Instant::ZERO)).collect();
        assert_eq!(outcomes.iter().filter(|o| o.is_ok()).count(), 10);
        assert_eq!(outcomes.last(), Some(&Err(DropReason::RateTotal)));
    }
}
