//! Lays out what was decoded, as text or as JSON Lines.

use std::fmt::Write as _;
use std::io::Write;
use std::time::Duration;

use etherparse::{LaxNetSlice, LaxSlicedPacket, TransportSlice};

use crate::auth::{self, Algorithm, Key, Secret};
use crate::wire::data::{self, DataHeader};
use crate::wire::display::{Hex, HexDump, Object, Value};
use crate::wire::vrrp::{Advertisement, Checksum};
use crate::wire::{DecodeError, Message};

use super::DecodeFailure;
use super::capture::Frame;
use super::packet::{Datagram, Found, Plane, Vrrp, find};

/// ECMs within ECMs whose MACs are checked.
const MAX_NESTED: usize = 3;

/// Writes packets one after the other.
pub(super) struct Reporter<'a> {
    out: &'a mut dyn Write,
    json: bool,
    keys: Vec<Secret>,
    frames: u64,
    shown: u64,
}

/// One packet: its headline for humans, its fields, and its bytes.
struct Packet<'a> {
    title: String,
    object: Object,
    bytes: &'a [u8],
}

impl<'a> Reporter<'a> {
    pub(super) fn new(out: &'a mut dyn Write, json: bool, keys: Vec<Secret>) -> Self {
        Self { out, json, keys, frames: 0, shown: 0 }
    }

    /// A control message without anything around it.
    pub(super) fn bare_control(&mut self, bytes: &[u8]) -> Result<(), DecodeFailure> {
        let object = Object::new().field("plane", "control").field("length", bytes.len());
        let (object, error) = self.control(object, bytes, None);
        self.write(Packet { title: "control message".to_owned(), object, bytes })?;
        error.map_or(Ok(()), |error| Err(error.into()))
    }

    /// The payload of a data packet without anything around it.
    pub(super) fn bare_data(&mut self, bytes: &[u8]) -> Result<(), DecodeFailure> {
        let object = Object::new().field("plane", "data").field("length", bytes.len());
        let (object, error) = data_packet(object, bytes, None);
        self.write(Packet { title: "data packet".to_owned(), object, bytes })?;
        error.map_or(Ok(()), |error| Err(DecodeFailure::Data(error)))
    }

    /// Whatever LISP or VRRP a frame holds; nothing where it holds none.
    pub(super) fn frame(&mut self, frame: &Frame) -> Result<(), DecodeFailure> {
        self.frames += 1;
        let time = frame.time.map(rfc3339);
        let object = Object::new().field("frame", frame.number).optional("time", time.as_deref());
        let mut title = format!("frame {}", frame.number);
        if let Some(time) = &time {
            let _ = write!(title, ", {time}");
        }
        match find(frame.link, &frame.data) {
            Ok(None) => Ok(()),
            Ok(Some(Found::Lisp(datagram))) => self.datagram(title, object, &datagram),
            Ok(Some(Found::Vrrp(packet))) => self.vrrp(title, object, &packet),
            Err(error) => {
                let bytes = frame.data.as_slice();
                let _ = write!(title, ", {} of {} bytes", bytes.len(), frame.original_len);
                self.write(Packet { title, object: object.field("error", error), bytes })
            }
        }
    }

    /// What a human wants to know after the last packet.
    pub(super) fn end(&mut self) -> Result<(), DecodeFailure> {
        if self.json {
            return Ok(());
        }
        writeln!(self.out, "{} frames, {} shown", self.frames, self.shown).map_err(DecodeFailure::Output)
    }

    fn datagram(
        &mut self,
        mut title: String,
        object: Object,
        datagram: &Datagram<'_>,
    ) -> Result<(), DecodeFailure> {
        let Datagram { source, destination, plane, payload, incomplete } = datagram;
        let plane_name = match plane {
            Plane::Control => "control",
            Plane::Data => "data",
        };
        let _ = write!(title, ", {source} to {destination}, {plane_name}, {} bytes", payload.len());
        let object = object
            .text("source", source.ip())
            .field("source_port", source.port())
            .text("destination", destination.ip())
            .field("destination_port", destination.port())
            .field("plane", plane_name)
            .field("length", payload.len());
        let object = match plane {
            Plane::Control => self.control(object, payload, *incomplete).0,
            Plane::Data => data_packet(object, payload, *incomplete).0,
        };
        self.write(Packet { title, object, bytes: payload })
    }

    fn vrrp(&mut self, mut title: String, object: Object, packet: &Vrrp<'_>) -> Result<(), DecodeFailure> {
        let Vrrp { envelope, ttl, payload, incomplete } = packet;
        let _ =
            write!(title, ", {} to {}, VRRP, {} bytes", envelope.source, envelope.destination, payload.len());
        let object = object
            .text("source", envelope.source)
            .text("destination", envelope.destination)
            .field("plane", "vrrp")
            .field("length", payload.len())
            .field("ttl", *ttl);
        let object = match (Advertisement::decode(payload, envelope), incomplete) {
            (Ok((advertisement, checksum)), incomplete) => {
                let checksum = match checksum {
                    Checksum::PseudoHeader => "pseudo-header",
                    Checksum::MessageOnly => "message-only",
                };
                object
                    .field("checksum", checksum)
                    .field("message", advertisement.tree())
                    .optional("error", *incomplete)
            }
            (Err(error), Some(why)) => object.field("error", format!("{error} ({why})")),
            (Err(error), None) => object.text("error", error),
        };
        self.write(Packet { title, object, bytes: payload })
    }

    fn control(
        &self,
        object: Object,
        bytes: &[u8],
        incomplete: Option<&'static str>,
    ) -> (Object, Option<DecodeError>) {
        match (Message::decode(bytes), incomplete) {
            (Ok(message), incomplete) => {
                let object = object.field("message", message.tree());
                let object = if self.keys.is_empty() {
                    object
                } else {
                    let mut macs = Vec::new();
                    check_macs(&self.keys, &message, bytes, 0, &mut macs);
                    if macs.is_empty() { object } else { object.field("mac", Value::List(macs)) }
                };
                (object.optional("error", incomplete), None)
            }
            (Err(error), Some(why)) => (object.field("error", format!("{error} ({why})")), Some(error)),
            (Err(error), None) => (object.text("error", error), Some(error)),
        }
    }

    fn write(&mut self, packet: Packet<'_>) -> Result<(), DecodeFailure> {
        let Packet { title, object, bytes } = packet;
        self.shown += 1;
        let text = if self.json {
            let value = Value::from(object.text("hex", Hex(bytes)));
            serde_json::to_string(&value).map_err(|error| DecodeFailure::Output(error.into()))? + "\n"
        } else {
            // The headline says what these fields say.
            let in_title = [
                "frame",
                "time",
                "source",
                "source_port",
                "destination",
                "destination_port",
                "plane",
                "length",
            ];
            let mut text = format!("{title}\n");
            if let Value::Object(fields) = Value::from(object) {
                for field in fields {
                    if in_title.contains(&field.name) {
                        continue;
                    }
                    if let ("mac", Value::List(macs)) = (field.name, &field.value) {
                        for mac in macs {
                            let _ = writeln!(text, "  {}", mac_line(mac, macs.len() > 1));
                        }
                        continue;
                    }
                    let is_body = field.name == "message";
                    let value = if is_body { field.value } else { Value::Object(vec![field]) };
                    for line in value.to_string().lines() {
                        let _ = writeln!(text, "  {line}");
                    }
                }
            }
            for line in HexDump(bytes).to_string().lines() {
                let _ = writeln!(text, "  {line}");
            }
            text.push('\n');
            text
        };
        self.out.write_all(text.as_bytes()).map_err(DecodeFailure::Output)
    }
}

/// Of `message` and of what an ECM carries: whether the MAC is right under one of `keys`.
fn check_macs(keys: &[Secret], message: &Message, bytes: &[u8], nesting: usize, macs: &mut Vec<Value>) {
    if let Message::Ecm(ecm) = message
        && nesting < MAX_NESTED
        && let Ok(inner) = Message::decode(&ecm.payload)
    {
        check_macs(keys, &inner, &ecm.payload, nesting + 1, macs);
    }
    let Some(auth) = message.auth() else { return };
    let object = Object::new().field("message", message.name());
    let Some(algorithm) = Algorithm::from_id(auth.algorithm) else {
        let reason = match auth.algorithm {
            0 => "the message is not authenticated (algorithm 0)".to_owned(),
            other => format!("algorithm {other} is unknown"),
        };
        return macs.push(object.field("result", "wrong").field("reason", reason).into());
    };
    // Only the secret is given; key id and algorithm are taken to be those of the message.
    let key = |secret: &Secret| Key { id: auth.key_id, algorithm, secret: secret.clone(), truncate: false };
    let keys: Vec<Key> = keys.iter().map(key).collect();
    let object = match auth::verify(bytes, &keys) {
        Ok(index) => object.field("result", "right").field("key", index + 1),
        Err(error) => object.field("result", "wrong").text("reason", error),
    };
    macs.push(object.into());
}

/// An entry of `mac` for humans. `several`: there are more of them.
fn mac_line(mac: &Value, several: bool) -> String {
    let text = |name| match mac.get(name) {
        Some(Value::Text(text)) => text.as_str(),
        _ => "",
    };
    let of = if several { format!(" of {}", text("message")) } else { String::new() };
    match mac.get("key") {
        Some(Value::Number(number)) => format!("MAC{of}: right, with the {} --key", ordinal(*number)),
        _ => format!("MAC{of}: {}: {}", text("result"), text("reason")),
    }
}

/// `1st`, `2nd`, `3rd`, `11th`.
fn ordinal(number: u64) -> String {
    let ending = match (number % 10, number % 100) {
        (_, 11..=13) => "th",
        (1, _) => "st",
        (2, _) => "nd",
        (3, _) => "rd",
        _ => "th",
    };
    format!("{number}{ending}")
}

fn data_packet(object: Object, bytes: &[u8], incomplete: Option<&'static str>) -> (Object, Option<String>) {
    let Some((header, inner)) = DataHeader::parse(bytes).zip(bytes.get(data::HEADER..)) else {
        let error = match incomplete {
            Some(why) => format!("the packet ends within the LISP header ({why})"),
            None => "the packet ends within the LISP header".to_owned(),
        };
        return (object.field("error", error.as_str()), Some(error));
    };
    let flags = Object::new()
        .field("nonce_present", header.nonce.is_some())
        .field("locator_status_present", header.locator_status.is_some())
        .field("echo_nonce", header.echo_nonce)
        .field("map_version_present", header.versions.is_some())
        .field("instance_present", header.instance.is_some())
        .field("reserved", header.reserved)
        .field("key", header.key);
    let lisp = Object::new()
        .field("flags", flags)
        .optional("nonce", header.nonce.map(|nonce| format!("0x{nonce:06x}")))
        .optional("source_map_version", header.versions.map(|(source, _)| source.get()))
        .optional("destination_map_version", header.versions.map(|(_, destination)| destination.get()))
        .optional("instance_id", header.instance.map(|instance| instance.get()))
        .optional("locator_status_bits", header.locator_status.map(|bits| format!("0x{bits:08x}")));
    let object = object.field("lisp_header", lisp);
    if header.key != 0 {
        return (object.optional("error", incomplete), None);
    }
    match inner_packet(inner) {
        Ok(inner) => (object.field("inner", inner).optional("error", incomplete), None),
        Err(error) => {
            let error = match incomplete {
                Some(why) => format!("{error} ({why})"),
                None => error,
            };
            (object.field("error", error.as_str()), Some(error))
        }
    }
}

/// What the packet inside a data packet is about.
fn inner_packet(bytes: &[u8]) -> Result<Object, String> {
    let packet = LaxSlicedPacket::from_ip(bytes).map_err(|error| error.to_string())?;
    let object = Object::new();
    let (object, payload) = match &packet.net {
        Some(LaxNetSlice::Ipv4(ip)) => {
            let header = ip.header();
            let object = object
                .field("version", 4u8)
                .text("source", header.source_addr())
                .text("destination", header.destination_addr())
                .field("ttl", header.ttl())
                .field("dscp", header.dcp().value())
                .field("ecn", header.ecn().value())
                .field("length", header.total_len())
                .field("dont_fragment", header.dont_fragment());
            (object, ip.payload())
        }
        Some(LaxNetSlice::Ipv6(ip)) => {
            let header = ip.header();
            let object = object
                .field("version", 6u8)
                .text("source", header.source_addr())
                .text("destination", header.destination_addr())
                .field("hop_limit", header.hop_limit())
                .field("dscp", header.traffic_class() >> 2)
                .field("ecn", header.traffic_class() & 3)
                .field("length", usize::from(header.payload_length()) + header.slice().len());
            (object, ip.payload())
        }
        Some(LaxNetSlice::Arp(_)) | None => return Err("the packet inside is not IP".to_owned()),
    };
    let protocol = payload.ip_number;
    let object = object
        .field("protocol", protocol.0)
        .optional("protocol_name", protocol.keyword_str())
        .field("fragment", payload.fragmented);
    let object = match &packet.transport {
        Some(TransportSlice::Udp(udp)) => {
            object.field("source_port", udp.source_port()).field("destination_port", udp.destination_port())
        }
        Some(TransportSlice::Tcp(tcp)) => {
            let flags = [
                (tcp.syn(), "SYN"),
                (tcp.ack(), "ACK"),
                (tcp.fin(), "FIN"),
                (tcp.rst(), "RST"),
                (tcp.psh(), "PSH"),
            ];
            let set: Vec<&str> = flags.into_iter().filter(|(set, _)| *set).map(|(_, name)| name).collect();
            object
                .field("source_port", tcp.source_port())
                .field("destination_port", tcp.destination_port())
                .field("tcp_flags", set.join(" "))
                .field("sequence_number", tcp.sequence_number())
                .field("acknowledgment_number", tcp.acknowledgment_number())
        }
        Some(TransportSlice::Icmpv4(icmp)) => {
            object.field("icmp_type", icmp.type_u8()).field("icmp_code", icmp.code_u8())
        }
        Some(TransportSlice::Icmpv6(icmp)) => {
            object.field("icmp_type", icmp.type_u8()).field("icmp_code", icmp.code_u8())
        }
        Some(TransportSlice::Igmp(_)) | None => object,
    };
    Ok(object)
}

/// A point in UTC time since 1970, as RFC 3339 writes it, to the nanosecond.
fn rfc3339(time: Duration) -> String {
    let seconds = time.as_secs();
    let (days, of_day) = (seconds / 86_400, seconds % 86_400);
    // Years of 365.2425 days from 0000-03-01 on, so that the leap day is a year's last (proleptic Gregorian
    // calendar).
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (of_day / 3_600, of_day / 60 % 60, of_day % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:09}Z", time.subsec_nanos())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_the_calendar() {
        let at = |seconds| rfc3339(Duration::new(seconds, 5));
        assert_eq!(at(0), "1970-01-01T00:00:00.000000005Z");
        assert_eq!(at(951_782_399), "2000-02-28T23:59:59.000000005Z");
        assert_eq!(at(951_782_400), "2000-02-29T00:00:00.000000005Z");
        assert_eq!(at(1_709_251_199), "2024-02-29T23:59:59.000000005Z");
        assert_eq!(at(4_107_542_400), "2100-03-01T00:00:00.000000005Z");
    }

    #[test]
    fn keys_are_counted_as_people_do() {
        let said: Vec<String> = [1, 2, 3, 4, 11, 12, 13, 21, 102, 111].map(ordinal).into();
        assert_eq!(said.join(" "), "1st 2nd 3rd 4th 11th 12th 13th 21st 102nd 111th");
    }
}
