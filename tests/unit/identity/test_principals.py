"""Principals that are kept ready: never older than the world, and never longer than their keys."""

import pytest
from msgspec import structs

from penstock.domain.snapshot import Snapshot
from penstock.domain.tenancy import Key, Team
from penstock.errors import InvalidApiKey
from penstock.identity import authenticate
from penstock.identity.authenticate import Principals, principal_of

NOW = 1_800_000_000.0


def _world(*keys: Key, team: str = "acme") -> Snapshot:
    return Snapshot(keys={key.name: key for key in keys}, teams={"growth": Team("growth", organisation=team)})


def test_a_principal_is_composed_once_for_a_snapshot() -> None:
    key = Key("key_1", "ci", "", team="growth")
    world, principals = _world(key), Principals()
    first = principals.of(world, key, NOW)
    assert first == principal_of(world, key, NOW)
    assert principals.of(world, key, NOW + 3600) is first


def test_another_snapshot_is_asked_anew() -> None:
    key = Key("key_1", "ci", "", team="growth")
    principals = Principals()
    assert principals.of(_world(key), key, NOW).organisation == "acme"
    assert principals.of(_world(key, team="umbrella"), key, NOW).organisation == "umbrella"


@pytest.mark.parametrize("end", ["revoked_at", "expires_at"])
@pytest.mark.parametrize("whose", ["ci", "top"])
def test_no_principal_outlives_its_key_or_one_above_it(end: str, whose: str) -> None:
    keys = {key.name: key for key in (Key("key_0", "top", ""), Key("key_1", "ci", "", parent="top"))}
    keys[whose] = structs.replace(keys[whose], **{end: NOW + 1})
    world, principals = _world(*keys.values()), Principals()
    assert principals.of(world, keys["ci"], NOW).ancestors == ("top",)
    with pytest.raises(InvalidApiKey):
        principals.of(world, keys["ci"], NOW + 1)
    assert principals.of(world, keys["ci"], NOW).ancestors == ("top",)  # a clock that was set back


def test_they_take_no_more_room_than_was_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(authenticate, "MAX_KNOWN", 3)
    keys = [Key(f"key_{number}", f"key-{number}", "") for number in range(10)]
    world, principals = _world(*keys), Principals()
    for key in keys:
        assert principals.of(world, key, NOW).key == key.name
    assert len(principals._known) <= 3
