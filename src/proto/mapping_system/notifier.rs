//! Map-Notifies that nobody asked for: an xTR hears when what the mapping system tells of its EID-prefixes
//! changes by another xTR of its site (RFC 9301 §5.7).
//!
//! Owns: whom to tell of what, when, and whether it has been acknowledged. Must not know what is registered:
//! the Map-Server writes the messages.
//!
//! Each xTR has at most one such message on the way to it, so that a change of many prefixes is no burst
//! (RFC 8085 §3.1); what changes meanwhile waits for the next one.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use crate::proto::event::Registrant;
use crate::types::{EidPrefix, Instant, Nonce};

/// Changes within this time are told together.
const JOIN: Duration = Duration::from_millis(50);
/// Retransmissions at the first interval …
const STEADY: u32 = 3;
/// … and how many more there are, each after twice as long.
const DOUBLING: u32 = 3;

/// An xTR of a site.
pub(crate) type Recipient = (Arc<str>, Registrant);

/// The messages.
#[derive(Debug, Default)]
pub(crate) struct Notifier {
    queues: BTreeMap<Recipient, Queue>,
    timers: BTreeSet<(Instant, Recipient)>,
    by_nonce: BTreeMap<Nonce, Recipient>,
    /// What was told and not acknowledged, or is to be told. As many as there are registrations, at most.
    unheard: BTreeSet<(Recipient, EidPrefix)>,
}

#[derive(Debug)]
struct Queue {
    changed: BTreeSet<EidPrefix>,
    flight: Option<Flight>,
    wake: Instant,
}

/// A message that is not acknowledged yet.
#[derive(Clone, Debug)]
pub(crate) struct Flight {
    /// Its nonce.
    pub(crate) nonce: Nonce,
    /// Where from, or the kernel's choice.
    pub(crate) source: Option<IpAddr>,
    /// Where to.
    pub(crate) destination: SocketAddr,
    /// The message.
    pub(crate) payload: Vec<u8>,
    sent: u32,
    /// What it is about.
    told: Vec<EidPrefix>,
}

/// What is due for a recipient.
#[derive(Debug)]
pub(crate) enum Due {
    /// Write a message about some of these prefixes, and say which by [`Notifier::sent`].
    Write(Recipient, Vec<EidPrefix>),
    /// Send the same message again.
    Again(Flight),
}

impl Flight {
    pub(crate) fn new(
        nonce: Nonce,
        source: Option<IpAddr>,
        destination: SocketAddr,
        payload: Vec<u8>,
    ) -> Self {
        Self { nonce, source, destination, payload, sent: 1, told: Vec::new() }
    }
}

impl Notifier {
    /// Whether `recipient` may not have heard of the last change of a prefix. It is asked for once per
    /// change: who repeats what it said has heard or does not acknowledge anything.
    pub(crate) fn forgive(&mut self, recipient: &Recipient, prefix: &EidPrefix) -> bool {
        self.unheard.remove(&(recipient.clone(), *prefix))
    }

    /// `recipient` has a prefix no longer: what it heard of it matters no more.
    pub(crate) fn forget(&mut self, recipient: &Recipient, prefix: &EidPrefix) {
        self.unheard.remove(&(recipient.clone(), *prefix));
    }

    /// What is told of `prefix`, which `recipient` has itself, has changed by another one's word.
    pub(crate) fn overruled(&mut self, recipient: &Recipient, prefix: EidPrefix) {
        self.unheard.insert((recipient.clone(), prefix));
    }

    /// What is told of `prefix` has changed.
    pub(crate) fn changed(&mut self, now: Instant, recipient: Recipient, prefix: EidPrefix) {
        let queue = self.queues.entry(recipient.clone()).or_insert_with(|| {
            let wake = now + JOIN;
            self.timers.insert((wake, recipient));
            Queue { changed: BTreeSet::new(), flight: None, wake }
        });
        queue.changed.insert(prefix);
    }

    /// What is to be sent now.
    pub(crate) fn due(&mut self, now: Instant, retry: Duration) -> Option<Due> {
        loop {
            let (at, recipient) = self.timers.first().filter(|(at, _)| *at <= now).cloned()?;
            self.timers.remove(&(at, recipient.clone()));
            let Some(queue) = self.queues.get_mut(&recipient) else { continue };
            let Some(flight) = &mut queue.flight else {
                let changed = queue.changed.iter().copied().collect();
                return Some(Due::Write(recipient, changed));
            };
            if flight.sent > STEADY + DOUBLING {
                // It does not know this kind of message, or is gone; then its registrations time out.
                self.by_nonce.remove(&flight.nonce);
                self.queues.remove(&recipient);
                continue;
            }
            let again = flight.clone();
            flight.sent += 1;
            let pause = retry.saturating_mul(1 << flight.sent.saturating_sub(STEADY).min(16));
            queue.wake = now + pause;
            self.timers.insert((queue.wake, recipient));
            return Some(Due::Again(again));
        }
    }

    /// A message about `told` was sent, or, if there is none, there is nothing to say of them any more.
    pub(crate) fn sent(
        &mut self,
        now: Instant,
        retry: Duration,
        recipient: &Recipient,
        told: &[EidPrefix],
        flight: Option<Flight>,
    ) {
        let Some(queue) = self.queues.get_mut(recipient) else { return };
        for prefix in told {
            queue.changed.remove(prefix);
        }
        if let Some(flight) = flight {
            let flight = Flight { told: told.to_vec(), ..flight };
            self.by_nonce.insert(flight.nonce, recipient.clone());
            queue.flight = Some(flight);
            queue.wake = now + retry;
        } else if queue.changed.is_empty() {
            self.queues.remove(recipient);
            return;
        } else {
            queue.wake = now;
        }
        self.timers.insert((queue.wake, recipient.clone()));
    }

    /// Whose message has this nonce.
    pub(crate) fn recipient(&self, nonce: Nonce) -> Option<&Recipient> {
        self.by_nonce.get(&nonce)
    }

    /// The message with this nonce has arrived.
    pub(crate) fn acknowledged(&mut self, now: Instant, nonce: Nonce) {
        let Some(recipient) = self.by_nonce.remove(&nonce) else { return };
        let Some(queue) = self.queues.get_mut(&recipient) else { return };
        self.timers.remove(&(queue.wake, recipient.clone()));
        for prefix in queue.flight.take().map(|flight| flight.told).unwrap_or_default() {
            if !queue.changed.contains(&prefix) {
                self.unheard.remove(&(recipient.clone(), prefix));
            }
        }
        if queue.changed.is_empty() {
            self.queues.remove(&recipient);
        } else {
            queue.wake = now + JOIN;
            self.timers.insert((queue.wake, recipient));
        }
    }

    pub(crate) fn next(&self) -> Option<Instant> {
        self.timers.first().map(|(at, _)| *at)
    }
}
