"""`penstock team`."""

from typing import Annotated

import typer

from penstock.cli import nouns
from penstock.cli.options import Json, NameArgument

TEAM = nouns.Noun("team", ("name", "required_tags", "origin"), "growth")
RequiredTags = Annotated[
    list[str] | None, typer.Option("--required-tag", metavar="TAG", help="A tag that calls must carry; repeatable.")
]

app = nouns.command_group(TEAM, "Teams: who spends.")


@app.command(epilog="Example: penstock team create growth --required-tag feature")
def create(name: NameArgument, required_tag: RequiredTags = None, as_json: Json = False) -> None:
    """Create a team."""
    nouns.create(TEAM, {"name": name, "required_tags": required_tag or []}, as_json)


@app.command(epilog="Example: penstock team update growth --no-required-tags")
def update(
    name: NameArgument,
    required_tag: RequiredTags = None,
    no_required_tags: Annotated[bool, typer.Option("--no-required-tags", help="Require no tag.")] = False,
    as_json: Json = False,
) -> None:
    """Change a team's required tags."""
    tags = [] if no_required_tags else required_tag
    nouns.update(TEAM, name, {} if tags is None else {"required_tags": tags}, as_json)
