//! Echo-nonce (RFC 9300 §10.1): whether packets arrive, found out by the packets themselves.
//!
//! Owns: which locators were asked for an echo, and what its absence means. That it is time to ask, sending
//! and receiving nonces is the data plane's, with what is said here.

use std::collections::BTreeMap;
use std::sync::Arc;

use rand::RngExt;

use crate::fib::{FibUpdate, SiteState};
use crate::proto::context::Context;
use crate::types::{Instant, Rloc};

/// Locators that are asked at once.
const MAX_ASKED: usize = 1024;

/// The machine.
#[derive(Debug, Default)]
pub(crate) struct EchoNonce {
    asked: BTreeMap<Rloc, Asked>,
}

#[derive(Debug)]
struct Asked {
    nonce: u32,
    until: Instant,
    state: Arc<SiteState>,
}

/// What became of a request that was not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Silence {
    /// Packets came from the site, but none with the nonce: those to the locator don't arrive.
    Dark,
    /// Nothing came from the site: its packets may be lost, or there are none. It takes something else to
    /// find out.
    Unknown,
}

impl EchoNonce {
    /// Begins to ask a locator, of whose site's packets `state` tells.
    pub(crate) fn ask(&mut self, cx: &mut Context, now: Instant, rloc: Rloc, state: &Arc<SiteState>) {
        if self.asked.contains_key(&rloc) || self.asked.len() >= MAX_ASKED {
            return;
        }
        // An echo has nothing but the nonce to say whose it is.
        let nonce = loop {
            let nonce = cx.rng.random::<u32>() & 0xff_ffff;
            if !self.asked.values().any(|asked| asked.nonce == nonce) {
                break nonce;
            }
        };
        cx.fib(FibUpdate::EchoRequest { rloc, nonce: Some(nonce) });
        state.ask_anew();
        let until = now + cx.timers.echo_nonce_timeout;
        self.asked.insert(rloc, Asked { nonce, until, state: Arc::clone(state) });
    }

    /// The echo came. Whether it was waited for.
    pub(crate) fn echoed(&mut self, cx: &mut Context, rloc: Rloc) -> bool {
        let known = self.asked.remove(&rloc).is_some();
        if known {
            cx.fib(FibUpdate::EchoRequest { rloc, nonce: None });
        }
        known
    }

    /// Ends what was not answered in time; what it means, where it means anything.
    pub(crate) fn handle_timeout(&mut self, cx: &mut Context, now: Instant) -> Vec<(Rloc, Silence)> {
        let due: Vec<Rloc> = self.asked.iter().filter(|(_, a)| a.until <= now).map(|(r, _)| *r).collect();
        let mut silent = Vec::new();
        for rloc in due {
            let Some(asked) = self.asked.remove(&rloc) else { continue };
            cx.fib(FibUpdate::EchoRequest { rloc, nonce: None });
            // Without a packet that carried the nonce, nothing is known.
            let Some(first) = asked.state.asked() else { continue };
            // What came sooner may have been sent before the nonce was there.
            let answerable = first + cx.timers.echo_nonce_timeout / 2;
            let heard = asked.state.heard().is_some_and(|heard| heard >= answerable);
            silent.push((rloc, if heard { Silence::Dark } else { Silence::Unknown }));
        }
        silent
    }

    /// Ends everything.
    pub(crate) fn stop(&mut self, cx: &mut Context) {
        for (rloc, _) in std::mem::take(&mut self.asked) {
            cx.fib(FibUpdate::EchoRequest { rloc, nonce: None });
        }
    }

    pub(crate) fn next(&self) -> Option<Instant> {
        self.asked.values().map(|asked| asked.until).min()
    }
}
