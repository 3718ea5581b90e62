"""`penstock user`."""

import sys
from typing import Annotated

import typer

from penstock.cli import nouns
from penstock.cli.admin_client import AdminClient
from penstock.cli.options import Json, NameArgument
from penstock.cli.output import print_line

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


@app.command(epilog="Example: penstock user deactivate ana@example.com")
def deactivate(name: NameArgument, as_json: Json = False) -> None:
    """Keep a user out: ends sessions and tokens and stops the virtual keys, at once."""
    nouns.print_object(AdminClient.from_environment().call("POST", f"{USER.at(name)}/deactivate"), as_json)


@app.command(epilog="Example: penstock user activate ana@example.com")
def activate(name: NameArgument, as_json: Json = False) -> None:
    """Let a user in again."""
    nouns.print_object(AdminClient.from_environment().call("POST", f"{USER.at(name)}/activate"), as_json)


@app.command(epilog="Example: penstock user password ana@example.com < new-password.txt")
def password(name: NameArgument) -> None:
    """Give a user a password, read from the terminal or from stdin; it ends the user's sessions."""
    given = typer.prompt("Password", hide_input=True, err=True) if sys.stdin.isatty() else sys.stdin.readline()
    AdminClient.from_environment().call("PUT", f"{USER.at(name)}/password", {"password": given.rstrip("\n")})
    print_line(f"user {name} has a new password")
