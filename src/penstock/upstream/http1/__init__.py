"""HTTP/1.1 to vendors, over asyncio or uvloop sockets and the llhttp parser.

Owns: keep-alive pools per origin, TLS with verification, deadlines, backpressure, the sockets' end.
Refuses: redirects, cookies, proxies, pipelining, HTTP/2 and anything that knows what a body means.

Bottom up: `request` writes a head, `inflate` undoes a content coding, `response` parses one answer,
`connection` is one socket, `pool` the sockets of one origin, `client` the transport.
"""

from penstock.upstream.http1.client import Http1Transport
from penstock.upstream.http1.pool import TransportSettings

__all__ = ["Http1Transport", "TransportSettings"]
