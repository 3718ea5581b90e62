"""The state machine against a model that never forgets and never optimises: whatever happens, they agree.

`PENSTOCK_LAW_STEPS` sets how many steps are made, over all runs.
"""

import os
from dataclasses import dataclass, field

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule

from penstock.domain.policy import Denial, Limit
from penstock.ledger.books import OTHERS
from penstock.ledger.machine import STEADY_S, Ask, Extended, Machine
from penstock.ledger.matching import Matching
from penstock.ledger.reservations import Reservation
from penstock.ledger.windows import window

STEPS = int(os.environ.get("PENSTOCK_LAW_STEPS", "6000"))
STEPS_OF_A_RUN = 40
MAX_VALUES = 2
START = 1_795_200_000
PERS = ("second", "minute", "hour", "day", "week", "month", "total")
SLIDING_S = {"minute": 60, "hour": 3_600, "day": 86_400, "week": 604_800}
ZONES = ("UTC", "UTC", "Europe/Berlin", "Asia/Kathmandu", "Australia/Lord_Howe")
UNITS = ("usd", "tokens", "input_tokens", "output_tokens", "requests", "concurrent")

Key = tuple[str, tuple[int, int], str]
"""Limit, serial number of its window (0 for a fixed one) and start of the window or bucket, value."""


@dataclass
class Line:
    amount: int = 0
    settled: int = 0
    held: int = 0
    open: int = 0
    excused: bool = False
    """A bill went over its hold, or the amount was lowered: more than the amount may lie here."""


@dataclass
class Model:
    now: int = 0
    pages: dict[str, tuple[int, int]] = field(default_factory=dict)
    lines: dict[Key, Line] = field(default_factory=dict)
    lengths: dict[str, int] = field(default_factory=dict)
    """How far back a limit's window reaches from its newest bucket, in seconds; 0 for fixed ones."""

    def move(self, at: int) -> None:
        if at >= self.now or self.now - at > STEADY_S:
            self.now = at

    def page(self, limit: Limit) -> tuple[int, int]:
        serial, known = self.pages.get(limit.id, (0, 0))
        if limit.window == "sliding":
            length = self.lengths[limit.id] = SLIDING_S[limit.per]
            start = self.now - self.now % (length // 60)
            serial += start < known
        else:
            start = window(limit.per, self.now, limit.timezone)[0]
            serial += start != known
        self.pages[limit.id] = (serial, start)
        return serial, start

    def key(self, limit: Limit, dims: dict[str, str]) -> Key:
        page = self.page(limit)
        value = dims[limit.each] if limit.each else ""
        used = {k[2] for k, x in self.lines.items() if self.counts(k, limit.id) and (x.open or x.settled)}
        return (limit.id, page, value if value in used or len(used) < MAX_VALUES else OTHERS)

    def counts(self, key: Key, limit: str) -> bool:
        """Whether a line lies in the limit's current window."""
        if key[0] != limit:
            return False
        serial, start = self.pages[limit]
        return key[1][0] == serial and start - self.lengths.get(limit, 0) <= key[1][1] <= start

    def taken(self, key: Key) -> int:
        """What lies in the window that ends with this line's."""
        limit, (serial, start), value = key
        first = start - self.lengths.get(limit, 0)
        together = [
            x
            for k, x in self.lines.items()
            if (k[0], k[1][0], k[2]) == (limit, serial, value) and first <= k[1][1] <= start
        ]
        return sum(x.settled + x.held for x in together)

    def excuse(self, limit: str, value: str) -> None:
        for key, line in self.lines.items():
            line.excused |= (key[0], key[2]) == (limit, value)

    def line(self, key: Key) -> Line:
        return self.lines.setdefault(key, Line())

    def denying(self, wanted: list[tuple[Limit, Key, int]]) -> dict[str, int]:
        """The limits that deny, with what they have left."""
        left = {x.id: x.amount - self.taken(k) for x, k, _ in wanted}
        return {x.id: max(left[x.id], 0) for x, _, n in wanted if n and x.mode != "observe" and n > left[x.id]}


@st.composite
def limit_trees(draw: st.DrawFn) -> dict[str, Limit]:
    limits = {}
    for n in range(draw(st.integers(1, 5))):
        unit = draw(st.sampled_from(UNITS))
        per = "total" if unit == "concurrent" else draw(st.sampled_from(PERS))
        kind = draw(st.sampled_from(["fixed", "sliding", "sliding"])) if per in SLIDING_S else "fixed"
        limits[f"l{n}"] = Limit(
            id=f"l{n}",
            name=f"l{n}",
            unit=unit,
            amount=draw(st.integers(0, 30)),
            per=per,  # type: ignore[arg-type]
            window=kind,  # type: ignore[arg-type]
            timezone=draw(st.sampled_from(ZONES)) if kind == "fixed" else "UTC",
            match=draw(st.sampled_from([(), (("team", "a"),), (("team", "b"),)])),
            each=draw(st.sampled_from([None, None, "customer"])),
            mode=draw(st.sampled_from(["strict", "strict", "metered", "metered", "observe"])),
            max_values=MAX_VALUES,
        )
    return limits


Held = tuple[Reservation, list[tuple[Key, int]], dict[str, str], bool]
"""What is held, where, for whom, and whether it can be topped up."""


class MachineAgainstModel(RuleBasedStateMachine):
    holds = Bundle("holds")

    @initialize(limits=limit_trees())
    def begin(self, limits: dict[str, Limit]) -> None:
        self.limits = limits
        self.machine = Machine()
        self.matching = Matching()
        self.model = Model()
        self.at = START
        self.open: list[Held] = []

    @rule(
        by=st.sampled_from(
            [0, 1, 2, 30, 58, 60, 61, 1_830, 3_600, 86_400, 40 * 86_400, -1, -30, -60, -3_600, -40 * 86_400]
        )
    )
    def time_moves(self, by: int) -> None:
        self.at += by

    @rule(n=st.integers(0, 4), buckets=st.sampled_from([1, 30, 59, 60, 61]))
    def a_sliding_window_moves_on(self, n: int, buckets: int) -> None:
        limit = self.limits.get(f"l{n}")
        if limit is not None and limit.window == "sliding":
            self.at += buckets * SLIDING_S[limit.per] // 60

    @rule(n=st.integers(0, 4), amount=st.integers(0, 40))
    def an_amount_changes(self, n: int, amount: int) -> None:
        limit = self.limits.get(f"l{n}")
        if limit is None:
            return
        changed = {name: getattr(limit, name) for name in limit.__struct_fields__}
        self.limits = {**self.limits, limit.id: Limit(**{**changed, "amount": amount})}
        for key in list(self.model.lines):
            if key[0] == limit.id and self.model.taken(key) > amount:
                self.model.excuse(limit.id, key[2])

    @rule(
        target=holds,
        team=st.sampled_from(["a", "b"]),
        customer=st.sampled_from(["", "x", "y", "z", "w"]),
        usd=st.integers(0, 12),
        tokens=st.tuples(st.integers(0, 12), st.integers(0, 12)),
        quantum=st.integers(0, 6),
    )
    def a_call_is_reserved(
        self, team: str, customer: str, usd: int, tokens: tuple[int, int], quantum: int
    ) -> Held | None:
        first = Ask(min(usd, quantum), tokens[0], min(tokens[1], quantum)) if quantum else None
        return self._reserve({"team": team, "customer": customer}, Ask(usd, *tokens, metered=first))

    def _reserve(self, dims: dict[str, str], ask: Ask) -> Held | None:
        if not self.matching.knows(self.limits):
            self.matching.learn(self.limits)
        limits = self.matching.applying(dims)
        self.model.move(self.at)
        amounts = {mode: ask.amounts() for mode in ("strict", "observe")}
        amounts["metered"] = (ask.metered or ask).amounts()
        wanted = [(limit, self.model.key(limit, dims), amounts[limit.mode][limit.unit]) for limit in limits]
        denying = self.model.denying(wanted)
        outcome = self.machine.reserve(limits, dims, ask, self.at)
        if isinstance(outcome, Denial):
            assert denying[outcome.limit.id] == outcome.left
            return None
        assert isinstance(outcome, Reservation)
        assert not denying
        for _, key, amount in wanted:
            line = self.model.line(key)
            line.held += amount
            line.open += 1
            line.excused |= any(x.excused for k, x in self.model.lines.items() if (k[0], k[2]) == (key[0], key[2]))
        chargeable = [w for w in wanted if w[0].unit != "concurrent"]
        assert [c.amount for c in outcome.held] == [amount for *_, amount in chargeable]
        assert [c.value for c in outcome.held] == [key[2] for _, key, _ in chargeable]
        held: Held = (outcome, [(key, amount) for _, key, amount in wanted], dims, ask.metered is not None)
        self.open.append(held)
        return held

    @rule(held=consumes(holds), owed=st.lists(st.integers(0, 14), min_size=9, max_size=9))
    def a_call_is_settled(self, held: Held | None, owed: list[int]) -> None:
        if held is None or held not in self.open:
            return
        reservation, lines, *_ = held
        amounts = (owed + [0] * len(lines))[: len(reservation.lines)]
        self.machine.settle(reservation, amounts)
        chargeable = [(key, amount) for key, amount in lines if self.limits[key[0]].unit != "concurrent"]
        for posted, (key, amount) in zip(amounts, chargeable, strict=True):
            self.model.line(key).settled += posted
            if posted > amount:
                self.model.excuse(key[0], key[2])
        self._free(held)

    @rule(which=st.integers(0, 9), usd=st.integers(0, 25), tokens=st.integers(0, 25))
    def a_call_is_extended(self, which: int, usd: int, tokens: int) -> None:
        if not self.open:
            return
        reservation, lines, dims, can_be_topped_up = self.open[which % len(self.open)]
        self.model.move(self.at)
        amounts = Ask(usd, 0, tokens).amounts()
        more = []
        for id in dict.fromkeys(key[0] for key, _ in lines):
            limit = self.limits[id]
            held = sum(amount for key, amount in lines if key[0] == id)
            counts = limit.mode == "metered" and limit.unit in ("usd", "tokens", "output_tokens")
            if can_be_topped_up and counts and amounts[limit.unit] > held:
                more.append((limit, self.model.key(limit, dims), amounts[limit.unit] - held))
        left = {limit.id: limit.amount - self.model.taken(key) for limit, key, _ in more}
        denying = {limit.id for limit, _, n in more if n > left[limit.id]}
        outcome = self.machine.extend(reservation, self.limits, Ask(usd, 0, tokens), self.at)
        if isinstance(outcome, Denial):
            assert outcome.limit.id in denying
            return
        assert isinstance(outcome, Extended)
        assert not denying
        for limit, key, n in more:
            self._add_to(lines, limit.id, key, n)
        assert [c.amount for c in reservation.held] == [
            amount for key, amount in lines if self.limits[key[0]].unit != "concurrent"
        ]

    def _add_to(self, lines: list[tuple[Key, int]], id: str, key: Key, more: int) -> None:
        """To the newest line of a limit, where that is in the same window; else to a new one."""
        line = self.model.line(key)
        line.held += more
        newest = max(number for number, (known, _) in enumerate(lines) if known[0] == id)
        if lines[newest][0] == key:
            lines[newest] = (key, lines[newest][1] + more)
        else:
            lines.append((key, more))
            line.open += 1
            line.excused |= any(x.excused for k, x in self.model.lines.items() if (k[0], k[2]) == (key[0], key[2]))

    @rule(held=consumes(holds))
    def a_call_is_released(self, held: Held | None) -> None:
        if held is not None and held in self.open:
            self.machine.release(held[0])
            self._free(held)

    @rule(target=holds, held=consumes(holds), usd=st.integers(0, 12))
    def a_call_tries_another_target(self, held: Held | None, usd: int) -> Held | None:
        if held is None or held not in self.open:
            return None
        self.a_call_is_released(held)
        return self._reserve(held[2], Ask(usd, 1, 1))

    def _free(self, held: Held) -> None:
        self.open.remove(held)
        for key, amount in held[1]:
            line = self.model.line(key)
            line.held -= amount
            line.open -= 1

    @invariant()
    def they_agree(self) -> None:
        if not hasattr(self, "machine"):
            return
        held: dict[str, int] = {}
        for (limit, _, _), line in self.model.lines.items():
            held[limit] = held.get(limit, 0) + line.held
        assert self.machine.held() == {limit: amount for limit, amount in held.items() if amount}
        current = {key: line.settled for key, line in self.model.lines.items() if line.settled}
        current = {
            (limit, start, value): amount
            for (limit, (serial, start), value), amount in current.items()
            if self.model.counts((limit, (serial, start), value), limit)
        }
        assert {(c.limit, c.window_start, c.value): c.amount for c in self.machine.settled() if c.amount} == current

    @invariant()
    def no_strict_limit_is_passed(self) -> None:
        for key, line in getattr(self, "model", Model()).lines.items():
            limit = self.limits[key[0]]
            if limit.mode != "observe" and not line.excused:
                assert self.model.taken(key) <= limit.amount

    def teardown(self) -> None:
        if hasattr(self, "machine"):
            for held in list(self.open):
                self.machine.release(held[0])
            assert self.machine.held() == {}


TestMachineAgainstModel = pytest.mark.timeout(120 + STEPS // 25)(MachineAgainstModel.TestCase)
TestMachineAgainstModel.settings = settings(
    max_examples=-(-STEPS // STEPS_OF_A_RUN), stateful_step_count=STEPS_OF_A_RUN, deadline=None
)
