"""`penstock receipt`: one call, from who made it to what it cost."""

from typing import Annotated, Any

import typer

from penstock.cli.admin_client import AdminClient, quoted
from penstock.cli.options import Json
from penstock.cli.output import console, dollars, print_fields, print_json, print_table

WHO = ("organisation", "team", "project", "environment", "key", "user", "customer", "tags")
WHAT = ("surface", "streaming", "alias", "provider", "model", "status", "cause", "finish_reason", "error_code")
WHEN = ("started_at", "ended_at", "latency_ms", "ttft_ms", "overhead_ms")


def receipt(
    request_id: Annotated[str, typer.Argument(help="The x-request-id of the answer.", show_default=False)],
    as_json: Json = False,
) -> None:
    """Show one call: who, tags, attempts, usage, price lines, limits charged."""
    found = AdminClient.from_environment().get(f"/receipts/{quoted(request_id)}")
    if as_json:
        print_json(found)
        return
    print_fields({"request_id": found["request_id"]} | _written(found, WHO) | _written(found, WHAT))
    print_fields(_written(found, WHEN) | {"usage": _counted(found["usage"])})
    _print_section("Cost", ("meter", "quantity", "unit_price", "cost"), _cost_rows(found))
    attempts = ("n", "provider", "model", "status", "error_code", "basis", "cost")
    _print_section("Attempts", attempts, [_attempt(attempt) for attempt in found["attempts"]])
    charged = ("limit", "value", "window_start", "amount", "unit")
    _print_section("Limits charged", charged, [_charge(charge) for charge in found["limits_charged"]])
    remarks = {name: found.get(name) for name in ("flags", "guardrails", "dropped") if found.get(name)}
    if downgrade := found.get("decision", {}).get("downgrade"):
        remarks["downgraded"] = _downgrade(downgrade)
    if remarks:
        print_fields(remarks)


def _print_section(title: str, columns: tuple[str, ...], rows: list[list[Any]]) -> None:
    if rows:
        console().print(f"\n{title}")
        print_table(columns, rows, right=("n", "quantity", "unit_price", "cost", "amount"))


def _written(found: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {name: found[name] for name in names if found.get(name) not in (None, "", {}, [])}


def _counted(usage: dict[str, Any]) -> dict[str, Any]:
    """The classes with something in them."""
    return {name: count for name, count in usage.items() if count}


def _cost_rows(found: dict[str, Any]) -> list[list[Any]]:
    """A row per price line; unit prices in USD per million."""
    rows = [
        [
            line["meter"],
            line["quantity"],
            dollars(line["unit_price_nanousd_per_million"]),
            dollars(line["cost_nanousd"]),
        ]
        for line in found["cost_lines"]
    ]
    basis = f"{found['cost_basis']}, {found['price_version']}" if found["price_version"] else found["cost_basis"]
    return [*rows, [f"total ({basis})", "", "", dollars(found["cost_nanousd"])]]


def _attempt(attempt: dict[str, Any]) -> list[Any]:
    columns = ("n", "provider", "model", "status", "error_code", "basis")
    return [*(attempt[column] for column in columns), dollars(attempt["cost_nanousd"])]


def _downgrade(made: dict[str, Any]) -> str:
    refused = f"; that was refused: {made['refused']}" if "refused" in made else ""
    steps = ", ".join(f"to {step['to']} by limit {step['limit']}" for step in (made, *made.get("then", ())))
    return f"from {made['from']} {steps}{refused}"


def _charge(charge: dict[str, Any]) -> list[Any]:
    amount = dollars(charge["amount"]) if charge["unit"] == "usd" else charge["amount"]
    return [charge["limit"], charge["value"], charge["window_start"], amount, charge["unit"]]
