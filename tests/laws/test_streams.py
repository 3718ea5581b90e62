"""Laws of the chat stream: any split of the bytes gives the same reading and the same output."""

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.dialects.openai_chat import ChatTee
from penstock.domain.usage import Usage

ENDS = st.sampled_from(["\n\n", "\r\n\r\n"])


def _chunk(**members: object) -> dict[str, object]:
    return {"id": "c", "object": "chat.completion.chunk", **members}


def _delta(text: str) -> dict[str, object]:
    return {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}]}


@st.composite
def streams(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """A stream as a provider sends it when asked for usage, and as it would have been without."""
    end = draw(ENDS)
    sent, unasked = [], []

    def put(event: str, also: str | None) -> None:
        sent.append(event + end)
        if also is not None:
            unasked.append(also + end)

    texts = draw(
        st.lists(
            st.one_of(st.text(max_size=20), st.sampled_from(['"usage":null', ',"usage":null', "data: [DONE]"])),
            max_size=6,
        )
    )
    compact = draw(st.booleans())
    separators = (",", ":") if compact else (", ", ": ")
    for text in texts:
        body = _delta(text)
        members: dict[str, object] = {"usage": None, **body} if draw(st.booleans()) else {**body, "usage": None}
        nested: dict[str, object] = {"x": {"usage": None}} if draw(st.booleans()) else {}
        padding = {"obfuscation": draw(st.text(max_size=5))} if draw(st.booleans()) else {}
        plain = json.dumps(_chunk(**body, **nested, **padding), separators=(",", ":"))
        asked = json.dumps(_chunk(**members, **nested, **padding), separators=separators)
        put("data: " + asked, "data: " + plain)
        if draw(st.booleans()):
            put(": comment", ": comment")
    last = _chunk(choices=[{"index": 0, "delta": {}, "finish_reason": "stop"}])
    put("data: " + json.dumps(last), "data: " + json.dumps(last))
    usage = {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8}
    put("data: " + json.dumps(_chunk(choices=[], usage=usage), separators=separators), None)
    put("data: [DONE]", "data: [DONE]")
    return "".join(sent).encode(), "".join(unasked).encode()


def _play(data: bytes, cuts: list[int], strips: bool) -> tuple[bytes, ChatTee, bool]:
    tee, out, start = ChatTee(strips_usage=strips), b"", 0
    for cut in [*sorted(c % (len(data) + 1) for c in cuts), len(data)]:
        if cut > start:
            out += tee.feed(data[start:cut])
            start = cut
    rest, seen = tee.close()
    return out + rest, tee, seen


def _said(run: bytes) -> list[object]:
    lines = [line[6:] for line in run.replace(b"\r\n", b"\n").split(b"\n\n") if line.startswith(b"data: ")]
    return [json.loads(line) if line != b"[DONE]" else "done" for line in lines]


@settings(max_examples=150, deadline=None)
@given(streams(), st.lists(st.integers(0, 4000), max_size=12))
def test_any_split_gives_the_same_bytes_and_the_same_reading(stream: tuple[bytes, bytes], cuts: list[int]) -> None:
    sent, _ = stream
    out, tee, seen = _play(sent, cuts, strips=False)
    assert out == sent
    assert seen and tee.ended
    assert tee.reading.usage == Usage(input=5, output=3)
    assert tee.reading.finish_reason == "stop"


@settings(max_examples=150, deadline=None)
@given(streams(), st.lists(st.integers(0, 4000), max_size=12))
def test_stripping_removes_what_was_added_and_nothing_else(stream: tuple[bytes, bytes], cuts: list[int]) -> None:
    sent, unasked = stream
    out, tee, seen = _play(sent, cuts, strips=True)
    assert _said(out) == _said(unasked)
    assert b": comment" in out or b": comment" not in unasked
    assert seen and tee.reading.usage == Usage(input=5, output=3)


@settings(max_examples=100, deadline=None)
@given(streams(), st.integers(1, 4000), st.booleans())
def test_a_stream_cut_before_its_last_events_is_not_taken_for_a_whole_one(
    stream: tuple[bytes, bytes], at: int, strips: bool
) -> None:
    sent, _ = stream
    finish = sent.index(b'finish_reason": "stop')
    _, tee, seen = _play(sent[: at % finish], [], strips)
    assert not seen and not tee.ended


def test_a_cut_stream_is_counted_by_its_pieces() -> None:
    tee = ChatTee(strips_usage=False)
    for word in ("one", " two", " three", "x" * 40, ""):
        tee.feed(b"data: " + json.dumps(_delta(word)).encode() + b"\n\n")
    assert tee.counted_output() == 3 + 10
    assert tee.counted_output() == 13


def test_usage_on_a_chunk_with_choices_counts_and_stays() -> None:
    tee = ChatTee(strips_usage=True)
    choices = b'"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]'
    event = b"data: {" + choices + b',"usage":{"prompt_tokens":2,"completion_tokens":1}}\n\n'
    assert tee.feed(event) == event
    assert tee.reading.usage == Usage(input=2, output=1)
    assert tee.close() == (b"", True)
