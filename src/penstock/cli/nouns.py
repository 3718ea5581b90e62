"""What every noun of the control plane has in common at the command line: list, show, delete, and how a write reads."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import typer

from penstock.cli.admin_client import AdminClient, quoted
from penstock.cli.options import Json, NameArgument
from penstock.cli.output import CommandFailed, print_fields, print_json, print_line, print_table


@dataclass(frozen=True)
class Noun:
    """`word`: `team`. `columns`: the fields that a listing shows. `example`: a name in examples."""

    word: str
    columns: Sequence[str]
    example: str

    @property
    def path(self) -> str:
        return f"/{self.word}s"

    def at(self, name: str) -> str:
        return f"{self.path}/{quoted(name)}"


def command_group(noun: Noun, about: str) -> typer.Typer:
    """The group `penstock <word>` with list, show and delete; its file adds the rest."""
    app = typer.Typer(help=about, add_completion=False, no_args_is_help=True)

    @app.command("list", help=f"List every {noun.word}.", epilog=f"Example: penstock {noun.word} list --json")
    def list_all(as_json: Json = False) -> None:
        items = list(AdminClient.from_environment().items(noun.path))
        if as_json:
            print_json(items)
        else:
            print_table(noun.columns, ([item.get(column) for column in noun.columns] for item in items))

    @app.command(help=f"Show one {noun.word}.", epilog=f"Example: penstock {noun.word} show {noun.example}")
    def show(name: NameArgument, as_json: Json = False) -> None:
        print_object(AdminClient.from_environment().get(noun.at(name)), as_json)

    @app.command(help=f"Delete a {noun.word}.", epilog=f"Example: penstock {noun.word} delete {noun.example}")
    def delete(name: NameArgument, as_json: Json = False) -> None:
        AdminClient.from_environment().call("DELETE", noun.at(name))
        if as_json:
            print_json({"deleted": name})
        else:
            print_line(f"{noun.word} {name} is deleted")

    return app


def create(noun: Noun, fields: Mapping[str, Any], as_json: bool) -> None:
    """Creates one and prints it as the gateway now has it."""
    print_object(AdminClient.from_environment().post(noun.path, fields), as_json)


def update(noun: Noun, name: str, changes: Mapping[str, Any], as_json: bool) -> None:
    """Changes one and prints it as it is now."""
    if not changes:
        raise CommandFailed("nothing to change: name at least one option (see --help)", 2)
    print_object(AdminClient.from_environment().call("PATCH", noun.at(name), changes), as_json)


def print_object(value: Mapping[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(value)
    else:
        print_fields(value)
