"""`penstock price`."""

import csv
import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from penstock.cli.admin_client import AdminClient
from penstock.cli.options import Json, moment, pairs
from penstock.cli.output import CommandFailed, print_json, print_line, print_table, remark
from penstock.config.document import MAX_BYTES, read
from penstock.config.settings import DeclaredPrice

BOOK = ("number", "provider", "model", "effective_from", "state", "price", "note", "created_by")
EFFECTIVE = ("model", "provider", "target", "price", "price_version")
FIELDS = ("provider", "model", "effective_from", "note")
METERS = tuple(DeclaredPrice.model_fields)

app = typer.Typer(
    help="The price book: what providers' models cost from when on, over the catalogue.",
    add_completion=False,
    no_args_is_help=True,
)


@app.command("list", epilog="Example: penstock price list --effective")
def list_prices(
    effective: Annotated[
        bool, typer.Option("--effective", help="What each alias's targets cost now, and which source says so.")
    ] = False,
    as_json: Json = False,
) -> None:
    """List the entries of the price book, the newest first."""
    client = AdminClient.from_environment()
    items = client.get("/prices/effective")["prices"] if effective else list(client.items("/prices"))
    if as_json:
        print_json(items)
        return
    columns = EFFECTIVE if effective else BOOK
    nothing = "unknown" if effective else "the catalogue's"
    shown = [{**item, "price": item["price"] or nothing} for item in items]
    print_table(columns, [[item[column] for column in columns] for item in shown])


@app.command("set", epilog="Example: penstock price set openai gpt-4.1 --price input=1.80 --price output=7.20")
def set_price(
    *,
    provider: Annotated[str, typer.Argument(help="The provider, by its name here.", show_default=False)],
    model: Annotated[str, typer.Argument(help="The provider's own name for the model.", show_default=False)],
    price: Annotated[
        list[str] | None,
        typer.Option("--price", metavar="METER=USD", help="USD per million tokens: input and output, ...; repeatable."),
    ] = None,
    catalogue: Annotated[bool, typer.Option("--catalogue", help="The catalogue's price counts again.")] = False,
    since: Annotated[
        str, typer.Option("--from", metavar="WHEN", help="A date or an RFC 3339 time (default: now).")
    ] = "",
    note: Annotated[str, typer.Option(help="Where the price comes from.")] = "",
    as_json: Json = False,
) -> None:
    """Add one entry to the price book."""
    if bool(price) == catalogue:
        raise CommandFailed("name the price with --price, or --catalogue for the catalogue's", 2)
    entry: dict[str, Any] = {"provider": provider, "model": model, "note": note}
    entry["price"] = None if catalogue else pairs(price or [], "--price")
    if since:
        entry["effective_from"] = moment(since, "--from", 1)
    _add([entry], as_json)


@app.command(epilog="Example: penstock price update prices.csv")
def update(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="YAML, JSON or CSV.", show_default=False)],
    as_json: Json = False,
) -> None:
    """Add the entries of a file to the price book: all of them or none. What the book says already is left out."""
    try:
        content = file.read_bytes()
    except OSError as error:
        raise CommandFailed(f"{file} cannot be read: {error.strerror}", 2) from None
    if len(content) > MAX_BYTES:
        raise CommandFailed(f"{file} holds more than {MAX_BYTES // 2**20} MiB", 2)
    entries = list(_from_csv(file, content)) if file.suffix.lower() == ".csv" else _from_yaml(file, content)
    if not entries:
        raise CommandFailed(f"{file} has no entries", 2)
    _add(entries, as_json)


def _add(entries: list[dict[str, Any]], as_json: bool) -> None:
    answer = AdminClient.from_environment().post("/prices", {"entries": entries})
    if as_json:
        print_json(answer)
        return
    for entry in answer["entries"]:
        shown = ", ".join(f"{meter} {amount}" for meter, amount in (entry["price"] or {}).items())
        target = f"{entry['provider']}/{entry['model']}"
        print_line(
            f"{entry['price_version']}: {target} {shown or 'as the catalogue says'} from {entry['effective_from']}"
        )
    if answer["unchanged"]:
        remark(f"{answer['unchanged']} in the book already")


def _from_yaml(file: Path, content: bytes) -> list[dict[str, Any]]:
    """A list of entries, or one under `prices` or `entries`."""
    document = read(content)
    if document.faults:
        raise CommandFailed("\n".join(fault.line(str(file)) for fault in document.faults), 2)
    data = document.data
    if isinstance(data, Mapping) and len(data) == 1:
        data = data.get("prices", data.get("entries"))
    if not isinstance(data, list) or not all(isinstance(entry, dict) for entry in data):
        raise CommandFailed(f"{file} must be a list of entries: provider, model, effective_from, price, note", 2)
    return [{**entry, **({"price": _texts(entry["price"])} if "price" in entry else {})} for entry in data]


def _texts(price: Any) -> Any:
    """Amounts as text: JSON would make floats of them."""
    if not isinstance(price, Mapping):
        return price
    return {meter: str(amount) if not isinstance(amount, bool) else amount for meter, amount in price.items()}


def _from_csv(file: Path, content: bytes) -> Iterable[dict[str, Any]]:
    """A line per entry: provider, model, effective_from, note, and a column per meter; without an amount in any of
    those, the catalogue's price counts again."""
    try:
        rows = csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline=""), strict=True)
        columns = list(rows.fieldnames or [])
        unknown = [column for column in columns if column not in (*FIELDS, *METERS)]
        if unknown or not {"provider", "model"} <= set(columns):
            problem = f"has the column {unknown[0]!r}" if unknown else "lacks the column provider or model"
            raise CommandFailed(f"{file} {problem}; there are {', '.join((*FIELDS, *METERS))}", 2)
        for row in rows:
            if None in row or None in row.values():
                raise CommandFailed(f"{file}:{rows.line_num}: has another number of cells than the first line", 2)
            price = {meter: row[meter].strip() for meter in METERS if row.get(meter, "").strip()}
            fields = {name: row[name].strip() for name in FIELDS if row.get(name, "").strip()}
            yield {**fields, "price": price or None}
    except UnicodeDecodeError:
        raise CommandFailed(f"{file} is not UTF-8 text", 2) from None
    except csv.Error as error:
        raise CommandFailed(f"{file} is not CSV: {error}", 2) from None
