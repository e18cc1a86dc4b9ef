//! What the LISP headers of data packets say of sites, and what those of received ones are checked against.
//!
//! Apart from the entries that say where packets go, since nothing of it is needed unless an option is on
//! ([`HeaderOptions`]): then the tables hold a [`Site`] beside each entry, and the data plane looks it up
//! too.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use crate::types::{Instant, MapVersion, Rloc};

/// Which fields of the LISP header are used beyond the instance ID, and which checks received packets have to
/// pass. All are off by default: none of them is safe where strangers can forge outer headers (RFC 9300
/// §16), but for the source check, which needs the mapping of everybody who sends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeaderOptions {
    /// Whether the outer source of received packets is checked.
    pub source_check: SourceCheck,
    /// Locator-status-bits (RFC 9300 §10) are sent, and believed.
    pub locator_status: bool,
    /// Map-versions (RFC 9302) are sent, and checked.
    pub map_version: bool,
    /// Who was told often enough that it sends after an old version of ours has those packets dropped (RFC
    /// 9302 §7.1).
    pub drop_stale: bool,
    /// Nonces are echoed, and echoes asked for (RFC 9300 §10.1): once in this time of each locator that
    /// carries traffic of both directions.
    pub echo_nonce: Option<Duration>,
    /// The control plane wants to hear of sources that no entry covers (RFC 9300 §9).
    pub glean: bool,
}

impl HeaderOptions {
    /// Whether anything is on, so that tables have to hold a [`Site`] for every entry.
    #[inline]
    pub const fn any(&self) -> bool {
        self.sends() || self.glean || !matches!(self.source_check, SourceCheck::Off)
    }

    /// Whether packets are sent with more than an instance ID in their header.
    #[inline]
    pub const fn sends(&self) -> bool {
        self.locator_status || self.map_version || self.echo_nonce.is_some()
    }
}

/// What the outer source of a decapsulated packet has to be (RFC 9300 §16: the LISP-specific reverse path
/// check).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SourceCheck {
    /// Anything.
    #[default]
    Off,
    /// A locator of the inner source's mapping, if that is known and has any.
    Known,
    /// The same, and a packet whose inner source has no known mapping is dropped until it has.
    Strict,
}

/// What is known of the site that an EID-prefix belongs to.
#[derive(Clone, Debug, Default)]
pub struct Site {
    /// One of our own sites.
    pub local: bool,
    /// Remote: every locator of the mapping, in its order, whether packets are sent there or not. None: a
    /// negative mapping.
    pub rlocs: Box<[Rloc]>,
    /// Local: locators of the site that the prefix came here from, which sends on packets of any source to it
    /// for a while.
    pub former: Box<[Rloc]>,
    /// Version of the mapping.
    pub version: MapVersion,
    /// Local: the locator-status-bits to send, the first locator in the least significant one; `None` = none.
    pub status: Option<u32>,
    /// Remote: it echoes nonces.
    pub echoes: bool,
    /// What packets said of it: the same over all updates of one prefix.
    pub state: Arc<SiteState>,
}

impl Site {
    /// Whether `rloc` is a locator of it.
    #[inline]
    pub fn lists(&self, rloc: &Rloc) -> bool {
        self.rlocs.contains(rloc)
    }
}

/// What received packets said of a remote site, and what the control plane was told of that. Written by all
/// data threads: each field stands for itself, and a lost race costs one more punt.
#[derive(Debug, Default)]
pub struct SiteState {
    /// When the last packet came, in nanoseconds.
    heard: AtomicU64,
    /// A nonce to send back in the low 24 bits, above it milliseconds: when it came. 0: none.
    echo: AtomicU64,
    /// How many more packets are to carry it.
    echoes_left: AtomicU32,
    /// When the first packet asked for the echo that is waited for, in nanoseconds; 0: none has yet.
    asked: AtomicU64,
    /// The last locator-status-bits that the control plane was told of, plus 2^32; 0 before the first.
    status: AtomicU64,
    /// When it was told of a change of those, of a newer version, and of a stale one: nanoseconds.
    told: [AtomicU64; Notice::COUNT],
    /// The RLOC, as a hash of 56 bits, that was found to send after an old version of ours, and below that
    /// how often the control plane was told in a row; 0: none.
    stale: AtomicU64,
}

/// What is in the nonce field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderNonce {
    /// A nonce that the site asked to be sent back.
    Echo(u32),
    /// One that it is to send back.
    Ask(u32),
}

/// What the control plane is told of a site at most once in a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// Other locator-status-bits.
    Status,
    /// Its mapping has a newer version.
    Newer,
    /// It has an old version of ours.
    Stale,
}

impl Notice {
    const COUNT: usize = 3;
}

/// What follows from a packet that was sent after an old version of one of our mappings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stale {
    /// The control plane is to be told. It then counts as told.
    pub tell: bool,
    /// That was done often enough, and the sender has not sent after the current version since.
    pub hopeless: bool,
}

/// Who sends after an old version is told of it at such intervals (RFC 9301 §6.1), so often, and then more
/// rarely (RFC 9302 §7.1: every 30 seconds after 10 retries).
const STALE_INTERVAL: Duration = Duration::from_secs(3);
const STALE_RETRIES: u64 = 10;
const STALE_REST: Duration = Duration::from_secs(30);
/// Of several who do that, one is watched: another one when nothing was to be said of it for so long.
const STALE_MEMORY: Duration = Duration::from_secs(60);

/// The control plane is told the same locator-status-bits again after so long: it may not have heard them, or
/// may have forgotten them, or not have been able to make use of them.
const RETELL: Duration = Duration::from_secs(10);

/// How long a received nonce is sent back, and in how many packets: each may be the one that is lost.
const ECHO_TIME: Duration = Duration::from_secs(1);
const ECHO_PACKETS: u32 = 8;

impl SiteState {
    /// A packet came from the site.
    #[inline]
    pub fn hear(&self, now: Instant) {
        self.heard.store(now.as_nanos(), Ordering::Relaxed);
    }

    /// When the last packet came, if any did.
    pub fn heard(&self) -> Option<Instant> {
        Some(self.heard.load(Ordering::Relaxed)).filter(|&n| n != 0).map(Instant::from_nanos)
    }

    /// The site wants `nonce` (24 bits) back.
    #[inline]
    pub fn owe(&self, nonce: u32, now: Instant) {
        self.echo.store(millis(now) << 24 | u64::from(nonce & 0xff_ffff), Ordering::Relaxed);
        self.echoes_left.store(ECHO_PACKETS, Ordering::Relaxed);
    }

    /// What the nonce field of a packet to the site is for: a nonce that the site asked for lately, or `ask`,
    /// a nonce of our own. Where there are both, packets take turns: two sites that ask at the same time
    /// would otherwise wait for each other where one direction is dark.
    #[inline]
    pub fn nonce(&self, ask: Option<u32>, now: Instant) -> Option<HeaderNonce> {
        let echo = self.echo.load(Ordering::Relaxed);
        let left = self.echoes_left.load(Ordering::Relaxed);
        let fresh = millis(now).saturating_sub(echo >> 24) <= ECHO_TIME.as_millis() as u64;
        if left != 0 && fresh {
            self.echoes_left.store(left - 1, Ordering::Relaxed);
            if ask.is_none() || left.is_multiple_of(2) {
                return Some(HeaderNonce::Echo((echo & 0xff_ffff) as u32));
            }
        }
        let nonce = ask?;
        if self.asked.load(Ordering::Relaxed) == 0 {
            self.asked.store(now.as_nanos().max(1), Ordering::Relaxed);
        }
        Some(HeaderNonce::Ask(nonce))
    }

    /// A locator of the site is about to be asked for an echo.
    pub fn ask_anew(&self) {
        self.asked.store(0, Ordering::Relaxed);
    }

    /// When the first packet since then asked.
    pub fn asked(&self) -> Option<Instant> {
        Some(self.asked.load(Ordering::Relaxed)).filter(|&n| n != 0).map(Instant::from_nanos)
    }

    /// Whether the control plane is to be told of these locator-status-bits: they are others than those that
    /// it was told of, `usual` at first, and it was not told of any for `interval`; or it was told of these a
    /// longer while ago.
    pub fn status_changed(&self, status: u32, usual: u32, now: Instant, interval: Duration) -> bool {
        let known = self.status.load(Ordering::Relaxed);
        let new = u64::from(status) | 1 << 32;
        if known == 0 && status == usual {
            return false;
        }
        if !self.due(Notice::Status, now, if known == new { interval.max(RETELL) } else { interval }) {
            return false;
        }
        self.status.store(new, Ordering::Relaxed);
        true
    }

    /// A packet from `rloc` was sent after the current version of our mapping.
    #[inline]
    pub fn current(&self, rloc: &Rloc) {
        let stale = self.stale.load(Ordering::Relaxed);
        if stale != 0 && stale >> 8 == hash(rloc) {
            self.stale.store(0, Ordering::Relaxed);
        }
    }

    /// A packet from `rloc` was sent after an old version of our mapping.
    pub fn stale(&self, rloc: &Rloc, now: Instant) -> Stale {
        let (stale, hash) = (self.stale.load(Ordering::Relaxed), hash(rloc));
        let watched = stale != 0 && stale >> 8 == hash;
        let times = if watched { stale & 0xff } else { 0 };
        let hopeless = times > STALE_RETRIES;
        let told = self.told.get(Notice::Stale as usize).map_or(0, |told| told.load(Ordering::Relaxed));
        let silent = now.saturating_since(Instant::from_nanos(told));
        let tell = self.due(Notice::Stale, now, if hopeless { STALE_REST } else { STALE_INTERVAL });
        if tell && (watched || stale == 0 || silent >= STALE_MEMORY) {
            self.stale.store(hash << 8 | (times + 1).min(0xff), Ordering::Relaxed);
        }
        Stale { tell, hopeless }
    }

    /// Whether the control plane is to be told: it was not for `interval`. It then counts as told.
    pub fn due(&self, what: Notice, now: Instant, interval: Duration) -> bool {
        let Some(told) = self.told.get(what as usize) else { return false };
        let last = told.load(Ordering::Relaxed);
        let due = last == 0 || now.saturating_since(Instant::from_nanos(last)) >= interval;
        if due {
            told.store(now.as_nanos().max(1), Ordering::Relaxed);
        }
        due
    }
}

/// 56 bits that tell one RLOC from the others of a site.
fn hash(rloc: &Rloc) -> u64 {
    let bits = match rloc {
        Rloc::V4(v4) => u64::from(v4.to_bits()),
        Rloc::V6(v6) => {
            let bits = v6.to_bits();
            (bits as u64) ^ ((bits >> 64) as u64).rotate_left(32)
        }
    };
    bits.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 8
}

fn millis(now: Instant) -> u64 {
    // 40 bits: 34 years of uptime.
    (now.as_nanos() / 1_000_000).max(1)
}

/// The nonce that packets to a locator ask to be echoed.
#[derive(Debug, Default)]
pub(super) struct EchoRequest {
    /// 24 bits, plus 2^24; 0: none.
    nonce: AtomicU32,
    /// When the control plane was last told that it is time to ask: nanoseconds.
    told: AtomicU64,
}

impl EchoRequest {
    pub(super) fn set(&self, nonce: Option<u32>) {
        self.nonce.store(nonce.map_or(0, |n| n & 0xff_ffff | 1 << 24), Ordering::Relaxed);
    }

    /// The nonce for a packet of now.
    #[inline]
    pub(super) fn ask(&self) -> Option<u32> {
        let nonce = self.nonce.load(Ordering::Relaxed);
        (nonce != 0).then_some(nonce & 0xff_ffff)
    }

    #[inline]
    pub(super) fn due(&self, now: Instant, interval: Duration) -> bool {
        let last = self.told.load(Ordering::Relaxed);
        let due = last == 0 || now.saturating_since(Instant::from_nanos(last)) >= interval;
        if due {
            self.told.store(now.as_nanos().max(1), Ordering::Relaxed);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_nonce_is_sent_back_for_a_while() {
        let (state, t) = (SiteState::default(), Instant::from_secs(100));
        assert_eq!(state.nonce(None, t), None);
        state.owe(0xab_cdef, t);
        assert_eq!(state.nonce(None, t), Some(HeaderNonce::Echo(0xab_cdef)));
        assert_eq!(state.nonce(None, t + SECOND), Some(HeaderNonce::Echo(0xab_cdef)));
        assert_eq!(state.nonce(None, t + SECOND * 2), None);
        state.owe(0, t + SECOND * 3);
        let sent = (0..20).filter(|_| state.nonce(None, t + SECOND * 3).is_some()).count();
        assert_eq!(sent, 8, "zero is a nonce like any other");
    }

    #[test]
    fn what_is_asked_and_what_is_owed_take_turns() {
        let (state, t) = (SiteState::default(), Instant::from_secs(100));
        assert_eq!((state.nonce(Some(5), t), state.asked()), (Some(HeaderNonce::Ask(5)), Some(t)));
        state.ask_anew();
        assert_eq!(state.asked(), None);
        state.owe(7, t);
        let both = [HeaderNonce::Echo(7), HeaderNonce::Ask(5)].map(Some);
        for _ in 0..4 {
            assert_eq!([state.nonce(Some(5), t + SECOND), state.nonce(Some(5), t + SECOND)], both);
        }
        assert_eq!(state.nonce(Some(5), t + SECOND), both[1]);
        assert_eq!(state.asked(), Some(t + SECOND));
    }

    #[test]
    fn a_change_is_told_once_and_not_too_often() {
        let (state, t) = (SiteState::default(), Instant::from_secs(100));
        assert!(!state.status_changed(0b11, 0b11, t, SECOND), "as assumed");
        assert!(state.status_changed(0b01, 0b11, t, SECOND));
        assert!(!state.status_changed(0b01, 0b11, t + SECOND * 5, SECOND));
        assert!(state.status_changed(0b11, 0b11, t + SECOND * 5, SECOND));
        assert!(!state.status_changed(0b01, 0b11, t + SECOND * 5, SECOND), "too soon");
        assert!(state.status_changed(0b01, 0b11, t + SECOND * 6, SECOND), "but not forgotten");
        // The same again, now and then: it may have got lost.
        assert!(!state.status_changed(0b01, 0b11, t + SECOND * 15, SECOND));
        assert!(state.status_changed(0b01, 0b11, t + SECOND * 16, SECOND));
        assert!(state.status_changed(0b11, 0b11, t + SECOND * 17, SECOND));
        assert!(!state.status_changed(0b11, 0b11, t + SECOND * 26, SECOND));
        assert!(state.status_changed(0b11, 0b11, t + SECOND * 27, SECOND), "that all is well, too");
        assert!(state.due(Notice::Newer, t, SECOND) && state.due(Notice::Stale, t, SECOND));
        assert!(!state.due(Notice::Newer, t, SECOND));
    }

    #[test]
    fn zero_is_a_nonce_to_ask_for_too() {
        let request = EchoRequest::default();
        assert_eq!(request.ask(), None);
        request.set(Some(7));
        assert_eq!(request.ask(), Some(7));
        request.set(Some(0));
        assert_eq!(request.ask(), Some(0));
        request.set(None);
        assert_eq!(request.ask(), None);
        let t = Instant::from_secs(1);
        assert!(request.due(t, SECOND) && !request.due(t, SECOND) && request.due(t + SECOND, SECOND));
    }
}
