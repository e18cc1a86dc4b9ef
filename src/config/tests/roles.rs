//! What roles demand, and sections without their role.

use super::*;

#[rustfmt::skip]
const CASES: &[Case] = &[
    // Roles
    (
        r#"roles = ["itr"]
"#,
        "",
        "",
        r#"1:9: roles: role "itr" needs an EID-prefix; add an [[eid-prefix]] section with the site's prefix
1:9: roles: role "itr" needs a Map-Resolver; add a [[map-resolver]] section with its address
"#,
    ),
    (
        r#"roles = ["etr"]
"#,
        "",
        "",
        r#"1:9: roles: role "etr" needs an EID-prefix; add an [[eid-prefix]] section with the site's prefix
"#,
    ),
    (
        r#"roles = ["map-server"]
"#,
        "",
        "",
        r#"1:9: roles: role "map-server" needs a site that may register; add a [[site]] section
"#,
    ),
    (
        r#"roles = ["map-resolver"]
"#,
        "",
        "",
        r#"1:9: roles: role "map-resolver" needs a Map-Server, here or elsewhere; add the role "map-server", a [[forward]] section, or `roots` of [ddt]
"#,
    ),
    (
        r#"roles = []
"#,
        "",
        "",
        r#"1:9: roles: is empty; say what the router is, for example roles = ["itr", "etr"]
"#,
    ),
    (
        XTR,
        r#"[[map-server]]
name = "ms"
address = "203.0.113.1"
key = "top-secret"
"#,
        "",
        r#"1:9: roles: role "etr" needs a Map-Server to register with; add a [[map-server]] section, or set register = false for every EID-prefix
"#,
    ),
    (
        MS,
        r#"["map-server"]"#,
        r#"["map-server", "map-server"]"#,
        r#"1:24: roles[2]: this role is already in line 1; remove one of the two
"#,
    ),
    // Sections without their role
    (
        XTR,
        r#"["itr", "etr"]"#,
        r#"["itr"]"#,
        r#"4:1: warning: map-server[1]: not used without role "etr"; add the role or remove the section
"#,
    ),
    (
        XTR,
        r#"["itr", "etr"]"#,
        r#"["etr"]"#,
        r#"3:29: warning: map-resolver[1].address: not used without role "itr"; add the role or remove the section
"#,
    ),
    (
        MS,
        r#"[[site]]"#,
        r#"[router]
xtr-id = "1"
[map-cache]
limit = 5
[[site]]"#,
        r#"3:10: warning: router.xtr-id: not used without role "etr"; add the role or remove the section
5:9: warning: map-cache.limit: not used without role "itr"; add the role or remove the section
"#,
    ),
    (
        MS,
        r#"[[site]]"#,
        r#"[[instance]]
instance-id = 0
[[locator]]
address = "192.0.2.1"
[[site]]"#,
        r#"2:1: warning: instance[1]: not used without role "itr" or "etr"; add the role or remove the section
4:1: warning: locator[1]: not used without role "itr" or "etr"; add the role or remove the section
"#,
    ),
    (
        XTR,
        r#"[[map-server]]"#,
        r#"[[site]]
name = "a"
key = "k"
eid-prefixes = ["10.9.0.0/16"]
[[forward]]
prefix = "10.9.0.0/16"
map-servers = ["::1"]
[[map-server]]"#,
        r#"4:1: warning: site[1]: not used without role "map-server"; add the role or remove the section
9:10: warning: forward[1].prefix: not used without role "map-resolver"; add the role or remove the section
"#,
    ),
];

#[test]
fn contradictions_are_found() {
    expect_all(CASES);
}
