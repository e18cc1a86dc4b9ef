//! Who may register with our Map-Server, and where else there is one.

use super::*;

#[rustfmt::skip]
const CASES: &[Case] = &[
    // Sites
    (
        MS,
        r#"[[site]]"#,
        r#"[[site]]
name = "a"
key = "k"
eid-prefixes = ["10.2.0.0/16"]
[[site]]"#,
        r#"7:8: site[2].name: site "a" is already in line 3; give each site its own name
"#,
    ),
    (
        MS,
        r#"eid-prefixes = ["10.1.0.0/16"]
"#,
        "",
        r#"2:1: site[1]: has no EID-prefix; add eid-prefixes = ["…"] or [[site.eid-prefix]]
"#,
    ),
    (
        MS,
        r#"["10.1.0.0/16"]"#,
        r#"["10.1.0.0/16", "10.1.0.0/16"]"#,
        r#"5:32: site[1].eid-prefixes[2]: 10.1.0.0/16 is already in line 5; give each EID-prefix to one site only
"#,
    ),
    (
        MS,
        r#"[[site]]"#,
        r#"[[site]]
name = "b"
key = "k"
eid-prefixes = ["10.1.0.0/16"]
[[site]]"#,
        r#"9:17: site[2].eid-prefixes[1]: 10.1.0.0/16 of site "b" is already in line 5; give each EID-prefix to one site only
"#,
    ),
    (
        MS,
        r#"[[site]]"#,
        r#"[[site]]
name = "b"
key = "k"
[[site.eid-prefix]]
prefix = "10.0.0.0/8"
accept-more-specifics = true
[[site]]"#,
        r#"11:17: site[2].eid-prefixes[1]: 10.1.0.0/16 overlaps 10.0.0.0/8 of site "b" (line 6), so that both sites could register it; set accept-more-specifics = false on the shorter of the two, or separate the prefixes
"#,
    ),
    (
        MS,
        r#"[[site]]"#,
        r#"[[site]]
name = "b"
key = "k"
eid-prefixes = ["10.0.0.0/8", "[7]10.1.0.0/16"]
[[site]]"#,
        "",
    ),
    (
        MS,
        r#"key = "top-secret"
eid-prefixes = ["10.1.0.0/16"]
"#,
        r#"eid-prefixes = ["10.1.0.0/16"]
[[site.key]]
key = "a"
[[site.key]]
key = "b"
"#,
        r#"7:1: site[1].key[2].key-id: a key with id 0 for this algorithm is already in line 5; give each its own key-id
"#,
    ),
    (
        MS,
        r#"key = "top-secret"
eid-prefixes = ["10.1.0.0/16"]
"#,
        r#"eid-prefixes = ["10.1.0.0/16"]
[[site.key]]
key = "a"
[[site.key]]
key = "b"
algorithm = "sha1"
"#,
        "",
    ),
    // Forward
    (
        r#"roles = ["map-resolver"]
forward = [{ prefix = "10.0.0.0/8", map-servers = ["::1", "::1"] }, { prefix = "10.0.0.0/8", map-servers = ["::1"] }]
"#,
        "",
        "",
        r#"2:59: forward[1].map-servers[2]: ::1 is already in line 2; remove one of the two
2:80: forward[2].prefix: 10.0.0.0/8 is already in line 2; put all its Map-Servers into one section
"#,
    ),
];

#[test]
fn contradictions_are_found() {
    expect_all(CASES);
}
