//! What every machine needs to act: outputs, counters, randomness, names, limits.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use rand::RngExt;
use rand::rngs::StdRng;

use crate::fib::{FibUpdate, HeaderOptions};
use crate::types::{EidPrefix, Instant, Nonce};
use crate::wire::Message;

use super::config::Timers;
use super::control::{Output, Transmit};
use super::event::Event;
use super::names::Names;
use super::persist::Change;
use super::rate::{Rates, ReplyLimiter};
use super::stats::{DropReason, MessageKind, Statistics};

/// The port of every control message (RFC 9301 §5).
pub(crate) const CONTROL_PORT: u16 = 4342;
/// The port of data packets, which no control message may use (RFC 9301 §5.8).
pub(crate) const DATA_PORT: u16 = 4341;

/// Lent to the machine that works.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) outputs: VecDeque<Output>,
    pub(crate) statistics: Statistics,
    pub(crate) rng: StdRng,
    pub(crate) timers: Timers,
    pub(crate) names: Names,
    pub(crate) limiter: ReplyLimiter,
    /// Somebody remembers what is to survive a restart.
    pub(crate) persistent: bool,
    /// What the data plane was told of headers.
    pub(crate) options: HeaderOptions,
}

impl Context {
    pub(crate) fn new(timers: Timers, rng: StdRng, now: Instant) -> Self {
        Self {
            outputs: VecDeque::new(),
            statistics: Statistics::default(),
            rng,
            names: Names::default(),
            limiter: ReplyLimiter::new(rates(&timers), now),
            timers,
            persistent: false,
            options: HeaderOptions::default(),
        }
    }

    /// Encodes and sends a message.
    pub(crate) fn send(&mut self, source: Option<IpAddr>, destination: SocketAddr, message: &Message) {
        match message.encode() {
            Ok(payload) => self.send_encoded(message.into(), source, destination, payload),
            Err(error) => self.drop_with(DropReason::Encode, Some(destination), error.to_string()),
        }
    }

    /// Sends a message that is encoded already (and sealed).
    pub(crate) fn send_encoded(
        &mut self,
        kind: MessageKind,
        source: Option<IpAddr>,
        destination: SocketAddr,
        payload: Vec<u8>,
    ) {
        self.statistics.count_sent(kind);
        self.outputs.push_back(Output::Send(Transmit { source, destination, payload }));
    }

    pub(crate) fn fib(&mut self, update: FibUpdate) {
        self.outputs.push_back(Output::Fib(update));
    }

    pub(crate) fn native(&mut self, prefix: EidPrefix, present: bool) {
        self.outputs.push_back(Output::Native { prefix, present });
    }

    /// Has something remembered over a restart, or forgotten; costs nothing where nobody would.
    pub(crate) fn persist(&mut self, change: impl FnOnce() -> Change) {
        if self.persistent {
            let change = change();
            self.outputs.push_back(Output::Persist(change));
        }
    }

    pub(crate) fn native_exception(&mut self, prefix: EidPrefix, present: bool) {
        self.outputs.push_back(Output::NativeException { prefix, present });
    }

    pub(crate) fn event(&mut self, event: Event) {
        self.outputs.push_back(Output::Event(event));
    }

    /// Counts something dropped, and reports it.
    pub(crate) fn drop(&mut self, reason: DropReason, peer: Option<SocketAddr>) {
        self.statistics.count_drop(reason);
        self.event(Event::Dropped { reason, peer, detail: None });
    }

    /// As [`Self::drop`], with what it was about.
    pub(crate) fn drop_with(
        &mut self,
        reason: DropReason,
        peer: Option<SocketAddr>,
        detail: impl Into<String>,
    ) {
        self.statistics.count_drop(reason);
        self.event(Event::Dropped { reason, peer, detail: Some(detail.into()) });
    }

    /// Takes other periods and limits in.
    pub(crate) fn set_timers(&mut self, timers: &Timers, now: Instant) {
        if self.timers != *timers {
            self.timers = timers.clone();
            self.limiter = ReplyLimiter::new(rates(timers), now);
        }
    }

    /// Whether something, a reply with `record` if there is one, may be sent on behalf of `rloc`; counts it
    /// if not.
    pub(crate) fn admit(
        &mut self,
        rloc: IpAddr,
        record: Option<EidPrefix>,
        peer: SocketAddr,
        now: Instant,
    ) -> bool {
        match self.limiter.admit(rloc, record, now) {
            Ok(()) => true,
            Err(reason) => {
                self.drop(reason, Some(peer));
                false
            }
        }
    }

    /// Whether a Map-Request of `peer` is to be worked on; counts it if not.
    pub(crate) fn admit_request(&mut self, peer: SocketAddr, now: Instant) -> bool {
        let admitted = self.limiter.admit_request(peer.ip(), now);
        if !admitted {
            self.drop(DropReason::RateSource, Some(peer));
        }
        admitted
    }

    /// A fresh random nonce (RFC 9301 §5.2).
    pub(crate) fn nonce(&mut self) -> Nonce {
        Nonce(self.rng.random())
    }

    /// A duration picked evenly between `low` and `high`.
    pub(crate) fn between(&mut self, low: Duration, high: Duration) -> Duration {
        let spread = u64::try_from(high.saturating_sub(low).as_nanos()).unwrap_or(u64::MAX);
        low + Duration::from_nanos(self.rng.random_range(0..=spread))
    }
}

fn rates(timers: &Timers) -> Rates {
    Rates {
        total: timers.replies_total,
        per_rloc: timers.replies_per_rloc,
        per_record: timers.replies_per_record,
        per_source: timers.requests_per_source,
        bytes_unverified: timers.unverified_bytes_per_rloc,
    }
}

/// Whether `addr` can be the destination of a unicast control message or encapsulated packet: neither
/// unspecified, loopback, multicast nor broadcast.
pub(crate) fn is_unicast(addr: &IpAddr) -> bool {
    let special = match addr {
        IpAddr::V4(v4) => v4.is_broadcast() || v4.octets().first() == Some(&0),
        IpAddr::V6(v6) => v6.to_ipv4_mapped().is_some(),
    };
    !(special || addr.is_unspecified() || addr.is_loopback() || addr.is_multicast())
}
