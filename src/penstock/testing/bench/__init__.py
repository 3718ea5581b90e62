"""BENCH: what the gateway costs, measured beside what else can be had.

Owns: an upstream and a load generator of its own (each a process, so that only the gateway is in the figures), the
gateways' configuration for a fair comparison, CPU time and memory of whole process trees as the operating system
counts them, and the report. Rounds of the contenders are interleaved and compared within a round, because machines
drift. `python -m penstock.testing.bench --help` runs it, and so does `penstock bench`.
Refuses: reaching into the gateway. It is started like any operator would start it and seen from outside only.
Exports nothing.
"""
