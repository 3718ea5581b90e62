"""What is allowed and probably not meant: warnings about a file that has no fault."""

from collections.abc import Callable, Iterable, Iterator
from ipaddress import ip_address
from typing import NamedTuple

from penstock.config.environment import resolve_secret, vault_name
from penstock.config.settings import Config, DeclaredLimit, DeclaredModel
from penstock.config.values import nanousd, shown
from penstock.domain.money import line_cost_nanousd, usd
from penstock.domain.policy import METERED_UNITS, QUANTUM_TOKENS
from penstock.errors import ConfigError

CALLER_WRITTEN = ("user", "customer")
LARGE_SHARE_PERCENT = 5


class Output(NamedTuple):
    """What one target's output costs, per million tokens, and the most tokens of one answer; None: not known."""

    price_nanousd: int | None
    most: int | None


Outputs = Callable[[DeclaredModel], Iterable[Output]]


def declared_output(model: DeclaredModel) -> list[Output]:
    """As far as the file itself says."""
    return [Output(None if model.price is None else nanousd(model.price.output), model.max_output)]


def advise(config: Config, outputs: Outputs = declared_output) -> list[str]:
    """One sentence per warning, in the order of the file. `outputs`: what is known of an alias's targets."""
    return [
        *_exposed(config),
        *_hasty(config),
        *_unresolved(config),
        *_unbounded_each(config),
        *_coarse_limits(config, outputs),
        *_idle_downgrades(config),
    ]


def _exposed(config: Config) -> Iterator[str]:
    host = config.server.admin.rpartition(":")[0].strip("[]")
    try:
        loopback = ip_address(host).is_loopback
    except ValueError:
        loopback = host == "localhost"
    if not loopback:
        yield f"server.admin: the admin API listens on {host} without TLS; keep it on a loopback or private address"


def _hasty(config: Config) -> Iterator[str]:
    if config.server.box_lost_after_ms < config.stop.freshness_ms and config.store.startswith("postgresql"):
        yield (
            "server.box_lost_after: is shorter than stop.freshness: a box may be charged as lost while its workers "
            "still admit calls"
        )


def _unresolved(config: Config) -> Iterator[str]:
    """References that do not resolve here. `serve` refuses them; a file may be checked where its secrets are not."""
    references = [
        (f"providers.{provider.name}: ", credential.value)
        for provider in config.providers
        for credential in provider.credentials
        if vault_name(credential.value) is None
    ]
    references += [(f"keys.{key.name}: ", key.secret) for key in config.keys if key.secret]
    for place, reference in references:
        try:
            resolve_secret(reference)
        except ConfigError as error:
            yield f"{place}{error}; `serve` needs it"


def _unbounded_each(config: Config) -> Iterator[str]:
    for limit in config.limits:
        caller_written = limit.each in CALLER_WRITTEN or (limit.each or "").startswith("tag:")
        if caller_written and not any(_encloses(other, limit) for other in config.limits):
            yield (
                f"limits.{limit.name}: each {limit.each} is written by callers, and a new value gets a new balance; "
                f"add a limit in {limit.unit} without `each` around it"
            )


def _encloses(outer: DeclaredLimit, inner: DeclaredLimit) -> bool:
    """Whether every call that `inner` counts is counted by `outer` as well, over all values of its `each`."""
    same = outer.each is None and outer.mode != "observe" and outer.unit == inner.unit
    return same and outer.match.items() <= inner.match.items()


def _coarse_limits(config: Config, outputs: Outputs) -> Iterator[str]:
    """Limits of which one hold's output takes a large share: a worst case of a strict one, a stream's quantum of a
    metered one."""
    for limit in config.limits:
        if limit.unit not in METERED_UNITS or limit.mode == "observe":
            continue
        strict = limit.mode == "strict"
        counted = [model for model in config.models if _may_count(limit, model)]
        most, name = max([(_held_output(limit, outputs(model)), model.name) for model in counted], default=(0, ""))
        if most * 100 > limit.amount * LARGE_SHARE_PERCENT:
            call = "call without a cap of its own" if strict else f"stream ({QUANTUM_TOKENS} tokens at a time)"
            cure = "lower its max_output, or make the limit metered if its callers stream"
            money = limit.unit == "usd"
            share = f"{usd(most)} of {usd(limit.amount)} USD" if money else f"{most} of {limit.amount} {limit.unit}"
            yield (
                f"limits.{limit.name}: one {call} to {shown(name)} holds {share}, more than {LARGE_SHARE_PERCENT} %; "
                f"{cure if strict else 'raise the amount, or expect streams to be cut'}"
            )


def _idle_downgrades(config: Config) -> Iterator[str]:
    """Downgrades that cannot happen, or mostly come to nothing."""
    for limit in config.limits:
        if not limit.on_exceeded:
            continue
        if limit.mode == "observe":
            yield f"limits.{limit.name}: an observing limit denies nothing, so on_exceeded means nothing"
        elif limit.each != "model" and _counts_model(limit, limit.on_exceeded, config):
            yield (
                f"limits.{limit.name}: it counts {shown(limit.on_exceeded)} as well, so a downgrade helps only where "
                "that one's worst case is smaller and still fits; match the model that is to be replaced"
            )


def _counts_model(limit: DeclaredLimit, name: str, config: Config) -> bool:
    """Whether calls for the alias or the undeclared model `name` can count on `limit`."""
    model = next((model for model in config.models if model.name == name), None)
    if model is not None:
        return _may_count(limit, model)
    return "model" not in limit.match and limit.match.get("provider") in {None, name.partition("/")[0]}


def _held_output(limit: DeclaredLimit, outputs: Iterable[Output]) -> int:
    """The most output that is held for one call, in the limit's unit, as far as it is known."""
    held = [0]
    for output in outputs:
        tokens = output.most if limit.mode == "strict" else min(QUANTUM_TOKENS, output.most or QUANTUM_TOKENS)
        if tokens is not None and limit.unit != "usd":
            held.append(tokens)
        elif tokens is not None and output.price_nanousd is not None:
            held.append(line_cost_nanousd(tokens, output.price_nanousd))
    return max(held)


def _may_count(limit: DeclaredLimit, model: DeclaredModel) -> bool:
    provider, name = limit.match.get("provider"), limit.match.get("model")
    return name in {None, model.name} and any(provider in {None, target.provider} for target in model.targets)
