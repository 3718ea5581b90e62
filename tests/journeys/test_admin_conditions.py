"""Two people edit the same object, and a request comes twice: what HTTP has for that, the admin API obeys."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
import pytest

from penstock.testing.caller import Answer
from penstock.testing.control import ControlProcess

CONFIG: dict[str, Any] = {
    "providers": [{"name": "lab", "kind": "compatible", "base_url": "http://127.0.0.1:9/v1"}],
    "models": [{"name": "gpt-4.1", "targets": [{"provider": "lab", "model": "up"}]}],
    "teams": [{"name": "growth"}],
    "limits": [{"name": "monthly", "match": {"team": "growth"}, "unit": "usd", "amount": 100, "per": "month"}],
}


@pytest.fixture(scope="module")
def control(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlProcess]:
    with ControlProcess(tmp_path_factory.mktemp("admin"), CONFIG) as control:
        yield control
        assert "Traceback" not in control.output()


def ask(control: ControlProcess, method: str, path: str, body: Any = None, **fields: str) -> Answer:
    """One request with header `fields` besides the key: `if_match` is If-Match."""
    headers = {name.replace("_", "-"): value for name, value in fields.items()}
    headers["authorization"] = f"Bearer {control.admin_key}"
    content = body if body is None or isinstance(body, bytes) else msgspec.json.encode(body)
    return control.send(method, f"/admin/v1{path}", content, headers)


def etag(answer: Answer) -> str:
    tag = answer.headers["etag"]
    assert tag.startswith('"') and tag.endswith('"') and len(tag) > 20
    return tag


def refused(answer: Answer, status: int, code: str) -> str:
    """The sentence of the problem that `answer` must be."""
    assert (answer.status, answer.headers["content-type"]) == (status, "application/problem+json"), answer.body
    assert answer.json()["code"] == code
    return str(answer.json()["detail"])


def test_of_two_people_who_edit_one_object_the_second_is_told(control: ControlProcess) -> None:
    made = ask(control, "POST", "/teams", {"name": "edited"})
    read = ask(control, "GET", "/teams/edited")
    assert etag(made) == etag(read)
    first = ask(control, "PATCH", "/teams/edited", {"required_tags": ["a"]}, if_match=etag(read))
    assert first.status == 200
    assert etag(first) != etag(read)
    second = ask(control, "PATCH", "/teams/edited", {"required_tags": ["b"]}, if_match=etag(read))
    assert "read it again" in refused(second, 412, "changed_meanwhile")
    refused(ask(control, "DELETE", "/teams/edited", if_match=etag(read)), 412, "changed_meanwhile")
    assert ask(control, "GET", "/teams/edited").json()["required_tags"] == ["a"]
    either = f"{etag(read)}, {etag(first)}"
    assert ask(control, "DELETE", "/teams/edited", if_match=either).status == 204


def test_a_tag_that_cannot_vouch_for_the_object_changes_nothing(control: ControlProcess) -> None:
    read = ask(control, "GET", "/limits/monthly")
    raised = {"by": 1, "until": "2199-01-01T00:00:00Z", "reason": "x"}
    weak = ask(control, "DELETE", "/limits/monthly/raise", raised, if_match=f"W/{etag(read)}")
    refused(weak, 412, "changed_meanwhile")
    refused(ask(control, "DELETE", "/limits/monthly/raise", if_match="no tag"), 422, "invalid")
    assert ask(control, "DELETE", "/limits/monthly/raise", if_match="*").status == 200
    refused(ask(control, "PATCH", "/teams/nobody", {}, if_match="*"), 404, "not_found")


def test_two_edits_at_once_of_what_both_have_read_are_one_edit(control: ControlProcess) -> None:
    read = ask(control, "POST", "/teams", {"name": "raced"})

    def edit(number: int) -> int:
        return ask(control, "PATCH", "/teams/raced", {"required_tags": [f"t{number}"]}, if_match=etag(read)).status

    with ThreadPoolExecutor(8) as threads:
        assert sorted(threads.map(edit, range(8))) == [200] + [412] * 7


def test_an_object_that_is_known_already_is_not_sent_again(control: ControlProcess) -> None:
    read = ask(control, "GET", "/teams/growth")
    again = ask(control, "GET", "/teams/growth", if_none_match=f'"other", W/{etag(read)}')
    assert (again.status, again.body, etag(again)) == (304, b"", etag(read))
    assert ask(control, "GET", "/teams/growth", if_none_match='"other"').json() == read.json()


@pytest.mark.parametrize(
    ("path", "body", "told"),
    [
        ("/teams", {"name": "twice"}, "name"),
        ("/keys", {"name": "twice", "team": "growth"}, "id"),
        ("/kill", {"scope": {"customer": "twice"}, "reason": "a drill"}, "generation"),
        ("/ledger/adjustments", {"limit": "monthly", "amount": "1.5", "reason": "an invoice"}, "id"),
        ("/prices", {"entries": [{"provider": "lab", "model": "up", "price": {"input": 1, "output": 1}}]}, "entries"),
    ],
)
def test_a_creation_that_is_sent_twice_happens_once(
    control: ControlProcess, path: str, body: dict[str, Any], told: str
) -> None:
    word = f"word-for{path.replace('/', '-')}"
    first = ask(control, "POST", path, body, idempotency_key=word)
    again = ask(control, "POST", path, body, idempotency_key=word)
    assert first.status == again.status in (201, 202), first.body
    assert "idempotency-replayed" not in first.headers
    assert again.headers["idempotency-replayed"] == "true"
    assert (again.json()[told], again.headers["location"]) == (first.json()[told], first.headers["location"])
    assert {**again.json(), "secret": None} == {**first.json(), "secret": None}
    other = ask(control, "POST", path, msgspec.json.encode(body) + b" ", idempotency_key=word)
    assert "send a new one" in refused(other, 422, "idempotency_mismatch")


def test_the_secret_of_a_key_is_shown_once_even_where_the_request_is_replayed(control: ControlProcess) -> None:
    body = {"name": "lost", "team": "growth"}
    first = ask(control, "POST", "/keys", body, idempotency_key="lost-1")
    again = ask(control, "POST", "/keys", body, idempotency_key="lost-1")
    assert first.json()["secret"].startswith("pk-")
    assert again.json()["secret"] is None
    for file in control.data.rglob("penstock.db*"):
        assert first.json()["secret"].encode() not in file.read_bytes()


def test_requests_that_come_at_once_with_one_word_create_one_object(control: ControlProcess) -> None:
    def create(_: int) -> Answer:
        return ask(control, "POST", "/keys", {"name": "one", "team": "growth"}, idempotency_key="at-once")

    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(create, range(8)))
    assert {answer.status for answer in answers} == {201}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert sum(answer.json()["secret"] is not None for answer in answers) == 1


def test_a_refused_creation_leaves_its_word_to_the_next_try(control: ControlProcess) -> None:
    refused(ask(control, "POST", "/projects", {"name": "p", "team": "late"}, idempotency_key="w"), 422, "invalid")
    assert ask(control, "POST", "/teams", {"name": "late"}).status == 201
    assert ask(control, "POST", "/projects", {"name": "p", "team": "late"}, idempotency_key="w").status == 201


@pytest.mark.parametrize("word", ["", "two words", "x" * 256])
def test_a_word_that_cannot_be_one_is_refused(control: ControlProcess, word: str) -> None:
    refused(ask(control, "POST", "/teams", {"name": "worded"}, idempotency_key=word), 422, "invalid")
    refused(ask(control, "GET", "/teams/worded"), 404, "not_found")
