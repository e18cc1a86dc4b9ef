"""The parts of scripts/bench-peers, each with one thing to know.

lab      the network: namespaces, links, processes, and their removal
peers    the tunnels that are compared: how each is started
load     UDP load, run as a process of its own inside a namespace
measure  what is measured on a running tunnel, and how noise is kept out
report   rows to table, TSV and JSON, and the ratios with their targets
plot     rows to an SVG bar chart (needs matplotlib)
"""
