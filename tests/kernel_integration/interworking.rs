//! Exceptions to what is forwarded natively, and proxy tunnel routers.

use eidolon::runtime::kernel::KernelIntegration;

use crate::scenery::{
    Site, forwarded, in_namespace, ip, nets, our_rules, prefix, routing_state, sent, table,
};

#[test]
fn exceptions_inside_native_prefixes_stay_with_the_tun() {
    in_namespace(async || {
        let site = Site::new();
        let before = routing_state();
        let mut kernel = KernelIntegration::install(site.plan()).await.unwrap();
        let installed = routing_state();
        for (native, exception, inner, addresses) in [
            (
                "203.0.0.0/8",
                "203.0.113.0/24",
                "203.0.113.128/25",
                ["203.9.9.9", "203.0.113.9", "203.0.113.200"],
            ),
            (
                "2001:db8::/32",
                "2001:db8:9::/48",
                "2001:db8:9:9::/64",
                ["2001:db8:7::1", "2001:db8:9::1", "2001:db8:9:9::1"],
            ),
        ] {
            let (family, source) = match native.contains(':') {
                true => ("-6", "2001:db8:1::5"),
                false => ("-4", "10.1.0.5"),
            };
            let out = || addresses.map(|address| forwarded(family, address, source, "lan0"));
            kernel.except_native(prefix(exception), true).await.unwrap();
            assert_eq!(out(), ["lisp0"; 3]);
            assert!(kernel.apply_native(prefix(native), true).await.unwrap());
            assert_eq!(out(), ["wan0", "lisp0", "lisp0"]);
            assert!(kernel.apply_native(prefix(inner), true).await.unwrap());
            assert_eq!(out(), ["wan0", "lisp0", "wan0"]);
            kernel.except_native(prefix(exception), false).await.unwrap();
            assert_eq!(out(), ["wan0"; 3]);
            kernel.except_native(prefix(exception), true).await.unwrap();
            // A TUN that was set down and up has them all again.
            ip("link set lisp0 down");
            ip("link set lisp0 up");
            kernel.repair().await.unwrap();
            assert_eq!(out(), ["wan0", "lisp0", "wan0"]);
            for net in [native, inner] {
                assert!(!kernel.apply_native(prefix(net), false).await.unwrap());
            }
            kernel.except_native(prefix(exception), false).await.unwrap();
        }
        assert_eq!(routing_state(), installed);
        kernel.remove().await.unwrap();
        assert_eq!(routing_state(), before);
    });
}

#[test]
fn a_proxy_itr_attracts_its_prefixes_and_nothing_else() {
    in_namespace(async || {
        let site = Site::new();
        // A LISP site's own network, right here, and a broader route of the operator's.
        ip("route add 10.2.7.0/24 dev lan1");
        ip("route add 10.0.0.0/8 via 192.0.2.253");
        let before = routing_state();
        let mut plan = site.plan();
        plan.instances[0].eid_prefixes.clear();
        plan.instances[0].proxied = nets(&["10.2.0.0/16", "2001:db8:2::/48"]);
        let mut kernel = KernelIntegration::install(plan.clone()).await.unwrap();
        for input in ["wan0", "lan0"] {
            assert_eq!(forwarded("-4", "10.2.3.4", "198.51.100.9", input), "lisp0");
            assert_eq!(forwarded("-6", "2001:db8:2::4", "2001:db8:c::9", input), "lisp0");
            assert_eq!(forwarded("-4", "10.2.7.4", "198.51.100.9", input), "lan1");
        }
        assert_eq!(forwarded("-4", "10.3.3.4", "198.51.100.9", "lan0"), "wan0");
        assert_eq!(forwarded("-4", "203.0.113.9", "10.2.3.4", "lan0"), "wan0");
        assert_eq!(sent("-4", "10.2.3.4", None), "lisp0");
        // Left to the kernel, they would come back: what is attracted stays.
        assert!(!kernel.apply_native(prefix("10.2.3.0/24"), true).await.unwrap());
        assert!(!kernel.apply_native(prefix("0.0.0.0/0"), true).await.unwrap());
        assert_eq!(forwarded("-4", "10.2.3.4", "198.51.100.9", "lan0"), "lisp0");

        // A proxy-ETR alone needs neither rules nor routes.
        plan.instances[0].egress = std::mem::take(&mut plan.instances[0].proxied);
        kernel.update(plan).await.unwrap();
        assert_eq!((our_rules(), table(4341)), (String::new(), String::new()));
        assert_eq!(forwarded("-4", "203.0.113.9", "10.2.3.4", "lisp0"), "wan0");
        kernel.remove().await.unwrap();
        assert_eq!(routing_state(), before);
    });
}

#[test]
fn what_is_made_here_reaches_a_site_whose_routes_are_in_another_table() {
    in_namespace(async || {
        let site = Site::new();
        ip("addr flush dev lan0");
        ip("addr add 10.1.0.1/24 dev lan0 noprefixroute");
        ip("route add 10.1.0.0/24 dev lan0 table 1007");
        let before = routing_state();
        let mut plan = site.plan();
        plan.instances[0].interfaces = vec!["lan0".into()];
        plan.instances[0].site_table = 1007;
        assert_eq!(sent("-4", "10.1.0.5", None), "wan0");
        let kernel = KernelIntegration::install(plan).await.unwrap();
        assert_eq!(sent("-4", "10.1.0.5", None), "lan0");
        assert_eq!(sent("-4", "10.1.0.5", Some("192.0.2.1")), "lan0");
        assert_eq!(sent("-4", "203.0.113.9", None), "wan0");
        kernel.remove().await.unwrap();
        assert_eq!(routing_state(), before);
    });
}
