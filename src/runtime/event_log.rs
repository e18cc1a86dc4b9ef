//! Writes what the machines report to the log, at a bounded rate per kind.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::proto::event::{Event, Severity, Subsystem};
use crate::proto::stats::DropReason;
use crate::types::Instant;

/// Lines of one kind that may come at once.
const BURST: u32 = 10;
/// One more line of that kind is allowed after this long.
const REFILL: Duration = Duration::from_secs(1);

/// The log of the control plane.
#[derive(Debug, Default)]
pub(super) struct EventLog {
    buckets: BTreeMap<Kind, Bucket>,
}

/// What is limited together: dropped messages by reason, and within everything else by severity and
/// subsystem, so that a flood of one kind hides none of the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Dropped(DropReason),
    Other(Severity, Subsystem),
}

#[derive(Debug)]
struct Bucket {
    tokens: u32,
    refilled: Instant,
    suppressed: u64,
}

impl EventLog {
    /// Writes `event`, unless too many like it were written just now.
    pub(super) fn write(&mut self, event: &Event, now: Instant) {
        let Some(suppressed) = self.admit(event, now) else { return };
        let more = match suppressed {
            0 => String::new(),
            n => format!(" ({n} more like it were not logged)"),
        };
        macro_rules! line {
            ($target:literal) => {
                match event.severity() {
                    Severity::Debug => tracing::debug!(target: $target, "{event}{more}"),
                    Severity::Info => tracing::info!(target: $target, "{event}{more}"),
                    Severity::Warning => tracing::warn!(target: $target, "{event}{more}"),
                }
            };
        }
        match event.subsystem() {
            Subsystem::Control => line!("eidolon::proto::control"),
            Subsystem::Itr => line!("eidolon::proto::xtr::itr"),
            Subsystem::Etr => line!("eidolon::proto::xtr::etr"),
            Subsystem::MapServer => line!("eidolon::proto::mapping_system::map_server"),
            Subsystem::MapResolver => line!("eidolon::proto::mapping_system::map_resolver"),
        }
    }

    /// How many like it were suppressed before; `None` if this one is to be as well.
    fn admit(&mut self, event: &Event, now: Instant) -> Option<u64> {
        let kind = match event {
            Event::Dropped { reason, .. } => Kind::Dropped(*reason),
            other => Kind::Other(other.severity(), other.subsystem()),
        };
        let bucket =
            self.buckets.entry(kind).or_insert(Bucket { tokens: BURST, refilled: now, suppressed: 0 });
        let earned = now.saturating_since(bucket.refilled).as_nanos() / REFILL.as_nanos();
        if earned > 0 {
            bucket.tokens = u32::try_from(earned).unwrap_or(BURST).saturating_add(bucket.tokens).min(BURST);
            bucket.refilled = now;
        }
        if bucket.tokens == 0 {
            bucket.suppressed += 1;
            return None;
        }
        bucket.tokens -= 1;
        Some(std::mem::take(&mut bucket.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_one_kind_is_bounded_and_hides_no_other() {
        let mut log = EventLog::default();
        let dropped = |reason| Event::Dropped { reason, peer: None, detail: None };
        let now = Instant::from_secs(1);
        let written = (0..1000).filter(|_| log.admit(&dropped(DropReason::Truncated), now).is_some()).count();
        assert_eq!(written, 10);
        assert_eq!(log.admit(&dropped(DropReason::UnknownType), now), Some(0));
        assert_eq!(log.admit(&dropped(DropReason::Truncated), now + REFILL), Some(990), "the rest is told");
        assert_eq!(log.admit(&dropped(DropReason::Truncated), now + REFILL), None);
    }
}
