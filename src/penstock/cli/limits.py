"""`penstock limit`."""

from typing import Annotated, Any

import typer

from penstock.cli import nouns
from penstock.cli.admin_client import AdminClient
from penstock.cli.options import Json, NameArgument, given, moment, pairs

LIMIT = nouns.Noun(
    "limit",
    ("name", "match", "each", "unit", "amount", "per", "window", "timezone", "mode", "origin"),
    "growth-monthly",
)

Amount = Annotated[
    str, typer.Option(help="How much: dollars for usd, a whole number for the rest.", show_default=False)
]
Mode = Annotated[str, typer.Option(help="strict refuses, observe counts and alerts.")]
AlertAt = Annotated[
    list[float] | None,
    typer.Option("--alert-at", metavar="FRACTION", help="Alert when this share is spent, such as 0.8; repeatable."),
]
OnExceeded = Annotated[
    str,
    typer.Option(
        "--on-exceeded",
        metavar="REACTION",
        help="refuse, or downgrade:MODEL: that model takes over what the limit denies.",
    ),
]

MaxValues = Annotated[
    int | None,
    typer.Option(metavar="N", help="How many values of EACH get a balance of their own; the rest share one."),
]

app = nouns.command_group(LIMIT, "Limits: budgets, rates and concurrency; which calls count, in what unit, how much.")


@app.command(epilog="Example: penstock limit create growth-daily --match team=growth --unit usd --amount 25 --per day")
def create(
    *,
    unit: Annotated[
        str,
        typer.Option(help="usd, tokens, input_tokens, output_tokens, requests or concurrent.", show_default=False),
    ],
    amount: Amount,
    name: Annotated[str, typer.Argument(metavar="[NAME]", help="Made from the rest when left out.")] = "",
    match: Annotated[
        list[str] | None,
        typer.Option(
            metavar="DIMENSION=VALUE",
            help="Which calls count, such as team=growth or tag:feature=search; repeatable, all must hold.",
        ),
    ] = None,
    each: Annotated[
        str, typer.Option(metavar="DIMENSION", help="A balance for each value of it, such as customer or tag:feature.")
    ] = "",
    per: Annotated[
        str, typer.Option(metavar="WINDOW", help="second, minute, hour, day, week, month, year or total.")
    ] = "",
    window: Annotated[str, typer.Option(help="fixed turns with the calendar, sliding is the last of PER.")] = "",
    timezone: Annotated[str, typer.Option(metavar="ZONE", help="Whose calendar, such as Europe/Berlin.")] = "",
    mode: Mode = "",
    alert_at: AlertAt = None,
    on_exceeded: OnExceeded = "",
    max_values: MaxValues = None,
    as_json: Json = False,
) -> None:
    """Create a limit. It begins with empty balances."""
    fields = given(name=name, each=each, unit=unit, amount=amount, per=per, mode=mode, alert_at=alert_at)
    fields |= given(window=window, timezone=timezone, on_exceeded=_reaction(on_exceeded), max_values=max_values)
    nouns.create(LIMIT, fields | _matching(match or []), as_json)


@app.command(epilog="Example: penstock limit update growth-daily --amount 40")
def update(
    name: NameArgument,
    *,
    amount: Amount = "",
    mode: Mode = "",
    alert_at: AlertAt = None,
    on_exceeded: OnExceeded = "",
    max_values: MaxValues = None,
    as_json: Json = False,
) -> None:
    """Change a limit's amount, mode, alerts or reaction. What it counts stays as it is."""
    fields = given(
        amount=amount, mode=mode, alert_at=alert_at, on_exceeded=_reaction(on_exceeded), max_values=max_values
    )
    nouns.update(LIMIT, name, fields, as_json)


@app.command("raise", epilog="Example: penstock limit raise growth-daily --by 15 --until 48h --reason 'launch day'")
def raise_amount(
    name: NameArgument,
    by: Annotated[str, typer.Option(help="How much more: dollars for usd, a whole number for the rest.")],
    until: Annotated[str, typer.Option(metavar="TIME", help="A date, an RFC 3339 time, or a span such as 48h.")],
    reason: Annotated[str, typer.Option(help="Why; it stands in the audit log.")],
    as_json: Json = False,
) -> None:
    """Raise a limit for a time, also one that the configuration file declares."""
    asked = {"by": by, "until": moment(until, "--until", 1), "reason": reason}
    nouns.print_object(AdminClient.from_environment().post(f"{LIMIT.at(name)}/raise", asked), as_json)


@app.command("end-raises", epilog="Example: penstock limit end-raises growth-daily")
def end_raises(name: NameArgument, as_json: Json = False) -> None:
    """End a limit's temporary increases now."""
    nouns.print_object(AdminClient.from_environment().call("DELETE", f"{LIMIT.at(name)}/raise"), as_json)


def _reaction(text: str) -> str | dict[str, str]:
    """`downgrade:small` as the body's `on_exceeded`; anything else is the gateway's to judge."""
    reaction, colon, model = text.partition(":")
    return {reaction: model} if colon else text


def _matching(texts: list[str]) -> dict[str, Any]:
    """`["team=growth", "tag:feature=search"]` as the body's `match`."""
    found = pairs(texts, "--match")
    match: dict[str, Any] = {name: value for name, value in found.items() if not name.startswith("tag:")}
    tags = {name.removeprefix("tag:"): value for name, value in found.items() if name.startswith("tag:")}
    return {"match": match | ({"tag": tags} if tags else {})}
