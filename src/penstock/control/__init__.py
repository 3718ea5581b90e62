"""CONTROL: the one door for change. One file per noun: its rules, its writes, its audit. No HTTP.

Owns: teams, projects, users, keys, providers, models, limits, kills, the declared configuration, the audit log, and the
snapshot that workers live from. Every change runs through `door.Door.change`: one transaction that checks, writes and
audits; then the difference to the last snapshot is published. Whatever presents it (admin API, console, command line)
adds nothing to the rules.
Refuses: a change that leaves a dangling reference, a change of what the configuration file declares (`Declared`), and
keeping a secret: a virtual key is its digest, a provider's credential is a name.

Import from the modules (`penstock.control.keys`, ...); this file exports nothing.
"""
