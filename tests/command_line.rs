//! The binary's exit codes and what it writes where: 0 fine, 1 a clear error, 2 wrong usage.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

fn eidolon(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_eidolon"))
        .args(arguments)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env_remove("EIDOLON_SOCKET")
        .output()
        .unwrap()
}

/// Exit code, standard output and standard error.
fn run(arguments: &[&str]) -> (i32, String, String) {
    let output = eidolon(arguments);
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

const BAD: &str = "\
roles = [\"map-server\"]
[[site]]
name = \"a\"
key = \"hush-hush\"
eid-prefixes = [\"10.1.2.0/16\"]
[kernell]
";

fn bad(directory: &Path) -> String {
    let path = directory.join("bad.toml");
    fs::write(&path, BAD).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn check_accepts_the_examples() {
    for path in ["configs/reference.toml", "configs/openlisp.conf"] {
        assert_eq!(run(&["check", path]), (0, format!("{path}: fine\n"), String::new()));
    }
}

#[test]
fn check_names_every_problem() {
    let directory = tempfile::tempdir().unwrap();
    let path = bad(directory.path());
    let expected = format!(
        "{path}:5:17: site[1].eid-prefixes[1]: 10.1.2.0/16 has host bits set; write 10.1.0.0/16\n\
         {path}:6:2: kernell: unknown key; did you mean `kernel`?\n\
         {path}: not usable, 2 errors\n"
    );
    assert_eq!(run(&["check", &path]), (1, String::new(), expected.clone()));
    assert_eq!(run(&["run", "-c", &path]), (1, String::new(), expected));
}

#[test]
fn check_tells_warnings_from_errors() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("warn.toml");
    fs::write(
        &path,
        BAD.replace("10.1.2.0/16", "10.1.0.0/16").replace("[kernell]", "[management]\nmode = \"0666\""),
    )
    .unwrap();
    let path = path.to_str().unwrap();
    let (code, out, err) = run(&["check", path]);
    assert_eq!((code, out), (0, format!("{path}: fine, 1 warning\n")));
    assert!(err.starts_with(&format!("{path}:6:1: warning: management.mode: ")), "{err}");
}

#[test]
fn files_that_are_not_there_are_named() {
    for command in [&["check", "/nonexistent.toml"][..], &["run", "--config", "/nonexistent.toml"]] {
        let (code, out, err) = run(command);
        assert_eq!((code, &out[..]), (1, ""));
        assert!(err.starts_with("/nonexistent.toml: can't be read: "), "{err}");
    }
}

#[test]
fn import_prints_toml_that_check_accepts() {
    let (code, toml, err) = run(&["import", "--from", "openlisp", "configs/openlisp.conf"]);
    assert_eq!((code, &err[..]), (0, ""));
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("imported.toml");
    fs::write(&path, toml).unwrap();
    let path = path.to_str().unwrap();
    // The file lists a locator of the site's other router; what it was made from knows no xTR-IDs.
    let (code, out, err) = run(&["check", path]);
    assert_eq!((code, out), (0, format!("{path}: fine, 1 warning\n")));
    assert!(
        err.contains(": warning: ") && err.contains("without an xtr-id") && err.lines().count() == 1,
        "{err}"
    );

    let (code, out, err) = run(&["import", "--from", "openlisp", &bad(directory.path())]);
    assert_eq!((code, &out[..]), (1, ""));
    assert!(err.contains(":1:1: text before the first section; ") && !err.contains("hush-hush"), "{err}");
}

#[test]
fn commands_without_a_router_say_so() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("none.sock");
    let socket = socket.to_str().unwrap();
    for command in [
        &["show", "map-cache", "10.1.2.3"][..],
        &["show", "statistics", "--json"],
        &["clear", "map-cache"],
        &["lig", "[7]10.1.2.3"],
        &["lig", "[7]10.1.2.3", "--json"],
        &["clear", "map-cache", "--json"],
        &["set", "locator", "192.0.2.1", "down", "--json"],
        &["reload"],
        &["reload", "--json"],
    ] {
        let mut command = command.to_vec();
        command.extend(["--socket", socket]);
        let (code, out, err) = run(&command);
        assert_eq!(code, 1, "{command:?}");
        if command.contains(&"--json") {
            let said: serde_json::Value = serde_json::from_str(&out).unwrap();
            assert_eq!(said["error"], err.trim_end(), "{command:?}");
        } else {
            assert_eq!(out, "", "{command:?}");
        }
        assert!(err.starts_with(&format!("no router is running at {socket}: ")), "{err}");
    }
}

#[test]
fn wrong_usage_is_told_from_failure() {
    for command in [
        &[][..],
        &["dance"],
        &["run"],
        &["check"],
        &["import", "configs/openlisp.conf"],
        &["import", "--from", "cobol", "x"],
        &["show"],
        &["show", "nothing"],
        &["show", "statistics", "10.1.2.3"],
        &["show", "map-cache", "10.1.2"],
        &["show", "map-cache", "[7]10.1.2.3", "--iid", "8"],
        &["lig"],
        &["lig", "10.1.0.0/16"],
        &["lig", "10.1.2.3", "--iid", "16777216"],
        &["clear", "map-cache", "--iid", "7"],
    ] {
        let (code, out, err) = run(command);
        assert_eq!((code, &out[..]), (2, ""), "{command:?}");
        assert!(err.contains("Usage: eidolon") || err.contains("--help"), "{command:?}: {err}");
    }
    // The usage is that of the command.
    for (command, said) in [
        (&["set", "locator", "192.0.2.1", "priority", "256"][..], "from 0 to 255"),
        (&["set", "locator", "192.0.2.1", "prioirty", "3"], "prioirty: write any of"),
        (&["show", "database", "detail"], "for the map-cache only"),
        (&["show", "locators", "--iid", "3"], "not locators"),
        (&["show", "interfaces", "foo"], "nothing comes after `interfaces`"),
        (&["show", "map-cache", "detial"], "write `detail`, or"),
        (&["show", "sites", "10.0.0.1/8"], "write 10.0.0.0/8"),
        (&["lig", "10.1.0.0/16"], "without mask length"),
    ] {
        let (code, _, err) = run(command);
        let usage = format!("Usage: eidolon {} ", command[0]);
        assert!(code == 2 && err.contains(said) && err.contains(&usage), "{command:?}: {err}");
    }
    let (code, _, err) = run(&["lig", "10.1.2.3", "--via", "nosuch.example"]);
    assert!(code == 2 && err.contains("give the IP address of a Map-Resolver"), "{err}");
    let (_, help, _) = run(&["--help"]);
    assert!(help.contains("Map-Server") && help.contains("Exit codes"), "{help}");
    let (_, help, _) = run(&["run", "--help"]);
    for said in ["SIGHUP", "standard error", "Exit codes"] {
        assert!(help.contains(said), "{help}");
    }
    assert_eq!(run(&["--version"]), (0, format!("eidolon {}\n", env!("CARGO_PKG_VERSION")), String::new()));
    assert_eq!(run(&["--help"]).0, 0);
}

const SCENARIO: &str = "\
[simulation]
title = \"Two sites\"
duration = \"20s\"
runs = 2
[[core]]
name = \"core\"
[[mapping-system]]
name = \"ms\"
addresses = [\"192.0.2.1\"]
[[link]]
between = [\"ms\", \"core\"]
[[fleet]]
name = \"f\"
sites = 2
attach = \"core\"
eid-prefixes = \"10.0.0.0/8\"
prefix-length = 24
rlocs = \"100.64.0.0/24\"
[[traffic]]
kind = \"ping\"
from = [\"f\"]
to-fleet = \"f\"
start = \"5s\"
interval = \"1s\"
";

#[test]
fn sim_shows_tables_and_json_and_writes_log_and_plot() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let (scenario, log, plot) = (path("s.toml"), path("s.log"), path("s.svg"));
    fs::write(&scenario, SCENARIO).unwrap();
    let (code, text, errors) = run(&["sim", &scenario, "--log", &log, "--plot", &plot]);
    assert_eq!((code, errors.as_str()), (0, ""));
    assert!(text.starts_with("Two sites\n\nall: 20 s, 2 runs, seeds 1 to 2\n"), "{text}");
    for part in ["Router", "f xTRs", "map-register", "no-mapping", "Unanswered"] {
        assert!(text.contains(part), "{part} in {text}");
    }
    let lines = fs::read_to_string(&log).unwrap();
    assert!(
        lines.contains("# all, run 2 of 2\n") && lines.contains("\tf-1\tsent\tmap-register\t"),
        "{lines}"
    );
    let svg = fs::read_to_string(&plot).unwrap();
    assert!(
        svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>") && svg.contains("itr-dropped"),
        "{svg}"
    );

    let json = |arguments: &[&str]| {
        let (code, text, _) = run(&[&["sim", &scenario, "--json"], arguments].concat());
        assert_eq!(code, 0);
        serde_json::from_str::<serde_json::Value>(&text).unwrap()
    };
    let (one, again, other) =
        (json(&["--runs", "1"]), json(&["--runs", "1"]), json(&["--seed", "2", "--runs", "1"]));
    assert_eq!(one, again);
    let first = |study: &serde_json::Value| study["cases"][0]["runs"][0].clone();
    assert_eq!(first(&one)["groups"]["f hosts"]["pings-sent"], 32);
    assert_ne!(first(&one)["fingerprint"], first(&other)["fingerprint"]);

    let (code, _, errors) = run(&["sim", "/nonexistent.toml"]);
    assert!(code == 1 && errors.contains("give the path of a scenario file"), "{errors}");

    fs::write(&scenario, SCENARIO.replace("sites = 2", "sites = 0")).unwrap();
    let (code, _, errors) = run(&["sim", &scenario]);
    assert!(
        code == 1 && errors.contains(&format!("{scenario}:14:9: fleet[1].sites: 0 is not in 1")),
        "{errors}"
    );
}
