"""`penstock key`."""

from typing import Annotated, Any

import typer

from penstock.cli import nouns
from penstock.cli.admin_client import AdminClient
from penstock.cli.options import Json, NameArgument, given, moment, pairs
from penstock.cli.output import print_fields, print_json, remark

KEY = nouns.Noun("key", ("name", "team", "project", "user", "prefix", "expires_at", "revoked_at", "origin"), "ci")

Team = Annotated[str, typer.Option(help="The team that its calls count for.")]
Project = Annotated[str, typer.Option(help="The project that its calls count for.")]
User = Annotated[str, typer.Option(help="The user whose key it is.")]
Models = Annotated[
    list[str] | None,
    typer.Option("--model", metavar="MODEL", help="A model it may use, or provider/*; repeatable. Default: every one."),
]
Tags = Annotated[
    list[str] | None,
    typer.Option("--tag", metavar="NAME=VALUE", help="A tag pinned to its calls; repeatable."),
]
Expires = Annotated[
    str, typer.Option("--expires", metavar="WHEN", help="2026-12-31T00:00:00Z, or a span from now such as 90d.")
]

app = nouns.command_group(KEY, "Virtual keys: who may call, as whom and for which models.")


def _reach(models: list[str] | None, tags: list[str] | None, expires: str) -> dict[str, Any]:
    """What the key may do, as far as it is named."""
    expires_at = moment(expires, "--expires", 1) if expires else None
    return given(models=models, tags=pairs(tags or [], "--tag"), expires_at=expires_at)


@app.command(epilog="Example: penstock key create ci --team growth --project search --model gpt-4.1 --expires 90d")
def create(
    name: NameArgument,
    *,
    team: Team = "",
    project: Project = "",
    user: User = "",
    model: Models = None,
    tag: Tags = None,
    expires: Expires = "",
    as_json: Json = False,
) -> None:
    """Create a key. Its secret is shown this once."""
    fields = given(name=name, team=team, project=project, user=user) | _reach(model, tag, expires)
    made = AdminClient.from_environment().post(KEY.path, fields)
    if as_json:
        print_json(made)
        return
    print_fields(made)
    remark("The secret is shown this once and kept nowhere: store it now.")


@app.command(epilog="Example: penstock key update ci --model gpt-4.1 --model gpt-4.1-mini")
def update(
    name: NameArgument,
    *,
    team: Team = "",
    project: Project = "",
    user: User = "",
    model: Models = None,
    tag: Tags = None,
    expires: Expires = "",
    every_model: Annotated[bool, typer.Option("--every-model", help="Allow every declared model.")] = False,
    no_tags: Annotated[bool, typer.Option("--no-tags", help="Pin no tag.")] = False,
    never_expires: Annotated[bool, typer.Option("--never-expires", help="Let it live until it is revoked.")] = False,
    as_json: Json = False,
) -> None:
    """Change what a key may do. What is not named stays."""
    changes = given(team=team, project=project, user=user) | _reach(model, tag, expires)
    changes |= {"models": []} if every_model else {}
    changes |= {"tags": {}} if no_tags else {}
    changes |= {"expires_at": None} if never_expires else {}
    nouns.update(KEY, name, changes, as_json)


@app.command(epilog="Example: penstock key revoke ci")
def revoke(name: NameArgument, as_json: Json = False) -> None:
    """Refuse a key from now on, for good. It stays listed."""
    nouns.print_object(AdminClient.from_environment().call("POST", f"{KEY.at(name)}/revoke"), as_json)
