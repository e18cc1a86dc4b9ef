//! Frames of a pcap or pcapng file.
//!
//! Records are read raw: the library's own parsing refuses packets that the snapshot length cut, and takes
//! every pcapng timestamp for nanoseconds.

use std::io::{self, Chain, Cursor, Read};
use std::time::Duration;

use pcap_file::pcap::PcapReader;
use pcap_file::pcapng::PcapNgReader;
use pcap_file::pcapng::RawBlock;
use pcap_file::pcapng::blocks::interface_description::{
    InterfaceDescriptionBlock, InterfaceDescriptionOption,
};
use pcap_file::pcapng::blocks::{ENHANCED_PACKET_BLOCK, PACKET_BLOCK, SIMPLE_PACKET_BLOCK};
use pcap_file::{DataLink, Endianness, PcapError, TsResolution};

/// A file that is being read.
pub(super) struct Capture {
    reader: Reader,
    /// Of the last frame, from 1.
    number: u64,
    /// An error ends the file: where the next record begins is unknown.
    failed: bool,
}

type Input = Chain<Cursor<Vec<u8>>, Box<dyn Read>>;

enum Reader {
    Pcap(Box<PcapReader<Input>>),
    PcapNg(Box<PcapNgReader<Input>>),
}

/// One captured frame.
#[derive(Debug)]
pub(super) struct Frame {
    /// From 1, as other tools count them.
    pub(super) number: u64,
    /// Since 1970-01-01 00:00 UTC.
    pub(super) time: Option<Duration>,
    pub(super) link: DataLink,
    /// As captured.
    pub(super) data: Vec<u8>,
    /// Bytes that there were on the wire.
    pub(super) original_len: usize,
}

/// Why a file cannot be read, or not on.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// Reading failed.
    #[error("cannot read: {0}")]
    Io(#[from] io::Error),
    /// No pcap or pcapng file.
    #[error("this is neither a pcap nor a pcapng file")]
    NotACapture,
    /// It ends within a record.
    #[error("the file breaks off after frame {0}")]
    Truncated(u64),
    /// It contradicts its format.
    #[error("the file is damaged after frame {frame}: {what}")]
    Damaged {
        /// The last good frame.
        frame: u64,
        /// What is wrong.
        what: String,
    },
}

impl Capture {
    pub(super) fn open(mut input: Box<dyn Read>) -> Result<Self, CaptureError> {
        let mut magic = Vec::new();
        input.by_ref().take(4).read_to_end(&mut magic)?;
        let kind: [u8; 4] = magic.as_slice().try_into().map_err(|_| CaptureError::NotACapture)?;
        let input = Cursor::new(magic).chain(input);
        let reader = match kind {
            [0x0a, 0x0d, 0x0d, 0x0a] => {
                Reader::PcapNg(Box::new(PcapNgReader::new(input).map_err(|error| failure(error, 0))?))
            }
            [0xa1, 0xb2, 0xc3, 0xd4]
            | [0xd4, 0xc3, 0xb2, 0xa1]
            | [0xa1, 0xb2, 0x3c, 0x4d]
            | [0x4d, 0x3c, 0xb2, 0xa1] => {
                Reader::Pcap(Box::new(PcapReader::new(input).map_err(|error| failure(error, 0))?))
            }
            _ => return Err(CaptureError::NotACapture),
        };
        Ok(Self { reader, number: 0, failed: false })
    }

    /// `None` at the end of the file, and after an error.
    pub(super) fn next_frame(&mut self) -> Option<Result<Frame, CaptureError>> {
        if self.failed {
            return None;
        }
        let number = self.number + 1;
        let frame = match &mut self.reader {
            Reader::Pcap(reader) => next_pcap(reader, number),
            Reader::PcapNg(reader) => next_pcapng(reader, number),
        };
        match &frame {
            Some(Ok(_)) => self.number = number,
            Some(Err(_)) => self.failed = true,
            None => {}
        }
        frame
    }
}

fn next_pcap(reader: &mut PcapReader<Input>, number: u64) -> Option<Result<Frame, CaptureError>> {
    let header = reader.header();
    let packet = match reader.next_raw_packet()? {
        Ok(packet) => packet,
        Err(error) => return Some(Err(failure(error, number - 1))),
    };
    let nanos = match header.ts_resolution {
        TsResolution::MicroSecond => u64::from(packet.ts_frac) * 1_000,
        TsResolution::NanoSecond => u64::from(packet.ts_frac),
    };
    Some(Ok(Frame {
        number,
        time: Some(Duration::from_secs(packet.ts_sec.into()) + Duration::from_nanos(nanos)),
        link: header.datalink,
        original_len: packet.orig_len as usize,
        data: packet.data.into_owned(),
    }))
}

fn next_pcapng(reader: &mut PcapNgReader<Input>, number: u64) -> Option<Result<Frame, CaptureError>> {
    loop {
        let block = match reader.next_raw_block()? {
            Ok(block) => RawBlock { body: block.body.into_owned().into(), ..block },
            Err(error) => return Some(Err(failure(error, number - 1))),
        };
        let fields = Fields { bytes: &block.body, endianness: reader.section().endianness };
        let packet = match block.type_ {
            ENHANCED_PACKET_BLOCK => fields.enhanced(),
            PACKET_BLOCK => fields.obsolete(),
            SIMPLE_PACKET_BLOCK => fields.simple(),
            // Names, statistics, comments.
            _ => continue,
        };
        let interface = packet.as_ref().map(|packet| reader.interfaces().get(packet.interface));
        let (Some(packet), Some(Some(interface))) = (packet, interface) else {
            let what = "a packet block without an interface, or shorter than it says".to_owned();
            return Some(Err(CaptureError::Damaged { frame: number - 1, what }));
        };
        return Some(Ok(Frame {
            number,
            time: packet.ticks.map(|ticks| time(ticks, interface)),
            link: interface.linktype,
            original_len: packet.original_len,
            data: packet.data.to_vec(),
        }));
    }
}

/// The body of a packet block.
struct Fields<'a> {
    bytes: &'a [u8],
    endianness: Endianness,
}

struct PacketFields<'a> {
    interface: usize,
    /// In the interface's unit.
    ticks: Option<u64>,
    original_len: usize,
    data: &'a [u8],
}

impl<'a> Fields<'a> {
    fn u32(&self, at: usize) -> Option<u32> {
        let bytes = *self.bytes.get(at..)?.first_chunk::<4>()?;
        Some(match self.endianness {
            Endianness::Big => u32::from_be_bytes(bytes),
            Endianness::Little => u32::from_le_bytes(bytes),
        })
    }

    fn u16(&self, at: usize) -> Option<u16> {
        let bytes = *self.bytes.get(at..)?.first_chunk::<2>()?;
        Some(match self.endianness {
            Endianness::Big => u16::from_be_bytes(bytes),
            Endianness::Little => u16::from_le_bytes(bytes),
        })
    }

    /// Interface (32), timestamp (64, high half first), captured and original length (32 each), data.
    fn enhanced(&self) -> Option<PacketFields<'a>> {
        self.timed(self.u32(0)? as usize)
    }

    /// As the enhanced packet block, but interface (16) and drops (16).
    fn obsolete(&self) -> Option<PacketFields<'a>> {
        self.timed(self.u16(0)?.into())
    }

    fn timed(&self, interface: usize) -> Option<PacketFields<'a>> {
        let ticks = u64::from(self.u32(4)?) << 32 | u64::from(self.u32(8)?);
        let captured = self.u32(12)? as usize;
        Some(PacketFields {
            interface,
            ticks: Some(ticks),
            original_len: self.u32(16)? as usize,
            data: self.bytes.get(20..)?.get(..captured)?,
        })
    }

    /// Original length (32), then data, padded; there is neither a time nor a captured length.
    fn simple(&self) -> Option<PacketFields<'a>> {
        let original_len = self.u32(0)? as usize;
        let rest = self.bytes.get(4..)?;
        let data = rest.get(..original_len).unwrap_or(rest);
        Some(PacketFields { interface: 0, ticks: None, original_len, data })
    }
}

/// The time that `ticks` of the interface's unit are: 10^-n or 2^-n seconds, microseconds where it does not
/// say.
fn time(ticks: u64, interface: &InterfaceDescriptionBlock<'_>) -> Duration {
    let (mut resolution, mut offset) = (6, 0);
    for option in &interface.options {
        match option {
            InterfaceDescriptionOption::IfTsResol(value) => resolution = *value,
            InterfaceDescriptionOption::IfTsOffset(value) => offset = *value,
            _ => {}
        }
    }
    let exponent = u32::from(resolution & 0x7f);
    let base: u128 = if resolution & 0x80 == 0 { 10 } else { 2 };
    let per_second = base.checked_pow(exponent).unwrap_or(u128::MAX);
    let ticks = u128::from(ticks);
    let nanos = (ticks % per_second).checked_mul(1_000_000_000).map_or(0, |scaled| scaled / per_second);
    let seconds = u64::try_from(ticks / per_second).unwrap_or(u64::MAX).saturating_add(offset);
    Duration::from_secs(seconds).saturating_add(Duration::from_nanos(u64::try_from(nanos).unwrap_or(0)))
}

fn failure(error: PcapError, frame: u64) -> CaptureError {
    match error {
        PcapError::IoError(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            CaptureError::Truncated(frame)
        }
        PcapError::IoError(error) => CaptureError::Io(error),
        PcapError::IncompleteBuffer => CaptureError::Truncated(frame),
        other => CaptureError::Damaged { frame, what: other.to_string() },
    }
}
