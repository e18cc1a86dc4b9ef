//! The control plane of one router: takes every input, hands it to the machine that it is for, and collects what
//! they want done.

use std::net::{IpAddr, SocketAddr};

use crate::fib::{FibUpdate, Punt};
use crate::types::{Eid, EidPrefix};

/// What can happen to a router.
#[derive(Clone, Debug)]
pub enum Input<'a> {
    /// A datagram came in on the control port.
    Datagram {
        /// Sender.
        source: SocketAddr,
        /// The local address and port that it was sent to.
        destination: SocketAddr,
        /// UDP payload.
        payload: &'a [u8],
    },
    /// The data plane needs attention.
    Punt(Punt),
    /// An interface's usable (global, not tentative) addresses, in the kernel's order; none when it is down or gone.
    Interface {
        /// Its name.
        name: &'a str,
        /// Its addresses.
        addresses: &'a [IpAddr],
    },
    /// A name was resolved, or was not (no addresses).
    Resolved {
        /// The name asked for.
        name: &'a str,
        /// Its addresses.
        addresses: &'a [IpAddr],
    },
    /// An operator's command.
    Command(Command),
}

/// What an operator can ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Forget the whole map-cache, or the entry of one prefix.
    ClearMapCache(Option<EidPrefix>),
    /// Ask the mapping system for `eid`, as `lig` (RFC 6835) does: answered by [`Output::LigReply`] with the same id.
    Lig {
        /// Chosen by the caller.
        id: u64,
        /// What to look up.
        eid: Eid,
        /// Which Map-Resolver, or the ITR's own choice.
        via: Option<IpAddr>,
    },
}

/// What a machine wants done.
#[derive(Clone, Debug)]
pub enum Output {
    /// Send a datagram.
    Send(Transmit),
    /// Change the FIB.
    Fib(FibUpdate),
    /// Packets to this prefix are, or are no longer, left to the kernel's own routing (natively-forward).
    Native {
        /// The prefix.
        prefix: EidPrefix,
        /// Whether it is to be forwarded natively from now on.
        present: bool,
    },
    /// Resolve a DNS name and answer by [`Input::Resolved`].
    Resolve {
        /// The name.
        name: String,
    },
}

/// A control datagram to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// Source address, or the kernel's choice.
    pub source: Option<IpAddr>,
    /// Where to.
    pub destination: SocketAddr,
    /// UDP payload. The source port is always 4342.
    pub payload: Vec<u8>,
}
