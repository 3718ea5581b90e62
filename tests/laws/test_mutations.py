"""What vendors may write in another way, or add, changes nothing of what is read of an answer: members and events that
nobody knows, the order of members, whole numbers with a fraction, the forms of an event stream.

The answers are the project's own recordings.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec import Raw, Struct

from penstock.dialects.base import Call
from penstock.dialects.registry import CODECS, DIALECTS
from penstock.domain.stream import collect
from penstock.errors import GatewayError
from penstock.testing.replay import Recording, load_recordings

SURFACES = {
    "chat.completions": "chat.completions",
    "responses": "responses",
    "messages": "messages",
    "converse": "converse",
    "v2.chat": "cohere.chat",
    "generateContent": "generateContent",
    "streamGenerateContent": "generateContent",
}
FOLDER = Path(__file__).resolve().parents[1] / "goldens" / "traffic"
RECORDINGS = [
    one
    for one in load_recordings(FOLDER, SURFACES)
    if one.response.status == 200 and one.response_kind in ("json", "sse")
]
PLAIN = [one for one in RECORDINGS if one.response_kind == "json"]
STREAMS = [one for one in RECORDINGS if one.response_kind == "sse"]
CALLERS_OWN = frozenset({"input", "args", "arguments", "logprobs", "logprobsResult", "citations", "annotations"})
"""Values that are kept as they were written."""
Mutation = Callable[[Any], Any]


# -- what is read -----------------------------------------------------------------------------------------------------


def _bare(value: Any) -> Any:
    """The value without extras, and JSON as what it says."""
    if isinstance(value, Raw):
        return _walked(json.loads(bytes(value)), _without_more)
    if isinstance(value, Struct):
        fields = [name for name in value.__struct_fields__ if name != "extras"]
        return {
            name: _json(getattr(value, name)) if name == "arguments" else _bare(getattr(value, name)) for name in fields
        }
    return [_bare(one) for one in value] if isinstance(value, tuple) else value


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _read(recording: Recording, body: bytes) -> Any:
    """All that is known of an answer: what it says of itself, and what it tells."""
    surface = SURFACES[recording.surface]
    dialect, codec = DIALECTS[surface], CODECS[surface]
    answer: Any
    try:
        if recording.response_kind == "json":
            reading, is_whole = dialect.read(body), True
            answer = codec.decode_answer(body)
        else:
            asked = recording.request.json or {}
            tee = dialect.tee(Call({}, "m", True, choices=asked.get("n") or 1, wants_usage=True), False)
            passed = tee.feed(body)
            rest, is_whole = tee.close()
            assert passed + rest == body
            reading, decoder = tee.reading, codec.decoder()
            answer = collect([*decoder.feed(body), *decoder.close()])
    except GatewayError as error:
        return type(error), str(error)
    return _bare(reading), is_whole, _bare(answer)


# -- members ----------------------------------------------------------------------------------------------------------


def _walked(value: Any, mutation: Mutation) -> Any:
    """The value with the mutation at every level of it."""
    if isinstance(value, dict):
        inner = {name: one if name in CALLERS_OWN else _walked(one, mutation) for name, one in value.items()}
        return mutation(inner)
    return [_walked(one, mutation) for one in value] if isinstance(value, list) else value


def _with_more(value: dict[str, Any]) -> dict[str, Any]:
    return {"zz_first": [{"type": "zz"}], **value, "zz_last": {"zz": 1}, "zz_null": None}


def _without_more(value: dict[str, Any]) -> dict[str, Any]:
    return {name: one for name, one in value.items() if not name.startswith("zz_")}


def _turned(value: dict[str, Any]) -> dict[str, Any]:
    return dict(reversed(value.items()))


def _with_fractions(value: dict[str, Any]) -> dict[str, Any]:
    told = ("index", "tokens", "TokenCount", "Tokens", "_hit", "requests", "created", "created_at")
    return {name: float(one) if type(one) is int and name.endswith(told) else one for name, one in value.items()}


def _events(body: bytes) -> Iterator[tuple[bytes, bytes]]:
    """`(what is before the data, the data)` of each event."""
    for event in body.replace(b"\r\n", b"\n").strip(b"\n").split(b"\n\n"):
        head, mark, data = event.partition(b"data:")
        yield (head, data.strip()) if mark else (event + b"\n", b"")


def _mutated(recording: Recording, mutation: Mutation) -> bytes:
    body = recording.response.content
    if recording.response_kind == "json":
        return json.dumps(_walked(json.loads(body), mutation)).encode()
    told = []
    for head, data in _events(body):
        if data.startswith(b"{"):
            data = json.dumps(_walked(json.loads(data), mutation), separators=(",", ":")).encode()
        told.append(head + (b"data: " + data + b"\n" if data else b""))
    return b"\n".join([*told, b""])


MUTATIONS = [_with_more, _turned, _with_fractions]


@pytest.mark.parametrize("mutation", MUTATIONS)
@pytest.mark.parametrize("recording", RECORDINGS, ids=lambda one: one.id)
def test_members_in_another_way_change_nothing_else(recording: Recording, mutation: Mutation) -> None:
    if recording.surface == "converse" and mutation is _with_more:
        return  # a block has one member there
    assert _read(recording, _mutated(recording, mutation)) == _read(recording, _mutated(recording, dict))


# -- the form of a stream ---------------------------------------------------------------------------------------------

FORMS: dict[str, Callable[[bytes], bytes]] = {
    "carriage returns": lambda body: body.replace(b"\n", b"\r\n"),
    "no space": lambda body: body.replace(b"data: ", b"data:").replace(b"event: ", b"event:"),
    "a mark at the beginning": lambda body: "\ufeff".encode() + body,
    "empty lines": lambda body: b"\n\n" + body.replace(b"\n\n", b"\n\n\n"),
    "comments": lambda body: b": hi\n\n" + body.replace(b"\n\n", b"\n\n: ping\n\n"),
    "numbers": lambda body: b"id: 1\nretry: 300\n" + body.replace(b"\n\n", b"\nid: 2\nretry: 300\n\n"),
    "no end to the last line": lambda body: body.rstrip(b"\n"),
    "several lines of data": lambda body: body.replace(b"data: {", b"data: {\ndata: "),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("recording", STREAMS, ids=lambda one: one.id)
def test_the_form_of_an_event_stream_changes_nothing(recording: Recording, form: str) -> None:
    body = _mutated(recording, dict)
    assert _read(recording, FORMS[form](body)) == _read(recording, body)
