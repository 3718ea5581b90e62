"""Reconciliation: what a provider says that it billed, beside what the usage events say that it should. Pure.

An export is a CSV file with a head. Its formats differ in what their columns are called, and in nothing else:

    generic     date, key (optional), model, input_tokens, output_tokens, cost_usd
    openai      the usage export (`start_time_iso`, `model`, `input_tokens`, ...) or the cost export (`amount_value`,
                `line_item`: `<model>, <meter>`)
    anthropic   the usage export (`usage_date_utc`, `model_version`, `usage_input_tokens_...`, ...) or the cost export
                (`usage_date_utc`, `model`, `token_type`, `cost_usd`)

Days are UTC. Tokens are all that went in, cached or not, and all that came out. Of a vendor's export the key is not
compared: it is the provider's credential, behind which all of the gateway's own keys stand.
"""

import csv
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from msgspec import Struct

from penstock.domain.money import MAX_NANOUSD, NANO
from penstock.errors import PenstockError

MAX_ROWS = 1_000_000
Place = tuple[str, str, str]
"""Day (`2026-11-01`), model, key; model or key is empty where an export does not tell."""


class UnreadableExport(PenstockError):
    """A file that is not an export of the format that was named; says which line or column."""


class Columns(Struct, frozen=True):
    """What a format's columns are called; of the names of one thing, those that are there are added up."""

    date: tuple[str, ...]
    model: tuple[str, ...]
    cost: tuple[str, ...] = ()
    input: tuple[str, ...] = ()
    output: tuple[str, ...] = ()
    key: tuple[str, ...] = ()
    line_item: str = ""


FORMATS: Mapping[str, Columns] = {
    "generic": Columns(
        date=("date",),
        model=("model",),
        cost=("cost_usd",),
        input=("input_tokens",),
        output=("output_tokens",),
        key=("key",),
    ),
    "openai": Columns(
        date=("start_time_iso", "start_time"),
        model=("model",),
        cost=("amount_value",),
        input=("input_tokens", "input_audio_tokens"),
        output=("output_tokens", "output_audio_tokens"),
        line_item="line_item",
    ),
    "anthropic": Columns(
        date=("usage_date_utc",),
        model=("model_version", "model"),
        cost=("cost_usd",),
        input=(
            "usage_input_tokens_no_cache",
            "usage_input_tokens_cache_write_5m",
            "usage_input_tokens_cache_write_1h",
            "usage_input_tokens_cache_read",
        ),
        output=("usage_output_tokens",),
    ),
}


class Sums(Struct):
    """`estimated_nanousd`: the part of the cost that is an estimate."""

    cost_nanousd: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    estimated_nanousd: int = 0


class Export(Struct, frozen=True):
    """What a file says per place. `costs`, `tokens`, `models`, `keys`: whether it tells of them at all."""

    sums: dict[Place, Sums]
    costs: bool
    tokens: bool
    models: bool
    keys: bool


class Tolerance(Struct, frozen=True):
    """How far two figures may lie apart: `nanousd` of money, or `percent` of the provider's own figure."""

    nanousd: int = 0
    percent: Decimal = Decimal(0)

    def allows(self, ours: int, theirs: int, floor: int) -> bool:
        return abs(theirs - ours) <= max(Decimal(floor), abs(theirs) * self.percent / 100)


class Difference(Struct, frozen=True):
    """One place: our figures and theirs. `beyond`: they lie further apart than tolerated."""

    day: str
    model: str
    key: str
    ours: Sums
    theirs: Sums
    beyond: bool

    @property
    def delta_nanousd(self) -> int:
        """What the provider billed beyond our books; below 0 it billed less."""
        return self.theirs.cost_nanousd - self.ours.cost_nanousd

    @property
    def correction_nanousd(self) -> int:
        """How the estimates of this place would have to move for the books to agree; 0 where there are none. They can
        give back no more than what was estimated."""
        return max(self.delta_nanousd, -self.ours.estimated_nanousd) if self.ours.estimated_nanousd else 0


def read_export(lines: Iterable[str], form: str, renamed: Mapping[str, str]) -> Export:
    """The export as sums. `renamed`: the provider's name of a model -> ours. Raises UnreadableExport."""
    columns = FORMATS[form]
    reader = csv.DictReader(lines, strict=True)
    try:
        head = [name.strip().removeprefix("\ufeff") for name in reader.fieldnames or ()]
        reader.fieldnames = head
        _check_head(head, columns, form)
        sums: defaultdict[Place, Sums] = defaultdict(Sums)
        for row in reader:
            _add_row(row, reader.line_num, columns, renamed, sums)
            if len(sums) > MAX_ROWS:
                raise UnreadableExport(f"this has more than {MAX_ROWS} days and models")
    except csv.Error as error:
        raise UnreadableExport(f"line {reader.line_num}: this is not CSV: {error}") from None
    return Export(
        dict(sums),
        costs=_present(head, columns.cost),
        tokens=_present(head, columns.input) or _present(head, columns.output),
        models=any(model for _, model, _ in sums),
        keys=_present(head, columns.key),
    )


def read_usage(rows: Iterable[Mapping[str, Any]], provider: str, export: Export) -> dict[Place, Sums]:
    """Our side: rows of the usage report by day and provider, and by model and key where the export tells of them."""
    sums: defaultdict[Place, Sums] = defaultdict(Sums)
    for row in rows:
        if row["provider"] != provider:
            continue
        used = row["usage"]
        mine = sums[row["day"], row["model"] if export.models else "", row["key"] if export.keys else ""]
        mine.cost_nanousd += row["cost_nanousd"]
        mine.estimated_nanousd += row["estimated_nanousd"]
        mine.input_tokens += used["input"] + used["cache_read"] + used["audio_in"] + sum(used["cache_write"].values())
        mine.output_tokens += used["output"] + used["audio_out"]
    return dict(sums)


def compare(ours: Mapping[Place, Sums], export: Export, tolerance: Tolerance) -> list[Difference]:
    """Every place that either side has anything on, in order. Where an export has both, a tolerance in money is of the
    costs alone."""
    found = []
    for place in sorted({*ours, *export.sums}):
        mine, theirs = ours.get(place, Sums()), export.sums.get(place, Sums())
        if mine == theirs == Sums():
            continue
        within = not export.costs or tolerance.allows(mine.cost_nanousd, theirs.cost_nanousd, tolerance.nanousd)
        if export.tokens and (tolerance.percent or not export.costs):
            within &= tolerance.allows(mine.input_tokens, theirs.input_tokens, 0)
            within &= tolerance.allows(mine.output_tokens, theirs.output_tokens, 0)
        found.append(Difference(*place, mine, theirs, not within))
    return found


def _check_head(head: Sequence[str], columns: Columns, form: str) -> None:
    if not _present(head, columns.date):
        raise UnreadableExport(f"this is no {form} export: it has no column {' or '.join(columns.date)}")
    if not (_present(head, columns.model) or columns.line_item in head or _present(head, columns.cost)):
        raise UnreadableExport(f"this is no {form} export: it has no column {' or '.join(columns.model)}")
    figures = (*columns.cost, *columns.input, *columns.output)
    if not _present(head, figures):
        raise UnreadableExport(f"this is no {form} export: it has none of the columns {', '.join(figures)}")
    if len(set(head)) != len(head):
        raise UnreadableExport("two columns have the same name")


def _present(head: Sequence[str], names: Sequence[str]) -> bool:
    return any(name in head for name in names)


def _add_row(
    row: Mapping[Any, Any], line: int, columns: Columns, renamed: Mapping[str, str], sums: defaultdict[Place, Sums]
) -> None:
    if None in row or None in row.values():
        raise UnreadableExport(f"line {line}: this has another number of columns than the head")
    cost = sum(_figures(row, columns.cost, line, _nanousd))
    tokens_in = sum(_figures(row, columns.input, line, _count))
    tokens_out = sum(_figures(row, columns.output, line, _count))
    if not (cost or tokens_in or tokens_out):
        # Vendors write a line for every day, also for those on which nothing was used.
        return
    model = _first(row, columns.model) or row.get(columns.line_item, "").rpartition(",")[0].strip()
    model = model or row.get(columns.line_item, "").strip()
    found = sums[_day(_first(row, columns.date), line), renamed.get(model, model), _first(row, columns.key)]
    found.cost_nanousd += cost
    found.input_tokens += tokens_in
    found.output_tokens += tokens_out


def _first(row: Mapping[str, str], names: Sequence[str]) -> str:
    return next((row[name].strip() for name in names if row.get(name, "").strip()), "")


def _figures(row: Mapping[str, str], names: Sequence[str], line: int, read: Callable[[str], int]) -> Iterator[int]:
    """What stands in each of the columns, an empty one left out."""
    for name in names:
        text = row.get(name, "").strip()
        if text:
            try:
                amount = read(text)
            except (ValueError, ArithmeticError):
                raise UnreadableExport(f"line {line}: {name}: {text[:40]!r} is not a figure") from None
            if abs(amount) > MAX_NANOUSD:
                raise UnreadableExport(f"line {line}: {name}: {text[:40]!r} is beyond all measure")
            yield amount


def _nanousd(text: str) -> int:
    """Dollars, rounded to the nano-dollar. Credits are below 0."""
    exact = Decimal(text.removeprefix("$").replace(",", ""))
    if not exact.is_finite() or exact.adjusted() > 20:
        raise InvalidOperation
    return int((exact * NANO).to_integral_value())


def _count(text: str) -> int:
    if not text.replace(",", "").isdecimal():
        raise ValueError(text)
    return int(text.replace(",", ""))


def _day(text: str, line: int) -> str:
    """The UTC day of a date, an RFC 3339 time or Unix seconds."""
    try:
        if text.isdecimal():
            return datetime.fromtimestamp(int(text), UTC).date().isoformat()
        moment = datetime.fromisoformat(text)
    except (ValueError, OverflowError, OSError):
        raise UnreadableExport(f"line {line}: {text[:40]!r} is not a date") from None
    return (moment if moment.tzinfo is None else moment.astimezone(UTC)).date().isoformat()
