"""`penstock ledger`: what limits have settled and held, and whether the books are in order."""

from contextlib import nullcontext
from typing import Annotated, Any

import typer

from penstock.cli import reconcile
from penstock.cli.admin_client import AdminClient
from penstock.cli.options import Json, moment
from penstock.cli.output import CommandFailed, dollars, error_console, print_json, print_line, print_table

AMOUNTS = ("settled", "held", "leased", "amount")
COLUMNS = ("limit", "value", "window_start", *AMOUNTS, "unit", "per", "mode")
ADJUSTMENTS = ("id", "at", "limit", "value", "window_start", "amount", "actor", "reason")

app = typer.Typer(
    help="The ledger: balances of limits, adjustments, verification.", add_completion=False, no_args_is_help=True
)
app.add_typer(reconcile.app)


@app.command(epilog="Example: penstock ledger show --json")
def show(as_json: Json = False) -> None:
    """Show each limit's open windows: settled, held, leased and the amount."""
    found = AdminClient.from_environment().get("/ledger")
    if as_json:
        print_json(found)
    else:
        print_table(COLUMNS, map(_row, found["limits"]), right=AMOUNTS)


@app.command(epilog="Example: penstock ledger adjust --limit growth-monthly --amount=-1.25 --reason 'credited'")
def adjust(
    *,
    limit: Annotated[str, typer.Option(help="The limit, by its name.", show_default=False)],
    amount: Annotated[str, typer.Option(help="Dollars for a limit in usd, else a whole number; below 0 gives back.")],
    reason: Annotated[str, typer.Option(help="Why; it is kept with the entry.", show_default=False)],
    value: Annotated[str, typer.Option(help="The value, where the limit has a balance for each.")] = "",
    window_start: Annotated[
        str, typer.Option("--window-start", metavar="WHEN", help="A moment of the window meant (default: now).")
    ] = "",
    as_json: Json = False,
) -> None:
    """Move what is settled on one balance, by an entry of its own; never below zero."""
    body = {"limit": limit, "amount": amount, "reason": reason, "value": value}
    body |= {"window_start": moment(window_start, "--window-start")} if window_start else {}
    made = AdminClient.from_environment().post("/ledger/adjustments", body)
    if as_json:
        print_json(made)
    else:
        before, after = (_amount(made, name) for name in ("settled_before", "settled"))
        print_line(f"{made['id']}: {made['limit']} has {after} settled, {before} before")


@app.command(epilog="Example: penstock ledger adjustments --json")
def adjustments(as_json: Json = False) -> None:
    """List the adjustments: who moved which balance and why, the newest first."""
    items = list(AdminClient.from_environment().items("/ledger/adjustments"))
    if as_json:
        print_json({"items": items})
    else:
        rows = [[_amount(item, "amount") if name == "amount" else item[name] for name in ADJUSTMENTS] for item in items]
        print_table(ADJUSTMENTS, rows, right=("amount",))


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


def _amount(shown: dict[str, Any], name: str) -> str:
    return dollars(shown[name]) if shown["unit"] == "usd" else str(shown[name])


def _row(balance: dict[str, Any]) -> list[Any]:
    money = balance["unit"] == "usd"
    shown = {name: dollars(balance[name]) if money else balance[name] for name in AMOUNTS}
    return [shown.get(column, balance.get(column)) for column in COLUMNS]
