"""`penstock ledger`: what limits have settled and held, and whether the books are in order."""

from contextlib import nullcontext
from typing import Any

import typer

from penstock.cli.admin_client import AdminClient
from penstock.cli.options import Json
from penstock.cli.output import CommandFailed, dollars, error_console, print_json, print_line, print_table

COLUMNS = ("limit", "value", "window_start", "settled", "held", "amount", "unit", "per", "mode")

app = typer.Typer(
    help="The ledger: balances of limits, and its verification.", add_completion=False, no_args_is_help=True
)


@app.command(epilog="Example: penstock ledger show --json")
def show(as_json: Json = False) -> None:
    """Show each limit's open windows: settled, held, amount."""
    found = AdminClient.from_environment().get("/ledger")
    if as_json:
        print_json(found)
    else:
        print_table(COLUMNS, map(_row, found["limits"]), right=("settled", "held", "amount"))


@app.command(epilog="Example: penstock ledger verify")
def verify(as_json: Json = False) -> None:
    """Check the ledger's invariants: exit 0 when all hold, 1 with the first fault and its kind."""
    console = error_console()
    client = AdminClient.from_environment()
    with console.status("checking every entry and balance") if console.is_terminal else nullcontext():
        found = client.call("POST", "/ledger/verify")
    faults = found["faults"]
    if as_json:
        print_json(found)
    elif not faults:
        print_line("ok: the ledger's invariants hold")
    if faults:
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        raise CommandFailed(f"{faults[0]['kind']}: {faults[0]['detail']}{more}")


def _row(balance: dict[str, Any]) -> list[Any]:
    money = balance["unit"] == "usd"
    shown = {name: dollars(balance[name]) if money else balance[name] for name in ("settled", "held", "amount")}
    return [shown.get(column, balance.get(column)) for column in COLUMNS]
