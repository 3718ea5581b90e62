"""Which address is written to in which dialect.

A route is a path as the reference shows it. `{model}` stands for the model's name, which may have slashes in it.
"""

import re
from typing import NamedTuple
from urllib.parse import parse_qs, urlsplit

from penstock.dialects.base import Address, Spoken
from penstock.dialects.registry import DIALECTS


class Route(NamedTuple):
    """`streaming`: the path alone says that the answer streams."""

    path: str
    surface: str
    streaming: bool = False


ROUTES = (
    Route("/v1/chat/completions", "chat.completions"),
    Route("/v1/responses", "responses"),
    Route("/v1/responses/input_tokens", "responses.input_tokens"),
    Route("/v1/completions", "completions"),
    Route("/v1/embeddings", "embeddings"),
    Route("/v1/moderations", "moderations"),
    Route("/v1/rerank", "rerank"),
    Route("/cohere/v2/chat", "cohere.chat"),
    Route("/cohere/v2/rerank", "rerank"),
    Route("/v1/messages", "messages"),
    Route("/v1/messages/count_tokens", "messages.count_tokens"),
    Route("/bedrock/model/{model}/converse", "converse"),
    Route("/bedrock/model/{model}/converse-stream", "converse", streaming=True),
    Route("/bedrock/model/{model}/invoke", "invoke"),
    Route("/bedrock/model/{model}/invoke-with-response-stream", "invoke", streaming=True),
    Route("/bedrock/model/{model}/count-tokens", "converse.count_tokens"),
    Route("/openai/v1/chat/completions", "chat.completions"),
    Route("/openai/v1/responses", "responses"),
    Route("/openai/v1/completions", "completions"),
    Route("/openai/v1/embeddings", "embeddings"),
    Route("/openai/deployments/{model}/chat/completions", "chat.completions"),
    Route("/openai/deployments/{model}/completions", "completions"),
    Route("/openai/deployments/{model}/embeddings", "embeddings"),
    *(
        route
        for version in ("v1beta", "v1", "v1alpha")
        for route in (
            Route(f"/{version}/models/{{model}}:generateContent", "generateContent"),
            Route(f"/{version}/models/{{model}}:streamGenerateContent", "generateContent", streaming=True),
            Route(f"/{version}/models/{{model}}:countTokens", "countTokens"),
        )
    ),
)
"""All inference surfaces. Those under `/openai` are Azure's addresses; Google's clients name the version of the API."""

_PLAIN = {route.path: Spoken(DIALECTS[route.surface]) for route in ROUTES if "{" not in route.path}
_PATTERNS = [
    (re.compile(re.escape(route.path).replace(re.escape("{model}"), "(?P<model>[^/].*)")), route)
    for route in ROUTES
    if "{" in route.path
]


def route(path: str, target: str) -> Spoken | None:
    """What is spoken at `path`, decoded and without the query, which `target` still has. None: no inference surface."""
    spoken = _PLAIN.get(path)
    if spoken is not None:
        return spoken
    for pattern, found in _PATTERNS:
        if (match := pattern.fullmatch(path)) is not None:
            form = parse_qs(urlsplit(target).query).get("alt", [""])[-1]
            return Spoken(DIALECTS[found.surface], Address(match["model"], found.streaming, form))
    return None
