//! The map-cache in a file, for a restart that nobody notices.
//!
//! Owns: which entries a snapshot has, its format, and what of one still holds when it is read. Where it is
//! kept is the runtime's business; what becomes of the entries is the ITR's. Must not read clocks: both
//! moments are given.
//!
//! # What is in it
//! What the mapping system or the sites themselves said and is still valid: positive and negative entries,
//! each with the time that is left, when it was used last, and which of its locators were known to be down.
//! Not the static entries, which the configuration has, and not what was gleaned, which nobody has confirmed.
//! Round trip times and the states of probes are not kept either: probing tells them anew within a round trip
//! of an entry's first use, and meanwhile it is enough to leave aside what was dead.
//!
//! # Format
//! All fields are in network byte order.
//! ```text
//! magic            8 bytes   "EIDOLONm"
//! version          2 bytes   1
//! wall clock       8 bytes   milliseconds since 1970 when it was taken
//! boot             16 bytes  identity of the system's boot
//! since boot       8 bytes   milliseconds since then, time asleep included
//! entries          4 bytes   how many follow
//! identity         2 bytes of length, and UTF-8: whose cache it is
//! per entry:
//!   left           8 bytes   milliseconds until it expires
//!   idle           4 bytes   seconds since a packet matched it; 0xffffffff: none did
//!   flags          1 byte    1: the site echoes nonces
//!   down           1 byte    how many locators were down, and one byte each: their places in the record
//!   responder      an address in AFI encoding: who answered; AFI 0: unknown
//!   EID-record     as in a Map-Reply (RFC 9301 §5.4)
//! SHA-256          32 bytes  over all that is before it
//! ```
//! A reader takes no version but its own: what has another meaning is not guessed at.

use std::time::Duration;

use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::proto::control::ControlPlane;
use crate::proto::xtr::{MapCacheEntry, MapCacheSource};
use crate::types::{EidPrefix, Instant, Mapping, Rloc};
use crate::wire::codec::{Reader, Writer, flag};
use crate::wire::{Address, DecodeError, EidRecord};

const MAGIC: [u8; 8] = *b"EIDOLONm";
/// The version that is written, and the only one that is read.
pub const VERSION: u16 = 1;
/// Where the number of entries stands.
const COUNT_AT: usize = 8 + 2 + 8 + 16 + 8;
const CHECKSUM: usize = 32;
const NEVER_USED: u32 = u32::MAX;
const ECHOES: u8 = 1;
/// A clock that says so much less than before is a clock that was set right: no time is taken to have passed.
const CLOCK_SLACK: Duration = Duration::from_secs(60);

/// A moment, by the clocks that go on over a restart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moment {
    /// Wall-clock time since 1970. May jump.
    pub wall: Duration,
    /// Which boot of the system this is. All 0 where that is not known.
    pub boot: [u8; 16],
    /// Time since that boot, asleep or not. Never jumps.
    pub since_boot: Duration,
}

impl Moment {
    /// The time that has passed since `earlier`: by the clock of the boot where that is the same, whatever
    /// the wall clock was set to meanwhile. `Err` with how far the wall clock went back where it can't be
    /// told.
    fn since(&self, earlier: &Self) -> Result<Duration, Duration> {
        if self.boot == earlier.boot && self.boot != [0; 16] {
            return self.since_boot.checked_sub(earlier.since_boot).ok_or(Duration::ZERO);
        }
        match self.wall.checked_sub(earlier.wall) {
            Some(age) => Ok(age),
            None if earlier.wall - self.wall <= CLOCK_SLACK => Ok(Duration::ZERO),
            None => Err(earlier.wall - self.wall),
        }
    }
}

/// An entry of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Saved {
    /// As it was learnt.
    pub mapping: Mapping,
    /// Until it expires.
    pub left: Duration,
    /// Since a packet matched it last; `None`: none did.
    pub idle: Option<Duration>,
    /// Who answered, where that is known.
    pub responder: Option<std::net::IpAddr>,
    /// The site echoes nonces.
    pub echoes: bool,
    /// Its locators that were known to be down.
    pub down: Vec<Rloc>,
}

/// A snapshot as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Whose it is.
    pub identity: String,
    /// When it was taken.
    pub taken: Moment,
    /// What was in the map-cache then.
    pub entries: Vec<Saved>,
}

/// What of a snapshot still holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Valid {
    /// The entries that have not expired, the most recently used first, with the times of now.
    pub entries: Vec<Saved>,
    /// How many had.
    pub expired: usize,
    /// How old the snapshot is.
    pub age: Duration,
}

/// Why a snapshot is not used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Unusable {
    /// The file is something else.
    #[error("it is not a map-cache snapshot")]
    Magic,
    /// Another version of the router wrote it.
    #[error("its format is version {0}, and this router reads version {VERSION} only")]
    Version(u16),
    /// Bytes were changed, lost or added.
    #[error("it is damaged: its checksum is wrong")]
    Checksum,
    /// It is whole, but does not follow the format.
    #[error("it is damaged: {0}")]
    Format(#[from] DecodeError),
    /// A field has a value that it can't have.
    #[error("it is damaged: {0}")]
    Value(&'static str),
    /// It is from another router.
    #[error("it was written by {}, and this is {}", whose(theirs), whose(ours))]
    Identity {
        /// Whose it is.
        theirs: String,
        /// Who we are.
        ours: String,
    },
    /// What it says may have changed too long ago.
    #[error("it is {} s old, and [map-cache] snapshot-max-age is {} s", age.as_secs(), most.as_secs())]
    TooOld {
        /// Its age.
        age: Duration,
        /// The configured limit.
        most: Duration,
    },
    /// Nobody knows how old it is.
    #[error(
        "the clock went back by {} s since it was taken, so that nobody knows how old it is",
        .0.as_secs()
    )]
    ClockWentBack(Duration),
}

/// A snapshot that is being taken, a part of the map-cache at a time: other things happen in between, so that
/// entries that change meanwhile may be in it as they were before or after. Each is right by itself.
#[derive(Debug)]
pub struct Taking {
    bytes: Writer,
    cursor: Option<EidPrefix>,
    started: Instant,
    count: u32,
    /// An entry that could not be written is left out.
    skipped: u32,
}

impl Taking {
    /// Begins. `now` and `at` are the same moment; `identity` says whose cache it is, in at most 65,535
    /// bytes.
    pub fn begin(identity: &str, at: &Moment, now: Instant) -> Self {
        let mut bytes = Writer::default();
        bytes.slice(&MAGIC);
        bytes.u16(VERSION);
        bytes.u64(millis(at.wall));
        bytes.slice(&at.boot);
        bytes.u64(millis(at.since_boot));
        bytes.u32(0);
        let identity = identity.as_bytes();
        let length = u16::try_from(identity.len()).unwrap_or(u16::MAX);
        bytes.u16(length);
        bytes.slice(identity.get(..usize::from(length)).unwrap_or_default());
        Self { bytes, cursor: None, started: now, count: 0, skipped: 0 }
    }

    /// Looks at the next `most` entries of the map-cache. Whether there are more.
    pub fn step(&mut self, plane: &ControlPlane, most: usize) -> bool {
        let mut looked = 0;
        for (prefix, entry) in plane.map_cache_after(self.cursor).take(most) {
            looked += 1;
            self.cursor = Some(prefix);
            if is_worth_keeping(entry) {
                self.add(entry, plane);
            }
        }
        looked == most
    }

    /// How many entries it has so far.
    pub fn len(&self) -> u32 {
        self.count
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Completes it. Reads all of it once, which takes a moment where there is much.
    pub fn seal(self) -> Vec<u8> {
        let mut bytes = self.bytes.into_bytes();
        if let Some(count) = bytes.get_mut(COUNT_AT..COUNT_AT + 4) {
            count.copy_from_slice(&self.count.to_be_bytes());
        }
        let checksum = Sha256::digest(&bytes);
        bytes.extend_from_slice(&checksum);
        bytes
    }

    fn add(&mut self, entry: &MapCacheEntry, plane: &ControlPlane) {
        let mapping = if entry.mapping.is_by_proxy() {
            // Which proxy-ETRs there are is configured.
            Mapping { locators: Vec::new(), ..entry.mapping.clone() }
        } else {
            entry.mapping.clone()
        };
        let is_down = |rloc: &Rloc| plane.is_down(rloc) || entry.down_by_status.contains(rloc);
        let saved = Saved {
            left: entry.expires.saturating_since(self.started),
            idle: entry.stats.last_used().map(|used| self.started.saturating_since(used)),
            responder: entry.responder,
            echoes: entry.echoes,
            down: mapping.locators.iter().map(|l| l.rloc).filter(is_down).collect(),
            mapping,
        };
        if saved.left.is_zero() {
            return;
        }
        // On its own first: what can't be encoded must not leave half an entry behind.
        let mut one = Writer::default();
        match saved.encode(&mut one) {
            Some(()) => {
                self.bytes.slice(&one.into_bytes());
                self.count = self.count.saturating_add(1);
            }
            None => self.skipped += 1,
        }
    }
}

/// Whether an entry goes into a snapshot.
fn is_worth_keeping(entry: &MapCacheEntry) -> bool {
    !matches!(entry.source, MapCacheSource::Static | MapCacheSource::Gleaned)
}

impl Saved {
    fn encode(&self, w: &mut Writer) -> Option<()> {
        w.u64(millis(self.left));
        w.u32(self.idle.map_or(NEVER_USED, |idle| {
            u32::try_from(idle.as_secs()).unwrap_or(NEVER_USED).min(NEVER_USED - 1)
        }));
        w.u8(flag(self.echoes, ECHOES));
        let place = |rloc: &Rloc| {
            let at = self.mapping.locators.iter().position(|l| l.rloc == *rloc)?;
            u8::try_from(at).ok()
        };
        let places: Vec<u8> = self.down.iter().filter_map(place).collect();
        w.count8(places.len(), "locators that are down").ok()?;
        w.slice(&places);
        self.responder.map_or(Address::None, Address::from).encode(w).ok()?;
        EidRecord::from(&self.mapping).encode(w).ok()
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, Unusable> {
        let left = Duration::from_millis(r.u64("remaining time")?);
        let idle = r.u32("idle time")?;
        let flags = r.u8("flags")?;
        let down = r.u8("locators that are down")?;
        let places = r.take(down.into(), "locators that are down")?;
        let responder = Address::decode(r, "responder")?;
        let responder = match responder {
            Address::None => None,
            address => Some(address.to_ip().ok_or(Unusable::Value("a responder that is no IP address"))?),
        };
        let (mapping, skipped) =
            EidRecord::decode(r)?.to_mapping().map_err(|_| Unusable::Value("an EID-prefix that is none"))?;
        if skipped > 0 {
            return Err(Unusable::Value("a locator that is no IP address"));
        }
        let rloc = |place: &u8| mapping.locators.get(usize::from(*place)).map(|locator| locator.rloc);
        let down: Option<Vec<Rloc>> = places.iter().map(rloc).collect();
        Ok(Self {
            down: down.ok_or(Unusable::Value("a locator that the record doesn't have"))?,
            mapping,
            left,
            idle: (idle != NEVER_USED).then(|| Duration::from_secs(idle.into())),
            responder,
            echoes: flags & ECHOES != 0,
        })
    }
}

/// Reads a snapshot. Takes as much memory as there are bytes, whatever they say.
///
/// # Errors
/// If it is anything else than what [`Taking::seal`] made, byte for byte.
pub fn decode(bytes: &[u8]) -> Result<Snapshot, Unusable> {
    let mut r = Reader::new(bytes);
    match r.array("magic") {
        Ok(MAGIC) => {}
        _ => return Err(Unusable::Magic),
    }
    let version = r.u16("version")?;
    if version != VERSION {
        return Err(Unusable::Version(version));
    }
    let (content, checksum) = bytes.split_last_chunk::<CHECKSUM>().ok_or(DecodeError::Missing("checksum"))?;
    if Sha256::digest(content).as_slice() != checksum {
        return Err(Unusable::Checksum);
    }
    let length = r.len().checked_sub(CHECKSUM).ok_or(DecodeError::Missing("checksum"))?;
    let mut r = r.sub(length, "content")?;
    let taken = Moment {
        wall: Duration::from_millis(r.u64("wall clock")?),
        boot: r.array("boot")?,
        since_boot: Duration::from_millis(r.u64("time since boot")?),
    };
    let count = r.u32("number of entries")?;
    let length = r.u16("length of the identity")?;
    let identity = r.take(length.into(), "identity")?;
    let identity = str::from_utf8(identity).map_err(|_| Unusable::Value("an identity that is no text"))?;
    // One after the other, so that a count that promises more than there is costs nothing.
    let mut entries = Vec::new();
    for _ in 0..count {
        entries.push(Saved::decode(&mut r)?);
    }
    r.finish()?;
    Ok(Snapshot { identity: identity.to_owned(), taken, entries })
}

/// A router by what it goes by in a snapshot: its xTR-ID or, without one, its name.
fn whose(identity: &str) -> String {
    match identity {
        "" => "a router that had neither xtr-id nor name".into(),
        id if id.starts_with("0x") => format!("the router with xtr-id {id}"),
        name => format!("a router called \"{name}\" that had no xtr-id"),
    }
}

impl Snapshot {
    /// What of it still holds `now`, for the router that is called `identity` and trusts no snapshot that is
    /// older than `most`.
    ///
    /// # Errors
    /// If nothing of it may be used.
    pub fn valid(self, identity: &str, now: &Moment, most: Duration) -> Result<Valid, Unusable> {
        if self.identity != identity {
            return Err(Unusable::Identity { theirs: self.identity, ours: identity.to_owned() });
        }
        let age = now.since(&self.taken).map_err(Unusable::ClockWentBack)?;
        if age > most {
            return Err(Unusable::TooOld { age, most });
        }
        let before = self.entries.len();
        let mut entries: Vec<Saved> = self
            .entries
            .into_iter()
            .filter(|saved| saved.left > age)
            .map(|saved| Saved { left: saved.left - age, idle: saved.idle.map(|i| i + age), ..saved })
            .collect();
        entries.sort_by_key(|saved| (saved.idle.is_none(), saved.idle, saved.mapping.eid));
        Ok(Valid { expired: before.saturating_sub(entries.len()), entries, age })
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
