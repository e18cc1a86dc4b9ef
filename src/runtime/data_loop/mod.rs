//! The data threads: one for each queue takes packets from the TUNs to the underlay (ITR) and the other way
//! (ETR).
//!
//! Owns: opening what they read and write, the loops, and their end. What becomes of a packet is
//! `dataplane`'s to say. The threads block while there is nothing to do, and never wait for the control
//! thread.
//!
//! Memory is bounded, whatever arrives. Each queue's thread takes at most 10 MiB ([`MEMORY`]) where the kernel
//! joins datagrams, and 14 MiB ([`PLAIN_MEMORY`]) where it does not: both directions' packets, the lists of
//! what becomes of them, the remembered lookups, and who sent packets. Beside that, the kernel keeps packets
//! for its sockets: at most `send-buffer` for each of the `source-ports` of each family, and `receive-buffer`
//! for each family, and as it counts its own overhead with them, twice as much. Packets beyond are dropped
//! and counted. The FIB, which all threads share, is bounded by the map-cache.

mod etr;
mod itr;
mod worker;

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;

use tokio::sync::mpsc;
use tracing::{error, info, warn};

use super::clock::Clock;
use crate::dataplane::{Counters, DataPlaneConfig, Instance, Offload, Totals};
use crate::fib::{FibReader, Punt, Sender, Senders, Worker};
use crate::io::checksum;
use crate::io::icmp::IcmpSocket;
use crate::io::poll::{Interest, Poller, StopSignal};
use crate::io::steering::Steering;
use crate::io::tun::Tun;
use crate::io::udp::{ReceiveSocket, SendSocket};
use crate::types::{DATA_PORT, Family, Instant};

/// Why the data plane could not start, in a sentence that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum DataPlaneError {
    /// A TUN device could not be created.
    #[error("can't create TUN device {name}: {source}; {hint}")]
    Tun {
        /// Its name.
        name: String,
        /// What the kernel said.
        source: std::io::Error,
        /// What to do.
        hint: &'static str,
    },
    /// A data socket could not be opened.
    #[error("can't open the {family} data socket on UDP port {DATA_PORT}: {source}; {hint}")]
    Receive {
        /// Its family.
        family: Family,
        /// What the kernel said.
        source: std::io::Error,
        /// What to do.
        hint: &'static str,
    },
    /// Anything else that the kernel refused.
    #[error("can't {what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What the kernel said.
        source: std::io::Error,
    },
}

impl DataPlaneError {
    fn tun(name: &str, source: std::io::Error) -> Self {
        let hint = match source.kind() {
            std::io::ErrorKind::NotFound => {
                "load the tun module, or give the container the device /dev/net/tun"
            }
            std::io::ErrorKind::PermissionDenied => "run as root or with CAP_NET_ADMIN",
            std::io::ErrorKind::ResourceBusy => "another process has it: stop that, or choose another name",
            _ => "see whether a device of another kind has this name",
        };
        Self::Tun { name: name.to_owned(), source, hint }
    }

    fn receive(family: Family, source: std::io::Error) -> Self {
        let hint = match source.kind() {
            std::io::ErrorKind::AddrInUse => "another process has the port: is a router running already?",
            _ => "see whether the address family is enabled",
        };
        Self::Receive { family, source, hint }
    }

    fn system(what: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::System { what, source }
    }
}

/// Most bytes of memory of one queue's thread where the kernel joins datagrams, beside its sockets.
pub const MEMORY: usize = itr::MEMORY + etr::memory(true);
/// The same where it does not.
pub const PLAIN_MEMORY: usize = itr::MEMORY + etr::memory(false);
const _: () = assert!(MEMORY <= 10 << 20 && PLAIN_MEMORY <= 14 << 20);

/// How packets are moved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mode {
    /// Queues, each with an ITR and an ETR thread.
    pub queues: u16,
    /// Why the TUN devices pass one packet at a time; `None` where they pass super-packets.
    pub plain_because: Option<String>,
    /// Whether the underlay's sockets cut and join datagrams.
    pub underlay: bool,
}

/// The running data plane. Dropping it stops it and removes its TUN devices.
#[derive(Debug)]
pub struct DataPlane {
    stop: StopSignal,
    gate: Arc<Gate>,
    threads: Vec<(String, JoinHandle<()>)>,
    /// Of each direction of each queue.
    counters: Vec<(String, Arc<Counters>)>,
    senders: Vec<Arc<Senders>>,
    tuns: Vec<String>,
    mode: Mode,
}

impl DataPlane {
    /// As [`prepare`](Self::prepare), and packets pass at once.
    pub fn start(
        config: &DataPlaneConfig,
        clock: Clock,
        fib: &FibReader,
        punts: &mpsc::Sender<Punt>,
    ) -> Result<Self, DataPlaneError> {
        let plane = Self::prepare(config, clock, fib, punts)?;
        plane.go();
        Ok(plane)
    }

    /// Creates the TUN devices (without address and down: that is kernel integration's to change), opens the
    /// sockets and makes the threads. The FIB is read through `fib`, and punts go to `punts`, dropped and
    /// counted while it is full. Packets wait in the kernel's queues until [`go`](Self::go), so that the FIB
    /// can be filled before the first one looks for its destination.
    pub fn prepare(
        config: &DataPlaneConfig,
        clock: Clock,
        fib: &FibReader,
        punts: &mpsc::Sender<Punt>,
    ) -> Result<Self, DataPlaneError> {
        let stop = StopSignal::new().map_err(DataPlaneError::system("make a stop signal"))?;
        let underlay = underlay_offload(config)?;
        let (queues, plain_because) = open_tuns(config, underlay)?;
        let count = queues.len() as u16;
        let mut plane = Self {
            stop,
            gate: Arc::default(),
            threads: Vec::new(),
            counters: Vec::new(),
            senders: Vec::new(),
            tuns: config.instances.iter().map(|i| i.tun.clone()).collect(),
            mode: Mode { queues: count, plain_because, underlay },
        };
        // All sockets before the first thread: what can't be opened is known before anything moves.
        let mut workers = Vec::new();
        for (index, tuns) in queues.into_iter().enumerate() {
            let etr = match config.etr {
                true => {
                    let sockets = open_receivers(config, count > 1, underlay)?;
                    Some(etr::Etr::new(config, clock, fib.clone(), tuns.clone(), sockets, punts.clone()))
                }
                false => None,
            };
            plane.senders.extend(etr.as_ref().map(etr::Etr::senders));
            let worker = Worker { index: index as u16, count };
            let itr = match config.itr {
                true => {
                    let outlet = itr::Outlet { fib: fib.clone(), punts: punts.clone() };
                    Some(itr::Itr::new(config, worker, clock, tuns, underlay, outlet)?)
                }
                false => None,
            };
            let worker = worker::Worker::new(itr, etr, clock, plane.poller()?)
                .map_err(DataPlaneError::system("watch the TUN devices and sockets"))?;
            workers.push(worker);
        }
        for (queue, worker) in workers.into_iter().enumerate() {
            plane.spawn(queue, worker)?;
        }
        let (_, checksum) = checksum::fastest();
        let offloads = plane.mode.plain_because.is_none();
        info!(tuns = ?plane.tuns, queues = count, offloads, underlay, checksum, "data plane started");
        Ok(plane)
    }

    /// Packets pass from now on.
    pub fn go(&self) {
        self.gate.open();
    }

    /// Names of the TUN devices, in the order of the configuration's instances.
    pub fn tuns(&self) -> &[String] {
        &self.tuns
    }

    /// How packets are moved.
    pub fn mode(&self) -> Mode {
        self.mode.clone()
    }

    /// What each direction of each queue counted so far, by its name.
    pub fn per_thread(&self) -> Vec<(String, Totals)> {
        self.counters.iter().map(|(name, counters)| (name.clone(), counters.totals())).collect()
    }

    /// Who sent data packets to this site since `since`; the same one several times where its packets came to
    /// several queues, instances or families.
    pub fn senders(&self, since: Instant) -> Vec<Sender> {
        self.senders.iter().flat_map(|senders| senders.since(since)).collect()
    }

    /// What all of them counted so far.
    pub fn totals(&self) -> Totals {
        let mut sum = Totals::default();
        self.counters.iter().for_each(|(_, counters)| sum.add(&counters.totals()));
        sum
    }

    /// A poller that the stop signal wakes.
    fn poller(&self) -> Result<Poller, DataPlaneError> {
        let make = || {
            let poller = Poller::new()?;
            poller.add(&self.stop, STOP, Interest::Read)?;
            Ok(poller)
        };
        make().map_err(DataPlaneError::system("make an epoll instance"))
    }

    fn spawn(&mut self, queue: usize, worker: worker::Worker) -> Result<(), DataPlaneError> {
        self.counters.extend(worker.counters(queue));
        let name = format!("data{queue}");
        let gate = Arc::clone(&self.gate);
        let thread = std::thread::Builder::new()
            .name(name.clone())
            .spawn(move || {
                gate.pass();
                if let Err(error) = worker.run() {
                    error!(queue, %error, "data thread failed: packets no longer pass");
                }
            })
            .map_err(DataPlaneError::system("start a thread"))?;
        self.threads.push((name, thread));
        Ok(())
    }
}

impl Drop for DataPlane {
    fn drop(&mut self) {
        self.stop.set();
        self.gate.open();
        for (name, thread) in self.threads.drain(..) {
            if thread.join().is_err() {
                error!(thread = name, "data thread panicked");
            }
        }
    }
}

/// What the threads wait at until packets may pass. Once open, it stays so.
#[derive(Debug, Default)]
struct Gate {
    is_open: Mutex<bool>,
    opened: Condvar,
}

impl Gate {
    fn open(&self) {
        *self.is_open.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.opened.notify_all();
    }

    fn pass(&self) {
        let is_open = self.is_open.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.opened.wait_while(is_open, |open| !*open).unwrap_or_else(PoisonError::into_inner));
    }
}

/// The stop signal's token; all others are small numbers.
const STOP: u64 = u64::MAX;

/// Buffer of a data socket where none is configured. The kernel's own default holds three super-packets,
/// which is less than what arrives while a thread waits for a busy processor.
const BUFFER: u32 = 4 << 20;

/// The TUN devices of each queue, all with offloads or all without, and then why.
type Queues = Vec<Vec<Arc<Tun>>>;

/// Whether the kernel cuts what is sent to the underlay, and joins what comes from there.
fn underlay_offload(config: &DataPlaneConfig) -> Result<bool, DataPlaneError> {
    if config.offload == Offload::Off {
        return Ok(false);
    }
    let probe =
        SendSocket::open(Family::Ipv4, false, None).map_err(DataPlaneError::system("open a UDP socket"))?;
    Ok(probe.supports_segmentation())
}

fn open_tuns(config: &DataPlaneConfig, underlay: bool) -> Result<(Queues, Option<String>), DataPlaneError> {
    let mut plain_because = "switched off by the configuration".to_owned();
    if matches!(config.offload, Offload::Auto | Offload::On) {
        match offload_tuns(config, underlay) {
            Ok(queues) => return Ok((queues, None)),
            Err(error) if config.offload == Offload::On => return Err(error),
            Err(error) => {
                plain_because = error.to_string();
                info!(reason = plain_because, "no offloads: the TUN passes packets one at a time");
            }
        }
    }
    if config.queues > 1 {
        warn!(queues = config.queues, "one queue only: there are several with offloads alone");
    }
    let open = |instance: &Instance| match Tun::open_plain(&instance.tun) {
        Ok(tun) => Ok(Arc::new(tun)),
        Err(error) => Err(DataPlaneError::tun(&instance.tun, error)),
    };
    let tuns: Result<_, _> = config.instances.iter().map(open).collect();
    Ok((vec![tuns?], Some(plain_because)))
}

fn offload_tuns(config: &DataPlaneConfig, underlay: bool) -> Result<Queues, DataPlaneError> {
    if !underlay {
        let source = std::io::ErrorKind::Unsupported.into();
        let what = "use UDP segmentation offload (Linux has it since 4.18)";
        return Err(DataPlaneError::System { what, source });
    }
    let (count, steering) = queue_count(config);
    let open = |instance: &Instance| match Tun::open_offload(&instance.tun, count > 1) {
        Ok(tun) => Ok(Arc::new(tun)),
        Err(error) if error.kind() == std::io::ErrorKind::InvalidInput => {
            Err(DataPlaneError::System { what: "use segmentation offload on TUN devices", source: error })
        }
        Err(error) => Err(DataPlaneError::tun(&instance.tun, error)),
    };
    let queue = |_| config.instances.iter().map(open).collect::<Result<Vec<_>, _>>();
    let queues: Queues = (0..count).map(queue).collect::<Result<_, _>>()?;
    if let Some(steering) = steering {
        for tun in queues.iter().take(1).flatten() {
            steering
                .attach(tun)
                .map_err(DataPlaneError::system("pin flows to the queues of a TUN device"))?;
        }
    }
    Ok(queues)
}

/// How many queues there are to be, and what pins flows to them. Without that there is one: TCP would be
/// reordered.
fn queue_count(config: &DataPlaneConfig) -> (u16, Option<Steering>) {
    // Each queue's thread shares the processors with those of the kernel and of the applications.
    let cpus = std::thread::available_parallelism().map_or(1, |n| n.get().min(64) as u16);
    let wanted = match config.queues {
        0 => (cpus / 2).clamp(1, MAX_QUEUES),
        configured => configured.min(MAX_QUEUES),
    };
    if wanted == 1 {
        return (1, None);
    }
    match Steering::load() {
        Ok(steering) => (wanted, Some(steering)),
        Err(error) => {
            warn!(%error, "one queue only: flows can't be pinned to several (CAP_BPF)");
            (1, None)
        }
    }
}

/// Most queues: each has memory and sockets of its own.
const MAX_QUEUES: u16 = 16;

/// The sockets of one ITR thread: for each family as many as there are source ports. Families that the system
/// lacks have none.
fn open_senders(config: &DataPlaneConfig) -> Result<[Vec<SendSocket>; 2], DataPlaneError> {
    let zero = config.udp_checksum == crate::dataplane::UdpChecksum::Zero;
    let ports = config.source_ports.clamp(1, 64);
    let pool = |family| -> std::io::Result<Vec<_>> {
        (0..ports)
            .map(|_| SendSocket::open(family, zero, Some(config.send_buffer.unwrap_or(BUFFER))))
            .collect()
    };
    let v4 = pool(Family::Ipv4).map_err(DataPlaneError::system("open a UDP socket"))?;
    let v6 = pool(Family::Ipv6).unwrap_or_else(|error| {
        warn!(%error, "no IPv6 sockets: IPv6 locators can't be reached");
        Vec::new()
    });
    Ok([v4, v6])
}

/// The sockets of one ETR thread, one for each family that the system has.
fn open_receivers(
    config: &DataPlaneConfig,
    shared: bool,
    join: bool,
) -> Result<Vec<ReceiveSocket>, DataPlaneError> {
    let bind = |family| {
        let buffer = config.receive_buffer.unwrap_or(BUFFER);
        ReceiveSocket::bind(family, DATA_PORT, shared, join, Some(buffer))
    };
    let mut sockets = vec![bind(Family::Ipv4).map_err(|e| DataPlaneError::receive(Family::Ipv4, e))?];
    match bind(Family::Ipv6) {
        Ok(socket) => sockets.push(socket),
        Err(error) if error.raw_os_error() == Some(libc::EAFNOSUPPORT) => {
            warn!("the system has no IPv6: data packets over IPv6 can't arrive");
        }
        Err(error) => return Err(DataPlaneError::receive(Family::Ipv6, error)),
    }
    Ok(sockets)
}

/// The sockets for ICMP errors to the site; without them packets are dropped in silence.
fn open_icmp() -> [Option<IcmpSocket>; 2] {
    [Family::Ipv4, Family::Ipv6].map(|family| match IcmpSocket::open(family) {
        Ok(socket) => Some(socket),
        Err(error) => {
            warn!(
                %family,
                %error,
                "can't send ICMP errors: give CAP_NET_RAW, or hosts won't learn the path MTU"
            );
            None
        }
    })
}
