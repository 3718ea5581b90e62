"""DOMAIN: the frozen values that every room speaks in.

Owns: what a usage, a price, a limit, a snapshot, an HTTP message and a usage event *are*.
Refuses: importing anything of ours, any I/O, any clock, any environment, any logging.

Values are `msgspec.Struct`s: cheap to make, and the same shapes travel in the journal,
over the socket between the processes and into the store.
Import from the modules (`penstock.domain.money`, ...); this file exports nothing.
"""
