"""`penstock vault` and `penstock secret`: under which key the vault lies, and how that is replaced."""

import secrets
from pathlib import Path
from typing import Annotated

import typer

from penstock.app.control.files import PREVIOUS, keep_secret
from penstock.cli.admin_client import AdminClient
from penstock.cli.options import Json
from penstock.cli.output import CommandFailed, print_fields, print_json, print_line, print_table
from penstock.config.environment import DEFAULT_DATA, Environment, resolve_secret
from penstock.errors import ConfigError

app = typer.Typer(help="The vault: who wraps its data keys.", add_completion=False, no_args_is_help=True)
secret = typer.Typer(help="The root secret of this box.", add_completion=False, no_args_is_help=True)

_COLUMNS = ("id", "scope", "wrapper", "wrapping_key", "wrapped_at")


@secret.callback()
def keep_group() -> None:
    """The root secret of this box."""
    # A group of one command would be that command: `penstock secret rotate` is two words.


@app.command(epilog="Example: penstock vault show")
def show(as_json: Json = False) -> None:
    """Show which key wraps, and every data key."""
    shown = AdminClient.from_environment().get("/vault")
    if as_json:
        print_json(shown)
        return
    print_fields({name: shown[name] for name in ("wrapper", "wrapping_key", "root")})
    print_table(_COLUMNS, ([key[column] for column in _COLUMNS] for key in shown["data_keys"]))


@app.command(epilog="Example: penstock vault rewrap")
def rewrap(as_json: Json = False) -> None:
    """Wrap every data key again: under a new root secret, by another wrapper, under its key's newest version."""
    done = AdminClient.from_environment().post("/vault/rewrap", {})
    if as_json:
        print_json(done)
    else:
        print_line(f"ok: {done['data_keys']} data keys are wrapped by {done['wrapper']} ({done['wrapping_key']})")


@secret.command(epilog="Example: penstock secret rotate --data /var/lib/penstock")
def rotate(
    data: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The data directory (default: PENSTOCK_DATA).")
    ] = None,
) -> None:
    """Make a new root secret where the box keeps its own; the old one stays beside it until `vault rewrap`."""
    environment = Environment.read()
    if environment.secret is not None:
        raise CommandFailed(
            "PENSTOCK_SECRET gives the root secret: set it to a new value, PENSTOCK_SECRET_PREVIOUS to the old one, "
            "restart every box, then `penstock vault rewrap`",
            2,
        )
    directory = data or environment.data or DEFAULT_DATA
    path = directory / "secret"
    if (directory / PREVIOUS).exists():
        raise CommandFailed(f"{directory / PREVIOUS} is there: `penstock vault rewrap` has to end the rotation before")
    try:
        old = resolve_secret(f"file:{path}").reveal()
    except ConfigError as error:
        raise CommandFailed(str(error)) from None
    keep_secret(directory / PREVIOUS, old)
    keep_secret(path, secrets.token_urlsafe(32))
    print_line(f"ok: {path} is new, the old one is in {directory / PREVIOUS}")
    print_line("now restart `penstock serve`, and then: penstock vault rewrap")
