//! The OpenLISP format.

use super::*;
use crate::auth::{Algorithm, Key, Secret};
use crate::proto::config::{Host, LocatorConfig, LocatorSource};
use crate::types::Ttl;

const SITE: &str = "\
# A comment before anything
@MAPSERVER
203.0.113.10\tauth-key   # a comment
ms.example.net  auth-key
@MAPRESOLVER

203.0.113.10
@EID
#Eid-Prefix  Mask  TTL  Flag
10.1.0.0  16  60  1
#RLOC  Priority  Weight  Local-flag
192.0.2.1  2  100  1
192.0.2.2  1  100  0
2001:db8::1  25  100  1
";

#[test]
fn the_format_means_what_it_says() {
    assert_eq!(said(SITE), "");
    let config = config(SITE);
    let [entry] = &config.control.database[..] else { panic!("one EID-prefix") };
    assert_eq!((entry.eid.to_string(), entry.ttl, entry.register), ("10.1.0.0/16".into(), Ttl(60), true));
    assert_eq!(entry.map_servers, None);
    let locator = |addr: &str, priority, local| LocatorConfig {
        source: LocatorSource::Address(addr.parse().unwrap()),
        priority,
        weight: 100,
        mpriority: 255,
        mweight: 0,
        local,
    };
    let expected =
        [locator("192.0.2.1", 2, true), locator("192.0.2.2", 1, false), locator("2001:db8::1", 25, true)];
    assert_eq!(entry.locators, expected);
    let itr = config.control.itr.as_ref().unwrap();
    assert_eq!(itr.map_resolvers, [Host::Address("203.0.113.10".parse().unwrap())]);
    let servers = &config.control.etr.as_ref().unwrap().map_servers;
    assert_eq!(servers.iter().map(|s| &s.name[..]).collect::<Vec<_>>(), ["203.0.113.10", "ms.example.net"]);
    for server in servers {
        let key =
            Key { id: 0, algorithm: Algorithm::HmacSha1, secret: Secret::new("auth-key"), truncate: false };
        assert_eq!((&server.key, server.proxy_reply, server.want_notify), (&key, false, true));
    }
    assert_eq!((config.control.map_server.is_none(), config.control.map_resolver.is_none()), (true, true));
}

/// What is replaced in the site's file, by what, and what is then said.
#[rustfmt::skip]
const CASES: &[(&str, &str, &str)] = &[
    // Sections
    ("@MAPSERVER", "@MAPSERVERS", "2:1: unknown section @MAPSERVERS; did you mean @MAPSERVER?\n"),
    ("@MAPSERVER", "@mapserver", "2:1: unknown section @mapserver; did you mean @MAPSERVER?\n"),
    ("@MAPRESOLVER", "@SOURCEIP",
     "5:1: unknown section @SOURCEIP; the sections are @MAPSERVER, @MAPRESOLVER, @EID\n"),
    ("@MAPRESOLVER", "@MAPRESOLVER 203.0.113.9",
     "5:14: text after the name of the section; put it on the next line\n"),
    ("@MAPRESOLVER\n\n203.0.113.10\n", "", "1:1: no Map-Resolver; add a @MAPRESOLVER section\n"),
    ("203.0.113.10\tauth-key   # a comment\nms.example.net  auth-key\n", "",
     "1:1: no Map-Server to register with; add a @MAPSERVER section, or make each flag 0\n"),
    ("@EID\n", "@EID\n@EID\n", "8:1: @EID: no EID-prefix follows; add a line EID-PREFIX MASK TTL FLAG\n"),
    ("192.0.2.1  2  100  1\n192.0.2.2  1  100  0\n2001:db8::1  25  100  1\n", "",
     "10:1: @EID prefix: no RLOC follows; add a line RLOC PRIORITY WEIGHT LOCAL-FLAG\n"),
    // Map-Servers and Map-Resolvers
    ("\tauth-key", "",
     "3:1: @MAPSERVER: the line has 1 word, not 2; write ADDRESS KEY, the key without blanks\n"),
    ("\tauth-key", "\tauth key",
     "3:1: @MAPSERVER: the line has 3 words, not 2; write ADDRESS KEY, the key without blanks\n"),
    ("\tauth-key", "\tauth#key",
     "3:14: warning: @MAPSERVER key: contains #, which is taken as a part of the key; put a blank before # \
      if a comment is meant\n"),
    ("203.0.113.10\t", "203.0.113\t",
     "3:1: @MAPSERVER address: \"203.0.113\" is not an IP address; give an address without port, as \
      192.0.2.1 or 2001:db8::1, or a DNS name\n"),
    ("ms.example.net", "203.0.113.10",
     "4:1: @MAPSERVER address: 203.0.113.10 is already in line 3; remove one of the two\n"),
    ("\n\n203.0.113.10\n", "\n\n203.0.113.10 key\n",
     "7:1: @MAPRESOLVER: the line has 2 words, not 1; write ADDRESS\n"),
    ("\n\n203.0.113.10\n", "\n\n203.0.113.10\n203.0.113.10\n",
     "8:1: @MAPRESOLVER address: 203.0.113.10 is already in line 7; remove one of the two\n"),
    // EID-prefixes
    ("16  60  1", "16  60", "10:1: @EID: the line has 3 words, not 4; write EID-PREFIX MASK TTL FLAG\n"),
    ("10.1.0.0  16", "10.1.0  16",
     "10:1: @EID prefix: \"10.1.0\" is not an IP address; give one as 192.0.2.1 or 2001:db8::1\n"),
    ("16  60  1", "33  60  1", "10:11: @EID mask: mask length 33 is too long for IPv4; give 0 to 32\n"),
    ("16  60  1", "x  60  1",
     "10:11: @EID mask: x is not in 0–4294967295; give a whole number from 0 to 4294967295\n"),
    ("10.1.0.0  16", "10.1.2.0  16", "10:1: @EID prefix: 10.1.2.0/16 has host bits set; write 10.1.0.0/16\n"),
    ("16  60  1", "16  0  1",
     "10:15: @EID TTL: 0 is not in 1–4294967294; give a whole number from 1 to 4294967294\n"),
    ("16  60  1", "16  60  2", "10:19: @EID flag: 2 is not in 0–1; give a whole number from 0 to 1\n"),
    ("@EID\n", "@EID\n10.1.0.0 16 60 1\n192.0.2.1 1 100 1\n@EID\n",
     "13:1: @EID prefix: 10.1.0.0/16 is already in line 9; remove one of the two\n"),
    ("@EID\n", "@EID\n10.0.0.0 8 60 1\n192.0.2.1 1 100 1\n#eid-prefix\n10.2.0.0 24 60 0\n192.0.2.1 1 100 1\n\
                @EID\n",
     "12:1: @EID prefix: 10.2.0.0/24 is not to be registered, but lies in 10.0.0.0/8, which is (see line 9); \
      register 10.2.0.0/24 too, or remove it\n"),
    ("2001:db8::1  25", "10.1.0.9  25",
     "10:1: @EID prefix: 10.1.0.0/16 contains the locator 10.1.0.9 (line 14), which would be reached only \
      through itself; keep locators out of EID-prefixes\n"),
    // RLOCs
    ("192.0.2.1  2  100  1", "192.0.2.1  2  100",
     "12:1: @EID: the line has 3 words, not 4; write RLOC PRIORITY WEIGHT LOCAL-FLAG\n"),
    ("192.0.2.1  2", "192.0.2.1  256",
     "12:12: @EID priority: 256 is not in 0–255; give a whole number from 0 to 255\n"),
    ("192.0.2.1  2  100", "192.0.2.1  2  101",
     "12:15: @EID weight: 101 is not in 0–100; give a whole number from 0 to 100\n"),
    ("192.0.2.1  2  100", "192.0.2.1  2  +50",
     "12:15: @EID weight: +50 is not in 0–100; give a whole number from 0 to 100\n"),
    ("192.0.2.1  2  100  1", "192.0.2.1  2  100  yes",
     "12:20: @EID local flag: yes is not in 0–1; give a whole number from 0 to 1\n"),
    ("192.0.2.1  2", "127.0.0.1  2",
     "12:1: @EID RLOC: 127.0.0.1 is a loopback address; give an address that other routers can reach\n"),
    ("192.0.2.1  2", "192.0.2.1  1",
     "12:1: @EID RLOC.weight: the weights of the 2 locators of priority 1 sum to 200, not to 100; make them \
      sum to 100, or make every weight 0\n"),
    ("192.0.2.2  1", "192.0.2.1  1",
     "13:1: @EID RLOC: locator 192.0.2.1 is already in line 12; remove one of the two\n"),
    ("192.0.2.1  2  100  1\n192.0.2.2  1  100  0\n2001:db8::1  25  100  1\n", "192.0.2.1  2  100  0\n",
     "12:1: @EID RLOC: no locator of this set is this router's own; add a locator of this router's own, or \
      mark one as local\n"),
];

#[test]
fn mistakes_are_found_by_line() {
    for (from, to, expected) in CASES {
        expect(SITE, from, to, expected);
    }
    let only = "2:1: @EID: no EID-prefix follows; add a line EID-PREFIX MASK TTL FLAG\n";
    assert_eq!(said("# only a comment\n@EID"), only);
}

#[test]
fn a_file_and_its_conversion_mean_the_same() {
    let many = "@EID\n#Eid-Prefix\n2001:db8:1:: 48 1440 1\n#RLOC\n192.0.2.1 1 0 1\n\
                #Eid-Prefix\n10.2.0.0 16 5 0\n192.0.2.1 1 60 1\n192.0.2.2 1 40 0\n";
    let one = SITE.replace("auth-key", "\"quoted\\'key");
    for text in [SITE.to_owned(), format!("{SITE}{many}"), one] {
        let problems = Problems::new(&text);
        let toml = openlisp::to_toml(&openlisp::read(&text, &problems));
        assert!(!openlisp::detect(&toml));
        assert_eq!(config(&toml), config(&text), "{toml}");
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs/openlisp.conf");
    let (toml, warnings) = import_openlisp(&path).unwrap();
    assert_eq!((config(&toml), warnings.problems.len()), (load(&path).unwrap().config, 0));
}
