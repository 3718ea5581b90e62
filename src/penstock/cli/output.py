"""What commands print: tables for people, JSON for programs, everything else on stderr."""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from penstock.domain.money import usd
from penstock.errors import PenstockError

PIPED_WIDTH = 1_000
"""Columns when nobody looks at a terminal: no line is wrapped or cut."""


class CommandFailed(PenstockError):
    """One sentence for stderr. `exit_code`: 1 it failed, 2 it was asked wrongly."""

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def console() -> Console:
    """Where results go. Nothing in them is markup."""
    return Console(markup=False, highlight=False, emoji=False, width=None if sys.stdout.isatty() else PIPED_WIDTH)


def error_console() -> Console:
    """Where progress and remarks go."""
    return Console(stderr=True, markup=False, highlight=False, emoji=False, soft_wrap=True)


def print_json(value: Any) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=False))


def print_line(text: str) -> None:
    print(printable(text))


def remark(text: str) -> None:
    """One line on stderr."""
    print(printable(text), file=sys.stderr)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[Any]], right: Sequence[str] = ()) -> None:
    """A table with a head. `right`: the columns of numbers."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for name in columns:
        table.add_column(name, justify="right" if name in right else "left", overflow="fold")
    count = 0
    for count, row in enumerate(rows, 1):  # noqa: B007 - how many there were is used below
        table.add_row(*(Text(cell(value)) for value in row))
    console().print(table)
    if count == 0:
        remark("nothing here")


def print_fields(fields: Mapping[str, Any]) -> None:
    """One object, a line per field."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(overflow="fold")
    table.add_column(overflow="fold")
    for name, value in fields.items():
        table.add_row(Text(name, style="bold"), Text(cell(value)))
    console().print(table)


def cell(value: Any) -> str:
    """A value as a table shows it."""
    if value is None or value in ("", [], {}):
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(
            ", ".join(f"{name}:{inner}={cell(innermost)}" for inner, innermost in item.items())
            if isinstance(item, Mapping)
            else f"{name}={cell(item)}"
            for name, item in value.items()
        )
    if isinstance(value, list):
        return "; ".join(cell(item) for item in value)
    return printable(str(value))


def printable(text: str) -> str:
    """`text` without anything that could steer a terminal."""
    return "".join(
        character if character.isprintable() or character == "\n" else "\N{REPLACEMENT CHARACTER}" for character in text
    )


def dollars(nanousd: int) -> str:
    """Nano-USD as `$1.25`, exact."""
    return f"${usd(nanousd)}"
