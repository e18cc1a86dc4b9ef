//! A token bucket.

use std::time::Duration;

use crate::types::Instant;

/// Lets through `rate` events per second on average and as many at once at most.
#[derive(Clone, Debug)]
pub(super) struct Limiter {
    /// Time between two events.
    interval: Duration,
    /// The most credit that is kept: one second's.
    burst: Duration,
    /// When the credit that was used would be all earned back.
    earned: Instant,
}

impl Limiter {
    pub(super) fn new(rate: u32) -> Self {
        let burst = Duration::from_secs(1);
        let interval = burst.checked_div(rate).unwrap_or(Duration::MAX);
        Self { interval, burst, earned: Instant::ZERO }
    }

    pub(super) fn allow(&mut self, now: Instant) -> bool {
        let next = self.earned.max(now) + self.interval;
        let allowed = next.saturating_since(now) <= self.burst;
        if allowed {
            self.earned = next;
        }
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_s_worth_at_once_and_the_rate_after_that() {
        let mut limiter = Limiter::new(100);
        let t = Instant::from_secs(50);
        assert_eq!((0..1000).filter(|_| limiter.allow(t)).count(), 100);
        assert_eq!((0..1000).filter(|_| limiter.allow(t + Duration::from_millis(55))).count(), 5);
        assert_eq!((0..1000).filter(|_| limiter.allow(t + Duration::from_secs(99))).count(), 100);
        assert!(!Limiter::new(0).allow(t));
    }
}
