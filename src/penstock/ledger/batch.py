"""A batch: journal records turned into the rows that one transaction writes. Pure.

Of a hold nothing is read but its id, unless it is still open at the batch's end; only what resolves it is worth a look.
"""

from collections.abc import Iterable, Mapping
from operator import add

import msgspec
from msgspec import Raw, Struct, structs

from penstock.domain.events import CostBasis, UsageEvent, charged
from penstock.domain.journal import Extend, Hold
from penstock.domain.money import MAX_NANOUSD
from penstock.domain.policy import BalanceKey, Charge, Charges, Limit, unpacked

HOLD, RESOLUTION = 0, 1
"""The steps of an attempt, and with its id the key of its entries. The n-th extension is step `RESOLUTION + n`."""

Entry = tuple[str, int, str, int, int, bytes, str]
"""`attempt_id, step, kind, at, epoch, charges, cause`."""


class _Held(Struct, frozen=True, array_like=True, tag="h"):
    """`domain.journal.Hold`, its parts left as they are."""

    attempt_id: str
    at: int
    charges: Raw
    draft: Raw


class _Extended(Struct, frozen=True, array_like=True, tag="x"):
    """`domain.journal.Extend`, as a hold."""

    attempt_id: str
    at: int
    charges: Raw
    draft: Raw
    n: int


class _Posted(Struct, frozen=True, array_like=True, tag="p"):
    """`domain.journal.Post`, its charges left as they are."""

    attempt_id: str
    at: int
    charges: Raw
    basis: CostBasis
    event: UsageEvent | None = None


class _Voided(Struct, frozen=True, array_like=True, tag="v"):
    attempt_id: str
    at: int
    cause: str
    event: UsageEvent | None = None


class _Noted(Struct, frozen=True, array_like=True, tag="n"):
    at: int
    event: UsageEvent


_records: "msgspec.msgpack.Decoder[_Held | _Extended | _Posted | _Voided | _Noted]" = msgspec.msgpack.Decoder(
    _Held | _Extended | _Posted | _Voided | _Noted
)
_charges = msgspec.msgpack.Decoder(Charges)
_charge_by_charge = msgspec.msgpack.Decoder(tuple[Charge, ...])
_holds: "msgspec.msgpack.Decoder[Hold | Extend]" = msgspec.msgpack.Decoder(Hold | Extend)
_encoder = msgspec.msgpack.Encoder()
_NO_CHARGES = _encoder.encode(Charges.of(()))

decode_hold = _holds.decode


def decode_charges(blob: bytes | Raw) -> Charges:
    """The charges of an entry, in either form: of a call, and of an adjustment, which names the balance beside its
    amount. Raises `msgspec.DecodeError` for what is neither."""
    try:
        return _charges.decode(blob)
    except msgspec.DecodeError:
        return Charges.of(_charge_by_charge.decode(blob))


class Batch:
    """`opened`: attempt -> the record of its hold, or of its last extension, where the batch does not resolve it.
    `extended`: the same for a hold of an earlier batch. `resolved`: attempts whose hold lies in one. `sums`: what the
    batch settles per balance. `unreadable`: payloads that are no record.

    `known`: steps that the ledger has already; a record that repeats one is left out, so that the first stands. None
    where that is for the database to notice.
    """

    def __init__(self, epoch: int, known: set[tuple[str, int]] | None = None) -> None:
        self.entries: list[Entry] = []
        self.opened: dict[str, bytes] = {}
        self.extended: dict[str, bytes] = {}
        self.resolved: list[str] = []
        self.sums: dict[BalanceKey, int] = {}
        self.events: list[UsageEvent] = []
        self.unreadable = 0
        self.repeated = 0
        self.epoch = epoch
        self._known = known
        self._posted: dict[bytes, list[int]] = {}

    def read(self, payloads: Iterable[memoryview]) -> None:
        for payload in payloads:
            try:
                self._read(payload)
            except msgspec.DecodeError:
                self.unreadable += 1
        for places, amounts in self._posted.items():
            self._settle(unpacked(places), amounts)
        self._posted.clear()

    def _read(self, payload: memoryview) -> None:
        record = _records.decode(payload)
        if isinstance(record, _Noted):
            self.events.append(record.event)
        elif isinstance(record, _Held):
            if self._enters(record, HOLD, "hold"):
                self.opened[record.attempt_id] = bytes(payload)
        elif isinstance(record, _Extended):
            if self._enters(record, RESOLUTION + record.n, "extension"):
                held_in = self.opened if record.attempt_id in self.opened else self.extended
                held_in[record.attempt_id] = bytes(payload)
        elif not self._repeats(record.attempt_id, RESOLUTION):
            self._resolve(record)

    def _enters(self, record: _Held | _Extended, step: int, kind: str) -> bool:
        """Enters what is held. False for a step that is known."""
        if self._repeats(record.attempt_id, step):
            return False
        self.entries.append((record.attempt_id, step, kind, record.at, self.epoch, bytes(record.charges), ""))
        return True

    def estimate(self, hold: Hold | Extend, event: UsageEvent) -> None:
        """Charges an open hold in full: its attempt was dispatched, and nobody is left to say what came of it."""
        charges = _encoder.encode(hold.charges)
        self.entries.append((hold.attempt_id, RESOLUTION, "estimate", event.ended_at, self.epoch, charges, "estimated"))
        self.resolved.append(hold.attempt_id)
        self._settle(unpacked(hold.charges.places), hold.charges.amounts)
        self.events.append(event)

    def _resolve(self, record: _Posted | _Voided) -> None:
        if isinstance(record, _Posted):
            self._add(decode_charges(record.charges))
            kind = "estimate" if record.basis == "estimated" else "post"
            self.entries.append(
                (record.attempt_id, RESOLUTION, kind, record.at, self.epoch, bytes(record.charges), record.basis)
            )
        else:
            self.entries.append(
                (record.attempt_id, RESOLUTION, "void", record.at, self.epoch, _NO_CHARGES, record.cause)
            )
        self.extended.pop(record.attempt_id, None)
        if self.opened.pop(record.attempt_id, None) is None:
            self.resolved.append(record.attempt_id)
        if record.event is not None:
            self.events.append(record.event)

    def _add(self, charges: Charges) -> None:
        """Adds up what is posted in the same places; what that comes to on each balance is worked out once for all of
        it. Raises `msgspec.DecodeError` where there are not as many amounts as places."""
        places, amounts = bytes(charges.places), charges.amounts
        posted = self._posted.get(places)
        if len(amounts) != (len(unpacked(places)) if posted is None else len(posted)):
            raise msgspec.DecodeError("as many amounts as places")
        self._posted[places] = list(amounts) if posted is None else list(map(add, posted, amounts))

    def _settle(self, keys: Iterable[BalanceKey], amounts: Iterable[int]) -> None:
        sums = self.sums
        for key, amount in zip(keys, amounts, strict=True):
            if amount:
                sums[key] = min(sums.get(key, 0) + amount, MAX_NANOUSD)

    def _repeats(self, attempt_id: str, step: int) -> bool:
        if self._known is None:
            return False
        if (attempt_id, step) in self._known:
            self.repeated += 1
            return True
        self._known.add((attempt_id, step))
        return False


def crashed(hold: Hold | Extend, now: int, limits: Mapping[str, Limit]) -> UsageEvent:
    """The event of an exchange whose worker died: what was known when its last attempt was dispatched or extended,
    charged in full. `now`: Unix nanoseconds. `limits` gives the names and the units."""
    draft = hold.draft
    attempts = draft.attempts
    if attempts:
        last = structs.replace(attempts[-1], ended_at=now, basis="estimated", error_code="crash")
        attempts = (*attempts[:-1], last)
    charges = tuple([charged(charge, limits) for charge in hold.charges])
    return structs.replace(
        draft,
        ended_at=now,
        cause="failed",
        error_code="crash",
        cost_nanousd=max(draft.cost_nanousd, sum(attempt.cost_nanousd for attempt in attempts)),
        cost_basis="estimated",
        attempts=attempts,
        limits_charged=draft.limits_charged + charges,
        flags=(*draft.flags, "crash"),
    )
