"""Options and arguments that several commands share, and how their texts are read."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import typer

from penstock.cli.output import CommandFailed
from penstock.config.environment import Environment

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="Its name.", show_default=False)]
ConfigFile = Annotated[
    Path | None,
    typer.Option("-c", "--config", metavar="FILE", help="The configuration file (default: PENSTOCK_CONFIG)."),
]

_SPANS = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}
MAX_COUNT = 100_000


def config_file(given: Path | None) -> Path:
    """The file that was named, or the environment's."""
    path = given or Environment.read().config
    if path is None:
        raise CommandFailed("name the configuration file: -c FILE, or set PENSTOCK_CONFIG", 2)
    return path


def pairs(texts: Sequence[str], option: str) -> dict[str, str]:
    """`["a=1", "b=2"]` -> `{"a": "1", "b": "2"}`."""
    result: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name or not value:
            raise CommandFailed(f"{option} takes NAME=VALUE, not {text!r}", 2)
        if name in result:
            raise CommandFailed(f"{option} names {name!r} twice", 2)
        result[name] = value
    return result


def listed_pairs(texts: Sequence[str], option: str) -> dict[str, list[str]]:
    """`["a=1", "a=2"]` -> `{"a": ["1", "2"]}`."""
    result: dict[str, list[str]] = {}
    for text in texts:
        ((name, value),) = pairs([text], option).items()
        result.setdefault(name, []).append(value)
    return result


def moment(text: str, option: str, sign: int = -1) -> str:
    """RFC 3339 text of a moment that is written so, as a date, or as a span from now (`24h`, `7d`): back, or with
    `sign` 1 ahead."""
    number, unit = text[:-1], text[-1:]
    if unit in _SPANS and number.isascii() and number.isdigit() and int(number[:9]) <= MAX_COUNT:
        parsed = datetime.now(UTC) + sign * int(number) * _SPANS[unit]
    else:
        try:
            parsed = datetime.fromisoformat(text)
        except ValueError:
            raise CommandFailed(f"{option} takes 2026-12-31, 2026-12-31T10:00:00Z or 24h, not {text!r}", 2) from None
    if parsed.tzinfo is None:
        parsed = parsed.replace(tzinfo=UTC)
    return parsed.astimezone(UTC).isoformat().replace("+00:00", "Z")


def given(**fields: Any) -> dict[str, Any]:
    """The fields that were written."""
    return {name: value for name, value in fields.items() if value not in (None, [], {}, "")}
