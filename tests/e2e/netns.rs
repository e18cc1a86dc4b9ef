//! Network namespaces that remove themselves, and what runs inside them.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::wait::{PATIENCE, until, within};

static COUNT: AtomicU32 = AtomicU32::new(0);

/// A network namespace, named after this process; removed with everything that runs in it when dropped.
pub struct Netns {
    name: String,
    handle: File,
}

impl Netns {
    /// A fresh namespace with forwarding on, reverse-path filtering and duplicate address detection off.
    pub fn new(label: &str) -> Self {
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("eidolon-{}-{number}-{label}", std::process::id());
        {
            // Two processes that make the first namespace of a machine at once stumble over each other's
            // mounts.
            let lock = File::create(std::env::temp_dir().join("eidolon-e2e-netns.lock")).expect("lock file");
            lock.lock().expect("lock");
            sh(&format!("ip netns add {name}"));
        }
        let handle =
            File::open(Path::new("/run/netns").join(&name)).expect("the namespace that was just made");
        let ns = Self { name, handle };
        ns.sh("ip link set lo up");
        ns.sysctl("net.ipv4.ip_forward", "1");
        ns.sysctl("net.ipv6.conf.all.forwarding", "1");
        for scope in ["all", "default"] {
            ns.sysctl(&format!("net.ipv4.conf.{scope}.rp_filter"), "0");
            ns.sysctl(&format!("net.ipv6.conf.{scope}.accept_dad"), "0");
            ns.sysctl(&format!("net.ipv6.conf.{scope}.accept_ra"), "0");
        }
        ns
    }

    /// Its name, for ip(8).
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Sets a sysctl of this namespace, named with dots.
    pub fn sysctl(&self, name: &str, value: &str) {
        let file = Path::new("/proc/sys").join(name.replace('.', "/"));
        let value = value.to_owned();
        self.run(move || {
            fs::write(&file, value).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        });
    }

    /// A program to be run inside.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name]).arg(program).stdin(Stdio::null());
        command
    }

    /// Runs a shell command line inside, whatever comes of it.
    pub fn try_sh(&self, line: &str) -> Output {
        self.command("sh").args(["-c", line]).output().expect("ip netns exec")
    }

    /// Runs a shell command line inside, which must succeed, and returns its standard output.
    pub fn sh(&self, line: &str) -> String {
        expect_success(line, self.try_sh(line))
    }

    /// Runs a closure on a thread of its own inside this namespace: every socket it opens belongs here for
    /// good.
    pub fn run<T: Send>(&self, f: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let handle = self.handle.as_fd();
            let work = scope.spawn(move || {
                setns(handle, CloneFlags::CLONE_NEWNET).expect("setns");
                f()
            });
            match work.join() {
                Ok(value) => value,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }

    /// Starts a program inside, its output going to `log`. Killed when dropped.
    pub fn spawn(&self, log: &Path, command: &[&str]) -> Process {
        let (program, args) = command.split_first().expect("a program");
        let file = File::options().create(true).append(true).open(log).expect("log file");
        let mut c = self.command(program);
        c.args(args).stdout(file.try_clone().expect("log file")).stderr(file);
        let child = c.spawn().unwrap_or_else(|e| panic!("{program}: {e}"));
        Process { child, log: log.to_owned(), what: command.join(" ") }
    }

    /// Listens for TCP inside.
    pub fn tcp_listener(&self, addr: std::net::SocketAddr) -> TcpListener {
        self.run(|| TcpListener::bind(addr).unwrap_or_else(|e| panic!("listen on {addr}: {e}")))
    }

    /// Connects by TCP from inside.
    pub fn tcp_connect(&self, addr: std::net::SocketAddr) -> TcpStream {
        self.run(|| {
            TcpStream::connect_timeout(&addr, PATIENCE).unwrap_or_else(|e| panic!("connect to {addr}: {e}"))
        })
    }

    /// Addresses, rules, routes of all tables and links: what must be the same again once a router has left.
    pub fn kernel_state(&self) -> String {
        // The kernel gives a link its own IPv6 address a moment after both ends are up.
        let list = |line: &str| self.sh(line).lines().map(str::to_owned).collect::<Vec<_>>();
        within(Duration::from_secs(5), || {
            let links = list("ip -o link show up type veth | sed 's/^[0-9]*: //; s/@.*//'");
            let ready = list("ip -o -6 addr show scope link | awk '{ print $2 }'");
            links.iter().all(|link| ready.contains(link))
        });
        let mut state = String::new();
        for line in [
            // Link and address lines carry no counters or ages here; IPv6 routes show theirs ("expires") not
            // at all.
            "ip -o link show | sed 's/^[0-9]*: //; s/@[^:]*//; s/qlen [0-9]*//; s/ state [A-Z]*//'",
            "ip -o addr show | sed 's/^[0-9]*: //; s/valid_lft.*//'",
            "ip -4 rule show",
            "ip -6 rule show",
            "ip -4 route show table all",
            "ip -6 route show table all",
            "nft list ruleset",
        ] {
            state.push_str(&format!("# {line}\n"));
            let mut lines: Vec<_> = self.sh(line).lines().map(str::trim_end).map(str::to_owned).collect();
            lines.sort();
            state.push_str(&lines.join("\n"));
            state.push('\n');
        }
        state
    }

    /// Waits until [`Self::kernel_state`] is what it was before; panics with both otherwise.
    pub fn expect_state(&self, before: &str, what: &str) {
        let mut now = String::new();
        let same = within(Duration::from_secs(10), || {
            now = self.kernel_state();
            now == before
        });
        assert!(same, "{what}; before:\n{before}\nnow:\n{now}");
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        for _ in 0..50 {
            let pids = Command::new("ip").args(["netns", "pids", &self.name]).output();
            let pids = pids.map(|o| String::from_utf8_lossy(&o.stdout).into_owned()).unwrap_or_default();
            let own = std::process::id().to_string();
            let mut left = false;
            for pid in pids.split_whitespace().filter(|p| **p != own) {
                left = true;
                if let Ok(pid) = pid.parse() {
                    let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
                }
            }
            if !left {
                break;
            }
            thread::sleep(Duration::from_millis(20));
        }
        let _ = Command::new("ip").args(["netns", "del", &self.name]).output();
    }
}

/// A program in the background, killed when dropped.
pub struct Process {
    child: Child,
    log: PathBuf,
    what: String,
}

impl Process {
    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Everything that it has said so far.
    pub fn log(&self) -> String {
        let mut text = Vec::new();
        if let Ok(mut file) = File::open(&self.log) {
            let _ = file.read_to_end(&mut text);
        }
        String::from_utf8_lossy(&text).into_owned()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).expect("a pid"));
        kill(pid, signal).unwrap_or_else(|e| panic!("{signal} to {}: {e}", self.what));
    }

    /// Whether it still runs.
    pub fn running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits until its output says `text`.
    pub fn wait_for(&mut self, text: &str, limit: Duration) {
        let said = within(limit, || self.log().contains(text) || !self.running());
        assert!(said && self.log().contains(text), "{}: never said {text:?}:\n{}", self.what, self.log());
    }

    /// Waits for its end and returns the exit code; `None` when a signal ended it.
    pub fn wait(&mut self, limit: Duration) -> Option<i32> {
        let mut status = None;
        until(&format!("the end of {}", self.what), limit, || {
            status = self.child.try_wait().expect("wait");
            status.is_some()
        });
        status.and_then(|s| s.code())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            let log = self.log();
            let tail: Vec<_> = log.lines().rev().take(60).collect();
            let tail: Vec<_> = tail.into_iter().rev().collect();
            let _ = writeln!(std::io::stderr(), "--- last words of {}\n{}\n---", self.what, tail.join("\n"));
        }
    }
}

/// Runs a shell command line in the namespace of the tests themselves; it must succeed.
pub fn sh(line: &str) -> String {
    expect_success(line, Command::new("sh").args(["-c", line]).stdin(Stdio::null()).output().expect("sh"))
}

fn expect_success(line: &str, output: Output) -> String {
    assert!(
        output.status.success(),
        "`{line}` failed ({}):\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}
