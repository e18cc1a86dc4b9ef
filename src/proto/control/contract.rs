use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::fib::{FibUpdate, Punt, Sender};
use crate::proto::event::Event;
use crate::proto::persist::{Change, Record};
use crate::types::{Eid, EidPrefix};
use crate::wire::EidRecord;

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
    /// An interface's usable (global, not tentative) addresses, best first; none when it is down or gone. A
    /// locator of ours is up only while its address is among them, also where it is configured by address.
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
    /// What an earlier life of this router had remembered, all of it, possibly nothing. Given once, before
    /// anything else. It promises that every [`Output::Persist`] is obeyed from now on; without it there is
    /// none, and the nonce base that the control plane was made with has to be enough.
    Restored(&'a [Record]),
    /// A record that [is awaited](Record::is_awaited) is on the disk; or can't be, and waiting is of no use.
    Persisted(&'a Record),
    /// Who sent data packets to this site lately: the answer to [`Output::ListSenders`].
    Senders(&'a [Sender]),
    /// The kernel's neighbour table says something else than before of a host on one of the site's
    /// interfaces.
    Neighbour {
        /// The interface's name.
        interface: &'a str,
        /// The host's address.
        address: IpAddr,
        /// What it says.
        state: NeighbourState,
    },
    /// An operator's command.
    Command(Command),
}

/// What an operator can ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Forget the whole map-cache, or the entry of one prefix.
    ClearMapCache(Option<EidPrefix>),
    /// Ask the mapping system for `eid`, as `lig` (RFC 6835) does: answered by [`Output::LigReply`] with the
    /// same id.
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
    /// Packets to this prefix are, or are no longer, the router's, although they lie in one that is forwarded
    /// natively.
    NativeException {
        /// The prefix.
        prefix: EidPrefix,
        /// Whether they are from now on.
        present: bool,
    },
    /// Resolve a DNS name and answer by [`Input::Resolved`].
    Resolve {
        /// The name.
        name: String,
    },
    /// Remember something over a restart, or forget it. Only after [`Input::Restored`].
    Persist(Change),
    /// Packets to this EID-prefix leave by another way than the site's own routes say.
    DynamicEid {
        /// The prefix.
        prefix: EidPrefix,
        /// Where it is; `None` = as the site's routes say, from now on.
        place: Option<Place>,
    },
    /// Ask a host on one of the site's interfaces for its link-layer address, whether that is known or not,
    /// and tell by [`Input::Neighbour`] what came of it.
    Probe {
        /// The interface's name.
        interface: String,
        /// The host's address.
        address: IpAddr,
    },
    /// Say who sent data packets to this site within the last minute, by [`Input::Senders`]: a mapping of
    /// ours changed, and they are to hear of it. Without an answer, those hear of it that this site sends to
    /// or that asked for it.
    ListSenders,
    /// The answer to [`Command::Lig`]; exactly one per command.
    LigReply {
        /// The command's.
        id: u64,
        /// What came of it.
        result: Result<LigAnswer, LigError>,
    },
    /// Something for the log.
    Event(Event),
}

/// Where packets to an EID-prefix go that may move.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// To this site.
    Here {
        /// By this interface, where one is named; else as the site's routes say.
        interface: Option<String>,
    },
    /// To another site: into the TUN, whoever sent them.
    Away {
        /// The interface that it was at, whose hosts may take it for a neighbour still.
        interface: Option<String>,
    },
}

/// What the neighbour table says of a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NeighbourState {
    /// It answered just now.
    Reachable,
    /// It has a link-layer address, as something came from there, or did once.
    Known,
    /// It does not answer, or nothing is known any more.
    Gone,
}

/// What an operator says of an EID-prefix that may move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Move {
    /// It is at this site.
    Here {
        /// The priority of its locators here; it is then registered so that it may be at other sites too,
        /// each with its own priority. Without one, it is this site's alone, with what is configured.
        priority: Option<u8>,
    },
    /// It is no longer at this site.
    Away,
}

/// What has come of telling that an EID-prefix is here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MoveState {
    /// Every Map-Server that it is to be registered with has confirmed it, or was told, where it is not to
    /// confirm.
    Registered,
    /// These Map-Servers have not answered yet.
    Unconfirmed(Vec<String>),
    /// These Map-Servers do not accept it.
    Refused(Vec<String>),
    /// Another site has registered it since, with this locator.
    Elsewhere(Option<IpAddr>),
    /// None of its locators is up, so that there is nothing to register.
    NoLocators,
    /// It is not here any more.
    Left,
}

/// Why an EID-prefix can't be moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MoveError {
    /// It lies in none of the EID-prefixes that may move.
    NotDynamic,
    /// It is one of the site's own for good.
    Fixed,
    /// It lies in one that moved elsewhere as a whole, or another one that moved lies in it.
    Overlaps(EidPrefix),
    /// So many are here that no more are let in.
    Full(usize),
    /// It is not here.
    NotHere,
}

impl fmt::Display for MoveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotDynamic => f.write_str(
                "the EID lies in no [[dynamic-eid]] of this router: what may move has to be configured",
            ),
            Self::Fixed => f.write_str("it is an [[eid-prefix]] of this router: it is here already"),
            Self::Overlaps(other) => write!(f, "{other} overlaps it, which moved as a whole: move that"),
            Self::Full(limit) => {
                write!(f, "{limit} EID-prefixes are here already, which is the limit of the [[dynamic-eid]]")
            }
            Self::NotHere => f.write_str("it is not here: nothing to move away"),
        }
    }
}

impl std::error::Error for MoveError {}

/// What the mapping system said to a lig.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LigAnswer {
    /// The records of the Map-Reply, as they came.
    pub records: Vec<EidRecord>,
    /// Where the Map-Reply came from.
    pub responder: SocketAddr,
    /// The Map-Resolver that was asked.
    pub map_resolver: IpAddr,
    /// Since the last Map-Request.
    pub rtt: Duration,
    /// How many Map-Requests it took.
    pub requests: u32,
}

/// Why a lig has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LigError {
    /// Nobody answered.
    TimedOut,
    /// No Map-Resolver given, and none configured that has a known address.
    NoMapResolver,
    /// No locator of our own that a reply could come to.
    NoLocalRloc,
    /// This router has no ITR role.
    NoItr,
    /// Too many are under way.
    Busy,
}

impl fmt::Display for LigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TimedOut => "no Map-Reply came: is the Map-Resolver reachable, and the site's ETR up?",
            Self::NoMapResolver => "no Map-Resolver with a known address is configured: name one",
            Self::NoLocalRloc => "this router has no locator with an address that a Map-Reply could come to",
            Self::NoItr => "this router has no ITR role",
            Self::Busy => "too many are under way: try again in some seconds",
        })
    }
}

impl std::error::Error for LigError {}

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
