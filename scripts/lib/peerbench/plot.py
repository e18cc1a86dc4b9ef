"""Rows to an SVG bar chart. Run as a program, as matplotlib may belong to another Python than the one that measures:

    plot.py FILE.svg < rows.json
"""

import json
import sys

PANELS = [
    ("TCP, one stream (Gbit/s)", "tcp1_gbps", True),
    ("CPU time of the tunnel (s per GB)", "tunnel_cpu_s_per_gb", False),
    ("64-byte datagrams without loss (1000/s)", "udp64_ndr_kpps", True),
    ("ping, median round trip (µs)", "ping_p50_us", False),
]
OURS, OTHERS, KERNEL = "#c2410c", "#64748b", "#b6c2d1"


def colour(peer):
    if peer.startswith("eidolon"):
        return OURS
    return KERNEL if peer.startswith(("none", "vxlan")) else OTHERS


def draw(rows, about, path):
    import matplotlib

    matplotlib.use("svg")
    # Text stays text, and equal figures make equal files.
    matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "bench-peers"})
    from matplotlib import pyplot

    rows = [row for row in rows if not row["skipped"]]
    figure, axes = pyplot.subplots(2, 2, figsize=(12, 1.8 + 0.62 * max(4, len(rows))))
    for axis, (title, key, more_is_better) in zip(axes.flat, PANELS):
        shown = [row for row in rows if row[key] is not None]
        labels = [row["peer"] + (" (wire)" if row["underlay"] == "wire" else "") for row in shown]
        values = [row[key] for row in shown]
        bars = axis.barh(range(len(shown)), values, color=[colour(row["peer"]) for row in shown])
        if key == "tcp1_gbps" and shown:
            spread = [[row["tcp1_gbps"] - row["tcp1_min"] for row in shown],
                      [row["tcp1_max"] - row["tcp1_gbps"] for row in shown]]
            axis.errorbar(values, range(len(shown)), xerr=spread, fmt="none", ecolor="#1e293b", capsize=2, lw=1)
        axis.bar_label(bars, [f"{v:.3g}" if v < 100 else f"{v:.0f}" for v in values], padding=6, fontsize=8)
        axis.set_yticks(range(len(shown)), labels)
        axis.invert_yaxis()
        axis.margins(x=0.14)
        axis.set_title(f"{title}, {'more' if more_is_better else 'less'} is better", fontsize=10)
        axis.spines[["top", "right"]].set_visible(False)
    figure.suptitle(f"host – router – core – router – host on one machine: {about['cpus']} × {about['cpu']}, "
                    f"Linux {about['kernel']}, {about['date'][:10]}", fontsize=10)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


if __name__ == "__main__":
    measured = json.load(sys.stdin)
    draw(measured["rows"], measured["about"], sys.argv[1])
