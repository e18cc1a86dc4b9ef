//! The Map-Servers and Map-Resolvers of a site, and their keys.

use super::*;

#[rustfmt::skip]
const CASES: &[Case] = &[
    // Mapping system of the site
    (
        XTR,
        r#"[[map-server]]"#,
        r#"[[map-server]]
address = "203.0.113.1"
key = "k"
[[map-server]]"#,
        r#"9:11: map-server[2].address: 203.0.113.1 is already in line 5; remove one of the two
"#,
    ),
    (
        XTR,
        r#"[[map-server]]"#,
        r#"[[map-server]]
name = "ms"
address = "203.0.113.2"
key = "k"
[[map-server]]"#,
        r#"9:8: map-server[2].name: the name "ms" is already in line 5; give each Map-Server its own name
"#,
    ),
    (
        XTR,
        r#"[{ address = "203.0.113.1" }]"#,
        r#"[{ address = "mr.example" }, { address = "MR.example." }]"#,
        r#"3:57: map-resolver[2].address: mr.example is already in line 3; remove one of the two
"#,
    ),
    // Keys
    (
        XTR,
        r#"key = "top-secret""#,
        r#"key = """#,
        r#"7:7: map-server[1].key: the secret is empty; give the secret that the other side has
"#,
    ),
    (
        XTR,
        r#"key = "top-secret""#,
        r#"key-env = "EMPTY""#,
        r#"7:11: map-server[1].key-env: the secret is empty; give the secret that the other side has
"#,
    ),
    (
        XTR,
        r#"key = "top-secret""#,
        r#"key-env = "MISSING""#,
        r#"7:11: map-server[1].key-env: the environment has no variable MISSING; set it for the router, as in its unit file
"#,
    ),
    (
        XTR,
        r#"key = "top-secret""#,
        r#"key-file = "missing.key""#,
        r#"7:12: map-server[1].key-file: dir/missing.key can't be read: no such file; give the path of a file that holds the secret
"#,
    ),
    (
        XTR,
        r#"key = "top-secret""#,
        r#"key-file = "empty.key""#,
        r#"7:12: map-server[1].key-file: the secret is empty; give the secret that the other side has
"#,
    ),
    (
        XTR,
        r#"key = "top-secret""#,
        r#"key-file = "open.key""#,
        r#"7:12: warning: map-server[1].key-file: dir/open.key is readable for everybody; chmod 600 it
"#,
    ),
    // Map-Resolvers, and several keys and Map-Servers
    (
        XTR,
        r#"[{ address = "203.0.113.1" }]"#,
        r#"[{ address = "::1", eid-prefixes = ["10.0.0.0/8"] }, { address = "::1" }, { address = "::1", eid-prefixes = ["10.0.0.0/8", "10.2.0.0/16"] }]"#,
        r#"3:102: map-resolver[3].address: ::1 is already in line 3; remove one of the two
"#,
    ),
    (
        XTR,
        r#"[{ address = "203.0.113.1" }]"#,
        r#"[{ address = "::1", instance-id = 7 }]"#,
        r#"3:17: warning: map-resolver[1]: every Map-Resolver is for an EID space, so that EIDs outside of these can't be resolved; add a [[map-resolver]] without eid-prefixes and instance-id, if that is not meant
"#,
    ),
    (
        XTR,
        r#"[{ address = "203.0.113.1" }]"#,
        r#"[{ address = "::1" }, { address = "::2", instance-id = 7, eid-prefixes = ["10.0.0.0/8", "[8]10.0.0.0/8"] }]"#,
        r#"3:89: map-resolver[2].eid-prefixes: [8]10.0.0.0/8 is not in instance 7; leave out instance-id or the prefix
"#,
    ),
    (
        XTR,
        r#"[{ address = "203.0.113.1" }]"#,
        r#"[{ address = "::1" }, { address = "::2", eid-prefixes = [] }]"#,
        r#"3:72: map-resolver[2].eid-prefixes: is empty; give EID-prefixes, or leave the key out
"#,
    ),
    (
        XTR,
        r#"key = "top-secret""#,
        r#"key-id = 1
want-notify = false
[[map-server.key]]
key = "new"
key-id = 2
[[map-server.key]]
key = "old"
key-id = 2"#,
        r#"7:10: map-server[1].key-id: given beside [[map-server.key]]; move it into [[map-server.key]]
14:10: map-server[1].key[2].key-id: a key with id 2 for this algorithm is already in line 11; give each its own key-id
14:10: warning: map-server[1].key[2].key-id: never used, as without want-notify nothing tells that the first key does not work; set want-notify = true, or keep one key
"#,
    ),
    (
        XTR,
        r#"[[eid-prefix]]"#,
        r#"[[map-server]]
name = "other"
address = "203.0.113.2"
key = "k"
[[eid-prefix]]
prefix = "10.1.2.0/24"
map-servers = ["ms"]
[[eid-prefix.locator]]
address = "192.0.2.9"
[[eid-prefix]]"#,
        r#"18:10: warning: eid-prefix[2].prefix: "other" is told of 10.1.0.0/16, but not of 10.1.2.0/24 inside it, whose locators are others: it will answer for it with those of 10.1.0.0/16; add "other" to the map-servers of 10.1.2.0/24
"#,
    ),
];

#[test]
fn contradictions_are_found() {
    expect_all(CASES);
}
