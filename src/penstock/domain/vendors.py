"""The vendors and servers that speak OpenAI's dialect, as data: `vendors.toml` beside this file has an entry each."""

import tomllib
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct

CHAT = "chat.completions"


class CompatibleVendor(Struct, frozen=True, forbid_unknown_fields=True):
    """One entry; the head of the file says what each member means. `read`: the day, as `YYYY-MM-DD`."""

    title: str
    base_url: str
    docs: str
    read: str
    surfaces: dict[str, str] = {}
    auth: str = "bearer"
    cap: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    usage: Literal["asked", "always"] = "asked"
    ending: Literal["done", "open"] = "open"
    split: str = ""
    lacks: tuple[str, ...] = ()

    @property
    def paths(self) -> dict[str, str]:
        """Where each surface lives behind the base URL."""
        return {CHAT: "/chat/completions", **self.surfaces}

    def serves(self, model: str) -> tuple[str, ...]:
        """The surfaces that this model is served at."""
        other = "" if not self.split else CHAT if self.split in model else "responses"
        return tuple(surface for surface in self.paths if surface != other)


def load(text: str) -> dict[str, CompatibleVendor]:
    """The entries of a catalogue by kind. An entry that says something unknown is a ValidationError."""
    return {kind: msgspec.convert(entry, CompatibleVendor) for kind, entry in tomllib.loads(text).items()}


COMPATIBLE: dict[str, CompatibleVendor] = load(Path(__file__).with_name("vendors.toml").read_text("utf-8"))
"""By the kind that a provider of theirs has."""


def lacked_by(kind: str) -> frozenset[str]:
    """The capabilities that no model of this kind of provider has."""
    lacked = _LACKED.get(kind, frozenset())
    return lacked if kind in _KEEP_THREADS else lacked | {"threads"}


_LACKED = {kind: frozenset(entry.lacks) for kind, entry in COMPATIBLE.items()}
_KEEP_THREADS = ("anthropic", "azure")
"""Who has Anthropic's message threads (platform.claude.com, "Message threads", read 2026-11-26)."""


def needs_address(kind: str) -> bool:
    """Whether a provider of this kind has no address but its operator's."""
    return kind in ("compatible", "azure", "bedrock") or (kind in COMPATIBLE and not COMPATIBLE[kind].base_url)
