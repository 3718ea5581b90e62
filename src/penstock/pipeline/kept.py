"""What a call goes on with that its provider keeps: whether it is the caller's, and where it lies.

Whoever may use a provider's credential could otherwise go on with what any tenant has left under it. Here is found out,
before anything is held, that all that the call names is its own project's; it then goes to the provider that keeps it,
with the same credential. What nobody here is known to own is refused as what is another's: in the same words.
"""

from penstock.admission.admit import find_alias, may_use, refuse_killed
from penstock.dialects.base import Call
from penstock.domain.exchange import Exchange
from penstock.domain.kept import Keeper, is_id, owner_of
from penstock.domain.money import RateCard
from penstock.domain.snapshot import Alias, Credential, Deployment, Provider, Snapshot
from penstock.domain.tenancy import Principal
from penstock.errors import InvalidRequest, NotFound, NotPermitted, UnsupportedByTarget
from penstock.pipeline.gateway import Gateway
from penstock.providers.openai import CONVERSATIONS
from penstock.providers.registry import provider_for

MAX_NAMED = 1_000
FREE = RateCard({}, "free of charge")


async def keeper_of(gateway: Gateway, exchange: Exchange, call: Call) -> Keeper | None:
    """Where that lies which the call cannot do without; None where it names only what it could be sent without. Raises
    `NotFound` for what is not the caller's or not known, `StoreUnavailable` when that cannot be found out."""
    assert exchange.principal is not None
    named = dict.fromkeys((*call.refers, *call.mentions))
    if len(named) > MAX_NAMED:
        raise InvalidRequest(f"A request may name at most {MAX_NAMED} things that its provider keeps.", param="input")
    known = await _known(gateway, owner_of(exchange.principal), call)
    keeper: Keeper | None = None
    for id in named:
        found = known.get(id)
        if (found is None and id in call.refers) or (found is not None and not found.is_own):
            raise _unknown(id, call.refers.get(id, "input"))
        if found is None or id not in call.refers:
            continue
        if keeper is not None and _place(keeper) != _place(found):
            raise InvalidRequest(
                "What the request goes on with is kept by different providers, or under different credentials of one. "
                "Send the conversation itself.",
                param=call.refers[id],
            )
        keeper = found
    return keeper


async def _known(gateway: Gateway, owner: str, call: Call) -> dict[str, Keeper]:
    """What is known of all that the call names."""
    needed = [each for each in call.refers if is_id(each)]
    mentioned = {each for each in call.mentions if is_id(each) and each not in call.refers}
    if not needed and not mentioned:
        return {}
    return {each.id: each for each in await gateway.find_kept(owner, needed, mentioned)}


def _place(keeper: Keeper) -> tuple[str, str]:
    return keeper.provider, keeper.credential


def _unknown(id: str, member: str) -> NotFound:
    shown = "".join(c if c.isprintable() else "?" for c in id[:100])
    return NotFound(
        f"There is no '{shown}' among what is kept for this key's project: it was not made through this gateway by a "
        "key of the project, or not to be kept, or it is past its time. Send the conversation itself, without ids.",
        param=member,
    )


async def alias_that_made(gateway: Gateway, exchange: Exchange, call: Call) -> Alias:
    """The model under which that was made of which something is asked, with its keeper as the one target: also when the
    alias has other targets by now, or is gone. Of something new, which goes on with nothing, the one that it is for.
    Raises what `keeper_of` does, `NotPermitted` and `Killed`, and what `_place_for_new` does."""
    keeper = await keeper_of(gateway, exchange, call)
    principal = exchange.principal
    assert principal is not None
    name, target = (keeper.alias, keeper) if keeper is not None else _place_for_new(gateway.snapshot, principal, call)
    exchange.dims["model"] = name
    refuse_killed(gateway.snapshot, exchange.dims)
    if not may_use(principal, name):
        raise NotPermitted(f"The API key '{principal.key}' may not use the model '{name}', which made it.")
    return Alias(name, (Deployment(target.provider, target.model, FREE),))


def _place_for_new(snapshot: Snapshot, principal: Principal, call: Call) -> tuple[str, Deployment]:
    """Where something new is to be kept: with the model that the call names, else where all models lie that the caller
    may use and that can go on with it. Raises `InvalidRequest` where that is not one provider, `UnsupportedByTarget`
    where it is none, and what `find_alias` does."""
    if call.model:
        models = [find_alias(snapshot, principal, call.model)]
    else:
        models = [alias for name, alias in snapshot.aliases.items() if may_use(principal, name)]
    places: dict[str, tuple[str, Deployment]] = {}
    for alias in models:
        for target in alias.targets:
            provider = snapshot.providers.get(target.provider)
            if provider is not None and CONVERSATIONS in provider_for(provider.kind).surfaces(target.model):
                places.setdefault(provider.name, (alias.name, target))
    if not places:
        raise UnsupportedByTarget("No provider of a model that this key may use keeps conversations.", param="model")
    if len(places) > 1 and not call.model:
        raise InvalidRequest(
            "Several providers could keep the conversation: name in 'model' the model that it is for.", param="model"
        )
    return next(iter(places.values()))


async def credential_for(
    gateway: Gateway, exchange: Exchange, call: Call, provider: Provider, chosen: Credential | None
) -> Credential | None:
    """The credential under which is kept what the call goes on with; `chosen` where it goes on with nothing. Raises
    what `keeper_of` does, and `UnsupportedByTarget` where another provider has it."""
    keeper = await keeper_of(gateway, exchange, call)
    if keeper is None:
        return chosen
    if keeper.provider != provider.name:
        raise UnsupportedByTarget(
            f"What the request goes on with is kept by the provider '{keeper.provider}', where this model has no "
            "target. Use a model of that provider, or send the conversation itself."
        )
    if not keeper.credential and not provider.credentials:
        return None
    credential = gateway.upstream.credentials.named(provider, exchange.dims.get("team", ""), keeper.credential)
    if credential is None:
        raise UnsupportedByTarget(
            "What the request goes on with is kept under a credential of the provider that this call cannot use any "
            "more. Send the conversation itself."
        )
    return credential
