"""`penstock project`."""

from typing import Annotated

import typer

from penstock.cli import nouns
from penstock.cli.options import Json, NameArgument, given

PROJECT = nouns.Noun("project", ("name", "team", "environment", "origin"), "search")

app = nouns.command_group(PROJECT, "Projects: what a team spends on, in one environment.")


@app.command(epilog="Example: penstock project create search --team growth --environment production")
def create(
    name: NameArgument,
    team: Annotated[str, typer.Option(help="The team that owns it.", show_default=False)],
    environment: Annotated[str, typer.Option(help="Such as production or staging.")] = "",
    as_json: Json = False,
) -> None:
    """Create a project."""
    nouns.create(PROJECT, given(name=name, team=team, environment=environment), as_json)


@app.command(epilog="Example: penstock project update search --environment staging")
def update(
    name: NameArgument,
    team: Annotated[str, typer.Option(help="The team that owns it.")] = "",
    environment: Annotated[str, typer.Option(help="Such as production or staging.")] = "",
    as_json: Json = False,
) -> None:
    """Change a project's team or environment."""
    nouns.update(PROJECT, name, given(team=team, environment=environment), as_json)
