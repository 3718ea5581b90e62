"""PROVIDERS: the vendors, one file each, in the order of the vendor's own documentation.

Owns: how a request becomes that vendor's HTTP request (path, authentication, the names of parameters), and what must be
known of its manners (whether closing a stream stops the bill, whether usage must be asked for).
Refuses: sockets, clocks, the environment, logging; translation between dialects, prices, limits.

A provider is a value built from what the operator declared; `registry.provider_for(kind)` finds its file.
"""
