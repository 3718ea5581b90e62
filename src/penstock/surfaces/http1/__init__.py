"""The data plane's HTTP/1.1 server, lean: the mirror of the upstream client, asyncio protocols over httptools (llhttp).

Owns: framing, keep-alive, pipelining, timeouts, backpressure towards slow readers, and noticing at once that a caller
has gone.
Refuses: routes, keys, JSON; it hands a `Request` to one handler and writes what that handler answers. What is not HTTP
it refuses itself.

Bottom up: `request` is what a handler sees, `heads` checks what the parser read and writes what is answered, `refusal`
is the server's own answer, `protocol` is one connection, `server` the listener.
"""
