"""`penstock role`, `penstock binding` and `penstock token`: who may do what in the control plane."""

from typing import Annotated, Any

import typer

from penstock.cli import nouns
from penstock.cli.admin_client import AdminClient
from penstock.cli.options import Json, NameArgument, given, moment
from penstock.cli.output import CommandFailed, print_fields, print_json, print_table, remark

BINDING = nouns.Noun("binding", ("name", "user", "group", "role", "scope", "created_by"), "bnd_0123456789abcdef")
TOKEN = nouns.Noun("token", ("name", "user", "purpose", "prefix", "expires_at", "revoked_at"), "deploy-ci")

role_app = typer.Typer(help="Roles: what each of them permits.", add_completion=False, no_args_is_help=True)
binding_app = nouns.command_group(BINDING, "Bindings: who has which role, and for which part of the organisation.")
token_app = nouns.command_group(TOKEN, "Admin tokens: with which machines and command lines come to the admin API.")


@role_app.command("list", epilog="Example: penstock role list")
def list_roles(as_json: Json = False) -> None:
    """The permission table: a row per permission, a column per role."""
    answer = AdminClient.from_environment().get("/roles")
    if as_json:
        print_json(answer)
        return
    permissions = {item["role"]: set(item["permissions"]) for item in answer["items"]}
    rows = (
        [name, about, *("x" if name in held else "" for held in permissions.values())]
        for name, about in answer["permissions"].items()
    )
    print_table(("permission", "about", *permissions), rows)


@binding_app.command("create", epilog="Example: penstock binding create finance --user ana@example.com --team growth")
def create_binding(
    role: Annotated[str, typer.Argument(help="owner, admin, operator, finance, auditor, developer or viewer.")],
    *,
    user: Annotated[str, typer.Option(help="The user who gets it; or")] = "",
    group: Annotated[str, typer.Option(help="the group of the identity provider whose members get it.")] = "",
    organisation: Annotated[str, typer.Option(help="For this organisation alone (`default`: for all).")] = "",
    teams_of: Annotated[
        str, typer.Option(help="For the teams of this organisation, and nothing that is its own.")
    ] = "",
    team: Annotated[str, typer.Option(help="For this team alone.")] = "",
    project: Annotated[str, typer.Option(help="For this project alone.")] = "",
    as_json: Json = False,
) -> None:
    """Give a role to a user or a group: for everything unless an organisation, a team or a project is named."""
    scope: dict[str, Any] = given(organisation=organisation, teams_of=teams_of, team=team, project=project)
    if len(scope) > 1:
        raise CommandFailed("name an organisation, the teams of one, a team or a project, one of them", 2)
    scope = scope or {"organisation": "default"}
    nouns.create(BINDING, given(user=user, group=group) | {"role": role, "scope": scope}, as_json)


@token_app.command("create", epilog="Example: penstock token create deploy-ci --user deploy-bot --expires 30d")
def create_token(
    name: NameArgument,
    *,
    user: Annotated[str, typer.Option(help="Whose rights it has (default: your own).")] = "",
    provisioning: Annotated[
        bool, typer.Option("--provisioning", help="An identity provider's, for SCIM and nothing else.")
    ] = False,
    expires: Annotated[
        str, typer.Option("--expires", metavar="WHEN", help="Within a year (default: 90d).", show_default=False)
    ] = "",
    as_json: Json = False,
) -> None:
    """Make an admin token. Its secret is shown this once."""
    expires_at = moment(expires, "--expires", 1) if expires else None
    fields = given(name=name, user=user, purpose="provisioning" if provisioning else "", expires_at=expires_at)
    made = AdminClient.from_environment().post(TOKEN.path, fields)
    if as_json:
        print_json(made)
        return
    print_fields(made)
    remark("The secret is shown this once and kept nowhere: store it now.")


@token_app.command("revoke", epilog="Example: penstock token revoke deploy-ci")
def revoke_token(name: NameArgument, as_json: Json = False) -> None:
    """Refuse a token from now on, for good. It stays listed."""
    nouns.print_object(AdminClient.from_environment().call("POST", f"{TOKEN.at(name)}/revoke"), as_json)
