//! Traffic between hosts.

use std::io::{Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

use crate::netns::Netns;

/// What `ping` saw.
#[derive(Clone, Debug)]
pub struct Ping {
    pub sent: usize,
    pub received: usize,
    /// ICMP sequence number of the first reply, from 1: one more than the requests lost before it.
    pub first_sequence: Option<usize>,
    pub output: String,
}

impl Ping {
    pub fn lost(&self) -> usize {
        self.sent - self.received
    }
}

/// Pings `to` from `from`: `count` requests `interval` seconds apart, with further options of ping(8).
pub fn ping(from: &Netns, to: IpAddr, count: usize, interval: f64, options: &str) -> Ping {
    let line = format!("ping -n -c {count} -i {interval} -W 2 {options} {to}");
    let output = from.try_sh(&line);
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    let summary = text
        .lines()
        .find(|l| l.contains("packets transmitted"))
        .unwrap_or_else(|| panic!("`{line}` came to no summary:\n{text}"));
    let numbers: Vec<usize> = summary.split([' ', ',']).filter_map(|word| word.parse().ok()).collect();
    let first = text.lines().find(|l| l.contains("bytes from") && l.contains("icmp_seq="));
    let after = |line: &str, key: &str| {
        line.split_once(key).and_then(|(_, rest)| rest.split_whitespace().next().map(str::to_owned))
    };
    Ping {
        sent: numbers[0],
        received: numbers[1],
        first_sequence: first.and_then(|l| after(l, "icmp_seq=")).and_then(|s| s.parse().ok()),
        output: text,
    }
}

/// One request a millisecond, whether replies come or not. (ping(8) waits for replies, 10 ms each, where it is asked
/// for shorter intervals.)
pub fn ping_every_millisecond(from: &Netns, to: IpAddr, count: usize) -> Ping {
    let line = format!("fping -c {count} -p 1 -i 1 -t 2000 {to}");
    let output = from.try_sh(&line);
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    // ADDRESS : xmt/rcv/%loss = 200/199/0%, min/avg/max = …
    let summary = text.split("xmt/rcv/%loss = ").nth(1).unwrap_or_else(|| panic!("`{line}`:\n{text}"));
    let mut numbers = summary.split('/').map(|n| n.parse().unwrap_or_else(|_| panic!("`{line}`:\n{text}")));
    // ADDRESS : [0], 64 bytes, 0.017 ms …
    let first =
        text.split(" : [").nth(1).and_then(|rest| rest.split(']').next()).and_then(|n| n.parse().ok());
    Ping {
        sent: numbers.next().expect("a number"),
        received: numbers.next().expect("a number"),
        first_sequence: first.map(|n: usize| n + 1),
        output: text,
    }
}

/// Pings until a reply comes: whether one did within `limit`.
pub fn reaches(from: &Netns, to: IpAddr, limit: Duration) -> bool {
    crate::wait::within(limit, || from.try_sh(&format!("ping -n -c 1 -W 1 {to}")).status.success())
}

/// Sends `bytes` bytes that don't repeat by TCP from one namespace to an address in another, and returns the SHA-256
/// of what was sent and of what arrived.
pub fn tcp_transfer(from: &Netns, to: &Netns, addr: IpAddr, bytes: usize) -> ([u8; 32], [u8; 32]) {
    let listener = to.tcp_listener(SocketAddr::new(addr, 0));
    let target = listener.local_addr().expect("local address");
    thread::scope(|scope| {
        let receiver = scope.spawn(move || {
            let (mut stream, _) = listener.accept().expect("accept");
            stream.set_read_timeout(Some(Duration::from_secs(30))).expect("time-out");
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
        stream.set_write_timeout(Some(Duration::from_secs(30))).expect("time-out");
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

/// A stream of a thousand small datagrams a second, each with its number.
pub struct Stream {
    stop: Arc<AtomicBool>,
    sender: thread::JoinHandle<u64>,
    receiver: thread::JoinHandle<Vec<u64>>,
}

/// What became of a [`Stream`].
#[derive(Clone, Debug)]
pub struct Streamed {
    pub sent: u64,
    pub received: usize,
    /// The longest run of numbers none of which arrived: the longest gap, in milliseconds.
    pub longest_gap: u64,
}

impl Stream {
    /// Starts sending from `from` to an address of `to`.
    pub fn start(from: &Netns, to: &Netns, addr: IpAddr) -> Self {
        let receiving = to.run(|| UdpSocket::bind(SocketAddr::new(addr, 0)).expect("UDP socket"));
        let target = receiving.local_addr().expect("local address");
        let any: IpAddr = if addr.is_ipv4() { [0; 4].into() } else { [0u16; 8].into() };
        let sending = from.run(move || UdpSocket::bind(SocketAddr::new(any, 0)).expect("UDP socket"));
        receiving.set_read_timeout(Some(Duration::from_millis(100))).expect("time-out");
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
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
            number
        });
        let stopped = Arc::clone(&stop);
        let receiver = thread::spawn(move || {
            let mut seen = Vec::new();
            let mut bytes = [0; 16];
            loop {
                match receiving.recv(&mut bytes) {
                    Ok(8) => {
                        seen.push(u64::from_be_bytes(bytes[..8].try_into().expect("eight bytes")));
                    }
                    Ok(_) => {}
                    // Nothing for 100 ms: the last ones have arrived.
                    Err(_) if stopped.load(Ordering::Relaxed) => return seen,
                    Err(_) => {}
                }
            }
        });
        Self { stop, sender, receiver }
    }

    /// Ends it.
    pub fn finish(self) -> Streamed {
        self.stop.store(true, Ordering::Relaxed);
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
