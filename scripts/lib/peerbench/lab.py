"""The network of one comparison: namespaces, links, addresses, processes.

    ha ---- xa ---- core ---- xb ---- hb        hosts, tunnel routers, and the underlay between them
                      |
                      ms                        mapping system, for peers that need one

Links ha-xa and xb-hb are the sites (EID space), all others the underlay (RLOC space, MTU 1500); core knows no EID.
Everything here is removed by Lab.close(): processes by their ids, then the namespaces. Children die with us even
when we are killed without warning (PR_SET_PDEATHSIG), and namespaces that such an end left behind are removed by the
next run (remove_leftovers).
"""

import ctypes
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time

UNDERLAY_MTU = 1500
# What every tunnel has room for inside the underlay's MTU; the widest header here is WireGuard's (60 or 80 bytes).
SITE_MTU = {"ipv4": 1440, "ipv6": 1420}
NAMESPACES = ("ha", "xa", "core", "xb", "hb", "ms")
NAME = re.compile(r"^eidb(\d+)-[a-z]+$")
SCRATCH = "bench-peers-"  # then our process id

# (family, namespace) -> underlay address; the next hop, on core, ends in 1.
RLOC = {
    ("ipv4", "xa"): "192.0.2.2",
    ("ipv4", "xb"): "198.51.100.2",
    ("ipv4", "ms"): "203.0.113.2",
    ("ipv6", "xa"): "2001:db8:a::2",
    ("ipv6", "xb"): "2001:db8:b::2",
    ("ipv6", "ms"): "2001:db8:c::2",
}
EID_PREFIX = {
    ("ipv4", "a"): "172.16.1.0/24",
    ("ipv4", "b"): "172.16.2.0/24",
    ("ipv6", "a"): "2001:db8:1::/64",
    ("ipv6", "b"): "2001:db8:2::/64",
}
# Addresses on the tunnel devices themselves, for peers that need some.
TUNNEL = {
    ("ipv4", "a"): "172.31.0.1",
    ("ipv4", "b"): "172.31.0.2",
    ("ipv6", "a"): "2001:db8:f::1",
    ("ipv6", "b"): "2001:db8:f::2",
}
FAMILIES = ("ipv4", "ipv6")
UNDERLAY_ENDS = (("xa", "wan"), ("core", "to-xa"), ("core", "to-xb"), ("xb", "wan"))
SITE_ENDS = (("ha", "lan"), ("xa", "lan"), ("xb", "lan"), ("hb", "lan"))
# Features by which a device takes or makes packets larger than its MTU, with what `ethtool -k` calls them.
OFFLOADS = {
    "tso": "tcp-segmentation-offload",
    "gso": "generic-segmentation-offload",
    "tx-udp-segmentation": "tx-udp-segmentation",
    "tx-udp_tnl-segmentation": "tx-udp_tnl-segmentation",
    "tx-udp_tnl-csum-segmentation": "tx-udp_tnl-csum-segmentation",
    "gro": "generic-receive-offload",
}
PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


class LabError(Exception):
    """Something of the network could not be set up; the text says what."""


def host(family, site, last=2):
    """Address of the host (2) or the router (1) of a site."""
    prefix = EID_PREFIX[family, site].split("/")[0]
    return (prefix.removesuffix("0") if family == "ipv4" else prefix) + str(last)


def _die_with_parent():
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def command(*argv, check=True, stdin=None):
    """Run a short command to its end; its standard output."""
    done = subprocess.run([str(a) for a in argv], input=stdin, capture_output=True, text=True, check=False)
    if check and done.returncode != 0:
        raise LabError(f"{' '.join(map(str, argv))}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def remove_leftovers():
    """Remove what is left of runs whose process is gone (killed outright, so that it could not do it itself)."""
    for name in [line.split()[0] for line in command("ip", "netns", "list").splitlines() if line.strip()]:
        found = NAME.match(name)
        if found and not os.path.exists(f"/proc/{found[1]}"):
            command("ip", "netns", "del", name, check=False)
    for name in os.listdir(tempfile.gettempdir()):
        found = re.match(rf"^{SCRATCH}(\d+)-", name)
        if found and not os.path.exists(f"/proc/{found[1]}"):
            shutil.rmtree(os.path.join(tempfile.gettempdir(), name), ignore_errors=True)


class Lab:
    """One set of namespaces with a scratch directory. Use as a context manager."""

    def __init__(self, underlay_family="ipv4"):
        self.underlay = underlay_family
        self.mtu = SITE_MTU[underlay_family]
        self.dir = tempfile.mkdtemp(prefix=f"{SCRATCH}{os.getpid()}-")
        self.processes = []
        self.tunnel_processes = []
        self._made = []

    def __enter__(self):
        try:
            self._build()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_):
        self.close()

    # -- names and addresses

    def ns(self, name):
        """Full name of a namespace."""
        return f"eidb{os.getpid()}-{name}"

    def rloc(self, name):
        """Underlay address of xa, xb or ms, in this lab's underlay family."""
        return RLOC[self.underlay, name]

    def endpoint(self, name, port):
        """Underlay address and port in the usual notation."""
        address = self.rloc(name)
        return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"

    def path(self, name):
        """A file in the scratch directory."""
        return os.path.join(self.dir, name)

    def write(self, name, text):
        """Write a file, readable by us alone as some hold keys; its path."""
        with open(os.open(self.path(name), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(text)
        return self.path(name)

    # -- commands and processes

    def ip(self, name, *args, check=True):
        """`ip` inside a namespace."""
        return command("ip", "-n", self.ns(name), *args, check=check)

    def run(self, name, *argv, check=True):
        """A short command inside a namespace."""
        return command("ip", "netns", "exec", self.ns(name), *argv, check=check)

    def popen(self, name, *argv, **options):
        """Start a command inside a namespace. `ip netns exec` replaces itself, so the process id is the command's."""
        process = subprocess.Popen(
            ["ip", "netns", "exec", self.ns(name), *map(str, argv)],
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # an interrupt from the terminal reaches us alone; we end the others in order
            preexec_fn=_die_with_parent,
            **options,
        )
        self.processes.append(process)
        return process

    def daemon(self, name, *argv, tunnel=False, env=None):
        """Start a process that stays, with its output in a log file; `tunnel` charges its CPU and memory to the peer."""
        log = self.path(f"{name}-{os.path.basename(str(argv[0]))}.log")
        with open(log, "ab") as file:
            process = self.popen(name, *argv, stdout=file, stderr=file, env={**os.environ, **(env or {})})
        process.log = log
        if tunnel:
            self.tunnel_processes.append(process)
        return process

    def why_dead(self):
        """The last words of a daemon that ended although it should not have, or None."""
        for process in self.processes:
            if hasattr(process, "log") and process.poll() is not None:
                with open(process.log, errors="replace") as file:
                    words = " / ".join(file.read().strip().splitlines()[-3:])
                return f"{process.args[4]} ended with status {process.returncode}: {words or 'it said nothing'}"
        return None

    def wait_device(self, name, device, seconds=10):
        """Wait until a tunnel program has made its device."""
        end = time.monotonic() + seconds
        while not self.ip(name, "link", "show", device, check=False):
            if why := self.why_dead():
                raise LabError(why)
            if time.monotonic() > end:
                raise LabError(f"no device {device} in {name} after {seconds} s")
            time.sleep(0.05)

    # -- building

    def _build(self):
        for name in NAMESPACES:
            command("ip", "netns", "add", self.ns(name))
            self._made.append(name)
            router = int(name in ("xa", "core", "xb"))
            self.run(name, "sysctl", "-qw", "net.ipv4.conf.all.rp_filter=0", "net.ipv4.conf.default.rp_filter=0",
                     f"net.ipv4.ip_forward={router}", f"net.ipv6.conf.all.forwarding={router}",
                     "net.ipv6.conf.all.accept_ra=0", "net.ipv6.conf.default.accept_ra=0",
                     "net.ipv6.conf.all.accept_dad=0", "net.ipv6.conf.default.accept_dad=0",
                     "net.ipv6.conf.default.router_solicitations=0")
            self.ip(name, "link", "set", "lo", "up")
        self._link("ha", "lan", "xa", "lan", self.mtu)
        self._link("hb", "lan", "xb", "lan", self.mtu)
        for name in ("xa", "xb", "ms"):
            self._link(name, "wan", "core", f"to-{name}", UNDERLAY_MTU)
        for family in FAMILIES:
            for site in ("a", "b"):
                length = EID_PREFIX[family, site].split("/")[1]
                self._address("h" + site, "lan", f"{host(family, site, 2)}/{length}")
                self._address("x" + site, "lan", f"{host(family, site, 1)}/{length}")
                self.ip("h" + site, "route", "add", "default", "via", host(family, site, 1))
            for name in ("xa", "xb", "ms"):
                address, length = RLOC[family, name], 24 if family == "ipv4" else 64
                gateway = address[:-1] + "1"
                self._address(name, "wan", f"{address}/{length}")
                self._address("core", f"to-{name}", f"{gateway}/{length}")
                self.ip(name, "route", "add", "default", "via", gateway)

    def _link(self, one, one_device, other, other_device, mtu):
        command("ip", "link", "add", one_device, "netns", self.ns(one), "type", "veth",
                "peer", "name", other_device, "netns", self.ns(other))
        for name, device in ((one, one_device), (other, other_device)):
            self.ip(name, "link", "set", device, "mtu", mtu, "up")

    def _address(self, name, device, address):
        self.ip(name, "address", "add", address, "dev", device, *(["nodad"] if ":" in address else []))

    def route_through(self, name, device, gateway=False):
        """Make `device` of xa or xb the way to the other site, with tunnel addresses of both families.

        `gateway`: the device is an Ethernet one, so routes name the other end's address.
        """
        here, there = ("a", "b") if name == "xa" else ("b", "a")
        self.ip(name, "link", "set", device, "mtu", self.mtu, "up")
        for family in FAMILIES:
            length = 30 if family == "ipv4" else 64
            address = f"{TUNNEL[family, here]}/{length}"
            if TUNNEL[family, here] not in self.ip(name, "address", "show", "dev", device):
                self._address(name, device, address)
            via = ["via", TUNNEL[family, there]] if gateway else []
            self.ip(name, "route", "replace", EID_PREFIX[family, there], *via, "dev", device)

    # -- offloads

    def offloads_off(self, ends, receive=True):
        """Take away the devices' means to carry more than one packet at a time, and make sure that it worked.

        `receive`: receive offload (GRO) as well. Checksum offload stays as it is: nothing on a veth pair computes one.
        """
        wanted = {k: v for k, v in OFFLOADS.items() if receive or k != "gro"}
        for name, device in ends:
            for feature in wanted:
                self.run(name, "ethtool", "-K", device, feature, "off", check=False)
            shown = self.run(name, "ethtool", "-k", device)
            for feature in wanted.values():
                if re.search(rf"^\s*{re.escape(feature)}: on", shown, re.M):
                    raise LabError(f"{device} in {name}: can't switch {feature} off")

    def wire(self, gro=True):
        """Make the underlay carry packets as a cable does: none larger than its MTU.

        Senders: no segmentation offload, so that the kernel cuts super-packets just before the device. Core: no GRO
        either, so that it forwards packet by packet. `gro`: the tunnel routers' underlay devices merge what they
        receive, as the drivers of physical devices do and veth by default does not.
        """
        self.offloads_off(UNDERLAY_ENDS)
        if gro:
            for name in ("xa", "xb"):
                self.run(name, "ethtool", "-K", "wan", "gro", "on")

    def underlay_counters(self):
        """(packets, bytes) that core received from xa. A super-packet counts as one packet here."""
        stats = json.loads(self.ip("core", "-s", "-j", "link", "show", "to-xa"))[0]["stats64"]["rx"]
        return stats["packets"], stats["bytes"]

    # -- removing

    def stop(self, process, grace=3.0):
        """End a process that we started, gently first."""
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(grace)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def close(self):
        """End every process of this lab and remove its namespaces and files. An impatient second Ctrl-C waits."""
        handlers = {s: signal.signal(s, signal.SIG_IGN) for s in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
        try:
            self._close()
        finally:
            for signum, handler in handlers.items():
                signal.signal(signum, handler)

    def _close(self):
        for process in self.processes:
            if process.poll() is None:
                process.terminate()
        for process in self.processes:
            self.stop(process)
        for name in self._made:
            # A tunnel program may have forked; what still lives in a namespace of ours is ours.
            for pid in command("ip", "netns", "pids", self.ns(name), check=False).split():
                try:
                    os.kill(int(pid), signal.SIGKILL)
                except ProcessLookupError:
                    pass
            command("ip", "netns", "del", self.ns(name), check=False)
        self.processes, self.tunnel_processes, self._made = [], [], []
        shutil.rmtree(self.dir, ignore_errors=True)
