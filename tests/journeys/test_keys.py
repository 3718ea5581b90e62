"""What a key is held to: surfaces, addresses, the key above it; and how its secret is exchanged."""

from collections.abc import Callable
from typing import Any

from penstock.testing.lab import Lab, chat
from penstock.testing.wire import eventually


def _made(lab: Lab, name: str, **fields: Any) -> str:
    """The secret of a new key."""
    answer = lab.gateway.admin("POST", "/admin/v1/keys", {"name": name, **fields})
    assert answer.status == 201, answer.body
    return str(answer.json()["secret"])


def _status(lab: Lab, secret: str, headers: dict[str, str] | None = None, **more: Any) -> tuple[int, str]:
    answer = lab.gateway.caller(secret).post("/v1/chat/completions", chat(**more), headers or {})
    return answer.status, "" if answer.status == 200 else str(answer.error["code"])


def test_a_key_is_held_to_its_surfaces(lab: Lab) -> None:
    secret = _made(lab, "embedder", team="other", surfaces=["embeddings"])
    assert _status(lab, secret) == (403, "not_permitted")
    asked = {"model": "embed", "input": "water"}
    assert lab.gateway.caller(secret).post("/v1/embeddings", asked).status == 200


def test_a_key_is_held_to_its_networks_and_strangers_headers_mean_nothing(lab: Lab) -> None:
    near = _made(lab, "near", team="other", allowed_cidrs=["127.0.0.0/8"])
    far = _made(lab, "far", team="other", allowed_cidrs=["10.0.0.0/8"])
    assert _status(lab, near) == (200, "")
    assert _status(lab, far) == (403, "not_permitted")
    assert _status(lab, far, {"x-forwarded-for": "10.1.2.3"}) == (403, "not_permitted")
    models = lab.gateway.caller(far).get("/v1/models")
    assert models.status == 403, "what is looked up is held to them as well"
    told = lab.gateway.admin("GET", "/admin/v1/usage?by=key").json()["rows"]
    assert [row["errors"] for row in told if row["key"] == "far"] == [2], "an operator sees who tried"


def test_behind_declared_proxies_the_address_is_the_one_that_they_saw(own_lab: Callable[..., Lab]) -> None:
    keys = {"office": {"team": "other", "allowed_cidrs": ["10.0.0.0/8"]}}
    lab = own_lab(keys, [], server={"trusted_proxies": ["127.0.0.1/32", "192.168.0.0/16"]})
    secret = lab.secrets["office"]
    for header, status in {
        "10.1.2.3": 200,
        "203.0.113.9": 403,
        "10.1.2.3, 203.0.113.9": 403,
        "203.0.113.9, 10.1.2.3, 192.168.0.1": 200,
        "10.1.2.3, nonsense": 403,
    }.items():
        assert _status(lab, secret, {"x-forwarded-for": header})[0] == status, header
    assert _status(lab, secret)[0] == 403, "the proxy itself calls from none of the key's networks"


def test_a_key_under_another_can_do_no_more_and_is_counted_with_it(lab: Lab) -> None:
    top = _made(lab, "top", team="other", models=["lab-model"])
    wider = {"name": "wider", "parent": "top", "models": ["other-model"]}
    refused = lab.gateway.admin("POST", "/admin/v1/keys", wider)
    assert refused.status == 422 and refused.json()["errors"][0]["place"] == "models[0]"
    below = _made(lab, "below", parent="top")
    limit = {"name": "top-calls", "match": {"key": "top"}, "unit": "requests", "amount": 2, "per": "day"}
    assert lab.gateway.admin("POST", "/admin/v1/limits", limit).status == 201
    assert _status(lab, below, model="other-model") == (403, "not_permitted")
    assert _status(lab, below) == (200, "")
    assert _status(lab, top) == (200, "")
    assert _status(lab, below)[0] == 429, "its calls are charged to the key above as well"
    assert lab.gateway.settled("top-calls") == 2


def test_a_stop_of_a_key_and_its_end_reach_the_keys_under_it(lab: Lab) -> None:
    _made(lab, "leader", team="other")
    below = _made(lab, "follower", parent="leader")
    lowest = _made(lab, "lowest", parent="follower")
    stopped = lab.gateway.run("kill", "--key", "leader", "--reason", "a leak", "--json")
    assert stopped.returncode == 0, stopped.stderr
    assert _status(lab, lowest) == _status(lab, below) == (403, "killed")
    (kill,) = [it for it in lab.gateway.admin("GET", "/admin/v1/kills").json()["items"] if it["reason"] == "a leak"]
    assert lab.gateway.run("kill", "lift", str(kill["generation"]), "--reason", "found").returncode == 0
    assert _status(lab, lowest) == (200, "")
    used = lab.gateway.admin("DELETE", "/admin/v1/keys/leader")
    assert used.status == 409 and "follower" in used.json()["detail"]
    assert lab.gateway.run("key", "revoke", "leader").returncode == 0
    eventually(lambda: _status(lab, lowest) == (401, "invalid_api_key"), 2, "the lowest key ends with the topmost")


def test_a_rotated_secret_is_good_for_its_grace_and_no_longer(lab: Lab) -> None:
    old = _made(lab, "rotating", team="other")
    done = lab.gateway.run("key", "rotate", "rotating", "--grace", "3s", "--json")
    assert done.returncode == 0, done.stderr
    new = done.stdout.split('"secret": "')[1].split('"')[0]
    assert new != old and _status(lab, new) == _status(lab, old) == (200, "")
    shown = lab.gateway.admin("GET", "/admin/v1/keys/rotating")
    assert shown.json()["old_secret_until"] and new not in shown.body.decode()
    eventually(lambda: _status(lab, old) == (401, "invalid_api_key"), 8, "the grace is over")
    assert _status(lab, new) == (200, "")


def test_without_a_grace_the_old_secret_is_refused_at_once(lab: Lab) -> None:
    old = _made(lab, "leaked", team="other")
    answer = lab.gateway.admin("POST", "/admin/v1/keys/leaked/rotate", {})
    assert answer.status == 200
    assert _status(lab, old) == (401, "invalid_api_key")
    assert _status(lab, answer.json()["secret"]) == (200, "")
    declared = lab.gateway.run("key", "rotate", "ci")
    assert declared.returncode == 1 and "configuration file" in declared.stderr


def test_when_a_key_was_used_last_is_shown_a_little_later(lab: Lab) -> None:
    secret = _made(lab, "sometimes", team="other")

    def last_used() -> Any:
        return lab.gateway.admin("GET", "/admin/v1/keys/sometimes").json()["last_used_at"]

    assert last_used() is None
    answer = lab.gateway.caller(secret).post("/v1/chat/completions", chat())
    began = lab.gateway.receipt(answer.request_id)["started_at"]
    assert eventually(last_used, 20, "the use is noted") == began
    audited = lab.gateway.admin("GET", "/admin/v1/audit?kind=key&name=sometimes").json()["items"]
    assert [record["action"] for record in audited] == ["create"], "a use is no change"
