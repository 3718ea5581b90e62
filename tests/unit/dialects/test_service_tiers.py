"""Which service a call asks for, and which it had, in the words of each dialect."""

import json
from typing import Any

import pytest
from msgspec import structs

from penstock.dialects.base import Address
from penstock.dialects.codec import Heading, TargetFacts
from penstock.dialects.registry import CODECS, DIALECTS
from penstock.domain.chat import Answer, Choice, Message, Request, Text
from penstock.domain.stream import collect, events_of
from penstock.domain.usage import Usage

REQUEST = Request("", "model-1", (Message("user", (Text("Hi."),)),), max_output=99)

ASKED = [
    ("messages", {"service_tier": "standard_only"}, "chat.completions", {"service_tier": "default"}, ()),
    ("messages", {"service_tier": "standard_only"}, "responses", {"service_tier": "default"}, ()),
    ("messages", {"service_tier": "standard_only"}, "converse", {"serviceTier": {"type": "default"}}, ()),
    ("messages", {"service_tier": "standard_only"}, "generateContent", {"serviceTier": "standard"}, ()),
    ("messages", {"service_tier": "auto"}, "converse", {}, ()),
    ("chat.completions", {"service_tier": "default"}, "messages", {"service_tier": "standard_only"}, ()),
    ("chat.completions", {"service_tier": "auto"}, "messages", {"service_tier": "auto"}, ()),
    ("chat.completions", {"service_tier": "priority"}, "messages", {}, ("service_tier",)),
    ("chat.completions", {"service_tier": "priority"}, "converse", {"serviceTier": {"type": "priority"}}, ()),
    ("chat.completions", {"service_tier": "flex"}, "generateContent", {"serviceTier": "flex"}, ()),
    ("chat.completions", {"service_tier": "fast"}, "responses", {"service_tier": "fast"}, ()),
    ("chat.completions", {"service_tier": "scale"}, "generateContent", {}, ("service_tier",)),
    ("generateContent", {"serviceTier": "standard"}, "messages", {"service_tier": "standard_only"}, ()),
    ("generateContent", {"serviceTier": "priority"}, "responses", {"service_tier": "priority"}, ()),
    ("converse", {"serviceTier": {"type": "reserved"}}, "chat.completions", {}, ("service_tier",)),
    ("converse", {"serviceTier": {"type": "flex"}}, "chat.completions", {"service_tier": "flex"}, ()),
    ("converse", {"performanceConfig": {"latency": "standard"}}, "messages", {}, ()),
    ("converse", {"performanceConfig": {"latency": "optimized"}}, "messages", {}, ("performanceConfig",)),
]


@pytest.mark.parametrize(("caller", "members", "target", "told", "dropped"), ASKED)
def test_a_tier_is_asked_for_in_the_targets_words(
    caller: str, members: dict[str, Any], target: str, told: dict[str, Any], dropped: tuple[str, ...]
) -> None:
    plain = structs.replace(REQUEST, origin=DIALECTS[caller].name)
    body = {**json.loads(CODECS[caller].encode_request(plain, TargetFacts("model-1")).body), **members}
    request = CODECS[caller].decode_request(DIALECTS[caller].parse(json.dumps(body).encode(), Address("model-1")))
    encoded = CODECS[target].encode_request(request, TargetFacts("model-1"))
    written = json.loads(encoded.body)
    assert {name: written[name] for name in ("service_tier", "serviceTier") if name in written} == told
    assert encoded.dropped == dropped


SERVED = [
    ("chat.completions", "priority", "priority"),
    ("chat.completions", "default", "default"),
    ("chat.completions", "fast", ""),
    ("responses", "flex", "flex"),
    ("responses", "batch", ""),
    ("messages", "default", "default"),
    ("messages", "priority", "priority"),
    ("messages", "flex", ""),
    ("converse", "reserved", "reserved"),
    ("converse", "scale", ""),
    ("generateContent", "default", "default"),
    ("generateContent", "scale", ""),
]


@pytest.mark.parametrize(("caller", "served", "heard"), SERVED)
def test_the_tier_that_served_is_told_where_the_dialect_has_a_word_for_it(caller: str, served: str, heard: str) -> None:
    answer = Answer("elsewhere", "1", "m", (Choice((Text("Rain."),)),), usage=Usage(1, 1), service_tier=served)
    heading = Heading("model-1", True, structs.replace(REQUEST, origin=DIALECTS[caller].name))
    codec = CODECS[caller]
    assert codec.decode_answer(codec.encode_answer(answer, heading)).service_tier == heard
    encoder, decoder = codec.encoder(heading), codec.decoder()
    events = decoder.feed(b"".join(map(encoder.encode, events_of(answer))))
    assert collect([*events, *decoder.close()]).service_tier == heard


def test_anthropics_usual_service_is_the_default_of_others() -> None:
    usage = {"input_tokens": 1, "output_tokens": 1, "service_tier": "standard"}
    body = {"type": "message", "content": [], "stop_reason": "end_turn", "usage": usage}
    assert CODECS["messages"].decode_answer(json.dumps(body).encode()).service_tier == "default"
