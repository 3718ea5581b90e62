"""`penstock key`."""

from collections.abc import Mapping
from typing import Annotated, Any, NamedTuple

import typer

from penstock.cli import nouns
from penstock.cli.admin_client import AdminClient
from penstock.cli.options import Json, NameArgument, given, listed_pairs, moment, pairs
from penstock.cli.output import print_fields, print_json, remark

KEY = nouns.Noun(
    "key", ("name", "team", "project", "user", "prefix", "last_used_at", "expires_at", "revoked_at", "origin"), "ci"
)

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
AllowedTags = Annotated[
    list[str] | None,
    typer.Option("--allowed-tag", metavar="NAME=VALUE", help="A value that a tag of its calls may have; repeatable."),
]
Surfaces = Annotated[
    list[str] | None,
    typer.Option(
        "--surface", metavar="SURFACE", help="What it may call, such as embeddings; repeatable. Default: all."
    ),
]
Cidrs = Annotated[
    list[str] | None,
    typer.Option("--cidr", metavar="NETWORK", help="A network that it may be used from; repeatable. Default: all."),
]
Parent = Annotated[str, typer.Option(help="The key under which it stands: it can do no more, and ends with it.")]
Expires = Annotated[
    str, typer.Option("--expires", metavar="WHEN", help="2026-12-31T00:00:00Z, or a span from now such as 90d.")
]

app = nouns.command_group(KEY, "Virtual keys: who may call, as whom and for which models.")


class _Bounds(NamedTuple):
    """What the key may do, as it is written at the command line."""

    models: list[str] | None
    surfaces: list[str] | None
    cidrs: list[str] | None
    tags: list[str] | None
    allowed_tags: list[str] | None
    expires: str

    def fields(self) -> dict[str, Any]:
        """As far as it is named."""
        return given(
            models=self.models,
            surfaces=self.surfaces,
            allowed_cidrs=self.cidrs,
            tags=pairs(self.tags or [], "--tag"),
            allowed_tags=listed_pairs(self.allowed_tags or [], "--allowed-tag"),
            expires_at=moment(self.expires, "--expires", 1) if self.expires else None,
        )


@app.command(epilog="Example: penstock key create ci --team growth --project search --model gpt-4.1 --expires 90d")
def create(
    name: NameArgument,
    *,
    team: Team = "",
    project: Project = "",
    user: User = "",
    parent: Parent = "",
    model: Models = None,
    surface: Surfaces = None,
    cidr: Cidrs = None,
    tag: Tags = None,
    allowed_tag: AllowedTags = None,
    expires: Expires = "",
    as_json: Json = False,
) -> None:
    """Create a key. Its secret is shown this once."""
    fields = given(name=name, team=team, project=project, user=user, parent=parent)
    fields |= _Bounds(model, surface, cidr, tag, allowed_tag, expires).fields()
    _print_secret(AdminClient.from_environment().post(KEY.path, fields), as_json)


@app.command(epilog="Example: penstock key update ci --model gpt-4.1 --model gpt-4.1-mini")
def update(
    name: NameArgument,
    *,
    team: Team = "",
    project: Project = "",
    user: User = "",
    model: Models = None,
    surface: Surfaces = None,
    cidr: Cidrs = None,
    tag: Tags = None,
    allowed_tag: AllowedTags = None,
    expires: Expires = "",
    every_model: Annotated[bool, typer.Option("--every-model", help="Allow every declared model.")] = False,
    every_surface: Annotated[bool, typer.Option("--every-surface", help="Allow every kind of call.")] = False,
    any_address: Annotated[bool, typer.Option("--any-address", help="Allow every network.")] = False,
    no_tags: Annotated[bool, typer.Option("--no-tags", help="Pin no tag.")] = False,
    any_tags: Annotated[bool, typer.Option("--any-tags", help="Allow every value of every tag.")] = False,
    never_expires: Annotated[bool, typer.Option("--never-expires", help="Let it live until it is revoked.")] = False,
    as_json: Json = False,
) -> None:
    """Change what a key may do. What is not named stays."""
    changes = given(team=team, project=project, user=user)
    changes |= _Bounds(model, surface, cidr, tag, allowed_tag, expires).fields()
    changes |= {"models": []} if every_model else {}
    changes |= {"surfaces": []} if every_surface else {}
    changes |= {"allowed_cidrs": []} if any_address else {}
    changes |= {"tags": {}} if no_tags else {}
    changes |= {"allowed_tags": {}} if any_tags else {}
    changes |= {"expires_at": None} if never_expires else {}
    nouns.update(KEY, name, changes, as_json)


@app.command(epilog="Example: penstock key revoke ci")
def revoke(name: NameArgument, as_json: Json = False) -> None:
    """Refuse a key from now on, for good. It stays listed."""
    nouns.print_object(AdminClient.from_environment().call("POST", f"{KEY.at(name)}/revoke"), as_json)


@app.command(epilog="Example: penstock key rotate ci --grace 24h")
def rotate(
    name: NameArgument,
    grace: Annotated[str, typer.Option(metavar="SPAN", help="How long the old secret is good as well: 24h, 7d.")] = "",
    as_json: Json = False,
) -> None:
    """Give a key another secret, which is shown this once. Without a grace the old one is refused at once."""
    fields = {"grace": grace} if grace else {}
    _print_secret(AdminClient.from_environment().call("POST", f"{KEY.at(name)}/rotate", fields), as_json)


def _print_secret(made: Mapping[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(made)
        return
    print_fields(made)
    remark("The secret is shown this once and kept nowhere: store it now.")
