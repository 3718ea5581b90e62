"""`penstock ledger reconcile`: a provider's export beside the gateway's own books. It writes nothing."""

import shlex
from collections.abc import Iterable, Mapping
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Annotated, Any

import typer

from penstock.cli.admin_client import AdminClient
from penstock.cli.options import Json, moment, pairs
from penstock.cli.output import CommandFailed, dollars, print_json, print_line, print_table
from penstock.domain.money import MAX_NANOUSD, NANO, usd
from penstock.records.reconciliation import (
    FORMATS,
    Difference,
    Export,
    Sums,
    Tolerance,
    UnreadableExport,
    compare,
    read_export,
    read_usage,
)

MAX_BYTES = 256 * 1024 * 1024
MONEY = ("our_cost", "their_cost", "delta", "estimated")
TOKENS = ("our_tokens", "their_tokens")

app = typer.Typer(add_completion=False)


@app.command(epilog="Example: penstock ledger reconcile invoice.csv --provider openai --format openai")
def reconcile(
    *,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The provider's CSV export.", show_default=False)],
    provider: Annotated[str, typer.Option(help="Which provider it is of, by its name here.", show_default=False)],
    form: Annotated[str, typer.Option("--format", help="openai, anthropic or generic.")] = "generic",
    since: Annotated[str, typer.Option(metavar="WHEN", help="From this day on (default: the file's first).")] = "",
    until: Annotated[str, typer.Option(metavar="WHEN", help="Up to this day (default: after the file's last).")] = "",
    tolerance: Annotated[
        str, typer.Option(help="What a day and model may differ by: dollars (0.01) or a share (0.5%).")
    ] = "0.01",
    rename: Annotated[
        list[str], typer.Option(metavar="THEIRS=OURS", help="A model that the provider calls otherwise; repeatable.")
    ] = [],  # noqa: B006 - typer reads it and nobody writes to it
    everything: Annotated[bool, typer.Option("--all", help="Days and models that agree, too.")] = False,
    as_json: Json = False,
) -> None:
    """Compare a provider's usage or cost export with the books by day and model: exit 1 where they differ."""
    allowed = _tolerance(tolerance)
    export = _read(file, form, pairs(rename, "--rename"))
    days = sorted({day for day, _, _ in export.sums})
    first, last = (moment(text, option) if text else "" for text, option in ((since, "--since"), (until, "--until")))
    chosen = _between(export, first[:10], last[:10])
    by = ["day", "provider", *(["model"] if export.models else []), *(["key"] if export.keys else [])]
    query = {"by": ",".join(by), "since": first[:10] or days[0]}
    query |= {"until": last[:10]} if last else {}
    client = AdminClient.from_environment()
    rows = client.get("/usage", query)["rows"]
    known = rows if last else [row for row in rows if row["day"] <= days[-1]]
    ours = read_usage(known, provider, chosen)
    if not ours and provider not in {item["name"] for item in client.items("/providers")}:
        raise CommandFailed(f"there is no provider {provider!r}, nor were there calls to one of that name", 2)
    found = compare(ours, chosen, allowed)
    beyond = [each for each in found if each.beyond]
    shown = found if everything else beyond
    advice = list(_advice(beyond, provider, client))
    if as_json:
        print_json({"differences": [_json(each) for each in shown], "compared": len(found), "suggestions": advice})
    else:
        _print(shown, export, advice)
    if beyond:
        raise CommandFailed(f"{len(beyond)} of {len(found)} days and models differ by more than {tolerance}")
    if not as_json:
        print_line(f"ok: {len(found)} days and models agree")


def _read(file: Path, form: str, renamed: Mapping[str, str]) -> Export:
    if form not in FORMATS:
        raise CommandFailed(f"--format takes {', '.join(FORMATS)}, not {form!r}", 2)
    try:
        if file.stat().st_size > MAX_BYTES:
            raise CommandFailed(f"{file} is larger than {MAX_BYTES // 2**20} MiB; export less at a time", 2)
        with file.open(encoding="utf-8-sig", newline="") as lines:
            export = read_export(lines, form, renamed)
    except OSError as error:
        raise CommandFailed(f"{file} cannot be read: {error.strerror}", 2) from None
    except UnicodeDecodeError:
        raise CommandFailed(f"{file} is not UTF-8 text", 2) from None
    except UnreadableExport as error:
        raise CommandFailed(f"{file}: {error}", 2) from None
    if not export.sums:
        raise CommandFailed(f"{file} has no line with a cost or a token in it", 2)
    return export


def _between(export: Export, since: str, until: str) -> Export:
    """What the export says of the days from `since` up to `until`, exclusively; either may be empty."""
    chosen = {
        place: sums for place, sums in export.sums.items() if since <= place[0] and (not until or place[0] < until)
    }
    return Export(chosen, export.costs, export.tokens, export.models, export.keys)


def _tolerance(text: str) -> Tolerance:
    number, percent = (text[:-1], True) if text.endswith("%") else (text, False)
    try:
        exact = Decimal(number)
    except InvalidOperation:
        exact = Decimal(-1)
    if not (exact.is_finite() and 0 <= exact <= MAX_NANOUSD // NANO):
        raise CommandFailed(f"--tolerance takes dollars such as 0.01 or a share such as 0.5%, not {text!r}", 2)
    return Tolerance(percent=exact) if percent else Tolerance(nanousd=int(exact * NANO))


def _advice(beyond: Iterable[Difference], provider: str, client: AdminClient) -> Iterable[str]:
    """A command for each limit that certainly counted the estimates which differ. Other limits that counted them are
    on the calls' receipts."""
    limits = list(client.items("/limits"))
    for each in beyond:
        amount = each.correction_nanousd
        if not amount:
            continue
        counting = [limit["name"] for limit in limits if _certainly_counts(limit, provider, each.key)] or ["LIMIT"]
        for limit in counting:
            reason = f"{provider} billed {usd(each.theirs.cost_nanousd)} USD for {each.model or 'all models'}"
            words = ["penstock", "ledger", "adjust", "--limit", limit, "--window-start", each.day]
            yield shlex.join([*words, f"--amount={usd(amount)}", "--reason", f"{reason} on {each.day}"])


def _certainly_counts(limit: Mapping[str, Any], provider: str, key: str) -> bool:
    """Whether every call of this provider (and key, where it is known) falls under a dollar limit with one balance."""
    known = {"provider": provider, "organisation": "default"} | ({"key": key} if key else {})
    lasting = limit["per"] not in {"second", "minute"}
    return limit["unit"] == "usd" and limit["each"] is None and lasting and limit["match"].items() <= known.items()


def _print(shown: list[Difference], export: Export, advice: list[str]) -> None:
    columns = ["day", *(["model"] if export.models else []), *(["key"] if export.keys else [])]
    columns += [*(MONEY if export.costs else ()), *(TOKENS if export.tokens else ())]
    if shown:
        print_table(columns, [[_cells(each)[name] for name in columns] for each in shown], right=(*MONEY, *TOKENS))
    if advice:
        print_line("a part of this was estimated; these would correct it:")
        for line in advice:
            print_line(line)


def _cells(each: Difference) -> dict[str, str]:
    return {
        "day": each.day,
        "model": each.model,
        "key": each.key,
        "our_cost": dollars(each.ours.cost_nanousd),
        "their_cost": dollars(each.theirs.cost_nanousd),
        "delta": dollars(each.delta_nanousd),
        "estimated": dollars(each.ours.estimated_nanousd),
        "our_tokens": _tokens(each.ours),
        "their_tokens": _tokens(each.theirs),
    }


def _tokens(sums: Sums) -> str:
    return f"{sums.input_tokens} + {sums.output_tokens}"


def _json(each: Difference) -> dict[str, Any]:
    def figures(sums: Sums) -> dict[str, int]:
        return {name: getattr(sums, name) for name in ("cost_nanousd", "input_tokens", "output_tokens")}

    return {
        "day": each.day,
        "model": each.model,
        "key": each.key,
        "ours": {**figures(each.ours), "estimated_nanousd": each.ours.estimated_nanousd},
        "theirs": figures(each.theirs),
        "delta_nanousd": each.delta_nanousd,
        "beyond": each.beyond,
    }
