//! What sections demand of each other.

use std::time::Duration;

use super::*;
use crate::proto::config::ProbingConfig;

/// A text, what is replaced in it by what, and what is then said, whole lines.
#[rustfmt::skip]
const CASES: &[(&str, &str, &str, &str)] = &[
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
    // Static entries of the map-cache
    (
        XTR,
        r#"[[eid-prefix]]"#,
        r#"[[map-cache.static]]
prefix = "10.1.7.0/24"
action = "drop"
[[map-cache.static]]
prefix = "10.3.0.0/16"
locator = [{ address = "10.3.0.1" }, { address = "203.0.113.3", priority = 2 }, { address = "203.0.113.3" }]
[[map-cache.static]]
prefix = "10.3.0.0/16"
action = "natively-forward"
[[eid-prefix]]"#,
        r#"9:10: map-cache.static[1].prefix: 10.1.7.0/24 lies in 10.1.0.0/16, an EID-prefix of this site; remove one of the two
13:24: map-cache.static[2].locator[1].address: 10.3.0.1 lies in 10.3.0.0/16, and would be reached only through itself; keep locators out of EID-prefixes
13:93: map-cache.static[2].locator[3].address: 203.0.113.3 is already in line 13; remove one of the two
15:10: map-cache.static[3].prefix: 10.3.0.0/16 is already in line 12; remove one of the two
"#,
    ),
    (
        XTR,
        r#"[[eid-prefix]]"#,
        r#"[map-cache]
limit = 1
[[map-cache.static]]
prefix = "10.3.0.0/16"
action = "drop"
locator = [{ address = "203.0.113.3" }]
[[map-cache.static]]
action = "go-on"
[[eid-prefix]]"#,
        r#"10:1: map-cache.static[1]: 2 static entries leave no room in a map-cache of 1; raise `limit` in [map-cache]
12:10: map-cache.static[1].action: given beside locators; give either an action, or [[map-cache.static.locator]] sections
14:1: map-cache.static[2].prefix: missing; give the EID-prefix that the mapping is for, as 10.1.0.0/16
15:10: map-cache.static[2].action: "go-on" is not possible here; give "natively-forward", "drop", "drop/policy-denied", "drop/auth-failure" or "send-map-request"
"#,
    ),
    (
        XTR,
        r#"[[eid-prefix]]"#,
        r#"[map-cache]
idle-timeout = "soon"
[[eid-prefix]]"#,
        r#"9:16: map-cache.idle-timeout: "soon" is not a duration; give a whole number and a unit, as 500ms, 20s, 3min, 1h or 1d
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
    // Instances
    (
        XTR,
        r#"[[map-server]]"#,
        r#"[[instance]]
instance-id = 7
interfaces = ["eth7"]
[[instance]]
instance-id = 0
interfaces = ["eth0"]
[[map-server]]"#,
        r#"5:15: warning: instance[1].instance-id: no EID-prefix is in instance 7; add an [[eid-prefix]] or remove the section
"#,
    ),
    (
        XTR,
        r#"[[map-server]]"#,
        r#"[[instance]]
instance-id = 0
[[instance]]
instance-id = 0
[[map-server]]"#,
        r#"7:15: instance[2].instance-id: instance 0 is already in line 5; put everything into one section
"#,
    ),
    (
        XTR,
        r#"[[eid-prefix]]"#,
        r#"[[eid-prefix]]
prefix = "10.7.0.0/16"
instance-id = 7
[[eid-prefix]]"#,
        r#"8:1: eid-prefix[1]: instance 7 has no site interfaces, and is not the only instance; add [[instance]] with instance-id = 7 and interfaces = ["…"]
11:1: eid-prefix[2]: instance 0 has no site interfaces, and is not the only instance; add [[instance]] with instance-id = 0 and interfaces = ["…"]
"#,
    ),
    (
        XTR,
        r#"[[eid-prefix]]"#,
        r#"[[eid-prefix]]
prefix = "10.7.0.0/16"
instance-id = 7
[[instance]]
instance-id = 7
interfaces = ["eth0"]
[[instance]]
instance-id = 0
interfaces = ["eth1", "eth0"]
tun = "lisp7"
table = 4342
[[eid-prefix]]"#,
        r#"11:1: instance[1].tun: the name lisp7 of its TUN is taken; give it another name with `tun`
16:23: instance[2].interfaces[2]: eth0 is already in line 13; give each interface to one instance only
18:9: instance[2].table: the router itself fills tables 4341–4342; choose another number here or in [kernel] table
"#,
    ),
    (
        XTR,
        r#"[[map-server]]"#,
        r#"[kernel]
table = 252
[[instance]]
instance-id = 0
tun = "eth0"
interfaces = ["eth0"]
table = 252
[[map-server]]"#,
        r#"6:1: instance[1].tun: the name eth0 of its TUN is taken; give it another name with `tun`
10:9: instance[1].table: the router itself fills table 252; choose another number here or in [kernel] table
"#,
    ),
    (
        XTR,
        r#"[[eid-prefix]]"#,
        r#"[[eid-prefix]]
prefix = "10.7.0.0/16"
instance-id = 7
[[instance]]
instance-id = 7
interfaces = ["eth7"]
[[instance]]
instance-id = 0
interfaces = ["eth0"]
[kernel]
table = 252
[[eid-prefix]]"#,
        r#"18:9: kernel.table: tables 252–253 include the kernel's own, 253–255; start at another number, as 4341
"#,
    ),
    // Kernel
    (
        XTR,
        r#"[[map-server]]"#,
        r#"[kernel]
routing = "prefixes"
[[map-server]]"#,
        r#"5:11: kernel.routing: "prefixes" without any prefix; list destination EID-prefixes in `prefixes`, or choose routing = "default"
"#,
    ),
    (
        XTR,
        r#"[[map-server]]"#,
        r#"[kernel]
prefixes = ["10.2.0.0/16"]
[[map-server]]"#,
        r#"5:12: warning: kernel.prefixes: not used; set routing = "prefixes" or remove them
"#,
    ),
    (
        XTR,
        r#"[[map-server]]"#,
        r#"[kernel]
routing = "prefixes"
prefixes = ["10.2.0.0/16", "10.2.0.0/16", "[7]10.2.0.0/16"]
[[map-server]]"#,
        r#"6:28: kernel.prefixes[2]: 10.2.0.0/16 is already in line 6; remove one of the two
6:43: kernel.prefixes[3]: instance 7 has no EID-prefix; give a prefix of an instance that the site is in
"#,
    ),
    // Probing
    (
        XTR,
        r#"[[map-server]]"#,
        r#"[probing]
interval = "50ms"
timeout = "60ms"
back-off = "40ms"
[[map-server]]"#,
        r#"5:12: probing.interval: 50ms is too short; give at least 100ms
6:11: probing.timeout: 60ms is longer than interval, 50ms; make it shorter, half the interval or less
7:12: probing.back-off: 40ms is shorter than interval, 50ms; make it longer, or the interval shorter
"#,
    ),
    (
        MS,
        r#"[[site]]"#,
        r#"[probing]
interval = "1s"
[[site]]"#,
        r#"2:1: warning: probing: not used without role "itr"; add the role or remove the section
"#,
    ),
    // Management and timers
    (
        MS,
        r#"[[site]]"#,
        r#"[management]
socket = "/run/a-very-long-directory-name/that-goes-on-and-on-and-on/that-goes-on-and-on-and-on/and-on-and-on-and-on/and-on-and-on-and-on/and-on"
[[site]]"#,
        r#"3:10: management.socket: the path is 134 bytes long, a socket's has at most 107; give a shorter one
"#,
    ),
    (
        MS,
        r#"[[site]]"#,
        r#"[management]
mode = "0666"
[[site]]"#,
        r#"2:1: warning: management.mode: mode 0666 lets everybody control the router; use "0600", or "0660" and a group
"#,
    ),
    (
        MS,
        r#"[[site]]"#,
        r#"[timers]
register-interval = "3min"
[[site]]"#,
        r#"2:1: warning: timers.register-interval: 180s is not shorter than registration-timeout, 180s, so that registrations would lapse; make it a third of the time-out or less
"#,
    ),
    (
        MS,
        r#"[[site]]"#,
        r#"[timers]
register-retry = "61s"
[[site]]"#,
        r#"2:1: timers.register-retry: 61s is longer than register-retry-max, 60s; make it shorter, or raise register-retry-max
"#,
    ),
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
fn probing_is_on_unless_it_is_switched_off_and_its_times_follow_the_interval() {
    let probing = |more: &str| config(&format!("{XTR}[probing]\n{more}")).control.probing;
    assert_eq!(config(XTR).control.probing, Some(ProbingConfig::default()));
    assert_eq!(probing("enabled = false"), None);
    let quick = probing("interval = \"500ms\"").unwrap();
    assert_eq!((quick.timeout, quick.back_off), (Duration::from_millis(250), Duration::from_secs(60)));
    let slow = probing("interval = \"5min\"").unwrap();
    assert_eq!((slow.timeout, slow.back_off), (Duration::from_secs(1), Duration::from_secs(300)));
}

#[test]
fn contradictions_are_found() {
    for (base, from, to, expected) in CASES {
        expect(base, from, to, expected);
    }
}

#[test]
fn snapshots_are_taken_unless_the_file_says_never() {
    let snapshot = |keys: &str| config(&format!("{XTR}\n[map-cache]\n{keys}\n")).snapshot;
    assert_eq!(config(XTR).snapshot, Some(SnapshotConfig::default()));
    let told = snapshot("snapshot-interval = \"5s\"\nsnapshot-max-age = \"10min\"").unwrap();
    assert_eq!((told.interval, told.max_age), (Duration::from_secs(5), Duration::from_secs(600)));
    assert_eq!(snapshot("snapshot-interval = \"never\""), None);
    for (keys, complaint) in
        [("snapshot-interval = \"500ms\"", "too short"), ("snapshot-max-age = \"0s\"", "no time at all")]
    {
        let text = format!("{XTR}\n[map-cache]\n{keys}\n");
        let report = said(&text);
        assert!(report.contains(complaint), "{report}");
    }
}

#[test]
fn static_map_cache_entries_become_mappings() {
    let text = format!(
        "{XTR}\n[map-cache]\nidle-timeout = \"never\"\n[[map-cache.static]]\nprefix = \"10.3.0.0/16\"\ninstance-id = 7\n\
         [[map-cache.static.locator]]\naddress = \"203.0.113.3\"\npriority = 2\nweight = 30\n\
         [[map-cache.static]]\nprefix = \"0.0.0.0/0\"\naction = \"natively-forward\"\n"
    );
    let itr = config(&text).control.itr.unwrap();
    assert_eq!(itr.idle_timeout, std::time::Duration::ZERO);
    let [with, without] = &itr.static_entries[..] else { panic!("{:?}", itr.static_entries) };
    assert_eq!(with.eid.to_string(), "[7]10.3.0.0/16");
    assert_eq!(with.locators, [crate::types::Locator::new("203.0.113.3".parse().unwrap(), 2, 30)]);
    assert_eq!(
        (without.eid.to_string(), without.action),
        ("0.0.0.0/0".into(), crate::types::Action::NativelyForward)
    );
    assert!(without.is_negative());
    assert_eq!(config(XTR).control.itr.unwrap().idle_timeout, std::time::Duration::from_secs(3600));
}
