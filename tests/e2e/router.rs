//! `eidolon` processes: their configurations, their lives, and what an operator asks them.

use std::fmt::Write as _;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::netns::{Netns, Process};
use crate::topology::{Family, Network, Site, mapping_system};
use crate::wait::{PATIENCE, until, within};

/// The program under test: that of this build, or the one that the variable EIDOLON names.
pub fn eidolon() -> &'static str {
    static PATH: OnceLock<String> = OnceLock::new();
    PATH.get_or_init(|| std::env::var("EIDOLON").unwrap_or_else(|_| env!("CARGO_BIN_EXE_eidolon").to_owned()))
}

/// Whether that is an unoptimised build, which is several times slower than what people run.
pub fn unoptimised() -> bool {
    cfg!(debug_assertions) && std::env::var_os("EIDOLON").is_none()
}

/// A running router, killed when dropped.
pub struct Router<'a> {
    pub ns: &'a Netns,
    pub name: String,
    config: PathBuf,
    socket: PathBuf,
    process: Option<Process>,
}

impl<'a> Router<'a> {
    /// Starts a router on this configuration, and waits until it answers on its control socket.
    pub fn start(net: &Network, ns: &'a Netns, name: &str, config: &str) -> Self {
        let mut router = Self::prepare(net, ns, name, config);
        router.launch();
        router
    }

    /// Writes the configuration of a router that is to be started later.
    pub fn prepare(net: &Network, ns: &'a Netns, name: &str, config: &str) -> Self {
        let file = net.file(&format!("{name}.toml"));
        let socket = net.file(&format!("{name}.sock"));
        let router = Self { ns, name: name.to_owned(), config: file, socket, process: None };
        router.write_config(net.dir(), config);
        router
    }

    /// Starts the process, and waits until it answers.
    pub fn launch(&mut self) {
        assert!(self.process.is_none(), "{} runs already", self.name);
        let config = self.config.to_str().expect("UTF-8").to_owned();
        let mut process = self.ns.spawn(&self.log_file(), &[eidolon(), "run", "-c", &config]);
        let answers = within(PATIENCE, || {
            !process.running() || self.control(&["show", "statistics", "--json"]).status.success()
        });
        assert!(answers && process.running(), "{} did not come up:\n{}", self.name, process.log());
        self.process = Some(process);
    }

    /// Replaces the configuration file; the running process hears of it by [`Self::reload`] or SIGHUP.
    pub fn write_config(&self, dir: &Path, config: &str) {
        let text = format!("{config}\n[management]\nsocket = {:?}\n", self.socket.to_str().expect("UTF-8"),)
            .replace("STATE-DIR", dir.join(format!("{}.state", self.name)).to_str().expect("UTF-8"));
        fs::write(&self.config, text).expect("configuration file");
    }

    pub fn config_file(&self) -> &Path {
        &self.config
    }

    fn log_file(&self) -> PathBuf {
        self.config.with_extension("log")
    }

    /// Everything that the router has logged, over all its lives.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    pub fn process(&mut self) -> &mut Process {
        self.process.as_mut().expect("a running router")
    }

    pub fn running(&mut self) -> bool {
        self.process.as_mut().is_some_and(Process::running)
    }

    pub fn pid(&self) -> u32 {
        self.process.as_ref().expect("a running router").pid()
    }

    /// Asks it to end, as the init system would, and expects it to do so without complaint.
    pub fn stop(&mut self) {
        let mut process = self.process.take().expect("a running router");
        process.signal(Signal::SIGTERM);
        let code = process.wait(PATIENCE);
        assert_eq!(code, Some(0), "{} ended badly:\n{}", self.name, process.log());
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        let mut process = self.process.take().expect("a running router");
        process.signal(Signal::SIGKILL);
        process.wait(PATIENCE);
    }

    /// Runs `eidolon` as the operator of this router.
    pub fn control(&self, args: &[&str]) -> Output {
        Command::new(eidolon()).args(args).env("EIDOLON_SOCKET", &self.socket).output().expect("eidolon")
    }

    /// The same, which must succeed.
    pub fn operator(&self, args: &[&str]) -> String {
        let output = self.control(args);
        assert!(
            output.status.success(),
            "eidolon {args:?} at {} failed:\n{}{}",
            self.name,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// `show WHAT --json`.
    pub fn show(&self, what: &str) -> Value {
        let text = self.operator(&["show", what, "--json"]);
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("show {what} --json: {e}:\n{text}"))
    }

    pub fn clear_map_cache(&self) {
        self.operator(&["clear", "map-cache"]);
    }

    pub fn reload(&self) {
        self.operator(&["reload"]);
    }

    /// CPU time used so far, user and system, in seconds.
    pub fn cpu_seconds(&self) -> f64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid())).expect("a running router");
        // The fields after the name, which stands in parentheses; utime and stime are fields 14 and 15 of
        // proc(5).
        let fields: Vec<&str> = stat.rsplit_once(')').expect("proc(5)").1.split_whitespace().collect();
        let ticks = |field: usize| fields[field - 3].parse::<f64>().expect("a number");
        // USER_HZ is 100 on every architecture that Linux presents to user space.
        (ticks(14) + ticks(15)) / 100.0
    }

    /// Resident memory, in KiB.
    pub fn resident_kib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("a running router");
        let line = status.lines().find(|l| l.starts_with("VmRSS:")).expect("VmRSS");
        line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).expect("a number")
    }
}

/// A locator of a site, as the configuration of its xTR gives it.
#[derive(Clone, Debug)]
pub struct Locator {
    pub address: IpAddr,
    pub priority: u8,
    pub weight: u8,
}

/// What distinguishes the configurations of the tests.
#[derive(Clone, Debug)]
pub struct XtrOptions {
    pub locators: Vec<Locator>,
    /// Family by which the mapping system is spoken to.
    pub mapping_over: Family,
    pub key: String,
    /// More TOML for `[router]`.
    pub router: String,
    /// More TOML for `[[map-server]]`.
    pub map_server: String,
    /// More TOML at the end.
    pub more: String,
}

impl XtrOptions {
    /// One locator of this family, by which the mapping system is spoken to as well.
    pub fn over(site: &Site, family: Family) -> Self {
        Self {
            locators: vec![Locator { address: site.rloc(family, 0), priority: 1, weight: 100 }],
            mapping_over: family,
            key: key_of(site),
            router: String::new(),
            map_server: String::new(),
            more: String::new(),
        }
    }
}

/// The algorithm of a site's key: SHA-1 at every third site, for the sake of variety.
pub fn algorithm_of(site: &Site) -> &'static str {
    if site.number % 3 == 1 { "sha1" } else { "sha256" }
}

fn key_of(site: &Site) -> String {
    format!("key-of-site-{}", site.number)
}

/// Configuration of a site's xTR.
pub fn xtr_config(site: &Site, options: &XtrOptions) -> String {
    let mut text = format!(
        "roles = [\"itr\", \"etr\"]\n[router]\nname = \"xtr{}\"\nstate-dir = \"STATE-DIR\"\n{}\n",
        site.number, options.router
    );
    for l in &options.locators {
        let _ = write!(
            text,
            "[[locator]]\naddress = \"{}\"\npriority = {}\nweight = {}\n",
            l.address, l.priority, l.weight
        );
    }
    for family in Family::BOTH {
        let _ = write!(text, "[[eid-prefix]]\nprefix = \"{}\"\n", site.prefix(family));
    }
    let mapping = mapping_system(options.mapping_over);
    let _ = write!(
        text,
        "[[map-server]]\naddress = \"{mapping}\"\nkey = \"{}\"\nalgorithm = \"{}\"\n{}\n[[map-resolver]]\n\
         address = \"{mapping}\"\n{}\n",
        options.key,
        algorithm_of(site),
        options.map_server,
        options.more
    );
    text
}

/// Configuration of the mapping system.
pub fn mapping_config(net: &Network, more: &str) -> String {
    let mut text = "roles = [\"map-server\", \"map-resolver\"]\n[router]\nname = \"mapping\"\n\
                    state-dir = \"STATE-DIR\"\n"
        .to_owned();
    for site in &net.sites {
        let _ = write!(
            text,
            "[[site]]\nname = \"site{}\"\neid-prefixes = [\"{}\", \"{}\"]\n\
             key = \"{}\"\nalgorithm = \"{}\"\n",
            site.number,
            site.prefix(Family::V4),
            site.prefix(Family::V6),
            key_of(site),
            algorithm_of(site)
        );
    }
    text + more + "\n"
}

/// All routers of a network.
pub struct Routers<'a> {
    pub mapping: Router<'a>,
    pub xtrs: Vec<Router<'a>>,
}

impl<'a> Routers<'a> {
    /// Mapping system and xTRs, every site over its first locator of `family`; returns once all have
    /// registered.
    pub fn start(net: &'a Network, family: Family) -> Self {
        Self::start_with(net, |site| XtrOptions::over(site, family), "")
    }

    /// The same with options of the caller's choice.
    pub fn start_with(net: &'a Network, options: impl Fn(&Site) -> XtrOptions, mapping_more: &str) -> Self {
        let mapping = Router::start(net, &net.mapping, "mapping", &mapping_config(net, mapping_more));
        let xtrs = net
            .sites
            .iter()
            .map(|site| {
                Router::start(
                    net,
                    &site.xtr,
                    &format!("xtr{}", site.number),
                    &xtr_config(site, &options(site)),
                )
            })
            .collect();
        let routers = Self { mapping, xtrs };
        routers.wait_registered(net);
        routers
    }

    /// The xTR of the site with this number.
    pub fn xtr(&mut self, number: usize) -> &mut Router<'a> {
        &mut self.xtrs[number - 1]
    }

    /// Waits until the Map-Server knows both prefixes of every site.
    pub fn wait_registered(&self, net: &Network) {
        until("every site's registration", PATIENCE, || self.registered().len() == 2 * net.sites.len());
    }

    /// EID-prefixes that the Map-Server has a registration of.
    pub fn registered(&self) -> Vec<String> {
        registered_prefixes(&self.mapping.show("sites"))
    }

    /// Every router, the mapping system first.
    pub fn all(&self) -> impl Iterator<Item = &Router<'a>> {
        [&self.mapping].into_iter().chain(&self.xtrs)
    }

    /// Cold caches everywhere.
    pub fn clear_map_caches(&self) {
        for xtr in &self.xtrs {
            xtr.clear_map_cache();
        }
    }
}

/// The registered EID-prefixes in `show sites --json`.
pub fn registered_prefixes(sites: &Value) -> Vec<String> {
    let mut found = Vec::new();
    visit(sites, &mut |object| {
        if object.get("registrations").and_then(Value::as_array).is_some_and(|r| !r.is_empty())
            && let Some(prefix) = object.get("net").and_then(Value::as_str)
        {
            found.push(prefix.to_owned());
        }
    });
    found
}

/// Calls `f` on every object of a JSON value, outer ones first.
pub fn visit(value: &Value, f: &mut impl FnMut(&serde_json::Map<String, Value>)) {
    match value {
        Value::Object(object) => {
            f(object);
            object.values().for_each(|v| visit(v, f));
        }
        Value::Array(array) => array.iter().for_each(|v| visit(v, f)),
        _ => {}
    }
}
