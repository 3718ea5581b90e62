"""Facts about models that bound a call, from `data/models.toml`: the output cap, the context window, tokens per image.

Prices are not here (see `prices`); the file says for each fact which page it comes from.
"""

import re
import tomllib
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

ANYWHERE = "anywhere"
"""The table of facts that hold wherever the model is served; other tables are named for the vendor they hold at."""

_BOUNDARIES = re.compile(r"[-:@/]")
_BEDROCK_PREFIX = re.compile(r"^(?:[a-z-]+\.)+")


class Facts(Struct, frozen=True):
    """`max_output`: the most tokens the model can put out in one answer, reasoning included. `image_tokens`: the most
    that one image can be billed as, at any size and level of detail. `lacks`: what it cannot be asked for, of
    `domain.capabilities`. None: not known."""

    max_output: int | None = None
    context_window: int | None = None
    image_tokens: int | None = None
    lacks: tuple[str, ...] | None = None


class ModelFacts:
    """The facts by vendor and model. An entry holds for its own name and for that name with a suffix (a date, a
    version, a size); the longest entry wins, and a vendor's own entry goes before one that holds anywhere."""

    def __init__(self, tables: dict[str, dict[str, Facts]]) -> None:
        self._tables = tables

    def of(self, model: str, vendor: str | None) -> Facts:
        """What is known of `model`, in any vendor's spelling (`gpt-4.1-2025-04-14`, `openai/gpt-4.1`,
        `us.anthropic.claude-opus-4-5-20251101-v1:0`), at `vendor`; each fact is None when it is not known."""
        known = [
            facts
            for table in (vendor, ANYWHERE)
            if table in self._tables and (facts := _longest(self._tables[table], model)) is not None
        ]
        return Facts(
            *(next((v for f in known if (v := getattr(f, name)) is not None), None) for name in Facts.__struct_fields__)
        )


def load() -> ModelFacts:
    """The facts that ship with the package."""
    document: dict[str, Any] = tomllib.loads(
        Path(__file__).with_name("data").joinpath("models.toml").read_text("utf-8")
    )
    return ModelFacts(
        {
            table: {
                model: msgspec.convert({name: entry.get(name) for name in Facts.__struct_fields__}, Facts)
                for model, entry in entries.items()
            }
            for table, entries in document.items()
            if table != "sources"
        }
    )


def _longest(table: dict[str, Facts], model: str) -> Facts | None:
    """The entry of the longest prefix of `model` that ends at a boundary, in the first spelling that has one."""
    full = model.lower()
    tail = full.rpartition("/")[2]
    for spelling in (full, tail, _BEDROCK_PREFIX.sub("", tail)):
        ends = [len(spelling), *(match.start() for match in reversed(list(_BOUNDARIES.finditer(spelling))))]
        for end in ends:
            if (facts := table.get(spelling[:end])) is not None:
                return facts
    return None
