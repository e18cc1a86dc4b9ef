"""Rows to text: the table, TSV, JSON, and the ratios with their targets. Rows are dicts, as measure.Row.as_dict makes
them and as a JSON file of an earlier run has them."""

import json

# column heading, key, format
COLUMNS = [
    ("TCP×1 Gb/s", "tcp1_gbps", "{:.2f}"),
    ("min", "tcp1_min", "{:.2f}"),
    ("max", "tcp1_max", "{:.2f}"),
    ("retr/GB", "tcp1_retransmits_per_gb", "{:.1f}"),
    ("TCP×4", "tcp4_gbps", "{:.2f}"),
    ("64 B flood kpps", "udp64_flood_kpps", "{:.0f}"),
    ("no-drop", "udp64_ndr_kpps", "{:.0f}"),
    ("1400 B flood", "udp1400_flood_kpps", "{:.0f}"),
    ("no-drop", "udp1400_ndr_kpps", "{:.0f}"),
    ("ping p50 µs", "ping_p50_us", "{:.0f}"),
    ("p99", "ping_p99_us", "{:.0f}"),
    ("lost", "ping_lost", "{}"),
    ("CPU s/GB tunnel", "tunnel_cpu_s_per_gb", "{:.2f}"),
    ("machine", "machine_cpu_s_per_gb", "{:.2f}"),
    ("RSS MiB", "rss_mib", "{:.1f}"),
    ("B/packet", "underlay_bytes_per_packet", "{:.0f}"),
    ("noise", "noise", "{:.0%}"),
]
TSV_KEYS = ["peer", "underlay", "tcp1_gbps", "tcp1_min", "tcp1_max", "tcp1_retransmits_per_gb", "tcp4_gbps",
            "udp64_offered_kpps", "udp64_flood_kpps", "udp64_ndr_kpps", "udp64_ndr_is_generator",
            "udp1400_offered_kpps", "udp1400_flood_kpps", "udp1400_ndr_kpps", "udp1400_ndr_is_generator",
            "ping_p50_us", "ping_p99_us", "ping_lost", "tunnel_cpu_s_per_gb", "machine_cpu_s_per_gb", "rss_mib",
            "underlay_bytes_per_packet", "noise", "repeats", "seconds", "version", "problem"]
LEGEND = """\
TCP×1: one stream, the median run; TCP×4: four. retr/GB: TCP retransmissions per 10^9 bytes. flood: datagrams that
arrived while the sender went as fast as it could; no-drop: highest rate with less than {loss:.1%} lost ('+': the sender
was the limit). CPU s/GB: seconds of CPU time per 10^9 bytes of TCP×1, of both tunnel processes and of the whole
machine. RSS: the larger tunnel process at its peak. B/packet: mean packet on the underlay during TCP×1. noise: largest
share of the CPUs that other programs used during a measurement."""


def label(row):
    """How a row is called where both kinds of underlay appear."""
    return row["peer"] if row["underlay"] == "whole" else f"{row['peer']} (wire)"


def table(rows, loss):
    """The rows as aligned text with a legend."""
    lines = [["peer", *(heading for heading, _, _ in COLUMNS)]]
    notes = []
    for row in rows:
        cells = [label(row)]
        for _, key, form in COLUMNS:
            value = row[key]
            cell = "–" if value is None else form.format(value)
            if key.endswith("ndr_kpps") and row[key.replace("kpps", "is_generator")]:
                cell += "+"
            cells.append(cell)
        if row["problem"]:
            notes.append(f"{label(row)}: {'skipped' if row['skipped'] else 'FAILED'}: {row['problem']}")
        if not row["skipped"]:
            lines.append(cells)
    widths = [max(map(len, column)) for column in zip(*lines)]
    text = "\n".join("  ".join([line[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(line[1:], widths[1:]))]).rstrip()
                     for line in lines)
    versions = "\n".join(f"  {label(row)}: {row['version']}" for row in rows if not row["skipped"])
    return "\n\n".join(filter(None, [text, LEGEND.format(loss=loss), "Measured:\n" + versions, "\n".join(notes)]))


def tsv(rows):
    """The rows as tab-separated values with a heading; nothing where nothing was measured."""
    def cell(value):
        if value is None:
            return ""
        if isinstance(value, bool):
            return str(int(value))
        return f"{value:.4g}" if isinstance(value, float) else str(value).replace("\t", " ").replace("\n", " ")

    return "".join("\t".join(cells) + "\n" for cells in [TSV_KEYS, *([cell(row[key]) for key in TSV_KEYS] for row in rows)])


def as_json(about, rows):
    """Everything, raw runs included."""
    return json.dumps({"about": about, "rows": rows}, indent=1, ensure_ascii=False) + "\n"


class Check:
    """One figure with its target: value against `least` (must) and `aim`; `below`: smaller is better."""

    def __init__(self, name, value, least, aim, below=False, missing="", bound=""):
        self.name, self.value, self.least, self.aim, self.below = name, value, least, aim, below
        self.missing, self.bound = missing, bound

    def reaches(self, target):
        return self.value <= target if self.below else self.value >= target

    @property
    def verdict(self):
        """aim, pass, FAIL or not measured."""
        if self.value is None:
            return "not measured"
        if self.aim is not None and self.reaches(self.aim):
            return "aim"
        return "pass" if self.least is None or self.reaches(self.least) else "FAIL"


def checks(rows):
    """The figures by which the data plane is judged, as ratios between rows of this one run."""
    by = {(row["peer"], row["underlay"]): row for row in rows if not row["skipped"]}

    def get(peer, key, underlay="whole"):
        return by.get((peer, underlay), {}).get(key)

    def ratio(name, key, peer, other, least, aim, below=False, underlay="whole"):
        one, two = get(peer, key, underlay), get(other, key, underlay)
        lacks = [f"{p}{' (wire)' if underlay == 'wire' else ''}" for p, v in ((peer, one), (other, two)) if v is None]
        bound = ""
        if not lacks and key.endswith("ndr_kpps"):
            limited = [p for p in (peer, other) if get(p, key.replace("kpps", "is_generator"), underlay)]
            bound = f"the sender was the limit of {' and '.join(limited)}" if limited else ""
        value = one / two if not lacks and two else None
        return Check(name, value, least, aim, below, f"lacks {' and '.join(lacks)}" if lacks else "", bound)

    result = [
        ratio("TCP×1 against kernel VXLAN", "tcp1_gbps", "eidolon", "vxlan", 0.38, 0.5),
        ratio("TCP×1 against kernel VXLAN, wire", "tcp1_gbps", "eidolon", "vxlan", 0.6, 0.8, underlay="wire"),
        ratio("TCP×1 against fastd null", "tcp1_gbps", "eidolon", "fastd", 7, 10),
        ratio("TCP×1 against wireguard-go", "tcp1_gbps", "eidolon", "wireguard-go", None, 4),
        ratio("no-drop rate at 64 B against fastd null", "udp64_ndr_kpps", "eidolon", "fastd", 2, 3),
        ratio("ping p50 against fastd null", "ping_p50_us", "eidolon", "fastd", 0.8, 0.5, below=True),
        ratio("plain mode TCP×1 against fastd null", "tcp1_gbps", "eidolon-plain", "fastd", 1.0, 1.5),
    ]
    cpu = get("eidolon", "tunnel_cpu_s_per_gb")
    result.append(Check("CPU s/GB, tunnel processes", cpu, 1.1, 0.7, below=True, missing="lacks eidolon"))
    one, four = get("eidolon", "tcp1_gbps"), get("eidolon", "tcp4_gbps")
    # Both are medians or single runs of a few seconds: the spread of the TCP×1 runs is what "no slower" can mean.
    slowest = get("eidolon", "tcp1_min")
    result.append(Check("TCP×4 against TCP×1", four / one if one and four else None,
                        slowest / one if one and slowest else None, None, missing="lacks eidolon",
                        bound="at least: the slowest TCP×1 run against their median"))
    for underlay in ("whole", "wire"):
        plain, tunnel = by.get(("none", underlay)), by.get(("eidolon", underlay))
        wire = ", wire" if underlay == "wire" else ""
        if plain and tunnel and plain["tcp1"] and tunnel["tcp1"]:
            # As without a tunnel: not above the worst of its runs, where one in 10^9 bytes is no difference.
            worst = max(1.0, *(run["retransmits_per_gb"] for run in plain["tcp1"]))
            result.append(Check(f"TCP retransmits per GB{wire}", tunnel["tcp1_retransmits_per_gb"], worst, None, below=True,
                                bound="at most: the worst run without a tunnel, or 1"))
        else:
            result.append(Check(f"TCP retransmits per GB{wire}", None, None, None, below=True,
                                missing=f"lacks {'none' if not plain else 'eidolon'}{' (wire)' if wire else ''}"))
    return result


def targets(rows, quiet):
    """The checks as text, and which rows to distrust as others used more than a share `quiet` of the CPUs."""
    def number(value):
        return "–" if value is None else f"{value:.2f}"

    lines = [["figure", "measured", "target", "aim", "", ""]]
    for check in checks(rows):
        sign = "≤ " if check.below else "≥ "
        lines.append([check.name, number(check.value), sign + number(check.least) if check.least is not None else "–",
                      sign + number(check.aim) if check.aim is not None else "–", check.verdict,
                      check.missing if check.value is None else check.bound])
    widths = [max(map(len, column)) for column in zip(*lines)]
    text = "\n".join("  ".join([line[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(line[1:4], widths[1:4])),
                                line[4].ljust(widths[4]), line[5]]).rstrip() for line in lines)
    if noisy := [label(row) for row in rows if row["noise"] > quiet]:
        text += f"\n\nNot on a quiet machine (noise above {quiet:.0%}), so take with care: {', '.join(noisy)}."
    return text
