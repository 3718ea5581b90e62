"""TESTING: the shipped kit with which Penstock, and what is built on it, is tested from the outside.

Owns: a real gateway in a folder of its own (`gateway`), and the upstreams it can be put in front of: one that follows
a script (`scripted`), one that replays recorded traffic (`replay`), and one that is the bank statement (`bank`), all
on a small server that can break the protocol on purpose (`wire`); a proxy that fails as networks do (`faults`); what
must be true of the money after any run (`oracles`), and the proofs made of all this (`prove`).
Refuses: mocks. What is started here are real processes, sockets and files; nothing reaches inside the gateway.
Needs nothing beyond the core install. Import from the modules; this file exports nothing.
"""
