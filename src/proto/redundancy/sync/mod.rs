//! CacheSync: the xTRs of a site tell each other what their ITRs learn, so that whichever of them has the site's traffic
//! next knows the mappings already. The messages' format is that of [`CacheSync`](crate::wire::CacheSync).
//!
//! Owns: whom to tell what, when, and whom to believe. Which of two mappings wins is the ITR's to say
//! ([`crate::proto::xtr`]).
//!
//! # Who is there
//! Every xTR has a list of the others, its members, which may be any number. It sends each a Hello with a random
//! challenge: when it starts, every `hello_interval`, and after 1, 2 and 4 s where no answer comes; then the member counts
//! as silent, is told nothing, and gets a Hello every second. A Hello is answered by a CacheSync-Ack with a Hello-Reply.
//! That proves that the member is there now and which session is its own, and tells the greatest nonce that it used.
//! From then on its CacheSyncs are believed: those of this session, for this xTR's own session, with a nonce that is
//! greater, or at least was not there yet and comes within some seconds. So what somebody recorded is refused even if this
//! xTR has just started and remembers nothing; and as each message names both sessions, none can be passed off as
//! another member's, or given to another member, or reflected. A mapping that comes after the message by which the
//! same member withdrew it later counts no more. An xTR that finds its own address in the list leaves itself alone.
//!
//! # What is told
//! Entries that a solicited Map-Reply made or refreshed, positive and negative; those that the mapping system says are
//! gone; and locators that this xTR found to be down, or up again. Never what was gleaned, and never what another member
//! told, so that nothing echoes: with one exception, below. Each mapping goes with the time that it has left, so that all
//! members forget it at the same moment.
//!
//! * Smart: what changed, in as few messages as it fits. What an RLOC-probe's answer only prolongs is told within a
//!   second, together with others.
//! * Naive: all of this xTR's own entries, after every Map-Reply that said something new.
//!
//! With `ack`, what is not acknowledged is told again after 1, 2 and 4 s, as it is by then, and under a new nonce; and a
//! Hello is to find out whether the member is there at all. If not, it counts as silent. If it is, there is something
//! about the message: the path has a smaller MTU, or a filter. Then it is told everything again after 1 s, and after 2, 4
//! and up to 60 s the next times, in messages of half the size each time down to 410 bytes, the next one only when one has
//! arrived; a mapping that takes a larger message all by itself and is not acknowledged is left out. So it stays until the
//! member has another session.
//!
//! Of mappings inside each other, the inner ones are told first. Nobody takes the outer one without these
//! ([`crate::proto::xtr`]); but where they come later, as their message was lost or overtaken, it is taken then. Where
//! they do not come, the receiver may have had them and thrown them out, as it had no use for them: then it asks for the
//! whole cache, every ten minutes at most.
//!
//! Of locators it is told whether they can be reached, as far as this xTR has found out by probes, from the underlay, or
//! by missing echoes. Who is told of it remembers who said so: a locator is down until all who said so say the contrary,
//! or tell all that they have without it, or the receiver's own probes are answered. What the sites say of their locators
//! themselves in locator-status-bits is not told, as each xTR reads that in their packets.
//!
//! # A member that (re)appears
//! It asks each of the others for the whole cache by the Q bit of its Hellos until it has got it, to the message with the
//! E bit, and a member that was silent is sent it unasked. Here the others' entries are told too: the owner of an entry
//! may be the very one that has lost it. These messages are always acknowledged, which also sets their pace: no more
//! than a window of 32 are under way, and up to 64 as these arrive, so that no buffer overflows on the way; and one that
//! three later ones overtook is sent again at once. What was withdrawn is told, too; and at the end the receiver has what
//! the sender once told it and no longer has go, or asks for it again if it is in use. A naive round ends the same way; if
//! it is not acknowledged, only where all of it has come. Neither side looks at more than some thousand entries at a time.

mod history;
mod incoming;
mod member;
mod outgoing;
mod record;
#[cfg(test)]
mod tests;
mod transfer;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use rand::RngExt;

use crate::auth;
use crate::proto::config::SyncConfig;
use crate::proto::context::{CONTROL_PORT, Context};
use crate::proto::mapping_system::auth_reason;
use crate::proto::stats::{DropReason, MessageKind};
use crate::proto::xtr::database::Database;
use crate::proto::xtr::itr::Itr;
use crate::types::{Instant, Nonce};
use crate::wire::{self, CacheSyncAck, Message, SyncRecord};

pub use member::{Counters, Member, MemberState, Transferred};

/// The machine.
#[derive(Debug)]
pub(crate) struct CacheSync {
    voice: Voice,
    members: BTreeMap<IpAddr, Member>,
    /// Those that are no longer members, and whose words are to be forgotten.
    dismissed: Vec<IpAddr>,
}

/// What is needed to say something.
#[derive(Debug)]
pub(crate) struct Voice {
    config: SyncConfig,
    session: u64,
    next_nonce: u64,
}

/// Whom a message is for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct To {
    address: IpAddr,
    /// 0 where it isn't known.
    session: u64,
}

impl CacheSync {
    /// `nonce_base` is the first nonce that is used.
    pub(crate) fn new(cx: &mut Context, now: Instant, config: SyncConfig, nonce_base: u64) -> Self {
        let session = cx.rng.random();
        let mut sync = Self {
            voice: Voice { config: config.clone(), session, next_nonce: nonce_base },
            members: BTreeMap::new(),
            dismissed: Vec::new(),
        };
        sync.configure(now, config);
        sync
    }

    /// Takes another configuration in. Members that stay are told on.
    pub(crate) fn configure(&mut self, now: Instant, config: SyncConfig) {
        let dismissed = self.members.keys().filter(|address| !config.members.contains(address));
        self.dismissed.extend(dismissed);
        self.members.retain(|address, _| config.members.contains(address));
        for address in &config.members {
            self.members.entry(*address).or_insert_with(|| Member::new(*address, now));
        }
        self.voice.config = config;
    }

    /// The members, by address.
    pub(crate) fn members(&self) -> impl Iterator<Item = &Member> {
        self.members.values()
    }

    /// A datagram whose type is that of a CacheSync or CacheSync-Ack. Nothing of it is looked at before it is known to
    /// be authentic.
    pub(crate) fn receive(
        &mut self,
        cx: &mut Context,
        now: Instant,
        bytes: &[u8],
        (source, destination): (SocketAddr, SocketAddr),
        itr: &mut Itr,
        database: &Database,
    ) {
        let Some(member) = self.members.get_mut(&source.ip()) else {
            return cx.drop(DropReason::SyncStranger, Some(source));
        };
        if let Err(error) = auth::verify(bytes, &self.voice.config.keys) {
            let reason = auth_reason(&error);
            member.counters.ignored(reason);
            return cx.drop_with(reason, Some(source), format!("CacheSync: {error}"));
        }
        let result = match Message::decode(bytes) {
            Ok(Message::CacheSync(message)) => {
                cx.statistics.count_received(MessageKind::CacheSync);
                let ours = destination.ip();
                member.heard(cx, now, &mut self.voice, &message, ours, (itr, database))
            }
            Ok(Message::CacheSyncAck(ack)) => {
                cx.statistics.count_received(MessageKind::CacheSyncAck);
                member.acknowledged(cx, now, &self.voice, &ack, destination.ip())
            }
            Ok(_) => Err(DropReason::NoRole),
            Err(error) => {
                member.counters.ignored(DropReason::from(&error));
                return cx.drop_with(DropReason::from(&error), Some(source), error.to_string());
            }
        };
        if let Err(reason) = result {
            member.counters.ignored(reason);
            cx.drop(reason, Some(source));
        }
    }

    /// Tells what was learnt since, and does what is due.
    pub(crate) fn handle_timeout(
        &mut self,
        cx: &mut Context,
        now: Instant,
        itr: &mut Itr,
        database: &Database,
    ) {
        let journal = itr.take_journal();
        for member in self.members.values_mut() {
            member.sweep(cx, now, itr);
            member.give_up(now, itr);
            member.note(now, self.voice.config.mode, &journal);
            member.act(cx, now, &mut self.voice, itr, database);
            member.forget(cx, now, itr, database);
        }
        for address in self.dismissed.drain(..) {
            itr.forget_words(address);
        }
    }

    /// When something is due next.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.members.values().map(|member| member.next(&self.voice.config)).min()
    }
}

impl Voice {
    /// Completes, seals and sends a message: its nonce, and its length in bytes. `None` where that can't be done.
    fn tell(&mut self, cx: &mut Context, to: To, mut message: wire::CacheSync) -> Option<(Nonce, usize)> {
        let nonce = Nonce(self.next_nonce);
        self.next_nonce = self.next_nonce.checked_add(1)?;
        message.nonce = nonce;
        message.session = self.session;
        message.receiver = to.session;
        let len = self.send(cx, to.address, Message::CacheSync(message), MessageKind::CacheSync)?;
        Some((nonce, len))
    }

    fn acknowledge(&self, cx: &mut Context, to: To, nonce: Nonce, records: Vec<SyncRecord>) {
        let (session, receiver) = (self.session, to.session);
        let ack = CacheSyncAck { nonce, session, receiver, records, ..CacheSyncAck::default() };
        self.send(cx, to.address, Message::CacheSyncAck(ack), MessageKind::CacheSyncAck);
    }

    fn send(&self, cx: &mut Context, to: IpAddr, message: Message, kind: MessageKind) -> Option<usize> {
        let destination = SocketAddr::new(to, CONTROL_PORT);
        let source = self.config.source.filter(|source| source.is_ipv4() == to.is_ipv4());
        match auth::seal(message, self.config.keys.first()?) {
            Ok(payload) => {
                let len = payload.len();
                cx.send_encoded(kind, source, destination, payload);
                Some(len)
            }
            Err(error) => {
                cx.drop_with(DropReason::Encode, Some(destination), error.to_string());
                None
            }
        }
    }

    /// The nonce of the next message.
    const fn coming_nonce(&self) -> Nonce {
        Nonce(self.next_nonce)
    }

    /// The greatest nonce that was used.
    const fn last_nonce(&self) -> Nonce {
        Nonce(self.next_nonce.saturating_sub(1))
    }
}
