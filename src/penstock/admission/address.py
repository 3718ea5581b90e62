"""From where a call comes: the peer of the connection, or whom declared proxies before it name.

Source: `X-Forwarded-For` as MDN and RFC 7239 section 5.2 describe it: each proxy appends the address that it was called
from. So only what trusted proxies have appended can be believed, which is read from the right: the address is that of
the first hop that is not a trusted proxy. What stands left of it anybody can have written.
"""

from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from penstock.domain.tenancy import Principal
from penstock.errors import NotPermitted

HEADER = "x-forwarded-for"

Address = IPv4Address | IPv6Address


def refuse_address(principal: Principal, peer: str, forwarded_for: str | None, trusted: Sequence[str]) -> None:
    """Raises `NotPermitted` where the principal may not call from this address. `peer`: of the connection;
    `forwarded_for`: the header, as it came; `trusted`: the networks of proxies."""
    bounds = [rights.cidrs for rights in principal.rights if rights.cidrs]
    if not bounds:
        return
    address = client_address(peer, forwarded_for, trusted)
    if address is None or not all(is_within(address, networks) for networks in bounds):
        raise NotPermitted(f"The API key '{principal.key}' may not be used from this address.")


def client_address(peer: str, forwarded_for: str | None, trusted: Sequence[str]) -> Address | None:
    """The address of the first hop, from the peer on, that is not a trusted proxy; where all are, of the farthest.
    None when a hop that a trusted proxy names is no address."""
    address = _read(peer)
    hops = forwarded_for.split(",") if forwarded_for and trusted else []
    while address is not None and hops and is_within(address, trusted):
        address = _read(hops.pop())
    return address


def is_within(address: Address, networks: Sequence[str]) -> bool:
    return any(address in _network(network) for network in networks)


def _read(text: str) -> Address | None:
    """An address, with a port or without, as proxies write it. One of IPv4 that is mapped into IPv6 is of IPv4."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


@lru_cache(maxsize=4096)
def _network(text: str) -> IPv4Network | IPv6Network:
    return ip_network(text)
