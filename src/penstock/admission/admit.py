"""The kill switch, and the scope of a key: surfaces, addresses, models."""

import re
from collections.abc import Iterable, Mapping

from penstock.admission.address import HEADER, refuse_address
from penstock.admission.tags import tags_of
from penstock.domain.exchange import Exchange
from penstock.domain.policy import UNDER
from penstock.domain.snapshot import BREAK_GLASS, Alias, Deployment, Kill, Snapshot
from penstock.domain.tenancy import Principal, Rights
from penstock.errors import Killed, ModelNotFound, NotPermitted

_MODEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@/+-]{0,255}")
"""What a vendor's name for a model can be, where a caller writes one that no operator has declared."""


def dimensions(principal: Principal, tags: Mapping[str, str], model: str) -> dict[str, str]:
    """What limits and kills match on. A dimension without a value is absent; `provider` joins with the target."""
    dims = {**principal.dims, "model": model} if model else dict(principal.dims)
    for name, value in tags.items():
        dims[f"tag:{name}"] = value
    if "customer" in tags:
        dims["customer"] = tags["customer"]
    return dims


def enter(snapshot: Snapshot, exchange: Exchange) -> dict[str, str]:
    """The call's tags, once its principal may call this surface from where it does. Raises `NotPermitted`, and what
    `tags_of` raises."""
    principal = exchange.principal
    assert principal is not None
    for rights in principal.rights:
        if rights.surfaces and exchange.surface not in rights.surfaces:
            raise NotPermitted(f"The API key '{principal.key}' may not be used for '{exchange.surface}'.")
    refuse_address(principal, exchange.peer, exchange.headers.get(HEADER), snapshot.server.trusted_proxies)
    return tags_of(principal, exchange.headers)


def kill_on(kills: Iterable[Kill], dims: Mapping[str, str]) -> Kill | None:
    """The first kill in force that covers these dimensions. A scope with several dimensions needs all of them."""
    return next((kill for kill in kills if covers(kill, dims)), None)


def covers(kill: Kill, dims: Mapping[str, str]) -> bool:
    if "all" in kill.scope:
        return True
    return bool(kill.scope) and all(_has(dims, name, value) for name, value in kill.scope.items())


def _has(dims: Mapping[str, str], name: str, value: str) -> bool:
    """A stop of a model also stops who calls it by the name that another alias replaced, and one of a key those who
    call with a key under it."""
    return (
        dims.get(name) == value
        or (name == "model" and dims.get("replaced") == value)
        or (name == "key" and UNDER + value in dims)
    )


def refuse_killed(snapshot: Snapshot, dims: Mapping[str, str]) -> None:
    """Raises `Killed` when a kill in force covers the call."""
    if snapshot.kills and (kill := kill_on(snapshot.kills.values(), dims)) is not None:
        raise killed(kill)


def killed(kill: Kill) -> Killed:
    if kill.generation == BREAK_GLASS.generation:
        return Killed("Stopped by an operator (break-glass file: everything). Ask them before trying again.")
    scope = ", ".join("everything" if name == "all" else f"{name} {value}" for name, value in kill.scope.items())
    return Killed(f"Stopped by an operator (kill {kill.generation}: {scope}). Ask them before trying again.")


def find_alias(snapshot: Snapshot, principal: Principal, model: str) -> Alias:
    """The alias that `model` names, declared or under a wildcard. Raises `ModelNotFound`, or `NotPermitted` when it
    exists and the caller may not use it. Under a wildcard the one target's price is still to be looked up."""
    alias = snapshot.aliases.get(model) if not model.endswith("/*") else None
    if alias is None:
        provider, slash, name = model.partition("/")
        wildcard = snapshot.aliases.get(f"{provider}/*") if slash and _MODEL.fullmatch(name) else None
        if wildcard is None or provider not in snapshot.providers:
            raise ModelNotFound(
                f"The model '{model}' does not exist here. GET /v1/models lists those that do.", param="model"
            )
        alias = Alias(model, (Deployment(provider, name),), max_output=wildcard.max_output)
    if not may_use(principal, model):
        raise NotPermitted(f"The API key '{principal.key}' may not use the model '{model}'.", param="model")
    return alias


def may_use(principal: Principal, model: str) -> bool:
    """Whether all that bounds the caller admits this model."""
    return all(_admits(rights, model) for rights in principal.rights)


def _admits(rights: Rights, model: str) -> bool:
    return not rights.models or any(
        model == pattern or (pattern.endswith("/*") and model.startswith(pattern[:-1])) for pattern in rights.models
    )
