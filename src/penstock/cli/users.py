"""`penstock user`."""

from typing import Annotated

import typer

from penstock.cli import nouns
from penstock.cli.options import Json, NameArgument

USER = nouns.Noun("user", ("name", "kind", "active", "origin", "created_at"), "ana@example.com")

app = nouns.command_group(USER, "Users: the people and services that keys and roles are given to.")


@app.command(epilog="Example: penstock user create ana@example.com")
def create(
    name: NameArgument,
    service: Annotated[bool, typer.Option("--service", help="An account of a machine.")] = False,
    as_json: Json = False,
) -> None:
    """Create a user."""
    nouns.create(USER, {"name": name, **({"kind": "service"} if service else {})}, as_json)
