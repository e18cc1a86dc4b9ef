"""What of the comparison can be wrong without a network: the search, the accounting, the report.

    python3 -B -m unittest discover -t scripts/lib -s scripts/lib/peerbench
"""

import json
import subprocess
import sys
import time
import unittest

from peerbench import lab, load, measure, peers, report
from peerbench.measure import Meter, Row, no_drop_rate, percentile


def channel(capacity, sender=1e9):
    """A trial on a tunnel that carries `capacity` per second, with a sender that manages `sender`."""
    def trial(rate):
        offered = min(rate, sender)
        lost = max(0.0, 1 - capacity / offered)
        return offered, lost < 0.005, lost
    return trial


def row(peer, underlay="whole", **values):
    made = Row(peer, underlay, version="1")
    for key, value in values.items():
        setattr(made, key, value)
    return made.as_dict()


class NoDropRate(unittest.TestCase):
    def test_finds_the_capacity_from_either_side(self):
        for first in (20e3, 95e3, 400e3):
            rate, limited = no_drop_rate(channel(100e3), first, 1e6, 14)
            self.assertFalse(limited)
            self.assertAlmostEqual(rate, 100e3, delta=3e3)

    def test_says_when_the_sender_was_the_limit(self):
        self.assertEqual(no_drop_rate(channel(1e6, sender=300e3), 250e3, 450e3, 12), (300e3, True))
        self.assertEqual(no_drop_rate(channel(1e6), 250e3, 300e3, 12), (300e3, True))

    def test_one_hiccup_does_not_count(self):
        calls = []

        def trial(rate):
            calls.append(rate)
            return (rate, False, 0.02) if len(calls) == 1 else channel(100e3)(rate)

        self.assertAlmostEqual(no_drop_rate(trial, 90e3, 1e6, 14)[0], 100e3, delta=3e3)
        self.assertEqual(calls[0], calls[1])

    def test_never_reports_a_rate_that_was_not_carried(self):
        self.assertEqual(no_drop_rate(lambda rate: (rate, False, 0.5), 1e5, 1e6, 8), (None, False))

    def test_hurry_ends_the_search_once_something_was_carried(self):
        rate, _ = no_drop_rate(channel(100e3), 150e3, 1e6, 50, hurry=lambda: True)
        self.assertTrue(70e3 < rate <= 100.6e3)


class Accounting(unittest.TestCase):
    def test_percentile_is_a_measured_value(self):
        values = list(range(1, 101))
        self.assertEqual((percentile(values, 0.5), percentile(values, 0.99), percentile([7], 0.99)), (50, 99, 7))

    def test_own_work_is_not_foreign_and_the_tunnels_is_counted(self):
        busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
        try:
            time.sleep(0.2)
            with Meter([busy.pid]) as meter:
                time.sleep(0.6)
        finally:
            busy.kill()
            busy.wait()
        used = meter.usage
        self.assertGreater(used.tunnel, 0.05)
        self.assertGreaterEqual(used.machine + 0.05, used.tunnel)
        self.assertLess(used.foreign_share * used.wall * measure.CPUS, used.wall * measure.CPUS - used.tunnel + 0.2)

    def test_the_sink_counts_every_datagram(self):
        sink = subprocess.Popen([sys.executable, "-B", load.__file__, "sink", "45999"], stdout=subprocess.PIPE, text=True)
        try:
            self.assertEqual(sink.stdout.readline().strip(), "ready")
            for address in ("127.0.0.1", "::1"):
                before = load.reached(sink.pid)
                sent = load.send(address, 45999, 64, 20000, 0.3)
                self.assertGreater(sent["sent"], 0)
                # Others on this machine may lose some, too.
                self.assertGreaterEqual(load.reached(sink.pid) - before, sent["sent"])
        finally:
            sink.kill()
            sink.communicate()


class Report(unittest.TestCase):
    def verdicts(self, rows):
        return {check.name: check.verdict for check in report.checks(rows)}

    def test_targets_compare_rows_of_this_run(self):
        run = {"retransmits_per_gb": 3.0}
        rows = [
            row("none", tcp1_gbps=40.0, tcp1=[run]),
            row("vxlan", tcp1_gbps=40.0),
            row("fastd", tcp1_gbps=1.7, udp64_ndr_kpps=100.0, ping_p50_us=60.0),
            row("eidolon", tcp1_gbps=16.0, tcp1_min=15.0, tcp4_gbps=15.5, udp64_ndr_kpps=310.0, ping_p50_us=55.0,
                tunnel_cpu_s_per_gb=0.9, tcp1=[run], tcp1_retransmits_per_gb=2.0),
        ]
        got = self.verdicts(rows)
        self.assertEqual(got["TCP×1 against kernel VXLAN"], "pass")  # 0.40
        self.assertEqual(got["TCP×1 against fastd null"], "pass")  # 9.4
        self.assertEqual(got["no-drop rate at 64 B against fastd null"], "aim")  # 3.1
        self.assertEqual(got["ping p50 against fastd null"], "FAIL")  # 0.92
        self.assertEqual(got["CPU s/GB, tunnel processes"], "pass")
        self.assertEqual(got["TCP×4 against TCP×1"], "pass")
        self.assertEqual(got["TCP retransmits per GB"], "pass")
        self.assertEqual(got["TCP×1 against kernel VXLAN, wire"], "not measured")
        self.assertEqual(got["plain mode TCP×1 against fastd null"], "not measured")

    def test_more_retransmits_than_without_a_tunnel_fail(self):
        rows = [row("none", tcp1=[{"retransmits_per_gb": 0.0}]),
                row("eidolon", tcp1=[{}], tcp1_retransmits_per_gb=5.0)]
        self.assertEqual(self.verdicts(rows)["TCP retransmits per GB"], "FAIL")

    def test_a_skipped_row_says_why_and_has_no_figures(self):
        rows = [row("none", tcp1_gbps=30.0), row("boringtun", skipped=True, problem="no boringtun-cli")]
        text = report.table(rows, 0.005)
        self.assertIn("boringtun: skipped: no boringtun-cli", text)
        self.assertEqual(sum(line.startswith("boringtun ") for line in text.splitlines()), 0)
        lines = report.tsv(rows).splitlines()
        self.assertEqual([line.count("\t") for line in lines], [len(report.TSV_KEYS) - 1] * 3)
        self.assertEqual(dict(zip(report.TSV_KEYS, lines[2].split("\t")))["problem"], "no boringtun-cli")
        self.assertEqual(json.loads(report.as_json({"a": 1}, rows))["rows"], rows)

    def test_nothing_measured_reports_without_a_figure(self):
        self.assertEqual(set(self.verdicts([])) and set(self.verdicts([]).values()), {"not measured"})
        self.assertIn("not measured", report.targets([], 0.1))

    def test_noise_and_a_sender_at_its_limit_are_pointed_out(self):
        rows = [row("fastd", udp64_ndr_kpps=100.0, tcp1_gbps=1.0, noise=0.3),
                row("eidolon", udp64_ndr_kpps=300.0, tcp1_gbps=9.0, udp64_ndr_is_generator=True, noise=0.02)]
        text = report.targets(rows, 0.1)
        self.assertEqual([line.split()[0] for line in text.splitlines() if "sender was the limit of eidolon" in line], ["no-drop"])
        self.assertTrue(text.endswith("take with care: fastd."))


class Names(unittest.TestCase):
    def test_addresses_lie_in_their_prefixes(self):
        import ipaddress
        for (family, site), prefix in lab.EID_PREFIX.items():
            for last in (1, 2):
                self.assertIn(ipaddress.ip_address(lab.host(family, site, last)), ipaddress.ip_network(prefix))

    def test_every_row_of_the_second_half_is_a_peer(self):
        self.assertLessEqual(set(peers.WIRE_PEERS), set(peers.PEERS))


if __name__ == "__main__":
    unittest.main()
