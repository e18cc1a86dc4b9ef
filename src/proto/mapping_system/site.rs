//! What the Map-Server knows of a site beside its registrations: its keys, and which Map-Registers nobody may
//! send again.
//!
//! Owns: replay protection (RFC 9301 §5.6, "Nonce"), and what of it survives a restart.
//!
//! # xTRs without an xTR-ID
//! A nonce must be greater than the last one of the same xTR-ID and key. An xTR that sends no xTR-ID is known
//! by its address alone, so that a recorded Map-Register which somebody sends again from another address
//! looks like a new xTR's first. It is recognised by its MAC as long as it is among the last few thousand of
//! the site (some days of one a minute). An older one is not, and nothing in it could be relied upon for
//! that:
//! - That the first nonce from a new address be greater than every nonce of the site and key (a mark for all
//!   of them) refuses every xTR but the one with the greatest nonces: RFC 9301 §5.6 has each count for
//!   itself, from wherever it likes, be that zero or a clock, and the xTRs of a site that merge share the
//!   key.
//! - That it lie outside of what single xTRs have counted through refuses a new xTR whose counter starts
//!   where another's did, as with two of the same make that count from zero, and for good one whose clock is
//!   behind, where nonces are times.
//! - The source address itself can't be the mark, as an uplink that is renumbered is a new address of an old
//!   xTR.
//!
//! An xTR-ID at every xTR of the site closes this, since the MAC covers it, and so does a new key (another
//! key id), with which nothing recorded before is authentic.

use std::collections::{BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use crate::auth::replay::{LastNonces, NoncePolicy, ReplayError};
use crate::proto::config::SiteConfig;
use crate::proto::context::Context;
use crate::proto::event::{Event, Registrant};
use crate::proto::persist::{self, Change, Record};
use crate::proto::stats::DropReason;
use crate::types::{Instant, Nonce};
use crate::wire::MapRegister;

/// xTRs and keys per site whose nonces are remembered.
const MAX_SENDERS: usize = 4096;
/// Map-Registers per site that nobody may send again.
const MAX_RECENT: usize = 4096;
/// The last so many of them are remembered over a restart.
const RECENT_KEPT: u64 = 256;
/// How often a site is said to repeat its nonce.
const WARN_INTERVAL: Duration = Duration::from_secs(60);

/// A site that may register.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) config: SiteConfig,
    nonces: LastNonces<(Registrant, u8)>,
    recent: RecentDigests,
    /// Registrations that it has.
    pub(crate) registrations: usize,
    warned: Option<Instant>,
}

/// A Map-Register's MAC, as much of it as every algorithm sends.
type Digest = [u8; 12];

/// MACs of a site's last Map-Registers, whoever sent them: one that was recorded and is sent again from
/// another address would otherwise pass for a new sender's first. Nonces would not do, as the xTRs of a site
/// may well use the same.
#[derive(Debug, Default)]
struct RecentDigests {
    order: VecDeque<Digest>,
    known: BTreeSet<Digest>,
    /// Counts those that came.
    serial: u64,
}

impl RecentDigests {
    fn insert(&mut self, digest: Digest) {
        if !self.known.insert(digest) {
            return;
        }
        self.serial = self.serial.wrapping_add(1);
        self.order.push_back(digest);
        if self.order.len() > MAX_RECENT
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }
}

impl Site {
    pub(crate) fn new(config: SiteConfig) -> Self {
        Self {
            config,
            nonces: LastNonces::new(MAX_SENDERS),
            recent: RecentDigests::default(),
            registrations: 0,
            warned: None,
        }
    }

    /// The same site with another configuration.
    pub(crate) fn with(self, config: SiteConfig) -> Self {
        Self { config, ..self }
    }

    /// Whether an authentic Map-Register is new; counts and reports it if not.
    pub(crate) fn is_fresh(
        &mut self,
        cx: &mut Context,
        now: Instant,
        register: &MapRegister,
        registrant: Registrant,
        source: SocketAddr,
    ) -> bool {
        let (name, nonce) = (&self.config.name, register.nonce);
        let policy = match self.config.allow_repeated_nonce {
            true => NoncePolicy::AllowRepeats,
            false => NoncePolicy::Increasing,
        };
        let sender = (registrant, register.auth.key_id);
        let digest: Option<Digest> = register.auth.data.first_chunk().copied();
        let stolen = policy == NoncePolicy::Increasing
            && self.nonces.get(&sender).is_none()
            && digest.is_some_and(|digest| self.recent.known.contains(&digest));
        let outcome = match stolen {
            true => Err(ReplayError::Replayed { nonce, last: nonce }),
            false => self.nonces.accept(sender, nonce, policy),
        };
        match outcome {
            Ok(()) => {
                digest.into_iter().for_each(|digest| self.recent.insert(digest));
                self.remember(cx, registrant, register.auth.key_id, nonce, digest);
                true
            }
            Err(error @ ReplayError::Replayed { .. }) => {
                cx.drop_with(DropReason::RegisterReplayed, Some(source), format!("site {name}: {error}"));
                if !self.config.allow_repeated_nonce
                    && self.warned.is_none_or(|at| now.saturating_since(at) >= WARN_INTERVAL)
                {
                    self.warned = Some(now);
                    cx.event(Event::NonceRepeated { site: name.clone(), source });
                }
                false
            }
            Err(error @ ReplayError::TooManySenders(_)) => {
                cx.drop_with(DropReason::RegisterFull, Some(source), format!("site {name}: {error}"));
                false
            }
        }
    }

    /// Takes in what was remembered of this site over a restart.
    pub(crate) fn restored(&mut self, record: &Record) {
        match record {
            Record::LastNonce { registrant, key_id, nonce, .. } => {
                // Only more senders than ever fit could make this fail.
                let _ = self.nonces.accept((*registrant, *key_id), *nonce, NoncePolicy::AllowRepeats);
            }
            Record::RecentRegister { serial, digest, .. } => {
                let last = self.recent.serial.max(*serial);
                self.recent.insert(*digest);
                self.recent.serial = last;
            }
            Record::RegisterNonce { .. } | Record::OwnMapping(_) | Record::Moved { .. } | Record::Away(_) => {
            }
        }
    }

    /// Has the nonce and the digest of a Map-Register that was taken in remembered over a restart.
    fn remember(
        &self,
        cx: &mut Context,
        registrant: Registrant,
        key_id: u8,
        nonce: Nonce,
        digest: Option<Digest>,
    ) {
        let site = || self.config.name.clone();
        cx.persist(|| Change::Put(Record::LastNonce { site: site(), registrant, key_id, nonce }));
        if let Some(digest) = digest {
            let serial = self.recent.serial;
            cx.persist(|| {
                Change::Put(Record::RecentRegister { site: site(), slot: slot(serial), serial, digest })
            });
        }
    }

    /// Forgets all that; the site is gone.
    pub(crate) fn forget(&self, cx: &mut Context) {
        let site = || self.config.name.clone();
        for ((registrant, key_id), _) in self.nonces.iter() {
            let (registrant, key_id) = (*registrant, *key_id);
            cx.persist(|| Change::Remove(persist::Key::LastNonce { site: site(), registrant, key_id }));
        }
        for slot in (0..=self.recent.serial.min(RECENT_KEPT - 1)).map(slot) {
            cx.persist(|| Change::Remove(persist::Key::RecentRegister { site: site(), slot }));
        }
    }
}

/// Where the digest with this serial number is remembered.
fn slot(serial: u64) -> u16 {
    u16::try_from(serial % RECENT_KEPT).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recent_digests_stay_bounded() {
        let mut recent = RecentDigests::default();
        let digest = |n: u32| {
            let mut digest = Digest::default();
            digest[..4].copy_from_slice(&n.to_be_bytes());
            digest
        };
        for n in 0..100_000 {
            recent.insert(digest(n));
        }
        assert_eq!((recent.order.len(), recent.known.len()), (MAX_RECENT, MAX_RECENT));
        assert!(recent.known.contains(&digest(99_999)) && !recent.known.contains(&digest(0)));
    }
}
