//! An eBPF program that pins flows to the queues of a TUN device.
//!
//! Without one the kernel spreads packets over the queues by where it last saw a flow come from, which
//! reorders TCP. The program hashes addresses, and ports of TCP and UDP packets that are no fragments; the
//! kernel takes the result modulo the number of queues.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use super::tun::Tun;

/// The loaded program.
#[derive(Debug)]
pub struct Steering {
    fd: OwnedFd,
}

/// One instruction, as the kernel defines it (`struct bpf_insn`).
#[repr(C)]
#[derive(Clone, Copy, Debug)]
struct Instruction {
    code: u8,
    /// Destination register in the lower half, source in the upper one.
    registers: u8,
    offset: i16,
    immediate: i32,
}

/// The start of `union bpf_attr` for `BPF_PROG_LOAD`, up to what every kernel with eBPF has.
#[repr(C)]
struct LoadAttributes {
    kind: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buffer: u64,
    kernel_version: u32,
    flags: u32,
}

impl Steering {
    /// Loads the program. Needs CAP_BPF, or CAP_SYS_ADMIN before Linux 5.8.
    pub fn load() -> io::Result<Self> {
        const BPF_PROG_LOAD: libc::c_int = 5;
        const BPF_PROG_TYPE_SOCKET_FILTER: u32 = 1;
        let program = program();
        let attributes = LoadAttributes {
            kind: BPF_PROG_TYPE_SOCKET_FILTER,
            instruction_count: program.len() as u32,
            instructions: program.as_ptr() as u64,
            license: c"MIT".as_ptr() as u64,
            log_level: 0,
            log_size: 0,
            log_buffer: 0,
            kernel_version: 0,
            flags: 0,
        };
        // SAFETY: the attributes are valid for the size given, and point to instructions and a string that
        // live beyond the call, which only reads them.
        let fd = unsafe {
            libc::syscall(
                libc::SYS_bpf,
                BPF_PROG_LOAD,
                &raw const attributes,
                size_of::<LoadAttributes>() as libc::c_uint,
            )
        };
        let fd = i32::try_from(fd).ok().filter(|&fd| fd >= 0).ok_or_else(io::Error::last_os_error)?;
        // SAFETY: just opened, and owned by nobody else.
        Ok(Self { fd: unsafe { OwnedFd::from_raw_fd(fd) } })
    }

    /// Has the program choose among the queues of a device, of which `tun` is one.
    pub fn attach(&self, tun: &Tun) -> io::Result<()> {
        let fd: libc::c_int = self.fd.as_raw_fd();
        // SAFETY: the argument is a valid int, which the kernel reads.
        let done = unsafe { libc::ioctl(tun.as_raw_fd(), libc::TUNSETSTEERINGEBPF, &raw const fd) };
        if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

// Instruction classes, operations and sizes (linux/bpf_common.h, linux/bpf.h).
const LOAD_WORD: u8 = 0x20;
const LOAD_HALF: u8 = 0x28;
const LOAD_BYTE: u8 = 0x30;
const LOAD_WORD_INDIRECT: u8 = 0x40;
const MOVE: u8 = 0xbf;
const MOVE_VALUE: u8 = 0xb7;
const XOR: u8 = 0xaf;
const MULTIPLY_VALUE: u8 = 0x27;
const AND_VALUE: u8 = 0x57;
const SHIFT_LEFT: u8 = 0x67;
const SHIFT_RIGHT: u8 = 0x77;
const JUMP_IF: u8 = 0x15;
const JUMP_UNLESS: u8 = 0x55;
const EXIT: u8 = 0x95;

/// Result of loads and of the program; the packet; the hash; a length.
const R0: u8 = 0;
const R1: u8 = 1;
const R6: u8 = 6;
const R7: u8 = 7;
const R8: u8 = 8;

const TCP: i32 = 6;
const UDP: i32 = 17;

/// Jumps over `then` unless R0 is `value`.
fn when(value: i32, then: Vec<Instruction>) -> Vec<Instruction> {
    let mut all = vec![jump(JUMP_UNLESS, value, then.len())];
    all.extend(then);
    all
}

fn jump(code: u8, value: i32, over: usize) -> Instruction {
    Instruction { code, registers: R0, offset: over as i16, immediate: value }
}

fn two(code: u8, destination: u8, source: u8) -> Instruction {
    Instruction { code, registers: destination | source << 4, offset: 0, immediate: 0 }
}

fn one(code: u8, destination: u8, value: i32) -> Instruction {
    Instruction { code, registers: destination, offset: 0, immediate: value }
}

/// Loads into R0 from so many bytes into the packet, in the machine's byte order. A load beyond the packet
/// ends the program with 0.
fn load(code: u8, at: i32) -> Instruction {
    Instruction { code, registers: 0, offset: 0, immediate: at }
}

/// Mixes R0 into the hash.
fn mix() -> [Instruction; 2] {
    [two(XOR, R7, R0), one(MULTIPLY_VALUE, R7, 0x9e37_79b1_u32 as i32)]
}

/// The end: the upper half of the hash, which depends on all that was mixed in.
fn finish() -> [Instruction; 3] {
    [two(MOVE, R0, R7), one(SHIFT_RIGHT, R0, 33), one(EXIT, 0, 0)]
}

fn program() -> Vec<Instruction> {
    let words =
        |at: &[i32]| at.iter().flat_map(|&at| [vec![load(LOAD_WORD, at)], mix().to_vec()].concat()).collect();
    // Unless R0 is TCP or UDP, that is all.
    let with_ports = |ports: Vec<Instruction>| -> Vec<Instruction> {
        let mut all = vec![jump(JUMP_IF, TCP, 1 + finish().len()), jump(JUMP_IF, UDP, finish().len())];
        all.extend(finish());
        all.extend(ports);
        all.extend(mix());
        all.extend(finish());
        all
    };
    let addresses_v4: Vec<Instruction> = words(&[12, 16]);
    let mut v4 = addresses_v4;
    // More fragments, or an offset: no ports.
    v4.extend([load(LOAD_HALF, 6), one(AND_VALUE, R0, 0x3fff), jump(JUMP_IF, 0, finish().len())]);
    v4.extend(finish());
    v4.extend([load(LOAD_BYTE, 0), one(AND_VALUE, R0, 0x0f), one(SHIFT_LEFT, R0, 2), two(MOVE, R8, R0)]);
    v4.push(load(LOAD_BYTE, 9));
    v4.extend(with_ports(vec![Instruction {
        code: LOAD_WORD_INDIRECT,
        registers: R8 << 4,
        offset: 0,
        immediate: 0,
    }]));
    let mut v6: Vec<Instruction> = words(&[8, 12, 16, 20, 24, 28, 32, 36]);
    v6.push(load(LOAD_BYTE, 6));
    v6.extend(with_ports(vec![load(LOAD_WORD, 40)]));

    let mut all = vec![
        two(MOVE, R6, R1),
        one(MOVE_VALUE, R7, 0x6c69_7370),
        load(LOAD_BYTE, 0),
        one(SHIFT_RIGHT, R0, 4),
    ];
    all.extend(when(4, v4));
    // Both branches end the program by themselves; R0 still holds the version where neither was taken.
    all.extend(when(6, v6));
    all.extend(finish());
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_takes_the_program_and_a_tun_takes_it_too() {
        let steering = Steering::load().expect("the tests need CAP_BPF");
        let name = format!("est{}", std::process::id());
        let tun = Tun::open_offload(&name, true).expect("the tests need CAP_NET_ADMIN and /dev/net/tun");
        steering.attach(&tun).unwrap();
    }
}
