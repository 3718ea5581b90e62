"""ROUTE: (snapshot, request, health) -> ordered targets. Pure.

Owns: the order in which an alias's targets are tried.
Refuses: I/O, clocks, limits (a target that a limit refuses is the pipeline's to skip), health bookkeeping.

Targets are tried in the order declared, before the first byte has left for the caller.
"""
