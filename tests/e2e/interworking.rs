//! LISP sites and the rest of the Internet (RFC 6832).
//!
//! ```text
//!   host 1 ── xTR 1 ══ core ── world          ── no LISP       ══ underlay
//!                       ║
//!                     proxy (PITR and PETR)
//! ```
//!
//! The core routes every EID to the proxy, as if that announced them, and `world` knows nothing of LISP.

use std::fmt::Write as _;
use std::net::IpAddr;

use serde_json::Value;

use crate::netns::Netns;
use crate::router::{Router, Routers, XtrOptions, mapping_config, xtr_config};
use crate::topology::{Family, Network, Plan, address, default_route, link, mapping_system};
use crate::traffic::{ping, reaches, tcp_transfer};
use crate::wait::{Machine, PATIENCE, until};

/// What is there beside the sites.
struct Outside {
    world: Netns,
    proxy: Netns,
}

impl Outside {
    fn build(net: &Network) -> Self {
        let (world, proxy) = (Netns::new("world"), Netns::new("proxy"));
        link(&net.core, "world", &world, "eth0", 1500);
        address(&net.core, "world", "192.0.2.1/24", "2001:db8:ffff::1/64");
        address(&world, "eth0", "192.0.2.2/24", "2001:db8:ffff::2/64");
        default_route(&world, "192.0.2.1", "2001:db8:ffff::1");
        link(&net.core, "proxy", &proxy, "wan0", 1500);
        address(&net.core, "proxy", "10.9.0.1/24", "2001:db8:9::1/64");
        address(&proxy, "wan0", "10.9.0.2/24", "2001:db8:9::2/64");
        default_route(&proxy, "10.9.0.1", "2001:db8:9::1");
        net.core
            .sh("ip route add 172.16.0.0/16 via 10.9.0.2 && ip route add 2001:db8:ee::/48 via 2001:db8:9::2");
        Self { world, proxy }
    }

    /// The provider of a site lets no packets out whose source is not its own.
    fn filter_sources(net: &Network) {
        net.core.sh(
            "nft add table inet urpf && nft add chain inet urpf forward '{ type filter hook forward priority \
             0; }' && nft add rule inet urpf forward iifname \"s*\" ip saddr 172.16.0.0/16 counter drop && \
             nft add rule inet urpf forward iifname \"s*\" ip6 saddr 2001:db8:ee::/48 counter drop",
        );
    }
}

fn world(family: Family) -> IpAddr {
    match family {
        Family::V4 => "192.0.2.2",
        Family::V6 => "2001:db8:ffff::2",
    }
    .parse()
    .expect("address")
}

fn proxy_rloc(family: Family) -> &'static str {
    match family {
        Family::V4 => "10.9.0.2",
        Family::V6 => "2001:db8:9::2",
    }
}

/// Configuration of the proxy. As PETR it is for site 1 alone.
fn proxy_config(locators: Family, roles: &[&str]) -> String {
    let mut text = format!(
        "roles = {roles:?}\n[router]\nname = \"proxy\"\nstate-dir = \"STATE-DIR\"\n[[locator]]\n\
         address = \"{}\"\n",
        proxy_rloc(locators)
    );
    if roles.contains(&"proxy-itr") {
        let _ = write!(
            text,
            "[[map-resolver]]\naddress = \"{}\"\n[proxy-itr]\n\
             eid-prefixes = [\"172.16.0.0/16\", \"2001:db8:ee::/48\"]\n",
            mapping_system(locators)
        );
    }
    if roles.contains(&"proxy-etr") {
        text.push_str("[proxy-etr]\neid-prefixes = [\"172.16.1.0/24\", \"2001:db8:ee:1::/64\"]\n");
    }
    text
}

/// Packets that a router's data plane has dropped for this reason.
fn dropped(router: &Router<'_>, reason: &str) -> u64 {
    let statistics = router.show("statistics");
    let threads = statistics["data"].as_array().expect("data threads").clone();
    threads.iter().map(|t| t["dropped"][reason].as_u64().expect(reason)).sum()
}

/// The map-cache entry that covers `world`.
fn outside_entry(router: &Router<'_>, family: Family) -> Value {
    let cache: Value =
        serde_json::from_str(&router.operator(&["show", "map-cache", &world(family).to_string(), "--json"]))
            .expect("JSON");
    cache["entries"].as_array().and_then(|e| e.last()).cloned().expect("an entry")
}

/// Ping and TCP, both ways and in both families of EIDs, with proxies both ways: a native path does not
/// exist.
fn sites_and_world_talk_by_proxies_over(locators: Family) {
    let _machine = Machine::shared();
    let net = Network::build(&Plan::default());
    let outside = Outside::build(&net);
    Outside::filter_sources(&net);
    let petr = format!("[[use-petr]]\naddress = \"{}\"\n", proxy_rloc(locators));
    let options = |site: &_| XtrOptions { more: petr.clone(), ..XtrOptions::over(site, locators) };
    let routers = Routers::start_with(&net, options, "");
    let both = ["proxy-itr", "proxy-etr"];
    let proxy = Router::start(&net, &outside.proxy, "proxy", &proxy_config(locators, &both));
    let (a, b) = (net.site(1), net.site(2));
    for eids in Family::BOTH {
        let what = format!("{eids} over {locators}");
        // From outside first: the proxy-ITR's miss, the mapping, and the way back by the proxy-ETR.
        assert!(reaches(&outside.world, a.host_eid(eids), PATIENCE), "{what}");
        assert!(reaches(&a.host, world(eids), PATIENCE), "{what}");
        for (from, to) in [(&outside.world, a.host_eid(eids)), (&a.host, world(eids))] {
            let seen = ping(from, to, 20, 0.01, "");
            assert_eq!(seen.lost(), 0, "{what}:\n{}", seen.output);
        }
        for (from, to, addr) in
            [(&outside.world, &a.host, a.host_eid(eids)), (&a.host, &outside.world, world(eids))]
        {
            let (sent, received) = tcp_transfer(from, to, addr, 5_000_000);
            assert_eq!(sent, received, "SHA-256 of 5 MB, {what}");
        }
        let entry = outside_entry(&routers.xtrs[0], eids);
        assert_eq!(entry["action"], "natively-forward", "{entry}");
        assert_eq!(entry["locators"][0]["rloc"], proxy_rloc(locators), "{entry}");
        assert!(entry["locators"][0]["packets"].as_u64() > Some(100), "{entry}");
        // Sites talk as ever.
        assert!(reaches(&a.host, b.host_eid(eids), PATIENCE), "{what}");
    }
    let filtered = net.core.sh("nft list table inet urpf");
    assert_eq!(
        filtered.matches("counter packets 0 ").count(),
        2,
        "nothing left a site natively:\n{filtered}"
    );
    let table = a.xtr.sh("ip -4 route show table 4341; ip -6 route show table 4341");
    assert!(!table.contains("throw"), "{table}");

    let shown = proxy.operator(&["show", "interfaces"]);
    assert!(shown.contains("Proxy-ITR for 172.16.0.0/16, 2001:db8:ee::/48"), "{shown}");
    assert!(shown.contains("Proxy-ETR for 172.16.1.0/24, 2001:db8:ee:1::/64"), "{shown}");

    // Site 2 is none that this proxy-ETR is for, although it uses it.
    assert_eq!(dropped(&proxy, "inner-source-not-proxied"), 0);
    until("packets of site 2 at the proxy-ETR", PATIENCE, || {
        for eids in Family::BOTH {
            assert_eq!(ping(&b.host, world(eids), 1, 0.1, "-t 1000").received, 0, "{eids}");
        }
        dropped(&proxy, "inner-source-not-proxied") >= 2
    });
    assert_eq!(dropped(&proxy, "inner-destination-not-local"), 0);
    assert_eq!(dropped(&proxy, "source-not-local"), 0);

    // Not a proxy-ETR: what is not for a site of its own is dropped.
    proxy.write_config(net.dir(), &proxy_config(locators, &["proxy-itr"]));
    proxy.reload();
    for eids in Family::BOTH {
        assert_eq!(ping(&a.host, world(eids), 2, 0.1, "-t 1000").received, 0, "{eids}");
    }
    assert!(dropped(&proxy, "inner-destination-not-local") >= 4);

    // Not a proxy-ITR: nothing is resolved, nothing encapsulated.
    proxy.write_config(net.dir(), &proxy_config(locators, &["proxy-etr"]));
    proxy.reload();
    let before = proxy.show("statistics");
    for eids in Family::BOTH {
        let seen = ping(&outside.world, a.host_eid(eids), 2, 0.1, "-t 1000");
        assert_eq!(seen.received, 0, "{eids}:\n{}", seen.output);
    }
    let after = proxy.show("statistics");
    let encapsulated = |s: &Value| {
        let threads = s["data"].as_array().expect("data threads").clone();
        threads.iter().map(|t| t["counters"]["encapsulated-packets"].as_u64().expect("a number")).sum::<u64>()
    };
    assert_eq!(encapsulated(&before), encapsulated(&after));
    assert_eq!(outside.proxy.sh("ip rule show | grep -c 'to 172.16' || true").trim(), "0");
}

#[test]
fn sites_and_world_talk_by_proxies_over_ipv4() {
    sites_and_world_talk_by_proxies_over(Family::V4);
}

#[test]
fn sites_and_world_talk_by_proxies_over_ipv6() {
    sites_and_world_talk_by_proxies_over(Family::V6);
}

/// Without proxy-ETR, the kernel forwards what has no mapping by itself, once a throw route says so; only the
/// IPv6 EIDs go by a proxy-ETR here, as at a site whose uplink has no native IPv6.
#[test]
fn without_a_proxy_etr_the_kernel_forwards_natively() {
    let _machine = Machine::shared();
    let net = Network::build(&Plan::default());
    let outside = Outside::build(&net);
    let mapping = Router::start(&net, &net.mapping, "mapping", &mapping_config(&net, ""));
    let (a, six) = (net.site(1), "[[use-petr]]\naddress = \"10.9.0.2\"\neid-family = \"ipv6\"\n");
    let options = XtrOptions { more: six.into(), ..XtrOptions::over(a, Family::V4) };
    let before = a.xtr.kernel_state();
    let mut xtr = Router::start(&net, &a.xtr, "xtr1", &xtr_config(a, &options));
    let both = ["proxy-itr", "proxy-etr"];
    let proxy = Router::start(&net, &outside.proxy, "proxy", &proxy_config(Family::V4, &both));
    until("the registrations", PATIENCE, || {
        crate::router::registered_prefixes(&mapping.show("sites")).len() == 2
    });
    let counted = |counter: &str| {
        let threads = proxy.show("statistics")["data"].as_array().expect("data threads").clone();
        threads.iter().map(|t| t["counters"][counter].as_u64().expect("a number")).sum::<u64>()
    };
    for eids in Family::BOTH {
        assert!(reaches(&a.host, world(eids), PATIENCE), "{eids}");
        let decapsulated = counted("decapsulated-packets");
        let seen = ping(&a.host, world(eids), 20, 0.01, "");
        assert_eq!(seen.lost(), 0, "{eids}:\n{}", seen.output);
        let by_proxy = counted("decapsulated-packets") - decapsulated;
        assert_eq!(by_proxy, if eids == Family::V4 { 0 } else { 20 }, "{eids}");
        let (sent, received) = tcp_transfer(&outside.world, &a.host, a.host_eid(eids), 1_000_000);
        assert_eq!(sent, received, "{eids}");
    }
    let throws = |family| a.xtr.sh(&format!("ip {family} route show table 4341 | grep -c throw || true"));
    until("a throw route", PATIENCE, || throws("-4").trim() == "1");
    assert_eq!(throws("-6").trim(), "0");
    // The other family natively, too, as soon as no proxy-ETR is to be used.
    xtr.write_config(net.dir(), &xtr_config(a, &XtrOptions::over(a, Family::V4)));
    xtr.reload();
    until("throw routes in both families", PATIENCE, || {
        throws("-4").trim() == "1" && throws("-6").trim() == "1"
    });
    let decapsulated = counted("decapsulated-packets");
    let seen = ping(&a.host, world(Family::V6), 20, 0.01, "");
    assert_eq!(seen.lost(), 0, "{}", seen.output);
    assert_eq!(counted("decapsulated-packets"), decapsulated);

    // What has a mapping of its own inside a natively forwarded prefix is an exception to it, as are these to
    // be dropped.
    let exceptions =
        [("192.0.2.128/25", "192.0.2.130"), ("2001:db8:ffff:0:8000::/65", "2001:db8:ffff:0:8000::2")];
    outside
        .world
        .sh("ip addr add 192.0.2.130/24 dev eth0 && ip addr add 2001:db8:ffff:0:8000::2/64 dev eth0 nodad");
    for (_, inside) in exceptions {
        assert!(reaches(&a.host, inside.parse().expect("address"), PATIENCE), "{inside}");
    }
    let drop =
        |(net, _): &(&str, &str)| format!("[[map-cache.static]]\nprefix = \"{net}\"\naction = \"drop\"\n");
    let more = exceptions.iter().map(drop).collect::<String>();
    xtr.write_config(net.dir(), &xtr_config(a, &XtrOptions { more, ..XtrOptions::over(a, Family::V4) }));
    xtr.reload();
    for ((_, inside), family) in exceptions.into_iter().zip(Family::BOTH) {
        let inside = inside.parse().expect("address");
        until("the exception", PATIENCE, || ping(&a.host, inside, 1, 0.1, "-t 200").received == 0);
        assert_eq!(ping(&a.host, inside, 4, 0.1, "-t 1000").received, 0, "{inside}");
        assert_eq!(ping(&a.host, world(family), 5, 0.01, "").lost(), 0, "{family} beside the exception");
    }
    assert!(dropped(&xtr, "negative-drop") >= 4);
    xtr.write_config(net.dir(), &xtr_config(a, &XtrOptions::over(a, Family::V4)));
    xtr.reload();
    for (_, inside) in exceptions {
        assert!(reaches(&a.host, inside.parse().expect("address"), PATIENCE), "{inside}");
    }
    xtr.stop();
    a.xtr.expect_state(&before, "what the xTR left behind");
}
