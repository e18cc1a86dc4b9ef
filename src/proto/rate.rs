//! Token buckets: one for all, and one each for RLOCs and records in bounded tables.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use crate::types::{EidPrefix, Instant};

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
        self.take_many(1, rate, now)
    }

    /// Takes so many tokens, or none if there are not as many.
    pub(crate) fn take_many(&mut self, count: u32, rate: u32, now: Instant) -> bool {
        self.refill(rate, now);
        match self.level.checked_sub(u64::from(count).saturating_mul(TOKEN)) {
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

/// A bucket per key, for a bounded number of keys. Those that find the table full share one.
#[derive(Clone, Debug)]
struct Buckets<K> {
    table: BTreeMap<K, TokenBucket>,
    overflow: TokenBucket,
    swept: Instant,
}

impl<K: Ord> Buckets<K> {
    /// Keys that have a bucket of their own.
    const MAX: usize = 4096;

    fn new(rate: u32, now: Instant) -> Self {
        Self { table: BTreeMap::new(), overflow: TokenBucket::new(rate, now), swept: now }
    }

    fn take(&mut self, key: K, rate: u32, now: Instant) -> bool {
        self.take_many(key, 1, rate, now)
    }

    fn take_many(&mut self, key: K, count: u32, rate: u32, now: Instant) -> bool {
        if let Some(bucket) = self.table.get_mut(&key) {
            return bucket.take_many(count, rate, now);
        }
        if self.table.len() >= Self::MAX && now.saturating_since(self.swept) >= Duration::from_secs(1) {
            // A full bucket says no more than none at all.
            self.swept = now;
            self.table.retain(|_, bucket| !bucket.is_full(rate, now));
        }
        if self.table.len() >= Self::MAX {
            return self.overflow.take_many(count, rate, now);
        }
        self.table.entry(key).or_insert_with(|| TokenBucket::new(rate, now)).take_many(count, rate, now)
    }
}

/// Limits what requesters can make this router send: in all, per RLOC, and the same record to the same RLOC
/// (RFC 9301 §5.4, §9).
#[derive(Clone, Debug)]
pub(crate) struct ReplyLimiter {
    rates: Rates,
    total: TokenBucket,
    per_rloc: Buckets<IpAddr>,
    per_record: Buckets<(IpAddr, EidPrefix)>,
    per_source: Buckets<IpAddr>,
    bytes: Buckets<IpAddr>,
}

/// Tokens per second.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rates {
    pub(crate) total: u32,
    pub(crate) per_rloc: u32,
    pub(crate) per_record: u32,
    /// Map-Requests of one sender.
    pub(crate) per_source: u32,
    /// Bytes to an RLOC that only a Map-Request says is the requester's.
    pub(crate) bytes_unverified: u32,
}

impl ReplyLimiter {
    pub(crate) fn new(rates: Rates, now: Instant) -> Self {
        Self {
            rates,
            total: TokenBucket::new(rates.total, now),
            per_rloc: Buckets::new(rates.per_rloc, now),
            per_record: Buckets::new(rates.per_record, now),
            per_source: Buckets::new(rates.per_source, now),
            bytes: Buckets::new(rates.bytes_unverified, now),
        }
    }

    /// Whether a Map-Request of `source` is to be worked on.
    pub(crate) fn admit_request(&mut self, source: IpAddr, now: Instant) -> bool {
        self.per_source.take(source, self.rates.per_source, now)
    }

    /// Whether so many bytes may be sent to `rloc`, of which nothing shows that it asked for them: a
    /// Map-Request with a third party's address in it must not draw many bytes for few (RFC 9301 §9).
    pub(crate) fn admit_unverified(&mut self, rloc: IpAddr, bytes: usize, now: Instant) -> bool {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.bytes.take_many(rloc, bytes, self.rates.bytes_unverified, now)
    }

    /// Whether something may be sent on behalf of `rloc` now, a reply with `record` if there is one; if not,
    /// why.
    pub(crate) fn admit(
        &mut self,
        rloc: IpAddr,
        record: Option<EidPrefix>,
        now: Instant,
    ) -> Result<(), DropReason> {
        if record.is_some_and(|record| !self.per_record.take((rloc, record), self.rates.per_record, now)) {
            return Err(DropReason::RateRecord);
        }
        if !self.per_rloc.take(rloc, self.rates.per_rloc, now) {
            return Err(DropReason::RateRloc);
        }
        if !self.total.take(self.rates.total, now) {
            return Err(DropReason::RateTotal);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn rloc(n: u32) -> IpAddr {
        IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + n))
    }

    fn limiter(total: u32, per_rloc: u32, per_record: u32) -> ReplyLimiter {
        let rates = Rates { total, per_rloc, per_record, per_source: 10, bytes_unverified: 1000 };
        ReplyLimiter::new(rates, Instant::ZERO)
    }

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
        let mut limiter = limiter(1_000_000, 2, 2);
        let loud = (0..100).filter(|_| limiter.admit(rloc(0), None, Instant::ZERO).is_ok()).count();
        assert_eq!(loud, 4);
        assert_eq!(limiter.admit(rloc(1), None, Instant::ZERO), Ok(()));
        for n in 0..20_000 {
            let _ = limiter.admit(rloc(n), None, Instant::ZERO);
        }
        assert_eq!(limiter.per_rloc.table.len(), Buckets::<IpAddr>::MAX);
        // Once they have been quiet for a while, their places are free again.
        assert_eq!(limiter.admit(rloc(99_999), None, Instant::from_secs(10)), Ok(()));
        assert_eq!(limiter.per_rloc.table.len(), 1);
    }

    #[test]
    fn senders_and_unverified_receivers_have_limits_of_their_own() {
        let mut limiter = limiter(1000, 100, 100);
        assert_eq!((0..100).filter(|_| limiter.admit_request(rloc(1), Instant::ZERO)).count(), 20);
        assert!(limiter.admit_request(rloc(2), Instant::ZERO));
        assert_eq!((0..100).filter(|_| limiter.admit_unverified(rloc(1), 150, Instant::ZERO)).count(), 13);
        assert!(limiter.admit_unverified(rloc(1), 50, Instant::ZERO), "a smaller one still fits");
        assert!(limiter.admit_unverified(rloc(1), 1000, Instant::from_secs(1)));
        assert!(!limiter.admit_unverified(rloc(1), usize::MAX, Instant::from_secs(9)));
    }

    #[test]
    fn the_total_is_limited_whoever_asks() {
        let mut limiter = limiter(5, 100, 100);
        let outcomes: Vec<_> = (0..20).map(|n| limiter.admit(rloc(n), None, Instant::ZERO)).collect();
        assert_eq!(outcomes.iter().filter(|o| o.is_ok()).count(), 10);
        assert_eq!(outcomes.last(), Some(&Err(DropReason::RateTotal)));
    }

    #[test]
    fn repeating_a_record_does_not_use_up_what_others_may_have() {
        let mut limiter = limiter(1000, 20, 1);
        let record = |n: u8| Some(EidPrefix::from(ipnet::Ipv4Net::new_assert([10, n, 0, 0].into(), 16)));
        let same: Vec<_> = (0..100).map(|_| limiter.admit(rloc(0), record(0), Instant::ZERO)).collect();
        assert_eq!(same.iter().filter(|o| o.is_ok()).count(), 2);
        assert_eq!(same.last(), Some(&Err(DropReason::RateRecord)));
        assert_eq!(limiter.admit(rloc(0), record(1), Instant::ZERO), Ok(()));
        assert_eq!(limiter.admit(rloc(1), record(0), Instant::ZERO), Ok(()));
    }
}
