"""The commands of `penstock`: finds the one asked for, runs it, and turns whatever goes wrong into one sentence.

A command's module is imported when the command is asked for, so that a short one does not pay for the others.
"""

import sys
import traceback
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperGroup
from typer.main import get_command

from penstock import __version__
from penstock.cli.output import CommandFailed, print_line, remark
from penstock.errors import ConfigError, PenstockError

COMMANDS: Mapping[str, str] = {
    "demo": "demo:demo",
    "serve": "serve:serve",
    "check": "check:check",
    "diff": "configuration:diff",
    "apply": "configuration:apply",
    "config": "configuration:app",
    "migrate": "migrate:migrate",
    "doctor": "doctor:doctor",
    "key": "keys:app",
    "organisation": "organisations:app",
    "team": "teams:app",
    "project": "projects:app",
    "user": "users:app",
    "role": "roles:role_app",
    "binding": "roles:binding_app",
    "token": "roles:token_app",
    "session": "sessions:app",
    "limit": "limits:app",
    "provider": "providers:app",
    "credential": "credentials:app",
    "vault": "vault:app",
    "secret": "vault:secret",
    "model": "models:app",
    "price": "prices:app",
    "import": "imports:app",
    "kill": "kill:app",
    "drill": "drill:drill",
    "usage": "usage:usage",
    "receipt": "receipt:receipt",
    "ledger": "ledger:app",
    "backup": "backup:backup",
    "restore": "backup:restore",
    "prove": "prove:app",
    "bench": "bench:bench",
}
"""Command -> module of this room and what it calls its group or function; in the order of the help."""

EXAMPLES: Mapping[str, str] = {
    "apply": "penstock apply -c penstock.yaml --dry-run",
    "backup": "penstock backup /var/backups/penstock-monday -c penstock.yaml",
    "check": "penstock check -c penstock.yaml",
    "demo": "penstock demo --once",
    "diff": "penstock diff -c penstock.yaml",
    "doctor": "penstock doctor -c penstock.yaml",
    "drill": "penstock drill --streams 50 --report drills",
    "migrate": "penstock migrate -c penstock.yaml",
    "receipt": "penstock receipt req_0123456789abcdef",
    "restore": "penstock restore /var/backups/penstock-monday -c penstock.yaml",
    "serve": "penstock serve -c penstock.yaml",
    "usage": "penstock usage --by team,model --since 7d --format csv",
}


class Commands(TyperGroup):
    """The commands of `COMMANDS`, each imported when it is first looked at."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        # Their names alone, from which a typing error is told what was meant.
        self.commands = dict.fromkeys(COMMANDS)  # type: ignore[assignment]

    def list_commands(self, ctx: typer.Context) -> list[str]:  # type: ignore[override]
        return list(COMMANDS)

    def get_command(self, ctx: typer.Context, cmd_name: str) -> Any:  # type: ignore[override]
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name].partition(":")
        found = getattr(import_module(f"penstock.cli.{module}"), attribute)
        group = found if isinstance(found, typer.Typer) else _alone(found, cmd_name)
        command = get_command(group)
        command.name = cmd_name
        return command


def _alone(function: Callable[..., Any], name: str) -> typer.Typer:
    group = typer.Typer(add_completion=False)
    example = EXAMPLES.get(name)
    group.command(epilog=f"Example: {example}" if example else None)(function)
    return group


app = typer.Typer(cls=Commands, no_args_is_help=True, add_completion=False)


def _print_version(wanted: bool) -> None:
    if wanted:
        print_line(f"penstock {__version__}")
        raise typer.Exit


@app.callback(epilog="Example: penstock demo")
def penstock(
    version: bool = typer.Option(False, "--version", callback=_print_version, is_eager=True, help="Print the version."),
) -> None:
    """Penstock: the AI gateway that is also a financial control plane."""


def main() -> None:
    """Exit 0 when the command did what was asked, 1 when it failed, 2 when it was asked wrongly, 130 at Ctrl-C."""
    try:
        code = run(sys.argv[1:])
    except Exception as error:  # noqa: BLE001 - the last one that can say it in a sentence
        place = traceback.extract_tb(error.__traceback__)[-1]
        remark(f"penstock: a fault of this program, please report it: {error!r} at {place.name}, line {place.lineno}")
        code = 1
    sys.exit(code)


def run(arguments: list[str]) -> int:
    """The exit code of one command."""
    try:
        code = app(arguments, prog_name="penstock", standalone_mode=False)
        sys.stdout.flush()
    except typer.TyperException as error:
        if sentence := _sentence(error.format_message()):
            remark(f"penstock: {sentence}")
        return error.exit_code
    except CommandFailed as error:
        remark(f"penstock: {error}")
        return error.exit_code
    except ConfigError as error:
        remark(f"penstock: {error}")
        return 2
    except PenstockError as error:
        remark(f"penstock: {error}")
        return 1
    except typer.Abort:
        return 130
    except BrokenPipeError:
        # Whoever read the output has gone; Python would complain again when it flushes at exit.
        sys.stdout = None
        return 1
    return code if isinstance(code, int) else 0


def _sentence(text: str) -> str:
    """One line without a closing full stop; empty where the help was printed in place of an error."""
    return " ".join(text.split()).rstrip(".")
