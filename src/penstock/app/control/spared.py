"""Parts of libraries that are loaded with the rest of them and that nothing here uses. Calls wait for a start: without
these it takes a fifth less.

    with spared():
        import sqlalchemy.ext.asyncio

- SQLAlchemy's asyncio package brings its sessions, and with them the whole ORM.
- genai-prices brings what fetches newer prices, and with it an HTTP client.
- structlog looks for rich, to draw on a terminal.
- FastAPI looks for a checker of mail addresses, and whether a model is of pydantic's first version, and loads both for
  the question.
"""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType

from pydantic import BaseModel

PRICE_UPDATES = "genai_prices.update_prices"
HOLLOW = ("sqlalchemy.ext.asyncio.scoping", "sqlalchemy.ext.asyncio.session", PRICE_UPDATES)
"""Whoever imports a name from one of these gets None by that name."""
ABSENT = ("email_validator", "pydantic.v1", "rich")


@contextmanager
def spared(names: Sequence[str] = (*HOLLOW, *ABSENT)) -> Iterator[None]:
    """What is first imported inside does without these; what is imported afterwards finds them as they are. Meanwhile
    other threads do without them as well: once requests are served, `names` has none that one of them may load."""
    away = [name for name in names if name not in sys.modules]
    sys.modules.update({name: _Hollow(name) if name in HOLLOW else None for name in away})  # type: ignore[misc]
    try:
        yield
    finally:
        for name in away:
            del sys.modules[name]


@contextmanager
def worked_out_late() -> Iterator[None]:
    """Models that are first made inside are worked out when they are first used: those of the OpenAPI document, of
    which FastAPI has a hundred, by whoever asks for it."""
    BaseModel.model_config["defer_build"] = True
    try:
        yield
    finally:
        del BaseModel.model_config["defer_build"]


class _Hollow(ModuleType):
    def __getattr__(self, name: str) -> None:
        if name.startswith("__"):
            raise AttributeError(name)
