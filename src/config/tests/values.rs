//! Syntax, types, unknown keys, and how each kind of value is written.

use super::*;

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
            "5:10: map-server[1].key-id: is a number with a fraction, not a whole number; give 0 to 255 \
             without quotes\n",
        ),
        (
            "name = \"ms\"",
            "proxy-reply = \"yes\"",
            "5:15: map-server[1].proxy-reply: is a string, not true or false; write true or false without \
             quotes\n",
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
fn unknown_keys_and_sections_are_found_with_the_likely_one() {
    expect_with(XTR, "tttl = 5\n", "10:1: eid-prefix[1].tttl: unknown key; did you mean `ttl`?\n");
    expect_with(XTR, "[kernell]\n", "10:2: kernell: unknown key; did you mean `kernel`?\n");
    expect_with(
        XTR,
        "[map-cache]\nzzz = 1\n\"a\\u0007b\" = 2\n",
        "11:1: map-cache.zzz: unknown key; the keys here are expect-return, glean, idle-timeout, limit, \
         resolver-selection, snapshot-interval, snapshot-max-age, static\n\
         12:1: map-cache.a\\u{7}b: unknown key; the keys here are expect-return, glean, idle-timeout, limit, \
         resolver-selection, snapshot-interval, snapshot-max-age, static\n",
    );
    expect_with(
        MS,
        "[log.levels]\nprotto = \"info\"\n",
        "7:1: log.levels.protto: unknown key; the keys here are config, control, data-plane, io, \
         management, mapping-system, runtime, xtr\n",
    );
    let roles = "missing; say what the router is, for example roles = [\"itr\", \"etr\"]";
    assert_eq!(said(""), format!("1:1: roles: {roles}\n"));
}

/// One wrong value each: lines of a file, and what is said about them, without its place.
#[rustfmt::skip]
const WRONG_VALUES: &[(&str, &str)] = &[
    // Strings
    ("[router]\nname = \"\"", "router.name: is empty; give a text or leave the key out"),
    ("[router]\nstate-dir = \"\"", "router.state-dir: is not a path; give a path or leave the key out"),
    // Hex
    (
        "[router]\nxtr-id = \"0x1g\"",
        "router.xtr-id: \"0x1g\" is not a number of 128 bits in hex; give up to 32 hex digits, as \"0x2a\"",
    ),
    (
        "[router]\nsite-id = \"00000000000000001\"",
        "router.site-id: \"00000000000000001\" is not a number of 64 bits in hex; give up to 16 hex digits, \
         as \"0x2a\"",
    ),
    (
        "[router]\nsite-id = -1",
        "router.site-id: -1 is not in 0–18446744073709551615; give a whole number from 0 to \
         18446744073709551615",
    ),
    // Addresses
    (
        "[[locator]]\naddress = \"192.0.2\"",
        "locator[1].address: \"192.0.2\" is not an IP address; give one as 192.0.2.1 or 2001:db8::1",
    ),
    (
        "[[locator]]\naddress = \"192.0.2.0/24\"",
        "locator[1].address: \"192.0.2.0/24\" is a prefix, not an IP address; leave out the mask length",
    ),
    (
        "[[locator]]\naddress = \"::ffff:192.0.2.1\"",
        "locator[1].address: ::ffff:192.0.2.1 is an IPv4 address in IPv6 form; write 192.0.2.1",
    ),
    (
        "[[locator]]\naddress = \"0.0.0.0\"",
        "locator[1].address: 0.0.0.0 stands for no host; give an address that other routers can reach",
    ),
    (
        "[[locator]]\naddress = \"ff02::1\"",
        "locator[1].address: ff02::1 is a multicast address; give an address that other routers can reach",
    ),
    (
        "[[locator]]\naddress = \"127.0.0.1\"",
        "locator[1].address: 127.0.0.1 is a loopback address; give an address that other routers can reach",
    ),
    (
        "[[locator]]\naddress = \"255.255.255.255\"",
        "locator[1].address: 255.255.255.255 is the broadcast address; give an address that other routers \
         can reach",
    ),
    (
        "[[locator]]\naddress = \"169.254.1.1\"",
        "locator[1].address: 169.254.1.1 is a link-local address; give an address that other routers can \
         reach",
    ),
    (
        "[[locator]]\naddress = \"fe80::1\"",
        "locator[1].address: fe80::1 is a link-local address; give an address that other routers can reach",
    ),
    // Locators
    (
        "[[locator]]\naddress = \"192.0.2.1\"\ninterface = \"eth0\"",
        "locator[1].interface: given beside an address; keep one of the two",
    ),
    (
        "[[locator]]\npriority = 2",
        "locator[1].address: missing; give an address, or an interface and a family",
    ),
    (
        "[[locator]]\ninterface = \"eth0\"",
        "locator[1].family: missing; say which address of the interface: \"ipv4\" or \"ipv6\"",
    ),
    (
        "[[locator]]\naddress = \"192.0.2.1\"\nfamily = \"ipv4\"",
        "locator[1].family: given beside an address; leave it out",
    ),
    (
        "[[locator]]\ninterface = \"eth0\"\nfamily = \"v4\"",
        "locator[1].family: \"v4\" is not possible here; give \"ipv4\" or \"ipv6\"",
    ),
    (
        "[[locator]]\ninterface = \"eth0\"\nfamily = \"ipv4\"\nlocal = false",
        "locator[1].local: false, but the interface is this router's; give the other router's address, or \
         leave `local` out",
    ),
    (
        "[[locator]]\ninterface = \"a name that is too long\"\nfamily = \"ipv4\"",
        "locator[1].interface: \"a name that is too long\" can't be an interface name; give 1 to 15 \
         characters without space, slash or colon",
    ),
    (
        "[[locator]]\naddress = \"192.0.2.1\"\npriority = 256",
        "locator[1].priority: 256 is not in 0–255; give a whole number from 0 to 255",
    ),
    (
        "[[locator]]\naddress = \"192.0.2.1\"\nweight = 300",
        "locator[1].weight: 300 is not in 0–100; give a whole number from 0 to 100",
    ),
    (
        "[[locator]]\naddress = \"192.0.2.1\"\nweight = -0x1",
        "integers with a radix cannot be signed, expected nothing; correct the TOML syntax",
    ),
    (
        "[[locator]]\naddress = \"192.0.2.1\"\nmpriority = 999999999999999999999999999999999999999999",
        "locator[1].mpriority: 999999999999999999999999999999999999999999 is not in 0–255; give a whole \
         number from 0 to 255",
    ),
    (
        "[[locator]]\naddress = \"192.0.2.1\"\nmweight = -1",
        "locator[1].mweight: -1 is not in 0–100; give a whole number from 0 to 100",
    ),
    // Prefixes
    ("[[eid-prefix]]\nttl = 5", "eid-prefix[1].prefix: missing; give the EID-prefix, as 10.1.0.0/16"),
    (
        "[[eid-prefix]]\nprefix = \"10.1.0.0\"",
        "eid-prefix[1].prefix: 10.1.0.0 has no mask length; write 10.1.0.0/32 for one address, or the right \
         length",
    ),
    (
        "[[eid-prefix]]\nprefix = \"10.1/16\"",
        "eid-prefix[1].prefix: \"10.1/16\" is not an IP prefix; give one as 10.1.0.0/16 or 2001:db8:1::/48",
    ),
    (
        "[[eid-prefix]]\nprefix = \"site\"",
        "eid-prefix[1].prefix: \"site\" is not an IP prefix; give one as 10.1.0.0/16 or 2001:db8:1::/48",
    ),
    (
        "[[eid-prefix]]\nprefix = \"10.1.0.0/x\"",
        "eid-prefix[1].prefix: \"x\" is not a mask length; give 0 to 32",
    ),
    (
        "[[eid-prefix]]\nprefix = \"10.1.0.0/33\"",
        "eid-prefix[1].prefix: mask length 33 is too long for IPv4; give 0 to 32",
    ),
    (
        "[[eid-prefix]]\nprefix = \"2001:db8::/129\"",
        "eid-prefix[1].prefix: mask length 129 is too long for IPv6; give 0 to 128",
    ),
    (
        "[[eid-prefix]]\nprefix = \"10.1.2.3/16\"",
        "eid-prefix[1].prefix: 10.1.2.3/16 has host bits set; write 10.1.0.0/16",
    ),
    (
        "[[eid-prefix]]\nprefix = \"2001:db8::1/64\"",
        "eid-prefix[1].prefix: 2001:db8::1/64 has host bits set; write 2001:db8::/64",
    ),
    (
        "[[eid-prefix]]\nprefix = \"239.0.0.0/8\"",
        "eid-prefix[1].prefix: 239.0.0.0/8 is not unicast; EID-prefixes are unicast prefixes that can be \
         routed",
    ),
    (
        "[[eid-prefix]]\nprefix = \"ff00::/8\"",
        "eid-prefix[1].prefix: ff00::/8 is not unicast; EID-prefixes are unicast prefixes that can be routed",
    ),
    (
        "[[eid-prefix]]\nprefix = \"127.0.0.0/8\"",
        "eid-prefix[1].prefix: 127.0.0.0/8 is the loopback network; EID-prefixes are unicast prefixes that \
         can be routed",
    ),
    (
        "[[eid-prefix]]\nprefix = \"::1/128\"",
        "eid-prefix[1].prefix: ::1/128 is the loopback address; EID-prefixes are unicast prefixes that can \
         be routed",
    ),
    (
        "[[eid-prefix]]\nprefix = \"169.254.0.0/16\"",
        "eid-prefix[1].prefix: 169.254.0.0/16 is link-local; EID-prefixes are unicast prefixes that can be \
         routed",
    ),
    (
        "[[eid-prefix]]\nprefix = \"fe80::/10\"",
        "eid-prefix[1].prefix: fe80::/10 is link-local; EID-prefixes are unicast prefixes that can be routed",
    ),
    (
        "[[eid-prefix]]\nprefix = \"::ffff:10.0.0.0/104\"",
        "eid-prefix[1].prefix: ::ffff:10.0.0.0/104 is IPv4 in IPv6 form; EID-prefixes are unicast prefixes \
         that can be routed",
    ),
    (
        "[[eid-prefix]]\nprefix = \"10.1.0.0/16\"\ninstance-id = 16777216",
        "eid-prefix[1].instance-id: 16777216 is not in 0–16777215; give a whole number from 0 to 16777215",
    ),
    (
        "[[forward]]\nprefix = \"10.0.0.0/8\"\nmap-servers = []",
        "forward[1].map-servers: is empty; give the Map-Servers' addresses or DNS names",
    ),
    (
        "[[forward]]\nprefix = \"10.0.0.0/8\"",
        "forward[1].map-servers: missing; give the Map-Servers' addresses or DNS names",
    ),
    (
        "[[forward]]\nmap-servers = [\"::1\"]",
        "forward[1].prefix: missing; give the EID-prefix that the Map-Servers serve, as 10.0.0.0/8",
    ),
    (
        "[kernel]\nprefixes = [\"[x]10.0.0.0/8\"]",
        "kernel.prefixes[1]: \"x\" is not an instance ID; give 0 to 16777215",
    ),
    // TTLs and durations
    (
        "[[eid-prefix]]\nprefix = \"10.1.0.0/16\"\nttl = 0",
        "eid-prefix[1].ttl: 0 is not in 1–4294967294; give a whole number from 1 to 4294967294",
    ),
    (
        "[[eid-prefix]]\nprefix = \"10.1.0.0/16\"\nttl = \"90s\"",
        "eid-prefix[1].ttl: \"90s\" is not a whole number of minutes; round it to minutes",
    ),
    (
        "[[eid-prefix]]\nprefix = \"10.1.0.0/16\"\nttl = \"60500ms\"",
        "eid-prefix[1].ttl: \"60500ms\" is not a whole number of minutes; round it to minutes",
    ),
    (
        "[[eid-prefix]]\nprefix = \"10.1.0.0/16\"\nttl = true",
        "eid-prefix[1].ttl: is true or false, not a number of minutes or a duration; give a number of \
         minutes or a duration in quotes",
    ),
    (
        "[timers]\nregister-interval = 60",
        "timers.register-interval: is a whole number, not a duration; give a duration in quotes",
    ),
    (
        "[timers]\nregister-interval = \"60\"",
        "timers.register-interval: \"60\" is not a duration; give a whole number and a unit, as 500ms, 20s, \
         3min, 1h or 1d",
    ),
    (
        "[timers]\nrequest-retry = \"s\"",
        "timers.request-retry: \"s\" is not a duration; give a whole number and a unit, as 500ms, 20s, 3min, \
         1h or 1d",
    ),
    ("[timers]\nrequest-rest = \"0s\"", "timers.request-rest: no time at all; give more than 0"),
    (
        "[timers]\nrequest-rest = \"99999999999999999999d\"",
        "timers.request-rest: \"99999999999999999999d\" is too long; give at most 366d",
    ),
    (
        "[timers]\nrequest-retries = 101",
        "timers.request-retries: 101 is not in 0–100; give a whole number from 0 to 100",
    ),
    // Hosts
    (
        "[[map-resolver]]\naddress = \"10.1.1.1.\"",
        "map-resolver[1].address: \"10.1.1.1.\" is not an IP address; give an address without port, as \
         192.0.2.1 or 2001:db8::1, or a DNS name",
    ),
    (
        "[[map-resolver]]\naddress = \"192.0.2.1:4342\"",
        "map-resolver[1].address: \"192.0.2.1:4342\" is not an IP address; give an address without port, as \
         192.0.2.1 or 2001:db8::1, or a DNS name",
    ),
    (
        "[[map-resolver]]\naddress = \"ms example\"",
        "map-resolver[1].address: \"ms example\" is neither an address nor a DNS name; give an address \
         without port, as 192.0.2.1 or 2001:db8::1, or a DNS name",
    ),
    (
        "[[map-resolver]]\naddress = \"::\"",
        "map-resolver[1].address: :: stands for no host; give the address of one host",
    ),
    (
        "[[map-resolver]]\naddress = \"224.0.0.1\"",
        "map-resolver[1].address: 224.0.0.1 is a multicast address; give the address of one host",
    ),
    (
        "[[map-resolver]]\naddress = \"255.255.255.255\"",
        "map-resolver[1].address: 255.255.255.255 is the broadcast address; give the address of one host",
    ),
    (
        "[[map-resolver]]\naddress = \"fe80::1\"",
        "map-resolver[1].address: fe80::1 is a link-local address; give the address of one host",
    ),
    ("[[map-resolver]]", "map-resolver[1].address: missing; give the Map-Resolver's address or DNS name"),
    (
        "[[map-server]]\nkey = \"k\"",
        "map-server[1].address: missing; give the Map-Server's address or DNS name",
    ),
    // Names
    (
        "roles = [\"router\"]",
        "roles[1]: \"router\" is not possible here; give \"itr\", \"etr\", \"proxy-itr\", \"proxy-etr\", \
         \"map-server\", \"map-resolver\" or \"ddt-node\"",
    ),
    (
        "[kernel]\nrouting = \"all\"",
        "kernel.routing: \"all\" is not possible here; give \"default\", \"prefixes\" or \"none\"",
    ),
    (
        "[data-plane]\nudp-checksum = \"zeros\"",
        "data-plane.udp-checksum: \"zeros\" is not possible here; did you mean \"zero\"?",
    ),
    (
        "[data-plane]\ndscp = \"x\"",
        "data-plane.dscp: \"x\" is not possible here; give \"uniform\" or \"pipe\"",
    ),
    (
        "[data-header]\nsource-check = \"on\"",
        "data-header.source-check: \"on\" is not possible here; give \"off\", \"known\" or \"strict\"",
    ),
    (
        "[[eid-prefix]]\nprefix = \"10.1.0.0/16\"\nmap-version = 0",
        "eid-prefix[1].map-version: 0 is not in 1–4095; give a whole number from 1 to 4095",
    ),
    (
        "[log]\nlevel = \"verbose\"",
        "log.level: \"verbose\" is not possible here; give \"off\", \"error\", \"warn\", \"info\", \"debug\" \
         or \"trace\"",
    ),
    ("[log]\nformat = \"xml\"", "log.format: \"xml\" is not possible here; give \"text\" or \"json\""),
    (
        "[[map-server]]\naddress = \"::1\"\nkey = \"k\"\nalgorithm = \"md5\"",
        "map-server[1].algorithm: \"md5\" is not possible here; give \"sha1\", \"sha256\" or \"sha256-hkdf\"",
    ),
    // Numbers and sizes
    (
        "[data-plane]\nqueues = \"many\"",
        "data-plane.queues: \"many\" is not \"auto\"; give \"auto\" or a whole number from 1 to 256",
    ),
    (
        "[data-plane]\nsend-buffer = \"4MB\"",
        "data-plane.send-buffer: \"4MB\" is not a number of bytes; give one as \"4MiB\", or \"auto\"",
    ),
    (
        "[data-plane]\nsend-buffer = \"1KiB\"",
        "data-plane.send-buffer: 1024 bytes is not in 4096–1073741824; give 4KiB to 1024MiB",
    ),
    (
        "[data-plane]\nicmp-source-ipv4 = \"2001:db8::1\"",
        "data-plane.icmp-source-ipv4: 2001:db8::1 is not an IPv4 address; give an IPv4 address of this router",
    ),
    (
        "[data-plane]\nicmp-source-ipv6 = \"::\"",
        "data-plane.icmp-source-ipv6: :: is not the address of one host; give an IPv6 address of this router",
    ),
    (
        "[kernel]\ntun-mtu = 1000",
        "kernel.tun-mtu: 1000 is not in 1280–65535; give a whole number from 1280 to 65535",
    ),
    ("[kernel]\ntable = 254", "kernel.table: 254 is the kernel's own; give another number, as 1000"),
    (
        "[management]\nmode = \"0999\"",
        "management.mode: \"0999\" is not a file mode; give one in octal, as \"0600\"",
    ),
    (
        "[[instance]]\ntun = \"x\"",
        "instance[1].instance-id: missing; say which EID space this is about, 0 for the default one",
    ),
    // Keys: what stands beside them is never shown
    ("[[map-server]]\naddress = \"::1\"", "map-server[1].key: missing; give key, key-file or key-env"),
    (
        "[[map-server]]\naddress = \"::1\"\nkey = \"k\"\nkey-env = \"KEY\"",
        "map-server[1].key: given more than once; keep one of key, key-file and key-env",
    ),
    (
        "[[map-server]]\naddress = \"::1\"\nkey-env = \"top=secret\"",
        "map-server[1].key-env: is not the name of an environment variable; give a name as EIDOLON_KEY",
    ),
    (
        "[[map-server]]\naddress = \"::1\"\nkey = 123456",
        "map-server[1].key: is a whole number, not a string; give a string in quotes",
    ),
    ("[[site]]\nkey = \"k\"\neid-prefixes = [\"10.1.0.0/16\"]", "site[1].name: missing; name the site"),
    (
        "[[site]]\nname = \"a\"\nalgorithm = \"sha1\"\n[[site.key]]\nkey = \"k\"",
        "site[1].algorithm: given beside [[site.key]]; move it into [[site.key]]",
    ),
];

#[test]
fn wrong_values_say_what_is_right() {
    for (text, expected) in WRONG_VALUES {
        let all = said(text);
        let found =
            all.lines().any(|line| line.split_once(' ').is_some_and(|(_, said)| said.starts_with(expected)));
        assert!(found, "not said: {expected}\nbut:\n{all}in:\n{text}");
    }
}

#[test]
fn columns_count_characters() {
    let text = "roles = [\"map-server\"]\n[router]\nname = \"ü\"; x\n";
    assert!(said(text).starts_with("3:11: "), "{}", said(text));
}

#[test]
fn long_values_are_shortened() {
    let text = format!("roles = [\"map-server\"]\n[log]\nlevel = \"{}\"\n", "x".repeat(1000));
    assert!(said(&text).contains(&format!("\"{}…\" is not possible", "x".repeat(60))), "{}", said(&text));
}
