"""CALL: the only room that opens sockets to vendors.

Owns: the transport (our HTTP/1.1 client), the in-process player of the simulated provider, the credential that goes
with a request, and the verdict on a vendor's status.
Refuses: being called without an `Admission` (every dispatch is metered), reading content, choosing targets.

`transport` holds the protocol, `http1` the client, `simulated` the player, `call` one attempt.
"""
