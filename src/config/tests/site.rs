//! What is said of a site: its locators and EID-prefixes, its other routers, and what data packets say.

use super::*;

#[rustfmt::skip]
const CASES: &[Case] = &[
    // Locators
    (
        XTR,
        r#"locator = [{ address = "192.0.2.1" }]
"#,
        "",
        r#"7:1: eid-prefix[1]: has no locator; add [[locator]] for all EID-prefixes or [[eid-prefix.locator]] below this one
"#,
    ),
    (
        XTR,
        r#"locator = [{ address = "192.0.2.1" }]
"#,
        r#"locator = []
"#,
        r#"8:1: eid-prefix[1]: has no locator; add [[locator]] for all EID-prefixes or [[eid-prefix.locator]] below this one
"#,
    ),
    (
        XTR,
        r#"prefix = "10.1.0.0/16"
"#,
        r#"prefix = "10.1.0.0/16"
locator = []
"#,
        r#"8:1: eid-prefix[1]: has no locator; add [[eid-prefix.locator]] below it
"#,
    ),
    (
        XTR,
        r#"{ address = "192.0.2.1" }"#,
        r#"{ address = "192.0.2.1", local = false }"#,
        r#"2:12: locator[1]: no locator of this set is this router's own; add a locator of this router's own, or mark one as local
"#,
    ),
    (
        XTR,
        r#"{ address = "192.0.2.1" }"#,
        r#"{ address = "192.0.2.1", priority = 255 }"#,
        r#"2:12: warning: locator[1]: every locator has priority 255, so that the site can't be reached; give one a lower priority
"#,
    ),
    (
        XTR,
        r#"{ address = "192.0.2.1" }"#,
        r#"{ address = "192.0.2.1", weight = 99 }"#,
        r#"2:12: locator[1].weight: the only locator of priority 1 has weight 99, not 100; make them sum to 100, or make every weight 0
"#,
    ),
    (
        XTR,
        r#"{ address = "192.0.2.1" }"#,
        r#"{ address = "192.0.2.1", weight = 50 },
{ address = "2001:db8::1", weight = 51 },
{ address = "192.0.2.2", priority = 2, weight = 0 }"#,
        r#"2:12: locator[1].weight: the weights of the 2 locators of priority 1 sum to 101, not to 100; make them sum to 100, or make every weight 0
"#,
    ),
    (
        XTR,
        r#"{ address = "192.0.2.1" }"#,
        r#"{ address = "192.0.2.1", mpriority = 1, mweight = 60 },
{ address = "192.0.2.2", priority = 2, mpriority = 1, mweight = 60 }"#,
        r#"2:12: locator[1].mweight: the mweights of the 2 locators of mpriority 1 sum to 120, not to 100; make them sum to 100, or make every mweight 0
"#,
    ),
    (
        XTR,
        r#"{ address = "192.0.2.1" }"#,
        r#"{ address = "192.0.2.1", weight = 50 },
{ address = "192.0.2.1", weight = 50 }"#,
        r#"3:13: locator[2].address: locator 192.0.2.1 is already in line 2; remove one of the two
"#,
    ),
    (
        XTR,
        r#"{ address = "192.0.2.1" }"#,
        r#"{ interface = "eth0", family = "ipv6", weight = 50 },
{ interface = "eth0", family = "ipv6", weight = 50 }"#,
        r#"3:15: locator[2].interface: the IPv6 locator of eth0 is already in line 2; remove one of the two
"#,
    ),
    (
        XTR,
        r#"{ address = "192.0.2.1" }"#,
        r#"{ address = "10.1.255.1" }"#,
        r#"9:10: eid-prefix[1].prefix: 10.1.0.0/16 contains the locator 10.1.255.1 (line 2), which would be reached only through itself; keep locators out of EID-prefixes
"#,
    ),
    // EID-prefixes
    (
        XTR,
        r#"[[eid-prefix]]"#,
        r#"[[eid-prefix]]
prefix = "10.1.0.0/16"
[[eid-prefix]]"#,
        r#"11:10: eid-prefix[2].prefix: 10.1.0.0/16 is already in line 9; remove one of the two
"#,
    ),
    (
        XTR,
        r#"[[eid-prefix]]"#,
        r#"[[eid-prefix]]
prefix = "10.1.2.0/24"
register = false
[[eid-prefix]]"#,
        r#"12:10: eid-prefix[2].prefix: 10.1.2.0/24 is not to be registered, but lies in 10.1.0.0/16, which is (see line 9); register 10.1.2.0/24 too, or remove it
"#,
    ),
    (
        XTR,
        r#"[[eid-prefix]]"#,
        r#"[[eid-prefix]]
prefix = "10.0.0.0/8"
register = false
[[eid-prefix]]"#,
        "",
    ),
    (
        XTR,
        r#"[[eid-prefix]]"#,
        r#"[[eid-prefix]]
prefix = "10.0.0.0/8"
[[eid-prefix]]"#,
        r#"11:10: warning: eid-prefix[2].prefix: 10.1.0.0/16 says the same as 10.0.0.0/8 (see line 9), which covers it; remove 10.1.0.0/16, or give it other locators
"#,
    ),
    (
        XTR,
        r#"[[eid-prefix]]"#,
        r#"[[eid-prefix]]
prefix = "10.1.2.0/24"
[[eid-prefix.locator]]
address = "192.0.2.1"
priority = 2
[[eid-prefix]]"#,
        "",
    ),
    (
        XTR,
        r#"[[eid-prefix]]"#,
        r#"[[eid-prefix]]
map-servers = ["mss", "ms", "ms"]"#,
        r#"9:16: eid-prefix[1].map-servers[1]: no Map-Server is named "mss"; did you mean "ms"?
9:29: eid-prefix[1].map-servers[3]: "ms" is already in line 9; remove one of the two
"#,
    ),
    (
        XTR,
        r#"[[eid-prefix]]"#,
        r#"[[eid-prefix]]
map-servers = ["somewhere-else"]"#,
        r#"9:16: eid-prefix[1].map-servers[1]: no Map-Server is named "somewhere-else"; the names are ms
"#,
    ),
    (
        XTR,
        r#"[[eid-prefix]]"#,
        r#"[[eid-prefix]]
map-servers = []"#,
        r#"9:15: eid-prefix[1].map-servers: is empty; name Map-Servers, leave the key out for all, or set register = false
"#,
    ),
    (
        XTR,
        r#"[[eid-prefix]]"#,
        r#"[[eid-prefix]]
register = false
map-servers = ["ms"]"#,
        r#"10:15: warning: eid-prefix[1].map-servers: given for an EID-prefix that is not registered; remove it, or leave out `register = false`
"#,
    ),
    (
        r#"roles = ["itr"]
locator = [{ address = "192.0.2.1" }]
map-resolver = [{ address = "::1" }]
eid-prefix = [{ prefix = "10.1.0.0/16", map-servers = ["x"] }]
"#,
        "",
        "",
        r#"4:56: eid-prefix[1].map-servers[1]: no Map-Server is named "x"; add a [[map-server]] section with this name
"#,
    ),
    // Several routers of a site
    (
        XTR,
        r#"locator = [{ address = "192.0.2.1" }]"#,
        r#"locator = [{ address = "192.0.2.1" }, { address = "192.0.2.2", priority = 2, local = false }]"#,
        r#"2:51: warning: locator[2].address: another router's locator without an xtr-id: the Map-Server takes a router whose address changes for one more router; set xtr-id in [router], another one at each router of the site
"#,
    ),
    (
        XTR,
        r#"locator = [{ address = "192.0.2.1" }]"#,
        r#"locator = [{ address = "192.0.2.1" }, { address = "192.0.2.2", priority = 2, local = false }]
router = { xtr-id = "1" }"#,
        "",
    ),
    (
        XTR,
        r#"key = "top-secret""#,
        "key = \"top-secret\"\nmerge = true",
        r#"4:1: warning: map-server[1]: merge without an xtr-id: the Map-Server takes a router whose address changes for one more router; set xtr-id in [router], another one at each router of the site
"#,
    ),
    (
        XTR,
        r#"[[eid-prefix]]"#,
        r#"[data-header]
accept-stale-versions = true
[[eid-prefix]]"#,
        r#"9:25: warning: data-header.accept-stale-versions: not used without map-versioning; set map-versioning = true, or remove it
"#,
    ),
    // Headers
    (
        XTR,
        r#"[[map-server]]"#,
        r#"[data-header]
map-versioning = false
[[eid-prefix]]
prefix = "10.77.0.0/16"
map-version = 3
[[map-server]]"#,
        r#"8:15: warning: eid-prefix[1].map-version: not used without map-versioning; set map-versioning = true in [data-header], or remove it
"#,
    ),
    (
        XTR,
        r#"[[map-server]]"#,
        r#"[data-plane]
mode = "external"
[data-header]
source-check = "known"
locator-status-bits = true
echo-nonce = false
map-versioning = true
[map-cache]
glean = true
[[map-server]]"#,
        r#"7:16: data-header.source-check: an external data plane neither says nor hears anything of this; switch it off, or set mode = "internal" in [data-plane]
8:23: data-header.locator-status-bits: an external data plane neither says nor hears anything of this; switch it off, or set mode = "internal" in [data-plane]
10:18: data-header.map-versioning: an external data plane neither says nor hears anything of this; switch it off, or set mode = "internal" in [data-plane]
12:9: map-cache.glean: an external data plane neither says nor hears anything of this; switch it off, or set mode = "internal" in [data-plane]
"#,
    ),
    (
        XTR,
        r#"locator = [{ address = "192.0.2.1" }]"#,
        r#"locator = [{ address = "192.0.2.1" }, { address = "192.0.2.2", priority = 2, local = false }]
data-header = { map-versioning = true }
router = { xtr-id = "1" }"#,
        r#"10:1: eid-prefix[1]: has locators of other routers of the site, which would count its versions for themselves; set map-version, the same at all of them, or map-versioning = false in [data-header]
"#,
    ),
];

#[test]
fn contradictions_are_found() {
    expect_all(CASES);
}
