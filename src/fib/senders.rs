//! Who sent data packets to this site lately.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

use crate::types::{Eid, InstanceId, Instant, Rloc};

/// One who sent data packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sender {
    /// Their outer source address.
    pub rloc: Rloc,
    /// An EID here that one of the last of them was for: one entry per instance and family of it.
    pub destination: Eid,
    /// When the last of them came.
    pub last: Instant,
}

/// The senders that one data thread has seen, each of which it notes at least once in every tick of the
/// coarse clock in which it sends, and which the control plane reads when a mapping changes.
///
/// A table of fixed size, without locks: noting a sender again is a comparison and two stores in a cache line
/// that no other thread writes. With too many senders, those that were silent longest are forgotten. What
/// only this thread writes needs no locked instructions; a reader sees by the slot's version whether it read
/// while another sender took the slot.
#[derive(Debug)]
pub struct Senders {
    slots: Box<[Slot]>,
}

impl Senders {
    /// Bytes of memory that one takes.
    pub const BYTES: usize = SLOTS * size_of::<Slot>();
}

/// Slots that a sender may be in.
const WAYS: usize = 4;
/// Slots in all; a power of two.
const SLOTS: usize = 4096;

#[derive(Debug, Default)]
#[repr(align(64))]
struct Slot {
    /// Odd while the slot is being given to another sender.
    version: AtomicU32,
    /// The instance ID, and in the bits above whether RLOC and EID are IPv6.
    space: AtomicU32,
    rloc: [AtomicU64; 2],
    eid: [AtomicU64; 2],
    /// 0 = empty.
    last: AtomicU64,
}

const RLOC_IPV6: u32 = 1 << 24;
const EID_IPV6: u32 = 1 << 25;

impl Default for Senders {
    fn default() -> Self {
        Self { slots: (0..SLOTS).map(|_| Slot::default()).collect() }
    }
}

impl Senders {
    /// Notes that `rloc` sent something for `destination`. To be called by one thread only.
    #[inline]
    pub fn note(&self, rloc: Rloc, destination: Eid, now: Instant) {
        let (rloc_words, eid_words) = (words(&rloc), words(&destination.addr));
        let families = if rloc.is_ipv6() { RLOC_IPV6 } else { 0 }
            | if destination.addr.is_ipv6() { EID_IPV6 } else { 0 };
        let space = destination.iid.get() | families;
        let set = self.set(rloc_words, space);
        let known = |slot: &&Slot| {
            slot.space.load(Ordering::Relaxed) == space
                && load(&slot.rloc) == rloc_words
                && slot.last.load(Ordering::Relaxed) != 0
        };
        if let Some(slot) = set.iter().find(known) {
            store(&slot.eid, eid_words);
            slot.last.store(now.as_nanos(), Ordering::Relaxed);
            return;
        }
        let Some(slot) = set.iter().min_by_key(|slot| slot.last.load(Ordering::Relaxed)) else { return };
        let version = slot.version.load(Ordering::Relaxed);
        slot.version.store(version.wrapping_add(1), Ordering::Relaxed);
        fence(Ordering::Release);
        slot.space.store(space, Ordering::Relaxed);
        store(&slot.rloc, rloc_words);
        store(&slot.eid, eid_words);
        slot.last.store(now.as_nanos(), Ordering::Relaxed);
        slot.version.store(version.wrapping_add(2), Ordering::Release);
    }

    /// Those that sent something since `since`, in no particular order.
    pub fn since(&self, since: Instant) -> impl Iterator<Item = Sender> {
        self.slots.iter().filter_map(Slot::read).filter(move |sender| sender.last >= since)
    }

    fn set(&self, rloc: [u64; 2], space: u32) -> &[Slot] {
        let mixed =
            (rloc[0] ^ rloc[1].rotate_left(32) ^ u64::from(space)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let first = (mixed >> 32) as usize % (SLOTS / WAYS) * WAYS;
        self.slots.get(first..first + WAYS).unwrap_or_default()
    }
}

impl Slot {
    fn read(&self) -> Option<Sender> {
        let version = self.version.load(Ordering::Acquire);
        let space = self.space.load(Ordering::Relaxed);
        let (rloc, eid) = (load(&self.rloc), load(&self.eid));
        let last = self.last.load(Ordering::Relaxed);
        fence(Ordering::Acquire);
        // Whoever takes the slot over right now will be seen the next time; the one before was silent for
        // long.
        if version & 1 == 1 || self.version.load(Ordering::Relaxed) != version || last == 0 {
            return None;
        }
        Some(Sender {
            rloc: address(rloc, space & RLOC_IPV6 != 0),
            destination: Eid::new(
                InstanceId::new(space & InstanceId::MAX)?,
                address(eid, space & EID_IPV6 != 0),
            ),
            last: Instant::from_nanos(last),
        })
    }
}

fn words(addr: &IpAddr) -> [u64; 2] {
    match addr {
        IpAddr::V4(v4) => [0, u64::from(v4.to_bits())],
        IpAddr::V6(v6) => [(v6.to_bits() >> 64) as u64, v6.to_bits() as u64],
    }
}

fn address(words: [u64; 2], is_v6: bool) -> IpAddr {
    if is_v6 {
        Ipv6Addr::from_bits(u128::from(words[0]) << 64 | u128::from(words[1])).into()
    } else {
        Ipv4Addr::from_bits(words[1] as u32).into()
    }
}

#[inline]
fn load(words: &[AtomicU64; 2]) -> [u64; 2] {
    [words[0].load(Ordering::Relaxed), words[1].load(Ordering::Relaxed)]
}

#[inline]
fn store(words: &[AtomicU64; 2], values: [u64; 2]) {
    words[0].store(values[0], Ordering::Relaxed);
    words[1].store(values[1], Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn eid(iid: u32, s: &str) -> Eid {
        Eid::new(InstanceId::new(iid).unwrap(), s.parse().unwrap())
    }

    #[test]
    fn senders_are_told_apart_by_address_instance_and_family() {
        let senders = Senders::default();
        let rlocs: [Rloc; 2] = ["203.0.113.1".parse().unwrap(), "2001:db8:ffff::1".parse().unwrap()];
        let at = Instant::from_secs;
        for rloc in rlocs {
            senders.note(rloc, eid(0, "10.1.0.1"), at(5));
            senders.note(rloc, eid(7, "10.1.0.1"), at(6));
            senders.note(rloc, eid(0, "2001:db8:1::1"), at(7));
            senders.note(rloc, eid(0, "10.1.0.2"), at(9));
        }
        let mut seen: Vec<_> = senders.since(at(0)).map(|s| (s.rloc, s.destination, s.last)).collect();
        seen.sort();
        let mut expected: Vec<_> = rlocs
            .into_iter()
            .flat_map(|rloc| {
                [
                    (rloc, eid(0, "10.1.0.2"), at(9)),
                    (rloc, eid(7, "10.1.0.1"), at(6)),
                    (rloc, eid(0, "2001:db8:1::1"), at(7)),
                ]
            })
            .collect();
        expected.sort();
        assert_eq!(seen, expected);
        assert_eq!(senders.since(at(8)).count(), 2);
    }

    #[test]
    fn a_flood_of_senders_forgets_those_that_were_silent_longest() {
        let senders = Senders::default();
        let steady: Rloc = "203.0.113.1".parse().unwrap();
        for n in 0..100_000u32 {
            let now = Instant::from_nanos(u64::from(n) + 1);
            senders.note(Ipv4Addr::from_bits(0x0a00_0000 + n).into(), eid(0, "10.1.0.1"), now);
            if n % 100 == 0 {
                senders.note(steady, eid(0, "10.1.0.1"), now);
            }
        }
        let seen: Vec<_> = senders.since(Instant::ZERO).collect();
        assert_eq!(seen.len(), SLOTS);
        assert!(seen.iter().any(|s| s.rloc == steady));
    }

    #[test]
    fn what_is_read_while_it_is_written_was_never_mixed() {
        // Sender n always sends for the EID with the same last bits.
        let senders = Senders::default();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for n in 0..400_000u32 {
                    let n = n.wrapping_mul(2_654_435_761) >> 8;
                    let rloc = Ipv4Addr::from_bits(0x0a00_0000 | n).into();
                    let destination =
                        Eid::new(InstanceId::DEFAULT, Ipv4Addr::from_bits(0x0b00_0000 | n).into());
                    senders.note(rloc, destination, Instant::from_secs(1));
                }
            });
            for _ in 0..200 {
                for sender in senders.since(Instant::ZERO) {
                    let (IpAddr::V4(rloc), IpAddr::V4(destination)) = (sender.rloc, sender.destination.addr)
                    else {
                        panic!("{sender:?}")
                    };
                    assert_eq!(rloc.to_bits() & 0xff_ffff, destination.to_bits() & 0xff_ffff);
                }
            }
        });
    }
}
