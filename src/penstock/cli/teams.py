"""`penstock team`."""

from typing import Annotated

import typer

from penstock.cli import nouns
from penstock.cli.options import Json, NameArgument, given, pairs

TEAM = nouns.Noun("team", ("name", "organisation", "required_tags", "origin"), "growth")
RequiredTags = Annotated[
    list[str] | None, typer.Option("--required-tag", metavar="TAG", help="A tag that calls must carry; repeatable.")
]
Organisation = Annotated[str, typer.Option(help="Whose team it is. Default: default.")]
TagsFrom = Annotated[
    list[str] | None,
    typer.Option(
        "--tag-from",
        metavar="TAG=ATTRIBUTE",
        help="What stands in for a required tag: key, user, project, environment or team of the key; repeatable.",
    ),
]

app = nouns.command_group(TEAM, "Teams: who spends.")


@app.command(epilog="Example: penstock team create growth --required-tag feature")
def create(
    name: NameArgument,
    *,
    organisation: Organisation = "",
    required_tag: RequiredTags = None,
    tag_from: TagsFrom = None,
    as_json: Json = False,
) -> None:
    """Create a team."""
    more = given(organisation=organisation, tags_from=pairs(tag_from or [], "--tag-from"))
    nouns.create(TEAM, {"name": name, "required_tags": required_tag or [], **more}, as_json)


@app.command(epilog="Example: penstock team update growth --no-required-tags")
def update(
    name: NameArgument,
    *,
    organisation: Organisation = "",
    required_tag: RequiredTags = None,
    tag_from: TagsFrom = None,
    no_required_tags: Annotated[bool, typer.Option("--no-required-tags", help="Require no tag.")] = False,
    as_json: Json = False,
) -> None:
    """Change a team. What is not named stays."""
    changes = given(
        organisation=organisation, required_tags=required_tag, tags_from=pairs(tag_from or [], "--tag-from")
    )
    changes |= {"required_tags": [], "tags_from": {}} if no_required_tags else {}
    nouns.update(TEAM, name, changes, as_json)
