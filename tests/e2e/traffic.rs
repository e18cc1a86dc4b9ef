//! Traffic between hosts.

use std::fmt;
use std::io::{Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::socket::{setsockopt, sockopt};
use sha2::{Digest, Sha256};

use crate::netns::Netns;
use crate::wait::{PATIENCE, until, within};

/// What came of pings.
#[derive(Clone, Debug)]
pub struct Ping {
    pub sent: usize,
    pub received: usize,
    /// Number of the request that the first reply was to, from 1: one more than the requests lost before it.
    pub first_sequence: Option<usize>,
    pub output: String,
}

impl Ping {
    pub fn lost(&self) -> usize {
        self.sent - self.received
    }
}

/// Pings `to` from `from`: `count` requests `interval` seconds apart, whether replies come or not, each of
/// which may take two seconds. With further options of fping(8), of which `-t` is another time, in
/// milliseconds.
///
/// Not by ping(8): once there are replies, that waits for the last one for a moment only, and calls it lost
/// where the machine was busy for longer.
pub fn ping(from: &Netns, to: IpAddr, count: usize, interval: f64, options: &str) -> Ping {
    let line = format!("fping -c {count} -p {} -i 1 -t 2000 {options} {to}", interval * 1000.0);
    let output = from.try_sh(&line);
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    // ADDRESS : xmt/rcv/%loss = 200/199/0%, min/avg/max = …
    let summary = text.split("xmt/rcv/%loss = ").nth(1).unwrap_or_else(|| panic!("`{line}`:\n{text}"));
    let mut numbers = summary.split('/').map(|n| n.parse().unwrap_or_else(|_| panic!("`{line}`:\n{text}")));
    // ADDRESS : [0], 64 bytes, 0.017 ms …, or where nothing came: ADDRESS : [0], timed out …
    let reply = text.lines().find(|line| line.contains(" : [") && line.contains(" bytes, "));
    let first = reply.and_then(|line| line.split(" : [").nth(1)?.split(']').next()?.parse::<usize>().ok());
    Ping {
        sent: numbers.next().expect("a number"),
        received: numbers.next().expect("a number"),
        first_sequence: first.map(|n| n + 1),
        output: text,
    }
}

/// Pings until a reply comes: whether one did within `limit`.
pub fn reaches(from: &Netns, to: IpAddr, limit: Duration) -> bool {
    within(limit, || from.try_sh(&format!("ping -n -c 1 -W 1 {to}")).status.success())
}

/// Sends `bytes` bytes that don't repeat by TCP from one namespace to an address in another, and returns the
/// SHA-256 of what was sent and of what arrived.
pub fn tcp_transfer(from: &Netns, to: &Netns, addr: IpAddr, bytes: usize) -> ([u8; 32], [u8; 32]) {
    let listener = to.tcp_listener(SocketAddr::new(addr, 0));
    let target = listener.local_addr().expect("local address");
    thread::scope(|scope| {
        let receiver = scope.spawn(move || {
            let (mut stream, _) = listener.accept().expect("accept");
            stream.set_read_timeout(Some(PATIENCE)).expect("time-out");
            let mut hash = Sha256::new();
            let mut buffer = vec![0; 1 << 18];
            loop {
                match stream.read(&mut buffer) {
                    Ok(0) => return hash.finalize().into(),
                    Ok(n) => hash.update(&buffer[..n]),
                    Err(e) => panic!("the receiver of a transfer: {e}"),
                }
            }
        });
        let mut stream = from.tcp_connect(target);
        stream.set_write_timeout(Some(PATIENCE)).expect("time-out");
        let mut hash = Sha256::new();
        let mut left = bytes;
        let mut noise = Noise::new(bytes as u64);
        let mut chunk = vec![0; 1 << 18];
        while left > 0 {
            let n = left.min(chunk.len());
            noise.fill(&mut chunk[..n]);
            hash.update(&chunk[..n]);
            stream.write_all(&chunk[..n]).expect("the sender of a transfer");
            left -= n;
        }
        stream.shutdown(Shutdown::Write).expect("shutdown");
        (hash.finalize().into(), receiver.join().expect("receiver"))
    })
}

/// Bytes without a pattern, the same for the same seed (xorshift64*).
pub struct Noise(u64);

impl Noise {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `limit`, which is not 0.
    pub fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit as u64).expect("less than a usize")
    }

    pub fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            let word = self.next().to_le_bytes();
            chunk.copy_from_slice(&word[..chunk.len()]);
        }
    }
}

/// A UDP socket with room for what comes while its reader is kept from reading.
pub fn roomy_socket(ns: &Netns, at: SocketAddr) -> UdpSocket {
    let socket = ns.run(move || UdpSocket::bind(at).unwrap_or_else(|e| panic!("bind to {at}: {e}")));
    setsockopt(&socket, sockopt::RcvBufForce, &(16 << 20)).expect("a large receive buffer");
    socket
}

/// Lets a router's TUN devices hold all that comes while the router is kept from reading: what is lost then
/// is lost by the router. For as long as these devices live.
pub fn deep_queue(xtr: &Netns) {
    xtr.sh(
        "for tun in $(ip -o link show type tun | cut -d: -f2); do ip link set $tun txqueuelen 20000; done",
    );
}

/// A stream of a thousand small datagrams a second, each with its number; ended by [`Self::finish`], or when
/// dropped.
pub struct Stream {
    over: Over,
    arrived: Arc<AtomicUsize>,
    sender: thread::JoinHandle<u64>,
    receiver: thread::JoinHandle<Vec<u64>>,
}

/// Ends what looks at it, also where a test fails.
struct Over(Arc<AtomicBool>);

impl Drop for Over {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// What became of a [`Stream`].
#[derive(Clone, Debug)]
pub struct Streamed {
    pub sent: u64,
    pub received: usize,
    /// The longest run of numbers none of which arrived: the longest gap, in milliseconds.
    pub longest_gap: u64,
}

impl fmt::Display for Streamed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "longest gap {} ms, {} of {} packets arrived", self.longest_gap, self.received, self.sent)
    }
}

impl Stream {
    /// Starts sending from `from` to an address of `to`.
    pub fn start(from: &Netns, to: &Netns, addr: IpAddr) -> Self {
        let receiving = roomy_socket(to, SocketAddr::new(addr, 0));
        let target = receiving.local_addr().expect("local address");
        let any: IpAddr = if addr.is_ipv4() { [0; 4].into() } else { [0u16; 8].into() };
        let sending = from.run(move || UdpSocket::bind(SocketAddr::new(any, 0)).expect("UDP socket"));
        let pause = Duration::from_millis(50);
        receiving.set_read_timeout(Some(pause)).expect("time-out");
        let over = Arc::new(AtomicBool::new(false));
        let arrived = Arc::new(AtomicUsize::new(0));
        // How many were sent, once there are no more.
        let total = Arc::new(AtomicU64::new(u64::MAX));
        let (stopped, sum) = (Arc::clone(&over), Arc::clone(&total));
        let sender = thread::spawn(move || {
            let start = Instant::now();
            let mut number = 0u64;
            while !stopped.load(Ordering::Relaxed) {
                // What is refused on the way is lost, as it would be further on.
                let _ = sending.send_to(&number.to_be_bytes(), target);
                number += 1;
                thread::sleep(
                    (start + Duration::from_millis(number)).saturating_duration_since(Instant::now()),
                );
            }
            sum.store(number, Ordering::Relaxed);
            number
        });
        let count = Arc::clone(&arrived);
        let receiver = thread::spawn(move || {
            let (mut seen, mut last, mut silent) = (Vec::new(), None, Duration::ZERO);
            let mut bytes = [0; 16];
            loop {
                let total = total.load(Ordering::Relaxed);
                // All are there; or the last one, and those that it overtook; or nothing comes any more.
                let patience = if last.map(|n| n + 1) == Some(total) { pause } else { 20 * pause };
                if seen.len() as u64 >= total || total < u64::MAX && silent >= patience {
                    return seen;
                }
                match receiving.recv(&mut bytes) {
                    Ok(8) => {
                        let number = u64::from_be_bytes(bytes[..8].try_into().expect("eight bytes"));
                        seen.push(number);
                        count.store(seen.len(), Ordering::Relaxed);
                        last = last.max(Some(number));
                        silent = Duration::ZERO;
                    }
                    Ok(_) => {}
                    Err(_) => silent += pause,
                }
            }
        });
        Self { over: Over(over), arrived, sender, receiver }
    }

    /// How many have arrived by now.
    pub fn arrived(&self) -> usize {
        self.arrived.load(Ordering::Relaxed)
    }

    /// Ends it.
    pub fn finish(self) -> Streamed {
        drop(self.over);
        let sent = self.sender.join().expect("sender");
        let mut numbers = self.receiver.join().expect("receiver");
        let received = numbers.len();
        numbers.sort_unstable();
        numbers.push(sent);
        let mut expected = 0;
        let mut longest_gap = 0;
        for number in numbers {
            longest_gap = longest_gap.max(number.saturating_sub(expected));
            expected = number + 1;
        }
        Streamed { sent, received, longest_gap }
    }
}

/// Waits until each of some streams has gone on for a while: 300 packets, which is as many milliseconds.
pub fn go_on(what: &str, streams: &[&Stream]) {
    let before: Vec<usize> = streams.iter().map(|s| s.arrived()).collect();
    until(what, PATIENCE, || streams.iter().zip(&before).all(|(s, before)| s.arrived() >= before + 300));
}
