"""Verification of leases: whether what workers may spend agrees with the rest of the ledger.

    granted is at least what was posted, and neither is below 0; only dead workers' shares outlive their epoch
    what was posted of a lease is no more than what its epoch's entries settled there (a lease may be younger)
    I1  settled + outstanding is within the limit's amount, as are the shares of living workers

I1 is looked at where it can be told afterwards: on limits that refuse and that nobody has changed since they were made
(an amount that was lowered leaves more outstanding than it allows, until that is spent or comes back), in windows in
which nothing was adjusted and no bill exceeded its hold (both are the truth, and may pass the amount). Sliding windows
are left out, because what counts in them depends on the clock.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence

from sqlalchemy import Connection

from penstock.domain.lease import Place
from penstock.domain.money import MAX_NANOUSD
from penstock.domain.policy import Charge
from penstock.ledger.faults import Fault, Names
from penstock.ledger.postings import run
from penstock.ledger.windows import SHORT, SLIDING_S

_LEASES = """
    SELECT leases.limit_id, leases.window_start, leases.value, leases.per, leases.epoch, granted, posted, until_s, state
    FROM leases LEFT JOIN journals ON journals.epoch = leases.epoch
    ORDER BY leases.limit_id, leases.window_start, leases.value, leases.per, leases.epoch"""
_REQUESTS = """
    SELECT lease_requests.epoch FROM lease_requests LEFT JOIN journals ON journals.epoch = lease_requests.epoch
    WHERE journals.state IS NULL OR journals.state <> 'open' ORDER BY lease_requests.epoch"""
_AMOUNTS = "SELECT id, amount FROM limits WHERE mode <> 'observe' AND updated_at = created_at"
_SETTLED = "SELECT settled FROM balances WHERE limit_id = ? AND window_start = ? AND value = ? AND per = ?"


class LeaseChecks:
    """Reads the leases at once; then `see` every resolution and adjustment, and only then ask for `faults`."""

    def __init__(self, connection: Connection, names: Names) -> None:
        self._connection = connection
        self._names = names
        self._rows = [(Place(*row[:4]), *row[4:]) for row in run(connection, _LEASES)]
        self._settled: dict[tuple[Place, int], int] = {(place, epoch): 0 for place, epoch, *_ in self._rows}
        self._excused: set[Place] = set()

    def see(self, epoch: int, held: Sequence[Charge] | None, charges: Sequence[Charge]) -> None:
        """What an entry charged, and what its hold had, if it has one."""
        for number, charge in enumerate(charges):
            place = _place(charge)
            if (place, epoch) in self._settled:
                self._settled[place, epoch] += charge.amount
            if held is None or number >= len(held) or charge.amount > held[number].amount:
                self._excused.add(place)

    def carry(self, epoch: int, charge: Charge, *, exceeded: bool) -> None:
        """What entries charged that are no longer there one by one, and whether one of them was over its hold."""
        place = _place(charge)
        if (place, epoch) in self._settled:
            self._settled[place, epoch] += charge.amount
        if exceeded:
            self._excused.add(place)

    def faults(self) -> Iterator[Fault]:
        outstanding: defaultdict[Place, int] = defaultdict(int)
        for place, epoch, granted, posted, until_s, state in self._rows:
            name = f"the lease of epoch {epoch} on {self._names.of(place.limit, place.window_start, place.value)}"
            if not 0 <= posted <= granted:
                yield Fault("lease_damaged", f"{name}: granted {granted}, posted {posted}")
            if state != "open" and until_s is None:
                yield Fault("lease_stranded", f"{name}: its journal is finished")
            entered = min(self._settled[place, epoch], MAX_NANOUSD)
            if posted > entered:
                yield Fault("lease_differs", f"{name}: posted {posted}, its entries say {entered}")
            if until_s is None:
                outstanding[place] += max(granted - posted, 0)
        for (epoch,) in run(self._connection, _REQUESTS):
            yield Fault("lease_stranded", f"epoch {epoch} has a request for leases and its journal is finished")
        yield from self._overspent(outstanding)

    def _overspent(self, outstanding: defaultdict[Place, int]) -> Iterator[Fault]:
        amounts: dict[str, int] = {row[0]: row[1] for row in run(self._connection, _AMOUNTS)}
        for place, leased in outstanding.items():
            is_share = place.per in SHORT
            if place.limit not in amounts or (place.per in SLIDING_S and not is_share):
                continue
            settled = 0 if is_share else run(self._connection, _SETTLED, place).scalar() or 0
            amount = amounts[place.limit]
            if settled + leased > amount and leased and (is_share or place not in self._excused):
                name = self._names.of(place.limit, place.window_start, place.value)
                yield Fault("over_leased", f"{name}: settled {settled} and leased {leased} of {amount}")


def _place(charge: Charge) -> Place:
    single = charge.per not in SHORT and charge.per not in SLIDING_S
    return Place(charge.limit, charge.window_start if single else 0, charge.value, charge.per)
