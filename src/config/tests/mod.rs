//! Every message of the reader and of the checks, and what must hold for any input.

mod ddt;
mod dynamic;
mod host;
mod map_cache;
mod map_servers;
mod mapping_system;
mod openlisp_format;
mod probing;
mod proxies;
mod robustness;
mod roles;
mod site;
mod sync;
mod values;
mod vrrp;

use std::collections::BTreeMap;
use std::io;

use std::path::PathBuf;

use super::*;

/// Key files and environment of the tests.
#[derive(Default)]
struct Fake {
    variables: BTreeMap<&'static str, &'static str>,
    files: BTreeMap<&'static str, (&'static str, u32)>,
}

impl Sources for Fake {
    fn variable(&self, name: &str) -> Option<Zeroizing<Vec<u8>>> {
        self.variables.get(name).map(|v| Zeroizing::new(v.as_bytes().to_vec()))
    }

    fn file(&self, path: &Path) -> io::Result<KeyFile> {
        let found = self.files.get(path.to_str().unwrap());
        let (content, mode) = found.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "no such file"))?;
        Ok(KeyFile { content: Zeroizing::new(content.as_bytes().to_vec()), mode: *mode })
    }
}

fn sources() -> Fake {
    Fake {
        variables: [("KEY", "from-env"), ("EMPTY", "")].into(),
        files: [
            ("dir/good.key", ("from-file\n", 0o600)),
            ("dir/open.key", ("from-file", 0o644)),
            ("dir/empty.key", ("\n", 0o600)),
            ("/abs.key", ("absolute", 0o400)),
        ]
        .into(),
    }
}

fn parse_text(text: &str) -> Result<Loaded, Report> {
    parse(Path::new("dir/t"), text, &sources())
}

/// All that is said about `text`, one problem per line, without the file's name.
fn said(text: &str) -> String {
    let report = match parse_text(text) {
        Ok(loaded) => loaded.warnings,
        Err(report) => {
            assert!(report.has_errors());
            report
        }
    };
    report.to_string().lines().map(|l| l.strip_prefix("dir/t:").unwrap().to_owned() + "\n").collect()
}

fn config(text: &str) -> Config {
    parse_text(text).unwrap_or_else(|report| panic!("{report}")).config
}

const XTR: &str = r#"roles = ["itr", "etr"]
locator = [{ address = "192.0.2.1" }]
map-resolver = [{ address = "203.0.113.1" }]
[[map-server]]
name = "ms"
address = "203.0.113.1"
key = "top-secret"
[[eid-prefix]]
prefix = "10.1.0.0/16"
"#;

const MS: &str = r#"roles = ["map-server"]
[[site]]
name = "a"
key = "top-secret"
eid-prefixes = ["10.1.0.0/16"]
"#;

/// Asserts what is said about a base text with some of it replaced.
#[track_caller]
fn expect(base: &str, from: &str, to: &str, expected: &str) {
    assert!(base.contains(from), "nothing to replace: {from}");
    let text = base.replacen(from, to, 1);
    assert_eq!(said(&text), expected, "in:\n{text}");
}

/// A text, what is replaced in it by what, and what is then said, whole lines.
type Case = (&'static str, &'static str, &'static str, &'static str);

/// [`expect`] for each of them.
fn expect_all(cases: &[Case]) {
    for (base, from, to, expected) in cases {
        expect(base, from, to, expected);
    }
}

/// Asserts what is said about a base text with lines added.
#[track_caller]
fn expect_with(base: &str, more: &str, expected: &str) {
    let text = format!("{base}{more}");
    assert_eq!(said(&text), expected, "in:\n{text}");
}
