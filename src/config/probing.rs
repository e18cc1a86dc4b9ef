//! `[probing]`: RLOC-probing.

use std::time::Duration;

use super::problem::{At, Place, Problems};
use super::tree::Section;
use crate::proto::config::ProbingConfig;

/// The shortest interval: more often, probes of a busy site would be a burden to those who answer.
const SHORTEST: Duration = Duration::from_millis(100);

/// `[probing]`
#[derive(Clone, Debug, Default)]
pub struct RawProbing {
    /// The section, if the file has it.
    pub place: Option<Place>,
    /// `enabled`. Default true.
    pub enabled: Option<At<bool>>,
    /// `interval`: from one answered probe of a locator to the next, at least 100 ms. Default 10 s.
    pub interval: Option<At<Duration>>,
    /// `jitter`: by how many percent the interval is shortened at most, at random, 0 to 50. Default 10.
    pub jitter: Option<At<u64>>,
    /// `timeout`: after this time a probe is repeated. Default half the interval, at most 1 s.
    pub timeout: Option<At<Duration>>,
    /// `retries`: repetitions before the locator counts as down, 0 to 10. Default 2.
    pub retries: Option<At<u64>>,
    /// `back-off`: longest interval at which a dead locator is probed. Default 60 s, or the interval if that
    /// is longer.
    pub back_off: Option<At<Duration>>,
    /// `rate`: probes per second in all, 1 to 10000. Default 200.
    pub rate: Option<At<u64>>,
    /// `site`: whether the site's other xTRs are probed too. Default true.
    pub site: Option<At<bool>>,
}

impl RawProbing {
    pub(super) fn read(parent: &Section<'_>) -> Self {
        let s = parent.section("probing");
        let raw = Self {
            place: parent.has("probing").then(|| s.place().clone()),
            enabled: s.bool("enabled"),
            interval: s.text("interval"),
            jitter: s.integer("jitter", 0..=50),
            timeout: s.text("timeout"),
            retries: s.integer("retries", 0..=10),
            back_off: s.text("back-off"),
            rate: s.integer("rate", 1..=10_000),
            site: s.bool("site"),
        };
        s.finish();
        raw
    }

    /// What the values mean together; `None` where probing is off. Notes contradictions.
    pub(super) fn checked(&self, problems: &Problems<'_>) -> Option<ProbingConfig> {
        let default = ProbingConfig::default();
        let small = |n: &Option<At<u64>>| n.as_ref().and_then(|n| u32::try_from(n.value).ok());
        let interval = self.interval.as_ref().map_or(default.interval, |i| i.value);
        if let Some(given) = &self.interval
            && interval < SHORTEST
        {
            let message = format!("{interval:?} is too short");
            problems.error(&given.place, message, format!("give at least {SHORTEST:?}"));
        }
        if let Some(given) = &self.timeout
            && given.value > interval
        {
            let message = format!("{:?} is longer than interval, {interval:?}", given.value);
            problems.error(&given.place, message, "make it shorter, half the interval or less");
        }
        if let Some(given) = &self.back_off
            && given.value < interval
        {
            let message = format!("{:?} is shorter than interval, {interval:?}", given.value);
            problems.error(&given.place, message, "make it longer, or the interval shorter");
        }
        self.enabled.as_ref().is_none_or(|e| e.value).then(|| ProbingConfig {
            interval,
            jitter: small(&self.jitter).and_then(|j| u8::try_from(j).ok()).unwrap_or(default.jitter),
            timeout: self.timeout.as_ref().map_or(default.timeout.min(interval / 2), |t| t.value),
            retries: small(&self.retries).unwrap_or(default.retries),
            back_off: self.back_off.as_ref().map_or(default.back_off.max(interval), |b| b.value),
            rate: small(&self.rate).unwrap_or(default.rate),
            site: self.site.as_ref().map_or(default.site, |s| s.value),
        })
    }
}
