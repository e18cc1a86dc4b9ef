//! The machine: instances, kernel, control socket, timers.

use super::*;

#[rustfmt::skip]
const CASES: &[Case] = &[
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
];

#[test]
fn contradictions_are_found() {
    expect_all(CASES);
}
