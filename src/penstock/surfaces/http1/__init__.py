"""The data plane's HTTP/1.1 server, lean: `protocol` is one connection, `server` the listener, `request` what a handler
sees.

Owns: framing, keep-alive, pipelining, timeouts, backpressure towards slow readers, and noticing at once that a caller
has gone. It is the mirror of the upstream client: asyncio protocols over httptools (llhttp).
Refuses: routes, keys, JSON; it hands a `Request` to one handler and writes what that handler answers.
"""
