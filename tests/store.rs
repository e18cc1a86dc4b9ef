//! The store against `kill -9`: whatever it said was written is there afterwards, and the file is never
//! damaged.
#![allow(clippy::disallowed_methods, reason = "this test kills a real process at real times")]

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use eidolon::proto::event::Registrant;
use eidolon::proto::persist::{Change, Record};
use eidolon::store::{Embedded, Store};
use eidolon::types::Nonce;

/// Names the directory to the process that writes until it is killed.
const DIR: &str = "EIDOLON_TEST_STORE_DIR";

fn write_for_ever(dir: &Path) {
    let opened = Embedded::open(dir, 0).expect("a store");
    let mut store = opened.store;
    let mut n = highest(&opened.records).unwrap_or(0);
    let mut out = std::io::stdout();
    loop {
        n += 1;
        // Two records that belong together, in one transaction.
        let changes = [
            Change::Put(Record::RegisterNonce { below: n }),
            Change::Put(Record::LastNonce {
                site: "site".into(),
                registrant: Registrant::Address("192.0.2.1".parse().expect("address")),
                key_id: u8::try_from(n % 200).expect("small"),
                nonce: Nonce(n),
            }),
        ];
        store.commit(&changes).expect("a commit");
        writeln!(out, "\nwritten {n}").and_then(|()| out.flush()).expect("a reader");
    }
}

fn highest(records: &[Record]) -> Option<u64> {
    records.iter().find_map(|record| match record {
        Record::RegisterNonce { below } => Some(*below),
        _ => None,
    })
}

#[test]
fn what_was_written_survives_a_kill() {
    if let Some(dir) = std::env::var_os(DIR) {
        write_for_ever(Path::new(&dir));
    }
    let dir = tempfile::tempdir().expect("temporary directory");
    let mut before = 0;
    for round in 0..12_u64 {
        let mut child = Command::new(std::env::current_exe().expect("this program"))
            .args(["--exact", "what_was_written_survives_a_kill", "--nocapture"])
            .env(DIR, dir.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("this program");
        let mut lines = BufReader::new(child.stdout.take().expect("its output")).lines();
        let mut said = before;
        let mut take = |line: std::io::Result<String>| {
            if let Some(n) = line.ok().as_deref().and_then(|l| l.strip_prefix("written ")) {
                said = n.parse().expect("a number");
            }
            said
        };
        // Until it works, then for another while each time: the kill comes anywhere in a transaction.
        while take(lines.next().expect("it writes")) == before {}
        thread::sleep(Duration::from_micros(370 * round));
        child.kill().expect("SIGKILL");
        child.wait().expect("its end");
        for line in lines {
            take(line);
        }
        let said = take(Ok(String::new()));

        let opened = Embedded::open(dir.path(), round).expect("a store");
        assert_eq!(opened.lost, None, "after kill {round}");
        let found = highest(&opened.records).expect("a record");
        assert!(found == said || found == said + 1, "{found} after {said} were said to be written");
        let last = opened.records.iter().filter_map(|record| match record {
            Record::LastNonce { nonce, .. } => Some(nonce.0),
            _ => None,
        });
        assert_eq!(last.max(), Some(found), "both records of a transaction, or none");
        before = found;
    }
}
