"""The models that a key may use, as each vendor's clients list them.

Source: OpenAI API reference, "List models"; Anthropic API reference, "List Models" and "Get a Model"; Gemini API
reference, `models.list` and `models.get`; Cohere API reference, "List Models" and "Get a Model". Read 2026-11.

Only what is known is told. When a model was made is not: 0, or 1970 where the reference asks for that.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

import msgspec

from penstock.dialects.base import Dialect
from penstock.dialects.registry import DIALECTS
from penstock.domain.snapshot import Alias
from penstock.errors import InvalidRequest, ModelNotFound

_PATH = re.compile(r"(?P<place>/v1|/openai/v1|/v1beta|/v1alpha|/cohere/v1)/models(?:/(?P<name>.+))?")
_MOST = 1000
"""How many are told at a time, at most."""


class Asked(NamedTuple):
    """`name`: of the one model that is asked for; empty: all. `query`: the parameters, each once."""

    style: "Style"
    name: str
    query: Mapping[str, str]

    @property
    def dialect(self) -> Dialect:
        """In which errors are told."""
        return DIALECTS[self.style.surface]


class Style(NamedTuple):
    """How one vendor's clients are told. `one(alias, now_s)`: a model. `some(models, rest)`: a page of them, and
    whether there are more. `size`, `after` and `before`: the parameters for how many, and behind or before which;
    `usual`: how many without one. Without `size` there are no pages."""

    surface: str
    one: Callable[[Alias, float], dict[str, Any]]
    some: Callable[[Sequence[dict[str, Any]], bool], dict[str, Any]]
    size: str = ""
    after: str = ""
    usual: int = 0
    before: str = ""


def asked_for(path: str, target: str, headers: Mapping[str, str]) -> Asked | None:
    """None: `path` is not about models. At `/v1` the vendors' clients are told apart by a header that they send."""
    match = _PATH.fullmatch(path)
    if match is None:
        return None
    style = _STYLES.get(match["place"])
    if style is None:
        style = ANTHROPIC if "anthropic-version" in headers else GEMINI if "x-goog-api-key" in headers else OPENAI
    query = {name: values[-1] for name, values in parse_qs(urlsplit(target).query).items()}
    return Asked(style, (match["name"] or "").removeprefix("models/"), query)


def told(asked: Asked, usable: Sequence[Alias], now_s: float) -> bytes:
    """The answer, of the aliases that the key may use. Raises `ModelNotFound` and `InvalidRequest`."""
    usable = sorted(usable, key=lambda alias: alias.name)
    style = asked.style
    if asked.name:
        found = next((alias for alias in usable if alias.name == asked.name), None)
        if found is None:
            name = "".join(c if c.isprintable() else "?" for c in asked.name[:100])
            raise ModelNotFound(f"The model '{name}' does not exist here, or this key may not use it.")
        return msgspec.json.encode(style.one(found, now_s))
    page, rest = _page(asked, usable) if style.size else (usable, False)
    return msgspec.json.encode(style.some([style.one(alias, now_s) for alias in page], rest))


def _page(asked: Asked, usable: Sequence[Alias]) -> tuple[Sequence[Alias], bool]:
    """Those behind one name, or the last of those before another; and whether there are more on that way."""
    style, count = asked.style, _count(asked)
    before = asked.query.get(style.before, "") if style.before else ""
    if before:
        left = [alias for alias in usable if alias.name < before]
        return left[-count:], len(left) > count
    left = [alias for alias in usable if alias.name > asked.query.get(style.after, "")]
    return left[:count], len(left) > count


def _count(asked: Asked) -> int:
    text = asked.query.get(asked.style.size, "") or str(asked.style.usual)
    if not (text.isascii() and text.isdigit() and int(text[:6]) > 0):
        raise InvalidRequest(f"'{asked.style.size}' must be a whole number above 0.", param=asked.style.size)
    return min(int(text[:6]), _MOST)


# -- OpenAI -----------------------------------------------------------------------------------------------------------


def _openai(alias: Alias, now_s: float) -> dict[str, Any]:
    return {"id": alias.name, "object": "model", "created": 0, "owned_by": "penstock"}


OPENAI = Style("chat.completions", _openai, lambda models, rest: {"object": "list", "data": models})


# -- Anthropic --------------------------------------------------------------------------------------------------------


def _anthropic(alias: Alias, now_s: float) -> dict[str, Any]:
    window, output = _bounds(alias)
    return {
        "type": "model",
        "id": alias.name,
        "display_name": alias.name,
        "created_at": _moment(0),
        "lifecycle": "deprecated" if _is_deprecated(alias, now_s) else "active",
        "deprecated_at": _moment(alias.warn_at) if _is_deprecated(alias, now_s) else None,
        "retires_at": _moment(alias.end_at) if _is_deprecated(alias, now_s) else None,
        "max_input_tokens": window,
        "max_tokens": output,
    }


def _anthropic_page(models: Sequence[dict[str, Any]], rest: bool) -> dict[str, Any]:
    ends = {"first_id": models[0]["id"], "last_id": models[-1]["id"]} if models else {"first_id": None, "last_id": None}
    return {"data": models, "has_more": rest, **ends}


ANTHROPIC = Style("messages", _anthropic, _anthropic_page, "limit", "after_id", 20, "before_id")


# -- Gemini -----------------------------------------------------------------------------------------------------------


def _gemini(alias: Alias, now_s: float) -> dict[str, Any]:
    window, output = _bounds(alias)
    known = {"inputTokenLimit": window, "outputTokenLimit": output}
    return {
        "name": f"models/{alias.name}",
        "displayName": alias.name,
        **{name: value for name, value in known.items() if value is not None},
        "supportedGenerationMethods": ["generateContent", "countTokens"],
    }


def _gemini_page(models: Sequence[dict[str, Any]], rest: bool) -> dict[str, Any]:
    return {"models": models} | ({"nextPageToken": models[-1]["displayName"]} if rest else {})


GEMINI = Style("generateContent", _gemini, _gemini_page, "pageSize", "pageToken", 50)


# -- Cohere -----------------------------------------------------------------------------------------------------------


def _cohere(alias: Alias, now_s: float) -> dict[str, Any]:
    window, _ = _bounds(alias)
    known = {} if window is None else {"context_length": window}
    return {"name": alias.name, "is_deprecated": _is_deprecated(alias, now_s), **known}


def _cohere_page(models: Sequence[dict[str, Any]], rest: bool) -> dict[str, Any]:
    return {"models": models} | ({"next_page_token": models[-1]["name"]} if rest else {})


COHERE = Style("cohere.chat", _cohere, _cohere_page, "page_size", "page_token", 20)


_STYLES = {"/openai/v1": OPENAI, "/v1beta": GEMINI, "/v1alpha": GEMINI, "/cohere/v1": COHERE}


def _bounds(alias: Alias) -> tuple[int | None, int | None]:
    """The context window and the most tokens of an answer, of the target that is tried first; None: not known."""
    first = alias.targets[0] if alias.targets else None
    return (first.context_window, alias.max_output or first.max_output) if first is not None else (None, None)


def _is_deprecated(alias: Alias, now_s: float) -> bool:
    return alias.warn_at is not None and alias.warn_at <= now_s


def _moment(unix_s: float | None) -> str | None:
    return None if unix_s is None else datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
