//! tshark as the judge of what our decoder says of a capture.

use std::path::Path;
use std::process::Command;

use eidolon::cli::decode::{DecodeArgs, run};
use serde_json::Value;

/// What is asked of tshark, in this order.
const FIELDS: [&str; 30] = [
    "frame.number",
    "_ws.malformed",
    "lisp.type",
    "lisp.nonce",
    "lisp.records",
    "lisp.irc",
    "lisp.keyid",
    "lisp.authlen",
    "lisp.auth",
    "lisp.mreq.record.prefix.length",
    "lisp.mreq.record.prefix.afi",
    "lisp.mreq.record.prefix.ipv4",
    "lisp.mreq.record.prefix.ipv6",
    "lisp.mreq.itr_rloc.afi",
    "lisp.mapping.ttl",
    "lisp.mapping.loccnt",
    "lisp.mapping.eid.masklen",
    "lisp.mapping.act",
    "lisp.mapping.auth",
    "lisp.mapping.ver",
    "lisp.mapping.eid.afi",
    "lisp.mapping.eid.ipv4",
    "lisp.mapping.eid.ipv6",
    "lisp.loc.priority",
    "lisp.loc.weight",
    "lisp.loc.flags",
    "lisp.loc.afi",
    "lisp.xtrid",
    "lisp.siteid",
    "lisp.lcaf.iid",
];

/// Compares every control message of `capture` with what tshark says, and returns how many there were. Both
/// must find LISP in the same frames. Of messages that tshark does not know (Map-Notify-Ack, Shared
/// Extension), type only.
pub(crate) fn assert_agrees(capture: &Path) -> usize {
    let ours = decode(capture);
    let theirs = fields(capture, "lisp", &FIELDS);
    let frames =
        |packets: &[Value]| packets.iter().map(|packet| packet["frame"].to_string()).collect::<Vec<_>>();
    let their_frames: Vec<String> = theirs.iter().map(|row| row[0].join("")).collect();
    assert_eq!(frames(&ours), their_frames, "frames with control messages");
    for (packet, row) in ours.iter().zip(&theirs) {
        let frame = &packet["frame"];
        assert!(packet["error"].is_null(), "frame {frame}: {}", packet["error"]);
        let expected = expected(&packet["message"]);
        let known = expected[2].iter().all(|kind| !matches!(kind.as_str(), "5" | "15"));
        for (i, name) in FIELDS.iter().enumerate().skip(1).filter(|(i, _)| known || *i == 2) {
            assert_eq!(row[i], expected[i], "frame {frame}: {name} as tshark has it (left) and as we do");
        }
    }
    ours.len()
}

/// Control messages as `eidolon decode --json` shows them.
pub(crate) fn decode(capture: &Path) -> Vec<Value> {
    let mut out = Vec::new();
    let file = Some(capture.to_owned());
    run(DecodeArgs { hex: None, file, data: false, json: true, keys: Vec::new() }, &mut out)
        .expect("our decoder");
    let text = String::from_utf8(out).expect("JSON is UTF-8");
    let packets = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    packets.filter(|packet| packet["plane"] == "control").collect()
}

/// Runs tshark: for every frame that matches `filter`, the values of each of `names`.
pub(crate) fn fields(capture: &Path, filter: &str, names: &[&str]) -> Vec<Vec<Vec<String>>> {
    let mut command = Command::new("tshark");
    // Ports of LISP may have been given away by a local preference file; ours are what RFC 9301 says.
    command.arg("-r").arg(capture).args(["-Y", filter, "-T", "fields", "-E", "occurrence=a"]);
    command.args(["-E", "aggregator=|", "-E", "separator=/t", "-d", "udp.port==4342,lisp"]);
    command.args(["-o", "ip.check_checksum:TRUE", "-o", "udp.check_checksum:TRUE"]);
    names.iter().for_each(|name| {
        command.args(["-e", name]);
    });
    let output = command.output().expect("tshark runs: install it");
    assert!(output.status.success(), "tshark: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("tshark writes UTF-8");
    let cell = |cell: &str| {
        cell.split('|').filter(|v| !v.is_empty() && *v != "<MISSING>").map(str::to_owned).collect()
    };
    text.lines().map(|line| line.split('\t').map(cell).collect()).collect()
}

/// For each of [`FIELDS`], what tshark should show, derived from our reading of the message.
fn expected(message: &Value) -> Vec<Vec<String>> {
    let mut parts = Parts::default();
    parts.message(message);
    let Parts { messages, auths, requests, itr_rlocs, records, locators, ids, instances } = parts;
    let text =
        |values: &[&Value], name: &str| values.iter().map(|value| plain(&value[name])).collect::<Vec<_>>();
    let of_afi = |values: &[&Value], afi: u64| {
        let chosen = values.iter().filter(|value| value["eid_afi"] == afi);
        chosen
            .map(|value| plain(&value["eid_prefix"]).split('/').next().unwrap_or("").to_owned())
            .collect::<Vec<_>>()
    };
    let with = |name: &str| {
        let chosen = messages.iter().filter(|message| !message[name].is_null());
        chosen.copied().collect::<Vec<_>>()
    };
    let key_ids = auths.iter().map(|auth| {
        let number = |name: &str| auth[name].as_u64().unwrap_or(0);
        format!("0x{:04x}", number("key_id") << 8 | number("algorithm"))
    });
    let actions = records.iter().map(|record| action(&plain(&record["action"])).to_owned());
    let flags = locators.iter().map(|locator| {
        let bit = |name: &str, bit| if locator[name] == true { bit } else { 0 };
        format!("0x{:04x}", bit("local", 4) | bit("probe", 2) | bit("reachable", 1))
    });
    let without_0x = |name: &str| {
        ids.iter()
            .map(|message| plain(&message[name]).trim_start_matches("0x").to_owned())
            .collect::<Vec<_>>()
    };
    let irc = with("itr_rloc_count");
    vec![
        Vec::new(),
        Vec::new(),
        text(&messages, "lisp_type"),
        text(&with("nonce"), "nonce").iter().map(|nonce| nonce.replace("-0x", "")).collect(),
        text(&with("record_count"), "record_count"),
        irc.iter().map(|m| (m["itr_rloc_count"].as_u64().unwrap_or(0) - 1).to_string()).collect(),
        key_ids.collect(),
        text(&auths, "auth_length"),
        text(&auths, "auth_data").into_iter().filter(|data| !data.is_empty()).collect(),
        text(&requests, "eid_mask_len"),
        text(&requests, "eid_afi"),
        of_afi(&requests, 1),
        of_afi(&requests, 2),
        text(&itr_rlocs, "afi"),
        text(&records, "ttl"),
        text(&records, "locator_count"),
        text(&records, "eid_mask_len"),
        actions.collect(),
        text(&records, "authoritative"),
        text(&records, "map_version"),
        text(&records, "eid_afi"),
        of_afi(&records, 1),
        of_afi(&records, 2),
        text(&locators, "priority"),
        text(&locators, "weight"),
        flags.collect(),
        text(&locators, "afi"),
        without_0x("xtr_id"),
        without_0x("site_id"),
        instances,
    ]
}

/// The parts of a message and of the one within it, each kind in the order of the packet.
#[derive(Default)]
struct Parts<'a> {
    messages: Vec<&'a Value>,
    auths: Vec<&'a Value>,
    requests: Vec<&'a Value>,
    itr_rlocs: Vec<&'a Value>,
    records: Vec<&'a Value>,
    locators: Vec<&'a Value>,
    ids: Vec<&'a Value>,
    instances: Vec<String>,
}

impl<'a> Parts<'a> {
    fn message(&mut self, message: &'a Value) {
        self.messages.push(message);
        if message["inner_message"].is_object() {
            return self.message(&message["inner_message"]);
        }
        if !message["auth_length"].is_null() {
            self.auths.push(message);
        }
        if !message["xtr_id"].is_null() {
            self.ids.push(message);
        }
        self.itr_rlocs.extend(list(&message["itr_rlocs"]));
        for record in list(&message["records"]) {
            if message["lisp_type"] == 1 {
                self.requests.push(record);
                self.instance(record);
            } else {
                self.record(record);
            }
        }
        if message["map_reply_record"].is_object() {
            self.record(&message["map_reply_record"]);
        }
        // Info messages carry an EID-prefix of their own.
        self.instance(message);
    }

    fn record(&mut self, record: &'a Value) {
        self.records.push(record);
        self.instance(record);
        self.locators.extend(list(&record["locators"]));
    }

    fn instance(&mut self, eid: &Value) {
        if eid["eid_prefix"].as_str().is_some_and(|prefix| prefix.starts_with('[') && !prefix.contains('(')) {
            self.instances.push(plain(&eid["eid_instance_id"]));
        }
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// As tshark writes values.
fn plain(value: &Value) -> String {
    match value {
        Value::Bool(bit) => u8::from(*bit).to_string(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// The number of an action, of a Map-Reply or of a Map-Referral.
fn action(name: &str) -> &'static str {
    match name {
        "no-action" | "node-referral" => "0",
        "natively-forward" | "ms-referral" => "1",
        "send-map-request" | "ms-ack" => "2",
        "drop" | "ms-not-registered" => "3",
        "drop/policy-denied" | "delegation-hole" => "4",
        "drop/auth-failure" | "not-authoritative" => "5",
        "unassigned(6)" => "6",
        _ => "7",
    }
}
