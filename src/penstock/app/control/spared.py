"""Parts of libraries that are loaded with the rest of them and that nothing here uses. Calls wait for a start: without
these it takes a fifth less.

    with spared():
        import sqlalchemy.ext.asyncio

- SQLAlchemy's asyncio package brings its sessions, and with them the whole ORM; its PostgreSQL dialect brings all other
  drivers.
- genai-prices brings what fetches newer prices, and with it an HTTP client.
- structlog brings what draws on a terminal, and looks for rich to do so.
- FastAPI looks for a checker of mail addresses, and whether a model is of pydantic's first version, and loads both for
  the question.
- SQLAlchemy and pydantic load what reads of installed packages, with readers of mail and of archives, for plugins that
  nobody has, and psycopg for its own version, which the name of a folder says as well.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from pydantic import BaseModel

PRICE_UPDATES = "genai_prices.update_prices"
HOLLOW = (
    "pydantic.plugin._loader",
    "sqlalchemy.ext.asyncio.scoping",
    "sqlalchemy.ext.asyncio.session",
    "structlog.dev",
    PRICE_UPDATES,
)
"""Whoever imports a name from one of these gets by that name what takes any arguments and does nothing."""
METADATA = "importlib.metadata"
_POSTGRESQL = "sqlalchemy.dialects.postgresql"
LATE = (METADATA, *(f"{_POSTGRESQL}.{name}" for name in ("asyncpg", "pg8000", "psycopg2", "psycopg2cffi")))
"""Loaded when somebody first uses what is in it."""
ABSENT = ("email_validator", "pydantic.v1", "rich")


@contextmanager
def spared(names: Sequence[str] = (*HOLLOW, *LATE, *ABSENT)) -> Iterator[None]:
    """What is first imported inside does without these; what is imported afterwards finds them as they are. Meanwhile
    other threads do without them as well: once requests are served, `names` has none that one of them may load."""
    away = {name: _stand_in(name) for name in names if name not in sys.modules}
    sys.modules.update(away)  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name, stand_in in away.items():
            if sys.modules.get(name) is stand_in:
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


def _stand_in(name: str) -> ModuleType | None:
    if name == METADATA:
        return _Metadata(name)
    return _Late(name) if name in LATE else _Hollow(name) if name in HOLLOW else None


class _Hollow(ModuleType):
    def __getattr__(self, name: str) -> Callable[..., None]:
        if name.startswith("__"):
            raise AttributeError(name)
        return _nothing


def _nothing(*_: object, **__: object) -> None:
    pass


class _Late(ModuleType):
    """The module of this name, which is loaded when it is first asked for something."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return getattr(import_module(self.__name__), name)


class _Metadata(_Late):
    def version(self, distribution: str) -> str:
        """As the folder of an installed package is called: `name-1.2.3.dist-info`."""
        for place in sys.path:
            for folder in Path(place).glob(f"{distribution.replace('-', '_')}-*.dist-info"):
                return folder.name.removesuffix(".dist-info").rpartition("-")[2]
        version: str = self.__getattr__("version")(distribution)
        return version
