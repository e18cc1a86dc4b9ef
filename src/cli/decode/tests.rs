//! Captures of every link type that is supported, written here byte by byte, and hostile input.

use std::io::Cursor;
use std::time::Duration;

use etherparse::PacketBuilder;
use pcap_file::DataLink;
use pcap_file::pcap::{PcapHeader, PcapPacket, PcapWriter};
use serde_json::{Value, json};

use super::*;
use crate::auth::{Algorithm, Key, seal};
use crate::types::Nonce;
use crate::wire::{Ecm, MapRegister, Message};

fn run_hex(hex: &str, json: bool, keys: &[&str]) -> (String, Result<(), DecodeFailure>) {
    let mut out = Vec::new();
    let keys = keys.iter().map(|key| (*key).to_owned()).collect();
    let args = DecodeArgs { hex: Some(hex.to_owned()), file: None, data: false, json, keys };
    let result = run(args, &mut out);
    (String::from_utf8(out).unwrap(), result)
}

/// JSON lines of a capture, and how reading it ended.
fn decode(capture: Vec<u8>, keys: &[&str]) -> (Vec<Value>, Option<String>) {
    let mut out = Vec::new();
    let keys = keys.iter().map(|key| Secret::new(*key)).collect();
    let result = decode_frames(Box::new(Cursor::new(capture)), &mut Reporter::new(&mut out, true, keys));
    let lines = String::from_utf8(out).unwrap();
    let error = match result {
        Ok(()) => None,
        Err(FrameFailure::Capture(error)) => Some(error.to_string()),
        Err(FrameFailure::Output(failure)) => Some(failure.to_string()),
    };
    (lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect(), error)
}

fn pcap(link: DataLink, frames: &[Vec<u8>]) -> Vec<u8> {
    let header = PcapHeader { datalink: link, ..PcapHeader::default() };
    let mut writer = PcapWriter::with_header(Vec::new(), header).unwrap();
    for (i, frame) in frames.iter().enumerate() {
        let time = Duration::new(1_700_000_000 + i as u64, 5_000);
        writer.write_packet(&PcapPacket::new(time, frame.len() as u32, frame)).unwrap();
    }
    writer.into_writer()
}

fn register(key: &Key) -> Vec<u8> {
    let register = MapRegister { nonce: Nonce(7), want_notify: true, ..MapRegister::default() };
    seal(Message::MapRegister(register), key).unwrap()
}

fn key() -> Key {
    Key { id: 1, algorithm: Algorithm::HmacSha256, secret: Secret::new("secret"), truncate: false }
}

/// IPv4 and UDP around `payload`.
fn ipv4(source_port: u16, destination_port: u16, payload: &[u8]) -> Vec<u8> {
    let builder = PacketBuilder::ipv4([192, 0, 2, 1], [192, 0, 2, 2], 64).udp(source_port, destination_port);
    let mut bytes = Vec::new();
    builder.write(&mut bytes, payload).unwrap();
    bytes
}

fn ipv6(payload: &[u8]) -> Vec<u8> {
    let address = |last| std::net::Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last).octets();
    let mut bytes = Vec::new();
    PacketBuilder::ipv6(address(1), address(2), 64).udp(61000, 4342).write(&mut bytes, payload).unwrap();
    bytes
}

#[test]
fn every_link_type_leads_to_the_message() {
    let payload = register(&key());
    let packet = ipv4(61000, 4342, &payload);
    let with = |header: &[u8]| [header, &packet].concat();
    let ethernet = |tags: &[u8]| with(&[&[2; 12], tags, &[8, 0]].concat());
    let sll = [&[0, 4, 3, 4, 0, 6][..], &[0; 8], &[8, 0]].concat();
    let sll2 = [&[8, 0, 0, 0][..], &[0, 0, 0, 1, 3, 4, 4, 6], &[0; 8]].concat();
    let frames = [
        (DataLink::ETHERNET, ethernet(&[])),
        (DataLink::ETHERNET, ethernet(&[0x81, 0, 0, 7])),
        (DataLink::ETHERNET, ethernet(&[0x88, 0xa8, 0, 7, 0x81, 0, 0, 8])),
        (DataLink::RAW, packet.clone()),
        (DataLink::IPV4, packet.clone()),
        (DataLink::NULL, with(&[2, 0, 0, 0])),
        (DataLink::LOOP, with(&[0, 0, 0, 2])),
        (DataLink::LINUX_SLL, with(&sll)),
        (DataLink::LINUX_SLL2, with(&sll2)),
    ];
    for (link, frame) in frames {
        let (packets, error) = decode(pcap(link, &[frame]), &["wrong", "secret"]);
        assert_eq!((packets.len(), error), (1, None), "{link:?}");
        let packet = &packets[0];
        assert_eq!(packet["frame"], 1);
        assert_eq!(packet["time"], "2023-11-14T22:13:20.000005000Z");
        assert_eq!(packet["source"], "192.0.2.1");
        assert_eq!(packet["source_port"], 61000);
        assert_eq!(packet["destination_port"], 4342);
        assert_eq!(packet["plane"], "control");
        assert_eq!(packet["message"]["lisp_type"], 3);
        assert_eq!(packet["message"]["nonce"], "0x00000000-0x00000007");
        assert_eq!(packet["message"]["flags"]["want_map_notify"], true);
        assert_eq!(packet["mac"], json!([{"message": "Map-Register", "result": "right", "key": 2}]));
    }
    let (packets, _) = decode(pcap(DataLink::IPV6, &[ipv6(&payload)]), &["wrong"]);
    assert_eq!(packets[0]["source"], "2001:db8::1");
    assert_eq!(packets[0]["mac"][0]["result"], "wrong");
}

#[test]
fn macs_inside_ecms_are_checked() {
    let ecm = Message::Ecm(Ecm {
        ddt: false,
        security: None,
        source: "[2001:db8::1]:4342".parse().unwrap(),
        destination: "[2001:db8::2]:4342".parse().unwrap(),
        payload: register(&key()),
    });
    let hex: String = ecm.encode().unwrap().iter().map(|byte| format!("{byte:02x} ")).collect();
    let (out, result) = run_hex(&hex, true, &["secret"]);
    result.unwrap();
    let packet: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(packet["mac"], json!([{"message": "Map-Register", "result": "right", "key": 1}]));
    assert_eq!(packet["message"]["inner_header"]["source"], "2001:db8::1");
    assert_eq!(packet["message"]["inner_message"]["auth_length"], 32);
    // For people, the key is the one of the command line, not a key ID.
    let (text, _) = run_hex(&hex, false, &["wrong", "secret"]);
    assert!(text.lines().any(|line| line == "  MAC: right, with the 2nd --key"), "{text}");
    let (text, _) = run_hex(&hex, false, &["wrong"]);
    assert!(text.lines().any(|line| line.starts_with("  MAC: wrong: ")), "{text}");
}

#[test]
fn data_packets_show_their_header_and_what_is_inside() {
    let mut inner = Vec::new();
    PacketBuilder::ipv4([10, 0, 0, 1], [10, 1, 0, 1], 63)
        .tcp(1234, 80, 1, 1000)
        .syn()
        .write(&mut inner, &[])
        .unwrap();
    // N, L and I set.
    let payload = [&[0xc8, 0, 0, 9, 0, 0, 7, 1], inner.as_slice()].concat();
    let (packets, error) = decode(pcap(DataLink::RAW, &[ipv4(50000, 4341, &payload)]), &[]);
    assert_eq!(error, None);
    let packet = &packets[0];
    assert_eq!(packet["plane"], "data");
    assert_eq!(packet["lisp_header"]["nonce"], "0x000009");
    assert_eq!(packet["lisp_header"]["instance_id"], 7);
    assert_eq!(packet["lisp_header"]["locator_status_bits"], "0x00000001");
    assert_eq!(packet["inner"]["source"], "10.0.0.1");
    assert_eq!(packet["inner"]["ttl"], 63);
    assert_eq!(packet["inner"]["destination_port"], 80);
    assert_eq!(packet["inner"]["tcp_flags"], "SYN");
    assert_eq!(packet.get("error"), None);
}

/// A frame that cannot be decoded is shown with the reason; those after it are still decoded, and other
/// protocols left out. Frame numbers count all.
#[test]
fn bad_packets_are_reported_and_do_not_end_the_file() {
    let payload = register(&key());
    let good = ipv4(4342, 4342, &payload);
    let cut = good[..60].to_vec();
    let garbage = ipv4(61000, 4342, &[0xf0; 3]);
    let dns = ipv4(5353, 53, b"not LISP");
    let no_ip_header = vec![0x45, 0, 0];
    let unknown_type = ipv4(61000, 4342, &[0x90, 0, 0, 0]);
    let data = ipv4(61000, 4341, &[0, 0, 0]);
    let (packets, error) =
        decode(pcap(DataLink::RAW, &[cut, garbage, dns, no_ip_header, unknown_type, data, good]), &[]);
    assert_eq!(error, None);
    let frames: Vec<_> = packets.iter().map(|packet| packet["frame"].as_u64().unwrap()).collect();
    assert_eq!(frames, [1, 2, 4, 5, 6, 7]);
    let reason = |i: usize| packets[i]["error"].as_str().unwrap_or_default();
    assert!(reason(0).contains("only the beginning"), "{}", reason(0));
    assert!(reason(1).contains("Shared Extension"), "{}", reason(1));
    assert!(!reason(2).is_empty());
    assert_eq!(reason(3), "LISP message type 9 is unknown");
    assert_eq!(reason(4), "the packet ends within the LISP header");
    assert_eq!(packets[5]["message"]["lisp_type"], 3);
}

/// `tcpdump -s` leaves records that are shorter than the packet was.
#[test]
fn frames_that_the_snapshot_length_cut_are_read() {
    let mut file = pcap(DataLink::RAW, &[ipv4(4342, 4342, &register(&key()))]);
    // File header 24 bytes, of which the snapshot length at 16; then the record header's captured and
    // original length.
    let whole = u32::from_be_bytes(file[36..40].try_into().unwrap());
    file[16..20].copy_from_slice(&50u32.to_be_bytes());
    file[32..36].copy_from_slice(&50u32.to_be_bytes());
    file.truncate(24 + 16 + 50);
    assert!(whole > 50);
    let (packets, error) = decode(file, &[]);
    assert_eq!(error, None);
    assert!(packets[0]["error"].as_str().unwrap().contains("only the beginning"));
}

#[test]
fn unsupported_link_types_are_named() {
    let (packets, error) = decode(pcap(DataLink::IEEE802_11, &[vec![0; 40]]), &[]);
    assert_eq!(error, None);
    assert_eq!(packets[0]["error"], "link type 105 is not supported");
}

/// A section, an interface of `resolution`, an enhanced packet and a simple one, written by hand.
fn pcapng(resolution: u8, ticks: u64, packet: &[u8], big: bool) -> Vec<u8> {
    let u32 = |value: u32| if big { value.to_be_bytes() } else { value.to_le_bytes() };
    let u16 = |value: u16| if big { value.to_be_bytes() } else { value.to_le_bytes() };
    let block = |kind: u32, body: &[u8]| {
        let padding = vec![0; body.len().next_multiple_of(4) - body.len()];
        let len = u32((12 + body.len() + padding.len()) as u32);
        [&u32(kind)[..], &len, body, &padding, &len].concat()
    };
    let section = [&u32(0x1a2b_3c4d)[..], &u16(1), &u16(0), &[0xff; 8]].concat();
    let interface =
        [&u16(101)[..], &[0; 2], &u32(0), &u16(9), &u16(1), &[resolution, 0, 0, 0], &[0; 4]].concat();
    let len = u32(packet.len() as u32);
    let enhanced = [&u32(0)[..], &u32((ticks >> 32) as u32), &u32(ticks as u32), &len, &len, packet].concat();
    let simple = [&len, packet].concat();
    [block(0x0a0d_0d0a, &section), block(1, &interface), block(6, &enhanced), block(3, &simple)].concat()
}

#[test]
fn pcapng_in_both_byte_orders_and_every_time_resolution() {
    let packet = ipv4(61000, 4342, &register(&key()));
    let cases = [
        (6, 1_700_000_000_000_005, "2023-11-14T22:13:20.000005000Z"),
        (9, 1_700_000_000_000_005_000, "2023-11-14T22:13:20.000005000Z"),
        (0x80 | 10, 1_700_000_000 << 10 | 512, "2023-11-14T22:13:20.500000000Z"),
    ];
    for big in [false, true] {
        for (resolution, ticks, time) in cases {
            let (packets, error) = decode(pcapng(resolution, ticks, &packet, big), &[]);
            assert_eq!((packets.len(), error), (2, None));
            assert_eq!(packets[0]["time"], time);
            assert_eq!(packets[0]["message"]["lisp_type"], 3);
            assert_eq!(packets[1]["frame"], 2);
            assert_eq!(packets[1].get("time"), None);
            assert_eq!(packets[1]["message"]["lisp_type"], 3);
        }
    }
}

#[test]
fn damaged_files_give_what_they_can_and_a_reason() {
    let packet = ipv4(61000, 4342, &register(&key()));
    for file in [pcap(DataLink::RAW, &[packet.clone(), packet.clone()]), pcapng(6, 0, &packet, false)] {
        let (whole, _) = decode(file.clone(), &[]);
        assert_eq!(whole.len(), 2);
        for len in 0..file.len() {
            let (packets, error) = decode(file[..len].to_vec(), &[]);
            assert!(packets.len() < 2 && packets == whole[..packets.len()], "cut at {len}");
            // Between two records the cut cannot be seen.
            assert!(error.is_some() || packets.len() <= 1, "cut at {len}");
        }
        for i in 0..file.len() {
            let mut changed = file.clone();
            changed[i] ^= 0xff;
            decode(changed, &[]);
        }
    }
    let (_, error) = decode(b"hello, world".to_vec(), &[]);
    assert_eq!(error.as_deref(), Some("this is neither a pcap nor a pcapng file"));
}

#[test]
fn hex_may_look_as_people_paste_it() {
    let bytes = [0xf4, 0x24, 0x00, 0x0a];
    for text in ["f424000a", "F4:24:00:0A", " 0xf4 0x24\n0x00\t0x0a ", "0xf424 000a", "f4240 00a"] {
        assert_eq!(parse_hex(text), Ok(bytes.to_vec()), "{text}");
    }
    assert_eq!(parse_hex("f4 2g"), Err(HexError::Character { character: 'g', position: 5 }));
    assert_eq!(parse_hex("f42"), Err(HexError::Odd(3)));
    assert_eq!(parse_hex(""), Ok(vec![]));
}

#[test]
fn text_shows_fields_and_bytes_side_by_side() {
    let (out, result) = run_hex("f4260001 616263", false, &[]);
    result.unwrap();
    let expected = "control message\n  type_name: Shared Extension\n  lisp_type: 15\n  sub_type: 1062\n  \
                    flags: 0x0001\n  payload: 616263\n  \
                    0000  f4 26 00 01 61 62 63                             .&..abc\n\n";
    assert_eq!(out, expected);
    let (out, result) = run_hex("30", false, &[]);
    assert!(matches!(result, Err(DecodeFailure::Message(DecodeError::Missing("Map-Register header")))));
    assert!(out.contains("error: the message ends before the end of Map-Register header"), "{out}");
}

#[test]
fn a_missing_file_is_named() {
    let file = Some("/nonexistent/file.pcap".into());
    let args = DecodeArgs { hex: None, file, data: false, json: false, keys: Vec::new() };
    let error = run(args, &mut Vec::new()).unwrap_err().to_string();
    assert!(error.starts_with("cannot open /nonexistent/file.pcap: "), "{error}");
}

/// Writes fail as they do when a reader goes away, or when the disk is full.
struct Closed(io::ErrorKind);

impl Write for Closed {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(self.0.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_reader_that_goes_away_is_no_error_but_a_full_disk_is() {
    let args = || DecodeArgs {
        hex: Some("f4260001".to_owned()),
        file: None,
        data: false,
        json: true,
        keys: Vec::new(),
    };
    assert!(run(args(), &mut Closed(io::ErrorKind::BrokenPipe)).is_ok());
    let full = run(args(), &mut Closed(io::ErrorKind::StorageFull));
    assert!(matches!(full, Err(DecodeFailure::Output(_))));
}

/// VRRP of both versions and families, its checksum with and without pseudo-header, and what is none.
#[test]
fn vrrp_advertisements_are_shown() {
    use crate::wire::vrrp::{Advertisement, Body, Checksum, Envelope, advertisement_frame};
    let advertisement = |body, addresses: &[&str]| Advertisement {
        vrid: 10,
        priority: 150,
        body,
        addresses: addresses.iter().map(|a| a.parse().unwrap()).collect(),
    };
    let frame = |source: &str, advertisement: &Advertisement, checksum| {
        let source = source.parse().unwrap();
        let message = advertisement.encode(&Envelope::multicast(source), checksum).unwrap();
        advertisement_frame([2, 0, 0, 0, 0, 1], source, &message).unwrap()
    };
    let v2 = advertisement(
        Body::V2 { interval: 1, auth_type: 0, auth_data: [0; 8] },
        &["192.0.2.254", "192.0.2.253"],
    );
    let v3 = advertisement(Body::V3 { interval: 1 }, &["192.0.2.254"]);
    let v6 = advertisement(Body::V3 { interval: 100 }, &["fe80::fe", "2001:db8::fe"]);
    let good = frame("192.0.2.1", &v3, Checksum::PseudoHeader);
    let mut damaged = good.clone();
    *damaged.last_mut().unwrap() ^= 1;
    let frames = [
        frame("192.0.2.1", &v2, Checksum::PseudoHeader),
        good.clone(),
        frame("192.0.2.1", &v3, Checksum::MessageOnly),
        frame("fe80::1", &v6, Checksum::PseudoHeader),
        damaged,
        good[..good.len() - 4].to_vec(),
    ];
    let capture = pcap(DataLink::ETHERNET, &frames);
    let (lines, error) = decode(capture.clone(), &[]);
    assert_eq!((lines.len(), error), (6, None));
    for line in &lines {
        assert_eq!((&line["plane"], &line["ttl"]), (&json!("vrrp"), &json!(255)), "{line}");
        assert!(line["source_port"].is_null(), "{line}");
    }
    assert_eq!(lines[0]["source"], "192.0.2.1");
    assert_eq!(lines[0]["destination"], "224.0.0.18");
    assert_eq!(lines[0]["message"]["vrrp_version"], 2);
    assert_eq!(lines[0]["message"]["addresses"], json!(["192.0.2.254", "192.0.2.253"]));
    assert_eq!(lines[1]["message"]["interval_cs"], 1);
    let checksums: Vec<&Value> = lines[..4].iter().map(|line| &line["checksum"]).collect();
    assert_eq!(checksums, ["message-only", "pseudo-header", "message-only", "pseudo-header"]);
    assert_eq!(lines[3]["message"]["addresses"][0], "fe80::fe");
    assert!(lines[4]["error"].as_str().unwrap().contains("wrong checksum"), "{}", lines[4]);
    assert!(lines[4]["message"].is_null());
    let cut = lines[5]["error"].as_str().unwrap();
    assert!(cut.contains("only the beginning"), "{cut}");

    // The same for people.
    let mut out = Vec::new();
    let mut reporter = Reporter::new(&mut out, false, Vec::new());
    assert!(decode_frames(Box::new(Cursor::new(capture)), &mut reporter).is_ok());
    let text = String::from_utf8(out).unwrap();
    assert!(text.contains("192.0.2.1 to 224.0.0.18, VRRP, 24 bytes"), "{text}");
    assert!(text.contains("6 frames, 6 shown"), "{text}");
}
