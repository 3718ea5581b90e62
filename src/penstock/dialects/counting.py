"""Counts of tokens, asked in one dialect and answered in another.

A count asks what a conversation would take in at a model. So the conversation is translated as for a call, its vendor
is asked in its own way, and the number is told in the caller's. There is nothing to count at vendors without such an
endpoint: numbers of another model's tokenizer would be made up.

Sources: Anthropic API reference, "Count tokens in a Message"; Gemini API reference, `models.countTokens`; OpenAI API
reference, "Get input token counts"; Amazon Bedrock API reference, "CountTokens". Read 2026-11. All are free of charge.
"""

import base64
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec
from msgspec import Raw, structs

from penstock.dialects.base import NO_ADDRESS, Address, Call, Dialect, Tee, encode_object, members_of, read_object
from penstock.dialects.bedrock import ANTHROPIC_VERSION
from penstock.dialects.codec import TargetFacts
from penstock.dialects.fitting import fitted
from penstock.dialects.refusals import refusal_as_told
from penstock.dialects.registry import CODECS, DIALECTS
from penstock.dialects.tool_names import plainly_named
from penstock.domain.chat import Request
from penstock.errors import InvalidRequest, UnsupportedByTarget, UpstreamMalformed

_Members = dict[str, Raw]
_object = msgspec.json.Decoder(dict[str, Raw]).decode


class Counting(NamedTuple):
    """One way to count. `conversation`: the surface whose request is counted. `question`: its body as what is asked.
    `number`: the member of the answer that is the count; `more`: what the answer has besides."""

    conversation: str
    question: Callable[[_Members], dict[str, Any]]
    number: str
    more: dict[str, str] = {}  # noqa: RUF012  never changed


def _only(*names: str) -> Callable[[_Members], dict[str, Any]]:
    return lambda body: {name: body[name] for name in names if name in body}


_MESSAGES = _only(
    *("model", "messages", "system", "tools", "tool_choice", "thinking", "cache_control", "context_management"),
    *("mcp_servers", "output_config", "output_format"),
)
_RESPONSES = _only(
    *("model", "input", "instructions", "tools", "tool_choice", "parallel_tool_calls", "reasoning", "text"),
    *("truncation", "previous_response_id", "conversation"),
)
_CONVERSE = _only("messages", "system", "toolConfig", "additionalModelRequestFields")


def _invocation(body: _Members) -> dict[str, Any]:
    """A Messages body as InvokeModel would take it, in base64."""
    members = {name: value for name, value in body.items() if name not in ("model", "stream")}
    sent = encode_object({**members, "anthropic_version": ANTHROPIC_VERSION})
    return {"input": {"invokeModel": {"body": base64.b64encode(sent).decode()}}}


COUNTS = {
    "messages.count_tokens": Counting("messages", _MESSAGES, "input_tokens"),
    "countTokens": Counting("generateContent", lambda body: {"generateContentRequest": body}, "totalTokens"),
    "responses.input_tokens": Counting("responses", _RESPONSES, "input_tokens", {"object": "response.input_tokens"}),
    "invoke.count_tokens": Counting("messages", _invocation, "inputTokens"),
    "converse.count_tokens": Counting("converse", lambda body: {"input": {"converse": _CONVERSE(body)}}, "inputTokens"),
}
"""By the surface of the count; the best to translate to first among those that a vendor has."""


def conversation_of(surface: str, call: Call) -> Request:
    """The conversation that is to be counted. Raises `InvalidRequest`."""
    where, body = COUNTS[surface].conversation, dict(call.fields)
    if surface == "messages.count_tokens":
        body["max_tokens"] = Raw(b"1")
    elif surface == "countTokens":
        body = _inside(body, "generateContentRequest") if "generateContentRequest" in body else body
    elif surface == "converse.count_tokens":
        given = _inside(body, "input")
        if "invokeModel" in given:
            where, body = "messages", _invoked(_inside(given, "invokeModel"), call.model)
        else:
            body = _inside(given, "converse")
    asked_of = Address(call.model) if where in ("generateContent", "converse") else NO_ADDRESS
    asked = CODECS[where].decode_request(DIALECTS[where].parse(encode_object(body), asked_of))
    return structs.replace(asked, max_output=None)  # nothing is put out


def _inside(body: _Members, name: str) -> _Members:
    try:
        return _object(body.get(name, Raw(b"null")))
    except (msgspec.DecodeError, RecursionError):
        raise InvalidRequest(f"'{name}' must be an object.", param=name) from None


def _invoked(asked: _Members, model: str) -> _Members:
    """The Messages body in the body of an invocation."""
    try:
        body = read_object(base64.b64decode(msgspec.json.decode(asked.get("body", Raw(b"null")), type=str)))
    except (msgspec.DecodeError, ValueError):
        raise InvalidRequest("'input.invokeModel.body' must be JSON in base64.", param="input") from None
    body.pop("anthropic_version", None)
    return {"max_tokens": Raw(b"1"), **body, "model": Raw(msgspec.json.encode(model))}


class Recounted:
    """The passage of a count to a vendor that counts in another dialect."""

    content_type: str | None = "application/json"
    voices = 1

    def __init__(self, caller: Dialect, request: Request, target: str, facts: TargetFacts) -> None:
        self._caller, self._count, self._told = caller, COUNTS[target], COUNTS[caller.surface]
        where = self._count.conversation
        if request.origin != DIALECTS[where].name:
            request = fitted(request, where, facts).request
            request, _ = plainly_named(request, where)
        encoded = CODECS[where].encode_request(request, facts)
        question = encode_object(self._count.question(_object(encoded.body)))
        self.dialect: Dialect = DIALECTS[target]
        self.call = self.dialect.parse(question, Address(facts.model))
        self.dropped = encoded.dropped

    def said(self, number: int) -> Call:
        return self.call

    def answer(self, body: bytes) -> bytes:
        try:
            number = msgspec.json.decode(members_of(body).get(self._count.number, Raw(b"null")), type=int)
        except msgspec.DecodeError:
            raise UpstreamMalformed("The provider's answer has no count of tokens.") from None
        return encode_object({**self._told.more, self._told.number: number})

    def refusal(self, body: bytes, status: int) -> bytes:
        if status in (404, 405):
            return self._caller.error_body(UnsupportedByTarget("The model's provider does not count tokens."))
        return self._caller.error_body(refusal_as_told(body, status))

    def tee(self, asked_usage: bool) -> Tee:
        raise UpstreamMalformed("A count of tokens is not streamed.")
