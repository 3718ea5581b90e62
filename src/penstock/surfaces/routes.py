"""Which address is written to in which dialect.

A route is a path as the reference shows it. `{model}` stands for the model's name, which may have slashes in it,
`{id}` for that of something that a provider keeps, `{item}` for that of an item in it.
"""

import re
from typing import NamedTuple
from urllib.parse import parse_qs, quote, urlsplit

from penstock.dialects.base import Address, Spoken
from penstock.dialects.registry import DIALECTS
from penstock.domain.kept import Errand


class Route(NamedTuple):
    """`streaming`: the path alone says that the answer streams. `verb`: what is asked of the thing with the `{id}`."""

    path: str
    surface: str
    streaming: bool = False
    method: str = "POST"
    verb: str = ""


ROUTES = (
    Route("/v1/chat/completions", "chat.completions"),
    Route("/v1/responses", "responses"),
    Route("/v1/responses/compact", "responses.compact"),
    Route("/v1/responses/input_tokens", "responses.input_tokens"),
    Route("/v1/completions", "completions"),
    Route("/v1/embeddings", "embeddings"),
    Route("/v1/moderations", "moderations"),
    Route("/v1/rerank", "rerank"),
    Route("/cohere/v2/chat", "cohere.chat"),
    Route("/cohere/v2/embed", "cohere.embed"),
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
    Route("/openai/v1/responses/compact", "responses.compact"),
    Route("/openai/v1/completions", "completions"),
    Route("/openai/v1/embeddings", "embeddings"),
    *(
        Route(f"{base}/responses/{{id}}{path}", "responses.stored", method=method, verb=path.strip("/"))
        for base in ("/v1", "/openai/v1")
        for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/cancel"), ("GET", "/input_items"))
    ),
    Route("/v1/conversations", "conversations"),
    *(Route("/v1/conversations/{id}", "conversations", method=method) for method in ("GET", "POST", "DELETE")),
    *(
        Route("/v1/conversations/{id}/items", "conversations", method=method, verb="items")
        for method in ("GET", "POST")
    ),
    *(
        Route("/v1/conversations/{id}/items/{item}", "conversations", method=method, verb="items")
        for method in ("GET", "DELETE")
    ),
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
            Route(f"/{version}/models/{{model}}:embedContent", "embedContent"),
            Route(f"/{version}/models/{{model}}:batchEmbedContents", "batchEmbedContents"),
        )
    ),
)
"""All inference surfaces. Those under `/openai` are Azure's addresses; Google's clients name the version of the API."""

_PLAIN = {route.path: Spoken(DIALECTS[route.surface]) for route in ROUTES if "{" not in route.path}


def _pattern(path: str) -> re.Pattern[str]:
    pattern = re.escape(path).replace(re.escape("{model}"), "(?P<model>[^/].*)")
    pattern = pattern.replace(re.escape("{id}"), "(?P<id>[^/]+)")
    return re.compile(pattern.replace(re.escape("{item}"), r"(?P<item>(?!\.{1,2}$)[^/]+)"))  # never a step up


_PATTERNS = [(_pattern(route.path), route) for route in ROUTES if "{" in route.path]


def route(path: str, target: str, method: str = "POST") -> Spoken | None:
    """What is spoken at `path`, decoded and without the query, which `target` still has. None: no inference surface
    that is asked so."""
    spoken = _PLAIN.get(path)
    if spoken is not None:
        return spoken if method == "POST" else None
    for pattern, found in _PATTERNS:
        if found.method == method and (match := pattern.fullmatch(path)) is not None:
            query = urlsplit(target).query
            named = match.groupdict()
            if "id" in named:
                verb = "/".join((found.verb, quote(named["item"], safe=""))) if "item" in named else found.verb
                return Spoken(DIALECTS[found.surface], Address(errand=Errand(method, named["id"], verb, query)))
            form = parse_qs(query).get("alt", [""])[-1]
            return Spoken(DIALECTS[found.surface], Address(match["model"], found.streaming, form))
    return None


def methods_at(path: str) -> list[str]:
    """With which methods an inference surface is asked there; none where there is none."""
    if path in _PLAIN:
        return ["POST"]
    return sorted({found.method for pattern, found in _PATTERNS if pattern.fullmatch(path)})
