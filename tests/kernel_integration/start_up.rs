//! What prevents a start.

use std::net::UdpSocket;
use std::process::Command;

use eidolon::io::netlink::{Netlink, TABLE_MAIN};
use eidolon::runtime::kernel::{KernelError, KernelIntegration, StartupError};

use crate::scenery::*;

#[test]
fn what_prevents_a_start_is_said_in_a_sentence() {
    in_namespace(async || {
        let site = Site::new();
        StartupError::check_privilege().unwrap();
        StartupError::check_tun_device().unwrap();
        let interfaces = Netlink::open().unwrap().interfaces().await.unwrap();
        let mut plan = site.plan();
        assert_eq!(
            StartupError::check_tun_names(&plan, &interfaces).unwrap_err().to_string(),
            "there is already a TUN interface (of another running program, or a persistent one) named lisp0; \
             choose another `tun` name in [[instance]] (instance-id 0), or remove it by `ip link delete \
             lisp0`"
        );
        plan.instances[0].tun = "lan0".into();
        let error = StartupError::check_tun_names(&plan, &interfaces).unwrap_err();
        assert!(error.to_string().starts_with("there is already a veth interface named lan0"), "{error}");
        plan.instances[0].tun = "lisp9".into();
        StartupError::check_tun_names(&plan, &interfaces).unwrap();

        let holder = UdpSocket::bind("0.0.0.0:4341").unwrap();
        let name = std::fs::read_to_string("/proc/self/comm").unwrap();
        assert_eq!(
            StartupError::port_taken(4341).to_string(),
            format!(
                "UDP port 4341 is taken by {} (process {}); stop that program, or run the router in a \
                 network namespace of its own",
                name.trim_end(),
                std::process::id()
            )
        );
        drop(holder);
        let error = std::io::Error::from_raw_os_error(2);
        assert_eq!(StartupError::tun_device(&error), StartupError::NoTunDevice);

        plan.rule_priority = 32_766;
        plan.instances[0].tun = "lisp0".into();
        let error = KernelIntegration::install(plan.clone()).await.unwrap_err();
        assert!(matches!(error, KernelError::PriorityRange(32_766)), "{error}");
        plan.rule_priority = 4341;
        plan.instances[0].table = TABLE_MAIN;
        let error = KernelIntegration::install(plan).await.unwrap_err();
        assert!(matches!(error, KernelError::TableReserved(TABLE_MAIN)), "{error}");
    });
}

#[test]
fn without_the_privilege_it_is_said_what_to_do() {
    // The same program again, without the capability.
    let program = std::env::current_exe().unwrap();
    let output = Command::new("setpriv")
        .args(["--bounding-set=-net_admin", "--inh-caps=-net_admin"])
        .arg(program)
        .args(["start_up::unprivileged", "--exact", "--ignored", "--nocapture"])
        .output()
        .expect("setpriv (util-linux) is needed");
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

#[test]
#[ignore = "only for without_the_privilege_it_is_said_what_to_do, which takes the privilege away"]
fn unprivileged() {
    in_namespace(async || {
        assert_eq!(
            StartupError::check_privilege().unwrap_err().to_string(),
            "not allowed to set up interfaces and routes; run the router as root or with the capability \
             CAP_NET_ADMIN (for example `setcap cap_net_admin+ep` on the program, or AmbientCapabilities= in \
             its systemd unit)"
        );
        let netlink = Netlink::open().unwrap();
        let error = netlink.set_up(1).await.unwrap_err();
        let error = KernelError::from(error).to_string();
        assert_eq!(
            error,
            "not allowed to change routes and rules (set interface up); run the router as root or with the \
             capability CAP_NET_ADMIN"
        );
    });
}
