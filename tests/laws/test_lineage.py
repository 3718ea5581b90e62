"""Laws of keys under keys: a key can do nothing that the keys above it cannot, whatever it says of itself."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from penstock.admission.address import refuse_address
from penstock.admission.admit import covers, dimensions, enter, may_use
from penstock.config.lineage import wider
from penstock.domain.exchange import Exchange
from penstock.domain.policy import Limit
from penstock.domain.snapshot import Kill, Snapshot, with_keys
from penstock.domain.tenancy import Key, Rights
from penstock.errors import GatewayError, InvalidApiKey
from penstock.identity.authenticate import principal_of
from penstock.ledger.ledger import Ledger

MODELS = ("small", "big", "lab/x", "lab/y", "other/z")
NOW = 1_000.0
RIGHTS = st.builds(
    Rights,
    models=st.lists(st.sampled_from(["small", "big", "lab/*", "lab/x", "other/*"]), max_size=2, unique=True).map(tuple),
    tags=st.dictionaries(st.sampled_from(["feature"]), st.sampled_from(["a", "b"]), max_size=1),
    allowed_tags=st.dictionaries(
        st.sampled_from(["feature", "customer"]),
        st.lists(st.sampled_from(["a", "b"]), min_size=1, unique=True).map(tuple),
        max_size=2,
    ),
    surfaces=st.sampled_from([(), ("embeddings",), ("chat.completions",)]),
    cidrs=st.sampled_from([(), ("10.0.0.0/8",), ("10.1.0.0/16",), ("192.168.0.0/16",)]),
)
MOMENTS = st.sampled_from([None, 500.0, 2_000.0])
KEYS = st.builds(Key, st.just(""), st.just(""), st.just(""), rights=RIGHTS, expires_at=MOMENTS, revoked_at=MOMENTS)
LINES = st.lists(KEYS, min_size=2, max_size=4).map(
    lambda keys: [
        structs.replace(key, id=f"id{n}", name=f"key{n}", digest=f"d{n}", parent=f"key{n - 1}" if n else "")
        for n, key in enumerate(keys)
    ]
)
"""Keys that stand under one another, the topmost first."""
CALLS = st.tuples(
    st.sampled_from(MODELS),
    st.sampled_from(["chat.completions", "embeddings"]),
    st.sampled_from(["10.1.2.3", "10.2.0.1", "192.168.0.1", "203.0.113.9"]),
    st.dictionaries(st.sampled_from(["feature", "customer"]), st.sampled_from(["a", "b"])),
)


def _may(snapshot: Snapshot, key: Key, call: Any) -> bool:
    """Whether a call with this key gets past everything that its keys say."""
    model, surface, address, tags = call
    headers = {"x-penstock-tags": ",".join(f"{name}={value}" for name, value in tags.items())} if tags else {}
    exchange = Exchange("req_1", "node", surface, headers, 0)
    exchange.peer = address
    try:
        exchange.principal = principal_of(snapshot, key, NOW)
        enter(snapshot, exchange)
        refuse_address(exchange.principal, address, None, ())
    except GatewayError:
        return False
    return may_use(exchange.principal, model)


@given(LINES, CALLS)
def test_what_a_key_may_do_every_key_above_it_may_do(keys: list[Key], call: Any) -> None:
    snapshot = with_keys(Snapshot(), *keys)
    if call[3].get("feature") is None:
        call = (*call[:3], {**call[3], "feature": "a"})  # else a pin of the lower key would say what nobody said
    allowed = [_may(snapshot, key, call) for key in keys]
    assert allowed == sorted(allowed, reverse=True), "from the topmost down, it gets less"


@given(LINES)
def test_a_key_whose_line_is_broken_or_turns_in_a_circle_lets_nobody_in(keys: list[Key]) -> None:
    (top, *below) = [structs.replace(key, expires_at=None, revoked_at=None) for key in keys]
    for broken in ([*below], [structs.replace(top, parent=below[-1].name), *below]):
        snapshot = with_keys(Snapshot(), *broken)
        try:
            principal_of(snapshot, below[-1], NOW)
        except InvalidApiKey:
            continue
        raise AssertionError("a key without a sound line was taken")


@given(LINES)
def test_a_stop_and_a_limit_of_any_key_above_hold_for_the_lowest(keys: list[Key]) -> None:
    keys = [structs.replace(key, expires_at=None, revoked_at=None) for key in keys]
    dims = dimensions(principal_of(with_keys(Snapshot(), *keys), keys[-1], NOW), {}, "small")
    ledger = Ledger(None, lambda: 0)  # type: ignore[arg-type]
    for key in keys:
        assert covers(Kill(1, {"key": key.name}), dims)
        limit = Limit(key.name, key.name, "requests", 1, match=(("key", key.name),))
        assert ledger.applying({key.name: limit}, dims) == (limit,)
    assert not covers(Kill(1, {"key": "another"}), dims)


@given(LINES, CALLS)
def test_a_key_that_may_be_written_under_another_is_within_what_that_one_may(keys: list[Key], call: Any) -> None:
    above, child = (_alone(key) for key in keys[:2])
    if any(wider(_fields(child), _fields(above))):
        return
    names = set(call[3]) | set(child.rights.tags) | set(above.rights.tags)
    call = (*call[:3], {**dict.fromkeys(names, "a"), **call[3]})
    listed = [name for name in ("models", "surfaces", "cidrs") if not getattr(child.rights, name)]
    if listed or set(above.rights.allowed_tags) - set(child.rights.allowed_tags) - set(child.rights.tags):
        return  # what it leaves open is its parent's
    if set(above.rights.tags) - set(child.rights.tags):
        return
    if _may(with_keys(Snapshot(), child), child, call):
        assert _may(with_keys(Snapshot(), above), above, call)


def _alone(key: Key) -> Key:
    return structs.replace(key, parent="", expires_at=None, revoked_at=None)


def _fields(key: Key) -> dict[str, Any]:
    rights = key.rights
    return {
        "name": key.name,
        **dict.fromkeys(("team", "project", "user"), ""),
        "expires_at": None,
        "models": rights.models,
        "surfaces": rights.surfaces,
        "allowed_cidrs": rights.cidrs,
        "tags": rights.tags,
        "allowed_tags": rights.allowed_tags,
    }
