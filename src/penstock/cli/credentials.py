"""`penstock credential`. A value is read from standard input or a file, and never an argument: others see those."""

import getpass
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from penstock.cli import nouns
from penstock.cli.admin_client import AdminClient
from penstock.cli.options import Json, NameArgument, given, moment
from penstock.cli.output import CommandFailed
from penstock.config.environment import MAX_SECRET_BYTES

CREDENTIAL = nouns.Noun("credential", ("name", "kind", "address", "team", "version", "rotated_at", "due_at"), "lab-key")

ValueFile = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Where the value stands (default: standard input, or a question at a terminal)."),
]
RotateEvery = Annotated[
    str, typer.Option(metavar="SPAN", help="After how long it is called old, such as 90d or 8w; `never` takes it back.")
]

app = nouns.command_group(CREDENTIAL, "Credentials of providers, in the vault: a value goes in and never out.")


@app.command(epilog="Example: penstock credential create lab-key --provider lab < key.txt")
def create(
    name: NameArgument,
    *,
    provider: Annotated[str, typer.Option(help="The provider that it is for, where that is declared already.")] = "",
    kind: Annotated[str, typer.Option(help="The kind of provider that it is for, such as openai.")] = "",
    base_url: Annotated[str, typer.Option(metavar="URL", help="Where that provider answers.")] = "",
    team: Annotated[str, typer.Option(help="The team whose calls alone it serves.")] = "",
    rotate_every: RotateEvery = "",
    value_file: ValueFile = None,
    as_json: Json = False,
) -> None:
    """Put a provider's credential into the vault. Refer to it as vault:NAME."""
    fields = given(provider=provider, kind=kind, base_url=base_url, team=team, rotate_every=_span(rotate_every))
    nouns.create(CREDENTIAL, {"name": name, "value": _value(value_file), **fields}, as_json)


@app.command(epilog="Example: penstock credential rotate lab-key --value-file new-key.txt --at 2026-12-31T04:00:00Z")
def rotate(
    name: NameArgument,
    *,
    at: Annotated[
        str, typer.Option(metavar="WHEN", help="When it begins to serve: a time, or 2h (default: now).")
    ] = "",
    value_file: ValueFile = None,
    as_json: Json = False,
) -> None:
    """Give a credential its next value. No call notices; those under way end with the one that they have."""
    fields = given(value=_value(value_file), active_from=moment(at, "--at", 1) if at else None)
    nouns.print_object(AdminClient.from_environment().post(f"{CREDENTIAL.at(name)}/rotate", fields), as_json)


@app.command(epilog="Example: penstock credential update lab-key --rotate-every 90d")
def update(name: NameArgument, rotate_every: RotateEvery = "", as_json: Json = False) -> None:
    """Change when a credential is called old."""
    changes: dict[str, Any] = {"rotate_every": _span(rotate_every)} if rotate_every else {}
    nouns.update(CREDENTIAL, name, changes, as_json)


def _span(text: str) -> str | None:
    return None if text in {"", "never"} else text


def _value(file: Path | None) -> str:
    """What stands in `file` or comes on standard input."""
    if file is None and sys.stdin.isatty():
        return getpass.getpass("value (it is not shown): ").strip()
    try:
        content = sys.stdin.buffer.read(MAX_SECRET_BYTES + 1) if file is None else _read(file)
        text = content.decode().strip()
    except OSError as error:
        raise CommandFailed(f"{file} cannot be read: {error.strerror}", 2) from None
    except UnicodeDecodeError:
        raise CommandFailed("the value is not text", 2) from None
    if not text or len(content) > MAX_SECRET_BYTES:
        raise CommandFailed(f"the value must have 1 to {MAX_SECRET_BYTES} bytes: give it on standard input", 2)
    return text


def _read(file: Path) -> bytes:
    with file.open("rb") as opened:
        return opened.read(MAX_SECRET_BYTES + 1)
