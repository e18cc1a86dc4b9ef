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

    /// Takes one event's credit, if there is as much.
    pub(super) fn allow(&mut self, now: Instant) -> bool {
        let allowed = self.would_allow(now);
        if allowed {
            self.earned = self.after_one(now);
        }
        allowed
    }

    /// Whether there is credit for one event.
    pub(super) fn would_allow(&self, now: Instant) -> bool {
        self.after_one(now).saturating_since(now) <= self.burst
    }

    fn after_one(&self, now: Instant) -> Instant {
        self.earned.max(now) + self.interval
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
