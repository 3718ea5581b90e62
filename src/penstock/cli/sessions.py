"""`penstock session`."""

import typer

from penstock.cli.admin_client import AdminClient, quoted
from penstock.cli.options import Json, NameArgument
from penstock.cli.output import print_json, print_line, print_table

COLUMNS = ("name", "user", "how", "address", "created_at", "expires_at")

app = typer.Typer(help="Sessions: who is signed in.", add_completion=False, no_args_is_help=True)


@app.command("list", epilog="Example: penstock session list")
def list_all(as_json: Json = False) -> None:
    """List everybody who is signed in."""
    items = list(AdminClient.from_environment().items("/sessions"))
    if as_json:
        print_json(items)
    else:
        print_table(COLUMNS, ([item[column] for column in COLUMNS] for item in items))


@app.command(epilog="Example: penstock session end ses_0123456789abcdef0123456789abcdef")
def end(name: NameArgument) -> None:
    """End a session: whoever has its cookie is a stranger from now on."""
    AdminClient.from_environment().call("DELETE", f"/sessions/{quoted(name)}")
    print_line(f"session {name} is ended")
