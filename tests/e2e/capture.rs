//! Captures by tcpdump, and tshark as the judge of what is in them.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::netns::{Netns, Process};
use crate::wait::{PATIENCE, within};

/// A running capture of LISP packets on one interface.
pub struct Capture {
    process: Process,
    pub file: PathBuf,
}

impl Capture {
    /// Captures what `filter` (pcap-filter(7)) wants from one interface, both directions.
    pub fn start(ns: &Netns, dev: &str, file: PathBuf, filter: &str) -> Self {
        let log = file.with_extension("tcpdump.log");
        let path = file.to_str().expect("UTF-8").to_owned();
        let mut process = ns.spawn(
            &log,
            &[
                "tcpdump",
                "-i",
                dev,
                "-n",
                "-s",
                "0",
                "-B",
                "65536",
                "-U",
                "--immediate-mode",
                "-w",
                &path,
                filter,
            ],
        );
        process.wait_for("listening on", PATIENCE);
        Self { process, file }
    }

    /// LISP packets, and fragments, which must not be there.
    pub fn lisp(ns: &Netns, dev: &str, file: PathBuf) -> Self {
        Self::start(ns, dev, file, "udp port 4341 or udp port 4342 or ip[6:2] & 0x3fff != 0 or ip6 proto 44")
    }

    /// Ends it and returns the file, to which nothing of what it saw is missing.
    pub fn stop(mut self) -> PathBuf {
        // Until it has written what it was given; where packets never cease, what matters has come long before.
        let mut size = None;
        within(Duration::from_secs(5), || {
            std::thread::sleep(Duration::from_millis(150));
            let now = std::fs::metadata(&self.file).map(|m| m.len()).ok();
            std::mem::replace(&mut size, now) == now
        });
        self.process.signal(nix::sys::signal::Signal::SIGINT);
        self.process.wait(PATIENCE);
        let log = self.process.log();
        assert!(log.contains("\n0 packets dropped by kernel"), "the capture is not complete:\n{log}");
        self.file.clone()
    }
}

/// Runs tshark on a capture with our ports set to LISP, and returns its standard output.
pub fn tshark(file: &Path, args: &[&str]) -> String {
    let output = Command::new("tshark")
        .arg("-r")
        .arg(file)
        .args(["-n", "-d", "udp.port==4341,lisp-data", "-d", "udp.port==4342,lisp"])
        // Reassembly and stream tracking would mix packets; every packet is to stand for itself.
        .args(["-o", "ip.defragment:FALSE", "-o", "tcp.analyze_sequence_numbers:FALSE"])
        .args(args)
        .output()
        .expect("tshark");
    assert!(output.status.success(), "tshark: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// One packet as tshark takes it apart: for each field all its values, outermost first.
pub struct Dissection {
    pub number: usize,
    fields: Vec<Vec<String>>,
}

/// The fields that are compared.
const FIELDS: &[&str] = &[
    "frame.number",
    "_ws.malformed",
    "_ws.expert.severity",
    "_ws.expert.message",
    "lisp.type",
    "lisp.nonce",
    "lisp.records",
    "lisp.mapping.loccnt",
    "lisp.mapping.ttl",
    "lisp.mapping.act",
    "lisp.mapping.eid.masklen",
    "lisp.mapping.eid.ipv4",
    "lisp.mapping.eid.ipv6",
    "lisp.loc.priority",
    "lisp.loc.weight",
    "lisp.loc.flags.probe",
    "lisp.loc.flags.reach",
    "lisp.mreq.flags.probe",
    "lisp.mrep.flags.probe",
    "lisp.loc.locator",
    "lisp.mreq.record.prefix.length",
    "lisp.mreq.record.prefix.ipv4",
    "lisp.mreq.record.prefix.ipv6",
    "lisp.mreq.srceid.ipv4",
    "lisp.mreq.srceid_ipv6",
    "lisp.mreq.itr_rloc_ipv4",
    "lisp.mreq.itr_rloc_ipv6",
    "lisp.keyid",
    "lisp.auth",
    "lisp-data.flags.nonce",
    "lisp-data.flags.lsb",
    "lisp-data.flags.iid",
    "lisp-data.nonce",
    "lisp-data.iid",
    "lisp-data.lsb",
    "lisp-data.lsb8",
    "frame.protocols",
    "ip.src",
    "ip.dst",
    "ipv6.src",
    "ipv6.dst",
];

impl Dissection {
    /// Every packet of a capture.
    pub fn read(file: &Path) -> Vec<Self> {
        let mut args = vec!["-T", "fields", "-E", "separator=|", "-E", "occurrence=a", "-E", "aggregator=;"];
        for field in FIELDS {
            args.extend(["-e", field]);
        }
        tshark(file, &args)
            .lines()
            .map(|line| {
                let fields: Vec<Vec<String>> = line
                    .split('|')
                    .map(|cell| cell.split(';').filter(|v| !v.is_empty()).map(str::to_owned).collect())
                    .collect();
                assert_eq!(fields.len(), FIELDS.len(), "{line}");
                Self { number: fields[0][0].parse().expect("frame number"), fields }
            })
            .collect()
    }

    /// All values of a field.
    pub fn all(&self, field: &str) -> &[String] {
        let at =
            FIELDS.iter().position(|f| *f == field).unwrap_or_else(|| panic!("{field} is not asked for"));
        &self.fields[at]
    }

    /// Whether the outer header is an IPv4 one.
    pub fn outer_is_v4(&self) -> bool {
        self.all("frame.protocols").first().is_some_and(|p| p.starts_with("eth:ethertype:ip:"))
    }

    /// Complaints of the dissectors: malformed, or worth a warning.
    pub fn complaints(&self) -> Option<String> {
        // Values of Wireshark's PI_WARN and PI_ERROR; below are chats and notes, as about any TCP handshake.
        let serious = |severity: &String| severity.parse::<u64>().is_ok_and(|s| s >= 0x0060_0000);
        // What hosts do inside the tunnel, seen one packet at a time.
        let of_hosts = |message: &String| {
            ["D-SACK Sequence", "No response seen to ICMP", "Connection reset"]
                .iter()
                .any(|m| message.starts_with(m))
        };
        let (malformed, expert) = (self.all("_ws.malformed"), self.all("_ws.expert.message"));
        let serious = self.all("_ws.expert.severity").iter().any(serious) && !expert.iter().all(of_hosts);
        (!malformed.is_empty() || serious).then(|| format!("{malformed:?} {expert:?}"))
    }
}

/// A capture in the words of `eidolon decode --json`: one object for each packet with LISP in it.
pub fn decode(file: &Path, more: &[&str]) -> Vec<Value> {
    let output = Command::new(crate::router::eidolon())
        .arg("decode")
        .arg(file)
        .arg("--json")
        .args(more)
        .output()
        .expect("eidolon");
    assert!(output.status.success(), "eidolon decode: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout)
        .expect("UTF-8")
        .lines()
        .map(|line| {
            serde_json::from_str(line).unwrap_or_else(|e| panic!("eidolon decode --json: {e}: {line}"))
        })
        .collect()
}
