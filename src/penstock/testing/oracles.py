"""The oracles: what must be true of the money after any run, whatever happened in it.

    O1  the ledger equals the bank's statement, to the nano-dollar, for every answered call; every other call that the
        bank saw is in the ledger too, as an estimate of at most its hold or as exactly what was billed
    O2  settled + held + leased is within the limit at every sampled instant
    O3  nothing is entered twice
    O4  every answer that a caller saw complete is settled
    O5  after quiet, nothing is held
    O6  the gateway is healthy, and no secret is in any output

Each is a function that returns a `Verdict`. They see a gateway as its operator does: receipts, ledger, output. Boxes
that share a database are several gateways with one set of books.
"""

import http.client
import itertools
import threading
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Self

import msgspec
from msgspec import Struct

from penstock.testing.bank import Line
from penstock.testing.gateway import Gateway
from penstock.testing.wire import eventually

ORACLES = ("O1", "O2", "O3", "O4", "O5", "O6")
PAGE = 500
SAMPLE_EVERY_S = 0.05
QUIET_S = 30.0
"""How long a busy machine may take to come to rest; what is looked at then is the same."""
SHOWN_FAULTS = 20
LOOKED_AT = ("keys", "providers", "models", "limits", "usage?by=key", "audit", "status", "config", "ledger")
"""What the administrator can list besides receipts."""


class Told(Struct):
    """What one caller saw. `complete`: the answer came to its end; `output`: the tokens that it says it used, -1
    without a report; `refusal`: the body of an error, or how a stream ended that was cut; `began_s`: monotonic seconds,
    where it was written down."""

    call: str
    max_tokens: int
    status: int = 0
    request_id: str = ""
    complete: bool = False
    output: int = -1
    refusal: bytes = b""
    began_s: float = 0.0


class Books(Struct, frozen=True):
    """Everything that must agree, for the calls of one key.

    `events`: usage events, each with a tag `call` that names the call as the bank's statement does. `limits`: rows of
    the ledger; those of the limit `budget` count the same calls in dollars. Input is free; an output token costs
    `output_nanousd`.
    """

    told: Sequence[Told]
    statement: Sequence[Line]
    events: Sequence[dict[str, Any]]
    limits: Sequence[dict[str, Any]]
    budget: str
    output_nanousd: int

    @property
    def settled_nanousd(self) -> int:
        return sum(row["settled"] for row in self.limits if row["limit"] == self.budget)

    def totals(self) -> dict[str, str]:
        """How much was lost and overspent, as figures for people."""
        known = {event["tags"]["call"] for event in self.events}
        lost = sum(line.call not in known for line in self.statement)
        over = sum(max(0, row["settled"] - row["amount"]) for row in self.limits if row["limit"] == self.budget)
        return {"lost": f"{lost} of {len(self.statement)} calls", "overspend": f"{over} nano-USD"}


class Verdict(Struct, frozen=True):
    """`checked`: how many things were looked at; `faults`: what is wrong, a sentence each."""

    oracle: str
    checked: int
    faults: tuple[str, ...] = ()

    @property
    def holds(self) -> bool:
        return not self.faults


def events_since(gateway: Gateway, key: str, began: datetime) -> list[dict[str, Any]]:
    """The usage events of `key`, the newest first, back to a little before `began`."""
    return _events(gateway, key, began - timedelta(seconds=5))


def events_between(gateway: Gateway, key: str, began: datetime, before: datetime) -> list[dict[str, Any]]:
    """The usage events of `key`, the newest first, from those that began before `before` back to `began`."""
    # A cursor is the beginning of a call, in Unix nanoseconds, and its request id; "~" is behind every id.
    return _events(gateway, key, began, f"&after={int(before.timestamp() * 1e9)}:~")


def _events(gateway: Gateway, key: str, earliest: datetime, cursor: str = "") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    while True:
        page = receipts(gateway, f"limit={PAGE}{cursor}")
        found += [item for item in page["items"] if item["key"] == key]
        if not page["next"] or datetime.fromisoformat(page["items"][-1]["started_at"]) < earliest:
            return found
        cursor = f"&after={page['next']}"


def receipts(gateway: Gateway, query: str) -> dict[str, Any]:
    """A page of receipts: `{"items": [...], "next": cursor or None}`. Raises RuntimeError when there is none."""
    answer = gateway.admin("GET", f"/admin/v1/receipts?{query}", timeout_s=30)
    if answer.status != 200:
        raise RuntimeError(f"the receipts answered {answer.status}: {answer.body[:300]!r}")
    page: dict[str, Any] = answer.json()
    return page


def now() -> datetime:
    return datetime.now(UTC)


def ledger_equals_bank(books: Books) -> Verdict:
    """O1."""
    events = {event["tags"]["call"]: event for event in books.events}
    lines = {line.call: line for line in books.statement}
    answered = {told.call: told for told in books.told if told.complete and told.output >= 0}
    faults = []
    for told in answered.values():
        event, line = events.get(told.call), lines.get(told.call)
        if event is None or line is None:
            faults.append(f"{told.call} was answered and is not on the {'ledger' if event is None else 'statement'}")
        elif event["cost_basis"] != "computed" or event["cost_nanousd"] != line.billed_output * books.output_nanousd:
            faults.append(f"{_cost(event)}; the bank billed {line.billed_output * books.output_nanousd}")
        elif told.output != line.billed_output:
            faults.append(f"{told.call} was told {told.output} tokens; the bank billed {line.billed_output}")
    for line in books.statement:
        if line.call not in answered:
            faults += _cut_faults(line, events.get(line.call), books.output_nanousd)
    total = sum(event["cost_nanousd"] for event in books.events)
    if books.settled_nanousd != total:
        faults.append(f"{books.budget} has settled {books.settled_nanousd}; its calls cost {total}")
    return Verdict("O1", len(lines.keys() | answered.keys()), tuple(faults))


def _cut_faults(line: Line, event: dict[str, Any] | None, output_nanousd: int) -> Iterable[str]:
    if event is None:
        yield f"{line.call} is on the bank's statement and not in the ledger"
        return
    cost, hold = event["cost_nanousd"], line.max_tokens * output_nanousd
    if not 0 <= cost <= hold:
        yield f"{_cost(event)}; its hold was {hold}"
    if event["cost_basis"] != "estimated" and cost != line.billed_output * output_nanousd:
        yield f"{_cost(event)}; the bank billed {line.billed_output * output_nanousd}"


def _cost(event: dict[str, Any]) -> str:
    return f"{event['tags']['call']} cost {event['cost_nanousd']} ({event['cost_basis']})"


def nothing_twice(books: Books) -> Verdict:
    """O3."""
    faults = [f"{name} was recorded {n} times" for name, n in _repeated(e["tags"]["call"] for e in books.events)]
    faults += [f"request id {name} was used {n} times" for name, n in _repeated(e["request_id"] for e in books.events)]
    faults += [f"{name} was sent {n} times" for name, n in _repeated(line.call for line in books.statement)]
    return Verdict("O3", len(books.events), tuple(faults))


def ledger_is_sound(gateway: Gateway) -> Verdict:
    """O3, entry by entry: `penstock ledger verify` finds that each hold is resolved once, on its own balances."""
    checked = gateway.verify()
    said = " ".join((checked.stdout + checked.stderr).split())
    return Verdict("O3", 1, (f"ledger verify: {said}",) if checked.returncode else ())


def _repeated(names: Iterable[str]) -> list[tuple[str, int]]:
    return [(name, count) for name, count in Counter(names).items() if count > 1]


def complete_is_settled(books: Books) -> Verdict:
    """O4."""
    events = {event["request_id"]: event for event in books.events}
    complete = [told for told in books.told if told.complete]
    faults = []
    for told in complete:
        event = events.get(told.request_id)
        if event is None or event["tags"]["call"] != told.call:
            faults.append(f"{told.call} was answered in full and has no receipt {told.request_id}")
        elif event["status"] != told.status or not event["limits_charged"]:
            faults.append(f"{told.call} was answered in full; its receipt says {event['status']}, {event['cause']}")
    return Verdict("O4", len(complete), tuple(faults))


def nothing_held(boxes: Sequence[Gateway], within_s: float = QUIET_S) -> Verdict:
    """O5, for every limit: nobody may be calling any more. Whoever asks a box has its journals settled first."""
    try:
        eventually(lambda: all(box.held() == 0 for box in boxes), within_s, "nothing is held")
    except TimeoutError:
        rows = [row for box in boxes for row in box.limits() if row["held"]]
        return Verdict("O5", len(rows), tuple(f"{row['limit']} {row['value']} holds {row['held']}" for row in rows))
    return Verdict("O5", len(boxes[0].limits()))


def healthy(boxes: Sequence[Gateway], secrets: Sequence[str]) -> Verdict:
    """O6: every box works, and none of `secrets` is in what its administrator can list or in its log."""
    return _joined("O6", [_healthy(box, secrets) for box in boxes])


def _healthy(gateway: Gateway, secrets: Sequence[str]) -> Verdict:
    faults = []
    try:
        eventually(gateway.is_ready, QUIET_S, "the data plane is ready")
    except TimeoutError:
        faults.append("the data plane is not ready")
    try:
        # What failed while the store was away is tried again every few seconds.
        eventually(lambda: gateway.admin("GET", "/healthz").status == 200, QUIET_S, "the control process is healthy")
    except TimeoutError:
        faults.append(f"the control process is not healthy: {gateway.admin('GET', '/healthz').body[:300]!r}")
    paths = ["/metrics", *(f"/admin/v1/{path}" for path in LOOKED_AT)]
    said = [*(gateway.admin("GET", path).body for path in paths), gateway.output().encode()]
    return _joined("O6", [Verdict("O6", 2, tuple(faults)), silent(secrets, said)])


def silent(secrets: Sequence[str], said: Iterable[bytes]) -> Verdict:
    """O6, of anything that was said."""
    texts = list(said)
    found = {number for number, secret in enumerate(secrets) for text in texts if secret.encode() in text}
    return Verdict("O6", len(texts), tuple(f"secret number {number} is in an output" for number in sorted(found)))


def seen_in(books: Books) -> Iterable[bytes]:
    """What callers and administrators were told of these calls, for O6."""
    yield from (told.refusal for told in books.told if told.refusal)
    yield msgspec.json.encode(books.events)


def merged(verdicts: Iterable[Verdict]) -> list[Verdict]:
    """One verdict for each oracle, in their order: everything that was checked, and every fault."""
    parts = list(verdicts)
    names = sorted({part.oracle for part in parts})
    return [_joined(name, [part for part in parts if part.oracle == name]) for name in names]


def _joined(oracle: str, parts: Sequence[Verdict]) -> Verdict:
    faults = tuple(fault for part in parts for fault in part.faults)
    return Verdict(oracle, sum(part.checked for part in parts), faults)


class Watch:
    """O2: looks at the ledger twenty times a second for as long as the block lasts, at one box after another. A box
    that is down at that moment is passed over; `samples` says how often the ledger was seen."""

    def __init__(self, boxes: Sequence[Gateway]) -> None:
        self.samples = 0
        self._turns = itertools.cycle(boxes)
        self._faults: list[str] = []
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join(30)

    def _run(self) -> None:
        self._look()
        while not self._stopping.wait(SAMPLE_EVERY_S):
            self._look()

    def _look(self) -> None:
        try:
            rows = next(self._turns).limits()
        except (OSError, RuntimeError, http.client.HTTPException):
            return
        self.samples += 1
        self._faults += [
            f"{row['limit']} {row['value']}: {row['settled']} settled + {row['held']} held + {row['leased']} leased "
            f"> {row['amount']}"
            for row in rows
            if row["settled"] + row["held"] + row["leased"] > row["amount"]
        ]

    def verdict(self) -> Verdict:
        faults = tuple(self._faults[:SHOWN_FAULTS]) if self.samples else ("the ledger was never seen",)
        return Verdict("O2", self.samples, faults)
