"""DIALECTS: the wire languages that two parties speak, one file per API reference page.

Owns: reading a caller's request, rebuilding it for a target, reading what a provider sends back, and the envelope of
an error. What only one vendor speaks stays in that vendor's file in `providers`.
Refuses: sockets, clocks, the environment, logging; knowing who calls or what a call costs.

Everything here is pure and works on bytes: `base` holds the protocol and the JSON rules that every dialect shares,
`sse` the framing of event streams. Same-dialect traffic passes untouched while a `Tee` reads what money and records
need; nothing is decoded that nobody asks for.
"""
