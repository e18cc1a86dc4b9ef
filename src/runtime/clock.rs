//! The clocks, and the only place that reads them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::io::clock::{boot_id, coarse, since_boot};
use crate::proto::redundancy::snapshot::Moment;
use crate::types::Instant;

/// The monotonic clock of this process. Copies share one epoch, so that control and data threads speak of the
/// same time; that epoch lies so long before the clock was made that the age of whatever another router has
/// learnt doesn't reach back beyond it, and no reading is [`Instant::ZERO`].
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    epoch: std::time::Instant,
    /// What the coarse clock said then.
    coarse_epoch: Duration,
}

impl Clock {
    /// More than the 2^32 milliseconds that an age has room for ([`crate::wire::SyncMapping`]).
    const OFFSET: Duration = Duration::from_secs(60 * 86_400);

    /// Starts the clock.
    #[allow(clippy::new_without_default)]
    #[allow(clippy::disallowed_methods)] // the one place that reads the monotonic clock
    pub fn new() -> Self {
        Self { epoch: std::time::Instant::now(), coarse_epoch: coarse() }
    }

    /// Now.
    #[allow(clippy::disallowed_methods)] // the one place that reads the monotonic clock
    pub fn now(&self) -> Instant {
        Instant::ZERO + Self::OFFSET + std::time::Instant::now().saturating_duration_since(self.epoch)
    }

    /// About now, some milliseconds ago at most, at a fraction of the price of [`now`](Self::now).
    pub fn about_now(&self) -> Instant {
        Instant::ZERO + Self::OFFSET + coarse().saturating_sub(self.coarse_epoch)
    }

    /// When `at` is, in the terms of tokio's timers; times beyond a year from now are a year from now.
    pub fn to_tokio(self, at: Instant) -> tokio::time::Instant {
        const YEAR: Duration = Duration::from_secs(365 * 86_400);
        let since_epoch = at.saturating_since(Instant::ZERO + Self::OFFSET);
        let latest = self.now().saturating_since(Instant::ZERO + Self::OFFSET) + YEAR;
        tokio::time::Instant::from_std(self.epoch + since_epoch.min(latest))
    }
}

/// Wall-clock time since 1970; zero where the clock is set before that.
#[allow(clippy::disallowed_methods)] // the one place that reads the wall clock
pub fn wall_clock() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Now, by the clocks that go on over a restart of this process.
pub(super) fn moment() -> Moment {
    Moment { wall: wall_clock(), boot: boot_id().unwrap_or_default(), since_boot: since_boot() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readings_are_after_zero_never_go_back_and_convert() {
        let clock = Clock::new();
        let (a, b) = (clock.now(), clock.now());
        assert!(Instant::ZERO < a && a <= b);
        assert!(a - Duration::from_millis(u32::MAX.into()) > Instant::ZERO, "no age is cut short");
        let about = clock.about_now();
        assert!(Instant::ZERO < about && about <= clock.now() + Duration::from_millis(20), "{about:?}");
        assert!(clock.to_tokio(a) <= clock.to_tokio(b));
        assert!(clock.to_tokio(Instant::FAR_FUTURE) > clock.to_tokio(b));
    }
}
