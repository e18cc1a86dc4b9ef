//! What is said of files that are wrong.

use std::path::Path;

use super::*;
use crate::sim::tests::{CORE, site};

/// What is said of the smallest useful scenario with `to` in the place of `from`.
fn problems(from: &str, to: &str) -> String {
    const REST: &str = r#"[[link]]
between = ["xa", "core"]
loss = "1%"
[[traffic]]
kind = "ping"
from = ["ha"]
to = ["10.2.0.1"]
interval = "1s"
[[fault]]
cut = ["xa", "core"]
from = "5s"
"#;
    let good = format!("[simulation]\nduration = \"10s\"\n{CORE}{}{REST}", site("a", 1));
    assert!(good.contains(from), "{from}");
    let text = good.replacen(from, to, 1);
    match Scenario::parse(Path::new("s.toml"), &text) {
        Ok(_) => String::new(),
        Err(report) => report.to_string(),
    }
}

#[test]
fn errors_name_line_key_and_what_to_do() {
    assert_eq!(problems("", ""), "");
    let cases = [
        (
            "duration = \"10s\"",
            "",
            "s.toml:1:1: simulation.duration: missing; say how long it runs, as 300s or 1h",
        ),
        ("loss = \"1%\"", "los = \"1%\"", "s.toml:22:1: link[1].los: unknown key; did you mean `loss`?"),
        (
            "loss = \"1%\"",
            "loss = \"101%\"",
            "s.toml:22:8: link[1].loss: \"101%\" is not a percentage; give one from 0% to 100% with at most \
             7 digits after the point, as 0.5%",
        ),
        (
            "between = [\"xa\", \"core\"]",
            "between = [\"xa\", \"cor\"]",
            "s.toml:21:18: link[1].between[2]: there is no node of the name \"cor\"; add it, or correct the \
             name\n\
             s.toml:29:7: fault[1].cut: are not linked; name the two ends of a [[link]]",
        ),
        (
            "site = \"a\"\nrlocs",
            "site = \"b\"\nrlocs",
            "s.toml:14:8: xtr[1].site: there is no site of the name \"b\"; add a [[site]]",
        ),
        (
            "10.1.0.1/32",
            "10.3.0.1/32",
            "s.toml:19:14: host[1].addresses[1]: is not in the site; give addresses of a's EID-prefixes",
        ),
        (
            "kind = \"ping\"",
            "kind = \"pong\"",
            "s.toml:24:8: traffic[1].kind: is no kind of traffic; give \"ping\" or \"udp\"",
        ),
        (
            "from = \"5s\"",
            "from = \"5s\"\nuntil = \"4s\"",
            "s.toml:31:9: fault[1].until: is not after `from`; give a later time, or leave it out",
        ),
        (
            "rlocs = [\"192.0.2.11\"]",
            "rlocs = [\"192.0.2.1\"]",
            "s.toml:15:10: xtr[1].rlocs[1]: is the address of another node too; give each node addresses of \
             its own",
        ),
    ];
    for (from, to, expected) in cases {
        assert_eq!(problems(from, to), expected, "{to}");
    }
    assert!(problems("[[core]]", "[[core]").contains("correct the TOML syntax"));
    assert!(
        problems("name = \"ha\"", "name = \"xa\"").contains("host[1].name: is the name of another node too")
    );
    let unclear = problems("from = \"5s\"", "from = \"5s\"\ncrash = \"xa\"");
    assert!(unclear.contains("give exactly one of `cut`, `isolate`, `crash` and `stop`"), "{unclear}");
    let vrrp = problems(
        "[[host]]",
        "[[vrrp]]\nsite = \"a\"\nvrid = 10\naddresses = [\"10.1.0.254\"]\ninterval = \"15ms\"\n[[host]]",
    );
    assert!(
        vrrp.contains("vrrp[1].interval: 15ms is no whole number of centiseconds; round it to 10 ms"),
        "{vrrp}"
    );
    let lan =
        problems("[[host]]", "[[vrrp]]\nsite = \"a\"\nvrid = 10\naddresses = [\"10.1.0.254\"]\n[[host]]");
    assert!(
        lan.contains("vrrp[1].site: xa has no IPv4 address on the LAN; give it `lan-addresses`"),
        "{lan}"
    );
    let case = problems("[[core]]", "[[case]]\nname = \"c\"\nsync = \"fast\"\n[[core]]");
    assert!(
        case.contains("case[1].sync: \"fast\" is not possible here; give \"smart\" or \"naive\""),
        "{case}"
    );
    let ddt = problems(
        "[[site]]",
        "[[ddt-node]]\nname = \"d\"\naddresses = [\"192.0.2.3\"]\neid-prefixes = [\"::/0\"]\n\
         delegates = [\"core\"]\n[[site]]",
    );
    assert!(ddt.contains("ddt-node[1].delegates[1]: is no DDT node; name a [[ddt-node]] or,"), "{ddt}");
}
