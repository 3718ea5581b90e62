"""Deprecation: an alias that is on its way out, and the one that takes its place."""

from email.utils import formatdate

from penstock.admission.admit import refuse_killed
from penstock.domain.exchange import Deprecation, Exchange
from penstock.domain.snapshot import Alias, Snapshot

MAX_STEPS = 32
"""Replacements of replacements that are followed; `control` refuses circles."""


def take_replacement(snapshot: Snapshot, exchange: Exchange) -> None:
    """Serves the call by what stands in the place of its alias, from that one's end on, and notes what its caller is to
    be told. Raises `Killed` when the replacement is stopped."""
    asked = exchange.alias
    if asked is None or not asked.replaced_by:
        return
    exchange.alias, exchange.deprecation = follow(snapshot, asked, exchange.started_at / 1e9)
    if exchange.deprecation is None:
        return
    exchange.decision |= decision(exchange.deprecation)
    if exchange.deprecation.is_over:
        exchange.dims |= {"model": exchange.alias.name, "replaced": asked.name}
        refuse_killed(snapshot, exchange.dims)


def follow(snapshot: Snapshot, alias: Alias, now_s: float) -> tuple[Alias, Deprecation | None]:
    """The alias that serves a call for `alias` at this moment, and what its caller is to be told, if anything. A key
    that may use the old name may go on: the operator has decided what stands behind it."""
    serving = alias
    for _ in range(MAX_STEPS):
        following = snapshot.aliases.get(serving.replaced_by) if _has_come(serving.end_at, now_s) else None
        if following is None:
            break
        serving = following
    if serving is alias and not _has_come(alias.warn_at, now_s):
        return alias, None
    replaced_by = alias.replaced_by if serving is alias else serving.name
    since = now_s if alias.warn_at is None else alias.warn_at
    return serving, Deprecation(alias.name, replaced_by, since, alias.end_at, serving is not alias)


def headers(deprecation: Deprecation) -> list[tuple[bytes, bytes]]:
    """`deprecation` (RFC 9745: when it began), `sunset` (RFC 8594: when it ends or ended) and what to use instead."""
    told = [
        (b"deprecation", f"@{int(deprecation.since)}".encode()),
        (b"x-penstock-replaced-by", deprecation.replaced_by.encode()),
    ]
    if deprecation.ends_at is not None:
        told.append((b"sunset", formatdate(deprecation.ends_at, usegmt=True).encode()))
    return told


def decision(deprecation: Deprecation) -> dict[str, str | bool]:
    """What the call's record says of it."""
    return {
        "deprecated": deprecation.alias,
        "replaced_by": deprecation.replaced_by,
        "replaced": deprecation.is_over,
    }


def _has_come(moment: float | None, now_s: float) -> bool:
    return moment is not None and moment <= now_s
