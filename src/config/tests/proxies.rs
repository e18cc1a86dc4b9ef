//! Proxy tunnel routers and those who use them.

use super::*;
use crate::proto::config::Host;
use crate::types::{EidPrefix, Family};

const PROXY: &str = r#"roles = ["proxy-itr", "proxy-etr"]
locator = [{ address = "192.0.2.1" }]
map-resolver = [{ address = "203.0.113.1" }]
[proxy-itr]
eid-prefixes = ["10.2.0.0/16", "2001:db8:2::/48"]
[proxy-etr]
eid-prefixes = ["10.2.0.0/16"]
"#;

fn eid(text: &str) -> EidPrefix {
    EidPrefix::from(text.parse::<ipnet::IpNet>().unwrap())
}

#[test]
fn a_proxy_has_locators_a_tun_and_no_database() {
    let Config { control, instances, .. } = config(PROXY);
    assert!(control.database.is_empty());
    assert_eq!(control.locators.len(), 1);
    assert_eq!(control.itr.unwrap().proxy_for, [eid("10.2.0.0/16"), eid("2001:db8:2::/48")]);
    assert_eq!(control.etr.unwrap().proxy_for, [eid("10.2.0.0/16")]);
    assert!(control.probing.is_some(), "it probes as an ITR does");
    assert_eq!(instances.iter().map(|i| &i.tun[..]).collect::<Vec<_>>(), ["lisp0"]);
    // Without the role, nothing of it.
    let xtr = config(XTR).control;
    assert!(xtr.locators.is_empty() && xtr.itr.unwrap().proxy_for.is_empty());
}

#[test]
fn what_a_proxy_lacks_is_said() {
    expect(
        PROXY,
        "locator = [{ address = \"192.0.2.1\" }]",
        "",
        "1:9: roles: role \"proxy-itr\" needs a locator of the router's own; add a [[locator]] section with \
         its underlay address\n",
    );
    expect(
        PROXY,
        "map-resolver = [{ address = \"203.0.113.1\" }]",
        "",
        "1:9: roles: role \"proxy-itr\" needs a Map-Resolver; add a [[map-resolver]] section with its \
         address\n",
    );
    expect(
        PROXY,
        "eid-prefixes = [\"10.2.0.0/16\"]",
        "",
        "1:9: roles: role \"proxy-etr\" needs EID-prefixes; add [proxy-etr] with eid-prefixes = [\"…\"], \
         the prefixes of the sites that it is for\n",
    );
    expect(
        PROXY,
        "\"proxy-itr\", ",
        "",
        "3:29: warning: map-resolver[1].address: not used without role \"itr\"; add the role or remove the \
         section\n\
         5:16: warning: proxy-itr.eid-prefixes: not used without role \"proxy-itr\"; add the role or remove \
         the section\n",
    );
}

#[test]
fn prefixes_that_would_loop_or_open_the_proxy_are_noticed() {
    expect(
        PROXY,
        "\"10.2.0.0/16\", ",
        "\"192.0.2.0/24\", ",
        "5:17: proxy-itr.eid-prefixes[1]: 192.0.2.0/24 contains the locator 192.0.2.1 (line 2), so that \
         packets to it would come here to be encapsulated; keep locators out of EID-prefixes\n",
    );
    expect(
        PROXY,
        "eid-prefixes = [\"10.2.0.0/16\"]",
        "eid-prefixes = [\"0.0.0.0/0\"]",
        "7:17: warning: proxy-etr.eid-prefixes[1]: 0.0.0.0/0 lets everybody send packets of any source \
         through this router; list the EID-prefixes of the sites that may\n",
    );
    expect(
        PROXY,
        "eid-prefixes = [\"10.2.0.0/16\"]",
        "eid-prefixes = [\"10.2.0.0/16\", \"10.2.0.0/16\"]",
        "7:32: proxy-etr.eid-prefixes[2]: 10.2.0.0/16 is already in line 7; remove one of the two\n",
    );
}

#[test]
fn what_is_this_sites_own_needs_no_proxy() {
    let own = "[[use-petr]]\naddress = \"10.1.0.9\"\n";
    expect_with(
        XTR,
        own,
        "11:11: use-petr[1].address: 10.1.0.9 is an EID of this site's own 10.1.0.0/16, not an underlay \
         address; give the proxy-ETR's locator\n",
    );
    let both = XTR.replace("\"etr\"]", "\"etr\", \"proxy-itr\"]");
    expect_with(
        &both,
        "[proxy-itr]\neid-prefixes = [\"10.0.0.0/8\", \"10.1.2.0/24\"]\n",
        "11:31: warning: proxy-itr.eid-prefixes[2]: 10.1.2.0/24 is of this site's own 10.1.0.0/16, whose \
         packets are not proxied; remove it\n",
    );
}

#[test]
fn an_itr_uses_proxy_etrs_by_family() {
    let text = format!(
        "{XTR}[[use-petr]]\naddress = \"203.0.113.9\"\n[[use-petr]]\naddress = \"petr.example\"\n\
         priority = 2\nweight = 0\neid-family = \"ipv6\"\n"
    );
    let proxies = config(&text).control.itr.unwrap().proxy_etrs;
    assert_eq!(proxies[0].host, Host::Address("203.0.113.9".parse().unwrap()));
    assert_eq!((proxies[0].priority, proxies[0].weight, proxies[0].eid_family), (1, 100, None));
    assert_eq!(proxies[1].host, Host::Name("petr.example".into()));
    assert_eq!((proxies[1].priority, proxies[1].weight, proxies[1].eid_family), (2, 0, Some(Family::Ipv6)));

    let twice = "[[use-petr]]\naddress = \"203.0.113.9\"\neid-family = \"ipv4\"\n";
    let other = "[[use-petr]]\naddress = \"203.0.113.9\"\neid-family = \"ipv6\"\n";
    expect_with(XTR, &format!("{twice}{other}"), "");
    expect_with(
        XTR,
        &format!("{twice}{twice}"),
        "14:11: use-petr[2].address: 203.0.113.9 is already in line 11; remove one of the two\n",
    );
    expect_with(
        PROXY,
        twice,
        "8:1: warning: use-petr[1]: not used without role \"itr\"; add the role or remove the section\n",
    );
}
