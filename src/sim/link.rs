//! A link: delay, bandwidth, queue, and what it does to packets otherwise.

use std::time::Duration;

use rand::rngs::StdRng;
use smallvec::SmallVec;

use super::random::Share;
use crate::types::Instant;

/// What Ethernet adds to each packet: header and checksum, preamble, gap.
const FRAMING: u64 = 38;

/// What a link is like, the same in both directions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkProfile {
    /// Propagation delay.
    pub delay: Duration,
    /// Bits per second, Ethernet framing included; `None` = serialisation takes no time.
    pub bandwidth: Option<u64>,
    /// Bytes that may wait for serialisation in each direction; what comes on top is dropped.
    pub queue: u64,
    /// How many packets are lost.
    pub loss: Share,
    /// How many arrive twice.
    pub duplicate: Share,
    /// How many are held up, so that later ones overtake them …
    pub reorder: Share,
    /// … for so long.
    pub reorder_delay: Duration,
}

impl Default for LinkProfile {
    fn default() -> Self {
        Self {
            delay: Duration::from_micros(1),
            bandwidth: Some(100_000_000),
            queue: 256 * 1024,
            loss: Share(0),
            duplicate: Share(0),
            reorder: Share(0),
            reorder_delay: Duration::from_millis(10),
        }
    }
}

/// One direction of a link.
#[derive(Debug)]
pub(super) struct Direction {
    /// When everything that was accepted so far has been sent.
    free: Instant,
    rng: StdRng,
}

/// Why a packet does not come to the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// The queue was full.
    Queue,
    /// It was lost on the way.
    Loss,
}

impl Direction {
    pub(super) const fn new(rng: StdRng) -> Self {
        Self { free: Instant::ZERO, rng }
    }

    /// Takes a packet of `len` bytes; when it arrives, and its copies do.
    pub(super) fn offer(
        &mut self,
        profile: &LinkProfile,
        now: Instant,
        len: usize,
    ) -> Result<SmallVec<[Instant; 2]>, Refused> {
        let mut sent = now;
        if let Some(bandwidth) = profile.bandwidth {
            let waiting = bytes_in(self.free.saturating_since(now), bandwidth);
            if waiting > 0 && waiting + len as u64 > profile.queue {
                return Err(Refused::Queue);
            }
            sent = self.free.max(now) + time_of(len as u64 + FRAMING, bandwidth);
            self.free = sent;
        }
        // Lost packets have used the transmitter like others.
        if profile.loss.happens(&mut self.rng) {
            return Err(Refused::Loss);
        }
        let copies = 1 + usize::from(profile.duplicate.happens(&mut self.rng));
        let arrivals = (0..copies).map(|_| {
            let held = profile.reorder.happens(&mut self.rng);
            sent + profile.delay + if held { profile.reorder_delay } else { Duration::ZERO }
        });
        Ok(arrivals.collect())
    }

    /// The link was cut: what waited is gone.
    pub(super) fn reset(&mut self) {
        self.free = Instant::ZERO;
    }
}

fn time_of(bytes: u64, bandwidth: u64) -> Duration {
    Duration::from_nanos((u128::from(bytes) * 8_000_000_000 / u128::from(bandwidth.max(1))) as u64)
}

fn bytes_in(time: Duration, bandwidth: u64) -> u64 {
    (time.as_nanos() * u128::from(bandwidth) / 8_000_000_000) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::random::Seed;

    fn direction() -> Direction {
        Direction::new(Seed(1).rng("test"))
    }

    #[test]
    fn packets_wait_for_each_other_and_for_the_propagation() {
        // 1 Mbit/s: 87 bytes and 38 of framing take 1 ms.
        let profile = LinkProfile {
            delay: Duration::from_millis(5),
            bandwidth: Some(1_000_000),
            queue: 400,
            ..LinkProfile::default()
        };
        let (mut link, now) = (direction(), Instant::from_secs(1));
        let at = |millis| now + Duration::from_millis(millis);
        for arrival in [6, 7, 8] {
            assert_eq!(link.offer(&profile, now, 87).unwrap().as_slice(), [at(arrival)]);
        }
        assert_eq!(
            link.offer(&profile, now, 87),
            Err(Refused::Queue),
            "3 ms wait, that is 375 bytes, and 87 are more than 400"
        );
        assert_eq!(link.offer(&profile, at(2), 87).unwrap().as_slice(), [at(9)]);
        assert_eq!(link.offer(&profile, at(100), 87).unwrap().as_slice(), [at(106)]);
    }

    #[test]
    fn without_a_limit_of_bandwidth_nothing_waits() {
        let profile = LinkProfile { bandwidth: None, queue: 0, ..LinkProfile::default() };
        let (mut link, now) = (direction(), Instant::from_secs(1));
        (0..100).for_each(|_| assert_eq!(link.offer(&profile, now, 1500).unwrap()[0], now + profile.delay));
    }

    #[test]
    fn loss_duplication_and_reordering_happen_as_often_as_said() {
        let quarter = Share(Share::ALL / 4);
        let now = Instant::from_secs(1);
        let base = LinkProfile { bandwidth: None, ..LinkProfile::default() };
        let mut link = direction();
        let lossy = LinkProfile { loss: quarter, ..base.clone() };
        let lost = (0..4000).filter(|_| link.offer(&lossy, now, 100) == Err(Refused::Loss)).count();
        assert!(lost.abs_diff(1000) < 120, "{lost}");
        let copying = LinkProfile { duplicate: quarter, ..base.clone() };
        let twice = (0..4000).filter(|_| link.offer(&copying, now, 100).unwrap().len() == 2).count();
        assert!(twice.abs_diff(1000) < 120, "{twice}");
        let shuffling = LinkProfile { reorder: quarter, ..base };
        let late = now + shuffling.delay + shuffling.reorder_delay;
        let held = (0..4000).filter(|_| link.offer(&shuffling, now, 100).unwrap()[0] == late).count();
        assert!(held.abs_diff(1000) < 120, "{held}");
    }
}
