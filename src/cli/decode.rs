//! `eidolon decode`: LISP messages from a hex string or a capture, and VRRP advertisements from a capture,
//! readable.
//!
//! Owns: reading captures, finding LISP and VRRP in their frames, and laying the result out. What a message
//! looks like is [`wire::display`](crate::wire::display)'s to say. With `--json`, every packet is one JSON
//! object on a line of its own (JSON Lines):
//!
//! | member | content |
//! | --- | --- |
//! | `frame`, `time` | number from 1 and UTC time (RFC 3339), from captures only |
//! | `source`, `source_port` | of the outer header, from captures only; VRRP has no ports |
//! | `destination`, `destination_port` | the same |
//! | `plane` | `control` (port 4342), `data` (port 4341), or `vrrp` (IP protocol 112) |
//! | `length` | bytes of UDP payload, or of the VRRP message |
//! | `message` | of a control message or VRRP advertisement: its fields |
//! | `ttl` | of VRRP: the IP header's TTL or hop limit, which has to be 255 |
//! | `checksum` | of VRRP: what the right checksum covers, `pseudo-header` or `message-only` |
//! | `lisp_header`, `inner` | of a data packet: the fields of its LISP header and of the packet inside |
//! | `mac` | with `--key`, one entry per authenticated message, an ECM's inner one too (see below) |
//! | `error` | why there is no `message` or `inner`, or not a whole one |
//! | `hex` | the UDP payload or VRRP message, or the frame where there is none |
//!
//! An entry of `mac` has `message`, `result` (`right` or `wrong`), and `key`, counting `--key` from 1, or
//! `reason`.
//!
//! An entry of `mac` has `message`, `result` (`right` or `wrong`), and `key`, counting `--key` from 1, or
//! `reason`.

mod capture;
mod packet;
mod report;

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;

use clap::Args;

use crate::auth::Secret;
use crate::wire::DecodeError;

use capture::{Capture, CaptureError};
use report::Reporter;

/// Arguments of `eidolon decode`.
#[derive(Debug, Args)]
#[command(after_help = "With --json, each packet is one JSON object on a line of its own.")]
#[command(group = clap::ArgGroup::new("input").required(true).args(["hex", "file"]))]
pub struct DecodeArgs {
    /// A UDP payload in hex: blanks, colons and 0x are ignored.
    #[arg(long, value_name = "STRING")]
    pub hex: Option<String>,
    /// A capture, pcap or pcapng; `-` is standard input.
    pub file: Option<PathBuf>,
    /// The hex string is the payload of a data packet (port 4341), not of a control message.
    #[arg(long, requires = "hex")]
    pub data: bool,
    /// One JSON object per packet.
    #[arg(long)]
    pub json: bool,
    /// Say of each authenticated message whether its MAC is right under this secret. May be repeated.
    #[arg(long = "key", value_name = "SECRET")]
    pub keys: Vec<String>,
}

/// Why decoding ended early. What could be decoded before has been written.
#[derive(Debug, thiserror::Error)]
pub enum DecodeFailure {
    /// The file cannot be opened.
    #[error("cannot open {file}: {error}")]
    Open {
        /// The file.
        file: String,
        /// Why.
        error: io::Error,
    },
    /// The file is no capture, or breaks off.
    #[error("{file}: {error}")]
    Capture {
        /// The file.
        file: String,
        /// What is wrong with it.
        error: CaptureError,
    },
    /// The hex string is none.
    #[error("--hex: {0}")]
    Hex(#[from] HexError),
    /// The hex string is not a LISP message.
    #[error("--hex: not a LISP control message: {0}")]
    Message(#[from] DecodeError),
    /// The hex string is not a LISP data packet.
    #[error("--hex: not a LISP data packet: {0}")]
    Data(String),
    /// The output cannot be written.
    #[error("cannot write the output: {0}")]
    Output(io::Error),
}

/// Why a string is not hex.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HexError {
    /// Something else than digits and separators.
    #[error("{character:?} at character {position} is not a hex digit")]
    Character {
        /// What.
        character: char,
        /// Where, counted from 1.
        position: usize,
    },
    /// Half a byte is left over.
    #[error("the number of hex digits, {0}, is odd")]
    Odd(usize),
}

/// Decodes what `args` name and writes it to `out`.
pub fn run(args: DecodeArgs, out: &mut dyn Write) -> Result<(), DecodeFailure> {
    let keys = args.keys.into_iter().map(Secret::new).collect();
    let mut reporter = Reporter::new(out, args.json, keys);
    let result = match (args.hex, args.file) {
        (Some(hex), _) => parse_hex(&hex).map_err(Into::into).and_then(|bytes| {
            if args.data { reporter.bare_data(&bytes) } else { reporter.bare_control(&bytes) }
        }),
        (None, Some(file)) => decode_capture(file, &mut reporter),
        (None, None) => Ok(()),
    };
    match result {
        // A reader that goes away has seen enough.
        Err(DecodeFailure::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

fn decode_capture(path: PathBuf, reporter: &mut Reporter<'_>) -> Result<(), DecodeFailure> {
    let file = path.display().to_string();
    let input: Box<dyn io::Read> = if path.as_os_str() == OsStr::new("-") {
        Box::new(io::stdin().lock())
    } else {
        match File::open(&path) {
            Ok(input) => Box::new(input),
            Err(error) => return Err(DecodeFailure::Open { file, error }),
        }
    };
    decode_frames(input, reporter).map_err(|error| match error {
        FrameFailure::Capture(error) => DecodeFailure::Capture { file, error },
        FrameFailure::Output(failure) => failure,
    })
}

enum FrameFailure {
    Capture(CaptureError),
    Output(DecodeFailure),
}

fn decode_frames(input: Box<dyn io::Read>, reporter: &mut Reporter<'_>) -> Result<(), FrameFailure> {
    let mut capture = Capture::open(input).map_err(FrameFailure::Capture)?;
    while let Some(frame) = capture.next_frame() {
        let frame = frame.map_err(FrameFailure::Capture)?;
        reporter.frame(&frame).map_err(FrameFailure::Output)?;
    }
    reporter.end().map_err(FrameFailure::Output)
}

/// Bytes of a hex string with blanks, colons and `0x` anywhere between bytes or digits.
fn parse_hex(text: &str) -> Result<Vec<u8>, HexError> {
    let mut digits = Vec::new();
    let mut characters = text.chars().enumerate().peekable();
    while let Some((i, character)) = characters.next() {
        match character {
            '0' if characters.next_if(|(_, next)| matches!(next, 'x' | 'X')).is_some() => {}
            ':' => {}
            _ if character.is_whitespace() => {}
            _ => match character.to_digit(16) {
                Some(digit) => digits.push(digit as u8),
                None => return Err(HexError::Character { character, position: i + 1 }),
            },
        }
    }
    let (pairs, odd) = digits.as_chunks::<2>();
    if !odd.is_empty() {
        return Err(HexError::Odd(digits.len()));
    }
    Ok(pairs.iter().map(|[high, low]| high << 4 | low).collect())
}

#[cfg(test)]
mod tests;
