use std::collections::BTreeMap;
use std::fs;
use std::io;

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

/// Asserts what is said about a base text with lines added.
#[track_caller]
fn expect_with(base: &str, more: &str, expected: &str) {
    let text = format!("{base}{more}");
    assert_eq!(said(&text), expected, "in:\n{text}");
}

#[test]
fn the_bases_are_fine() {
    assert_eq!(said(XTR), "");
    assert_eq!(said(MS), "");
}

#[test]
fn syntax_errors_are_all_found() {
    let text = "roles = [\"map-server\"\n[[site]\nname = \"a\"\nkey = \"abc\nx = 07\n";
    let lines: Vec<_> = said(text).lines().map(|l| l.split(' ').next().unwrap().to_owned()).collect();
    assert!(lines.iter().any(|l| l.starts_with("2:")), "{lines:?}");
    assert!(lines.iter().any(|l| l.starts_with("4:")), "{lines:?}");
    assert!(said(text).contains("; correct the TOML syntax\n"));
    expect(
        XTR,
        "name = \"ms\"",
        "name = \"ms\"\nname = \"ms\"",
        "6:1: duplicate key; correct the TOML syntax\n",
    );
}

#[test]
fn wrong_types_say_what_to_write() {
    for (from, to, expected) in [
        (
            r#"roles = ["itr", "etr"]"#,
            r#"roles = "itr""#,
            "1:9: roles: is a string, not an array; write it in brackets, as [\"…\", \"…\"]\n",
        ),
        (
            r#"["itr", "etr"]"#,
            "[\"itr\", \"etr\", 3]",
            "1:24: roles[3]: is a whole number, not a role; give a role in quotes\n",
        ),
        (
            "name = \"ms\"",
            "name = 5",
            "5:8: map-server[1].name: is a whole number, not a string; give a string in quotes\n",
        ),
        (
            "name = \"ms\"",
            "key-id = \"1\"",
            "5:10: map-server[1].key-id: is a string, not a whole number; give 0 to 255 without quotes\n",
        ),
        (
            "name = \"ms\"",
            "key-id = 1.5",
            "5:10: map-server[1].key-id: is a number with a fraction, not a whole number; give 0 to 255 without quotes\n",
        ),
        (
            "name = \"ms\"",
            "proxy-reply = \"yes\"",
            "5:15: map-server[1].proxy-reply: is a string, not true or false; write true or false without quotes\n",
        ),
        (
            "[[map-server]]",
            "[map-server]",
            "4:1: map-server: is a section, not a list of sections; write [[map-server]] for each\n",
        ),
        (
            "map-resolver = [{ address = \"203.0.113.1\" }]",
            "map-resolver = [\"203.0.113.1\"]",
            "3:17: map-resolver[1]: is a string, not a section; write [[map-resolver]] for each\n",
        ),
    ] {
        expect(XTR, from, to, expected);
    }
    expect_with(MS, "[[kernel]]", "6:1: kernel: is an array, not a section; write [kernel]\n");
}

#[test]
fn every_example_loads_without_a_warning() {
    let mut directories = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("configs")];
    let mut count = 0;
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|e| e == "toml" || e == "conf") {
                let loaded = load(&path).unwrap_or_else(|report| panic!("{report}"));
                assert_eq!(loaded.warnings.to_string(), "");
                count += 1;
            }
        }
    }
    assert!(count >= 2, "the reference and the OpenLISP example at least");
}

#[test]
fn an_openlisp_file_and_its_conversion_mean_the_same() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs/openlisp.conf");
    let direct = load(&path).unwrap().config;
    let (toml, _) = import_openlisp(&path).unwrap();
    assert_eq!(config(&toml), direct);
}
