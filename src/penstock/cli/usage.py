"""`penstock usage`: spend, tokens and calls by any dimension."""

import csv
import sys
from typing import Annotated, Any

import typer

from penstock.cli.admin_client import AdminClient
from penstock.cli.options import moment
from penstock.cli.output import CommandFailed, dollars, print_json, print_table
from penstock.domain.money import usd

FORMATS = ("table", "csv", "json")
NUMBERS = ("calls", "errors", "input", "cached", "output", "cost", "estimated", "latency_ms")


def usage(
    by: Annotated[
        str, typer.Option(metavar="DIM[,DIM]", help="team, project, key, user, customer, model, tag:NAME, day, ...")
    ] = "team",
    since: Annotated[str, typer.Option(metavar="WHEN", help="2026-11-01, an RFC 3339 time, or 24h, 7d ago.")] = "",
    until: Annotated[str, typer.Option(metavar="WHEN", help="Up to then, exclusively.")] = "",
    form: Annotated[str, typer.Option("--format", help="table, csv or json.")] = "table",
    as_json: Annotated[bool, typer.Option("--json", help="The same as --format json.")] = False,
) -> None:
    """Show what calls used and cost, by any dimension."""
    form = "json" if as_json else form
    if form not in FORMATS:
        raise CommandFailed(f"--format takes {', '.join(FORMATS)}, not {form!r}", 2)
    dimensions = [name.strip() for name in by.split(",") if name.strip()]
    if not dimensions:
        raise CommandFailed("--by takes at least one dimension, such as team,model", 2)
    query = {"by": ",".join(dimensions)}
    query |= {"since": moment(since, "--since")} if since else {}
    query |= {"until": moment(until, "--until")} if until else {}
    report = AdminClient.from_environment().get("/usage", query)
    if form == "json":
        print_json(report)
    elif form == "csv":
        _print_csv(dimensions, report["rows"])
    else:
        _print_table(dimensions, report)


def _print_table(dimensions: list[str], report: dict[str, Any]) -> None:
    rows = [[*(row[name] for name in dimensions), *_figures(row)] for row in report["rows"]]
    if rows:
        rows.append(["total", *("" for _ in dimensions[1:]), *_figures(report["total"])])
    print_table([*dimensions, *NUMBERS], rows, right=NUMBERS)


def _figures(row: dict[str, Any]) -> list[Any]:
    used = row["usage"]
    cost, estimated = dollars(row["cost_nanousd"]), dollars(row["estimated_nanousd"])
    tokens = [used["input"], used["cache_read"], used["output"]]
    return [row["calls"], row["errors"], *tokens, cost, estimated, row.get("latency_ms")]


def _print_csv(dimensions: list[str], rows: list[dict[str, Any]]) -> None:
    """One column per dimension and figure; the classes of usage are `usage_input`, `usage_cache_write_5m`, ..."""
    flat = [_flat(dimensions, row) for row in rows]
    names = dict.fromkeys(name for row in flat for name in row) or dict.fromkeys(dimensions)
    writer = csv.DictWriter(sys.stdout, list(names), restval=0, lineterminator="\n")
    writer.writeheader()
    writer.writerows(flat)


def _flat(dimensions: list[str], row: dict[str, Any]) -> dict[str, Any]:
    result: dict[str, Any] = {name: row[name] for name in dimensions}
    for name, value in row.items():
        if name == "usage":
            for meter, count in value.items():
                lifetimes = count.items() if isinstance(count, dict) else [("", count)]
                result |= {f"usage_{meter}{'_' if lifetime else ''}{lifetime}": n for lifetime, n in lifetimes}
        elif name not in dimensions:
            result[name] = value
    return result | {"cost_usd": usd(row["cost_nanousd"])}
