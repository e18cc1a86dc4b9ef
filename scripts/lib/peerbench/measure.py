"""What is measured on a tunnel that is up, and how other load on the machine is kept out of it.

Every measurement runs under a Meter, which reads the CPU time of the tunnel, of the whole machine and of everybody
else while it runs. One with too much foreign load is repeated a few times; the quietest attempt counts, and its
foreign load is in the row.
"""

import json
import os
import re
import statistics
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field

from . import load
from .lab import LabError, host

TICKS = os.sysconf("SC_CLK_TCK")
CPUS = os.cpu_count()
PORT = 5999
UDP_SIZES = (64, 1400)  # payload bytes


@dataclass
class Plan:
    """How long and how often."""

    tcp_seconds: float = 10
    tcp_runs: int = 3
    tcp4_seconds: float = 6
    flood_seconds: float = 4
    trial_seconds: float = 2
    trials: int = 12
    pings: int = 2000
    loss: float = 0.005  # of a no-drop trial's datagrams
    quiet: float = 0.10  # foreign load, as a share of all CPUs, from which on a measurement is repeated
    repeats: int = 3
    quiet_wait: float = 20
    deadline: float = 900  # seconds per row; no more repeating once the rest would not fit

    @classmethod
    def quick(cls):
        """A row within a minute."""
        return cls(tcp_seconds=4, tcp_runs=1, tcp4_seconds=3, flood_seconds=1.5, trial_seconds=1, trials=7, pings=1000,
                   repeats=2, quiet_wait=2, deadline=53)


@dataclass
class Usage:
    """CPU use during one measurement, seconds; shares are of all CPUs."""

    wall: float
    tunnel: float
    machine: float
    foreign_share: float


def _stat(pid):
    """(parent, own CPU seconds, that plus reaped children's) of a process."""
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rsplit(")", 1)[1].split()
    user, system, child_user, child_system = (int(x) / TICKS for x in fields[11:15])
    return int(fields[1]), user + system, user + system + child_user + child_system


class Meter:
    """CPU accounting from `with` to its end. `usage` is set then."""

    def __init__(self, tunnel_pids=()):
        self.tunnel_pids = tunnel_pids
        self.usage = None

    def __enter__(self):
        self._before = self._read()
        return self

    def __exit__(self, *_):
        wall, tunnel, machine, foreign = (b - a for a, b in zip(self._before, self._read()))
        self.usage = Usage(wall, tunnel, machine, max(0.0, foreign) / max(wall * CPUS, 1e-9))

    def _read(self):
        stats = {}
        for name in os.listdir("/proc"):
            if name.isdigit():
                try:
                    stats[int(name)] = _stat(name)
                except (OSError, IndexError, ValueError):
                    pass  # it ended meanwhile
        # Foreign: neither kernel threads (they work for us too) nor descended from us. A process that ends hands its
        # time to the one that waited for it, so the sum over all that live, with reaped children, never loses any.
        foreign = 0.0
        for pid in stats:
            ancestor = pid
            while ancestor in stats and ancestor not in (2, os.getpid()):
                ancestor = stats[ancestor][0]
            if ancestor not in (2, os.getpid()):
                foreign += stats[pid][2]
        with open("/proc/stat") as file:
            user, nice, system, _idle, _iowait, irq, softirq, steal = (int(x) / TICKS for x in file.readline().split()[1:9])
        tunnel = sum(stats[pid][1] for pid in self.tunnel_pids if pid in stats)
        # What the hypervisor took away disturbs as another process does.
        return time.monotonic(), tunnel, user + nice + system + irq + softirq, foreign + steal


def foreign_load(seconds=0.3):
    """Share of all CPUs that others use just now."""
    with Meter() as meter:
        time.sleep(seconds)
    return meter.usage.foreign_share


@dataclass
class Row:
    """Everything measured on one peer. A None was not measured."""

    peer: str
    underlay: str
    version: str = ""
    problem: str | None = None  # why the row, or the rest of it, is missing
    skipped: bool = False
    tcp1: list = field(default_factory=list)  # per run: gbps, retransmits_per_gb, cpu…
    tcp1_gbps: float | None = None  # the median run's, as the next four
    tcp1_min: float | None = None
    tcp1_max: float | None = None
    tcp1_retransmits_per_gb: float | None = None
    tunnel_cpu_s_per_gb: float | None = None
    machine_cpu_s_per_gb: float | None = None
    underlay_bytes_per_packet: float | None = None
    tcp4_gbps: float | None = None
    udp64_offered_kpps: float | None = None
    udp64_flood_kpps: float | None = None
    udp64_ndr_kpps: float | None = None
    udp64_ndr_is_generator: bool = False  # the sender, not the tunnel, was the limit
    udp1400_offered_kpps: float | None = None
    udp1400_flood_kpps: float | None = None
    udp1400_ndr_kpps: float | None = None
    udp1400_ndr_is_generator: bool = False
    ping_p50_us: float | None = None
    ping_p99_us: float | None = None
    ping_lost: int | None = None
    rss_mib: float | None = None  # the larger of the two tunnel processes, at its peak
    noise: float = 0.0  # largest foreign load in any measurement that counts
    repeats: int = 0  # measurements done again because of noise
    seconds: float = 0.0

    def as_dict(self):
        return asdict(self)


def percentile(values, share):
    """The smallest value that at least `share` of all values don't exceed."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * round(share * 1000) // 1000) - 1)]


def no_drop_rate(trial, first, ceiling, trials, hurry=lambda: False):
    """Highest rate that `trial` says is carried, None if none was: (rate, whether the sender limited it).

    trial(rate) -> (rate really offered, lost share is acceptable, lost share). Steps of 30 % until the rate is
    enclosed, then bisection. A sender that falls short, or a failure with little loss, may be a hiccup of the machine:
    such a rate gets a second chance. Where `hurry` says so, what was found must do.
    """
    good, bad, rate, again = 0.0, None, min(first, ceiling), False
    for _ in range(trials):
        if good and hurry():
            break
        offered, carried, lost = trial(rate)
        short = offered < 0.97 * rate
        if carried:
            good = max(good, offered)
        if not again and (short if carried else lost < 0.05):
            again = True
            continue
        again = False
        if carried and (short or rate >= ceiling):
            return good, True
        if not carried:
            bad = rate
        if bad is None:
            rate = min(ceiling, rate * 1.3)
        elif good == 0:
            rate = bad * 0.7
        elif bad - good < 0.02 * bad:
            break
        else:
            rate = (good + bad) / 2
    return good or None, False


class Bench:
    """Takes the measurements of one row, on a lab whose tunnel was just started."""

    def __init__(self, lab, row, plan, overlay, say):
        self.lab, self.row, self.plan, self.say = lab, row, plan, say
        self.family = overlay
        self.target = host(overlay, "b")
        self.start = time.monotonic()
        self.remaining = 0.0

    def measure(self):
        """Everything, in order; nominal times let a quick run know whether there is time to repeat something."""
        plan = self.plan
        extra = 0.9  # starting programs, looking for noise, letting queues run dry
        steps = [(self.ping, plan.pings * 0.002 + extra), (self.warm_up, 1 + extra)]
        steps += [(self.tcp1, plan.tcp_seconds + extra)] * plan.tcp_runs
        steps += [(self.tcp4, plan.tcp4_seconds + extra)]
        search = plan.flood_seconds + extra + plan.trials * (plan.trial_seconds + extra)
        steps += [(lambda size=size: self.udp(size), search) for size in UDP_SIZES]
        self.wait_connected()
        self.lab.daemon("hb", "iperf3", "--server")
        sink = self.lab.popen("hb", sys.executable, load.__file__, "sink", PORT, stdout=subprocess.PIPE, text=True)
        if sink.stdout.readline().strip() != "ready":
            raise LabError("the UDP sink did not start")
        self.sink = sink.pid
        self.remaining = sum(seconds for _, seconds in steps)
        try:
            for step, seconds in steps:
                self.remaining -= seconds
                step()
                if why := self.lab.why_dead():
                    raise LabError(why)
        finally:
            if self.row.tcp1:
                self.summarise()  # what was measured before something failed stays in the row

    def wait_connected(self, seconds=30):
        """Until a ping comes back; a tunnel may have handshakes, registrations and resolutions to do first."""
        end = time.monotonic() + seconds
        while "time=" not in self.lab.run("ha", "ping", "-n", "-c", "1", "-W", "1", self.target, check=False):
            if why := self.lab.why_dead():
                raise LabError(why)
            if time.monotonic() > end:
                raise LabError(f"no ping gets through after {seconds} s" + self.last_words())
            time.sleep(0.1)

    def last_words(self):
        words = []
        for process in self.lab.tunnel_processes:
            with open(process.log, errors="replace") as file:
                words += file.read().strip().splitlines()[-2:]
        return "; its log ends: " + " / ".join(words) if words else ""

    # -- noise

    def quietly(self, what, seconds, run):
        """run() -> result, under a meter; repeated while others keep the machine busy. (result, usage) that counts."""
        best = None
        for attempt in range(self.plan.repeats + 1):
            patience = min(self.plan.quiet_wait, self.slack(seconds) / 2)
            end = time.monotonic() + patience
            while foreign_load() > self.plan.quiet and time.monotonic() < end:
                time.sleep(0.5)
            with Meter([p.pid for p in self.lab.tunnel_processes]) as meter:
                result = run()
            if best is None or meter.usage.foreign_share < best[1].foreign_share:
                best = result, meter.usage
            if meter.usage.foreign_share <= self.plan.quiet or self.slack(seconds) < seconds + 1:
                break
            if attempt < self.plan.repeats:
                self.say(f"{what}: others used {meter.usage.foreign_share:.0%} of the CPUs, once more")
                self.row.repeats += 1
        self.row.noise = max(self.row.noise, best[1].foreign_share)
        return best

    def slack(self, seconds):
        """Time left before the deadline after this step and all that follow."""
        return self.plan.deadline - (time.monotonic() - self.start) - self.remaining

    # -- steps

    def ping(self):
        self.lab.run("ha", "ping", "-n", "-q", "-c", "100", "-i", "0.001", "-W", "1", self.target, check=False)
        out, _ = self.quietly("ping", self.plan.pings * 0.002, lambda: self.lab.run(
            "ha", "ping", "-n", "-c", self.plan.pings, "-i", "0.001", "-W", "1", self.target, check=False))
        times = [float(x) * 1000 for x in re.findall(r"time=([\d.]+) ms", out)]
        if times:
            self.row.ping_p50_us, self.row.ping_p99_us = percentile(times, 0.5), percentile(times, 0.99)
        self.row.ping_lost = self.plan.pings - len(times)

    def iperf(self, seconds, streams):
        process = self.lab.popen("ha", "iperf3", "-c", self.target, "-J", "-t", seconds, "-P", streams,
                                 "--connect-timeout", "5000", stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        try:
            out, _ = process.communicate(timeout=seconds * 3 + 15)
        except subprocess.TimeoutExpired:
            self.lab.stop(process)
            raise LabError(f"iperf3 did not end ({streams} streams, {seconds} s)") from None
        finally:
            self.lab.processes.remove(process)
        result = json.loads(out or "{}")
        if "error" in result or not result.get("end", {}).get("sum_received", {}).get("bytes"):
            raise LabError(f"iperf3, {streams} streams: {result.get('error', 'nothing received')}")
        return result["end"]

    def warm_up(self):
        self.iperf(1, 1)

    def tcp1(self):
        def run():
            before = self.lab.underlay_counters()
            end = self.iperf(self.plan.tcp_seconds, 1)
            packets, octets = (b - a for a, b in zip(before, self.lab.underlay_counters()))
            return end, octets / max(packets, 1)

        (end, packet), usage = self.quietly("TCP×1", self.plan.tcp_seconds, run)
        gigabytes = end["sum_received"]["bytes"] / 1e9
        self.row.tcp1.append({
            "gbps": end["sum_received"]["bits_per_second"] / 1e9,
            "retransmits_per_gb": end["sum_sent"].get("retransmits", 0) / gigabytes,
            "tunnel_cpu_s_per_gb": usage.tunnel / gigabytes if self.lab.tunnel_processes else None,
            "machine_cpu_s_per_gb": usage.machine / gigabytes,
            "underlay_bytes_per_packet": packet,
            "foreign_share": usage.foreign_share,
        })

    def tcp4(self):
        end, _ = self.quietly("TCP×4", self.plan.tcp4_seconds, lambda: self.iperf(self.plan.tcp4_seconds, 4))
        self.row.tcp4_gbps = end["sum_received"]["bits_per_second"] / 1e9

    def send(self, size, rate, seconds):
        """Send UDP datagrams: (offered per second, delivered per second, lost share)."""
        before = load.reached(self.sink)
        process = self.lab.popen("ha", sys.executable, load.__file__, "send", self.target, PORT, size, f"{rate:.0f}",
                                 seconds, stdout=subprocess.PIPE, text=True)
        out, _ = process.communicate(timeout=seconds * 3 + 15)
        self.lab.processes.remove(process)
        if process.returncode != 0:
            raise LabError(f"the UDP sender failed with status {process.returncode}")
        sent = json.loads(out)
        after, end = load.reached(self.sink), time.monotonic() + 2
        while time.monotonic() < end:  # what is still queued in the tunnel counts
            time.sleep(0.1)
            last, after = after, load.reached(self.sink)
            if last == after:
                break
        got = after - before
        return sent["sent"] / sent["seconds"], got / sent["seconds"], max(0.0, 1 - got / max(1, sent["sent"]))

    def udp(self, size):
        plan = self.plan
        (offered, delivered, _), _ = self.quietly(
            f"UDP {size} B flood", plan.flood_seconds, lambda: self.send(size, 0, plan.flood_seconds))

        def trial(rate):
            (sent, _, lost), _ = self.quietly(
                f"UDP {size} B at {rate / 1e3:.0f} kpps", plan.trial_seconds,
                lambda: self.send(size, rate, plan.trial_seconds))
            return sent, lost < plan.loss, lost

        # The ceiling is what the sender reached without pacing; a slow tunnel slows it too, so leave some room.
        rate, limited = no_drop_rate(trial, max(delivered, 1000), max(offered, delivered) * 1.5, plan.trials,
                                     hurry=lambda: self.slack(0) < 0)
        for what, value in (("offered_kpps", offered / 1e3), ("flood_kpps", delivered / 1e3),
                            ("ndr_kpps", rate and rate / 1e3), ("ndr_is_generator", limited)):
            setattr(self.row, f"udp{size}_{what}", value)

    def summarise(self):
        row = self.row
        rates = [run["gbps"] for run in row.tcp1]
        middle = sorted(row.tcp1, key=lambda run: run["gbps"])[(len(rates) - 1) // 2]
        row.tcp1_gbps, row.tcp1_min, row.tcp1_max = statistics.median_low(rates), min(rates), max(rates)
        row.tcp1_retransmits_per_gb = middle["retransmits_per_gb"]
        row.tunnel_cpu_s_per_gb = middle["tunnel_cpu_s_per_gb"]
        row.machine_cpu_s_per_gb = middle["machine_cpu_s_per_gb"]
        row.underlay_bytes_per_packet = middle["underlay_bytes_per_packet"]
        peaks = []
        for process in self.lab.tunnel_processes:
            if process.poll() is not None:
                continue
            with open(f"/proc/{process.pid}/status") as file:
                peaks += [int(line.split()[1]) / 1024 for line in file if line.startswith("VmHWM:")]
        row.rss_mib = max(peaks, default=None)
