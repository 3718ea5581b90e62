"""What `/metrics` shows: counters and histograms from committed usage events, gauges from the workers' beats.

Events are summed into plain dictionaries and only become Prometheus `families` when somebody scrapes, so that an event
costs a few microseconds. Counters start at zero with the process, which Prometheus expects. Labels are bounded: teams,
providers and aliases are the operator's own names, an alias that nobody declared counts as its wildcard or as `other`,
and beyond `MAX_SERIES` label sets of a family new ones are counted as `other`.

Units: seconds for times, USD (and nano-USD, exact) for money, bytes for sizes.
"""

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct, field

from penstock.domain.events import UsageEvent

MAX_SERIES = 10_000
OTHER = "other"
STRANGER = "invalid_api_key"
"""The code of calls without a valid key. They leave no event; workers count them."""

CALL_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 900.0)
OVERHEAD_SECONDS = (0.000_05, 0.000_1, 0.000_2, 0.000_5, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0)
TOKEN_CLASSES = ("input", "output", "cache_read", "cache_write", "reasoning", "audio_in", "audio_out")
"""`reasoning` is a part of `output`; the others are disjoint."""

Labels = tuple[str, ...]


class WorkerGauges(Struct, frozen=True):
    """What one worker said of itself last. `held`: limit name -> amount held now, in the limit's unit.
    `refused_strangers`: calls without a valid key since it started."""

    in_flight: int = 0
    streams: int = 0
    held: dict[str, int] = field(default_factory=dict)
    loop_lag_ms: float = 0.0
    generation: int = 0
    version: int = 0
    refused_strangers: int = 0


class Histogram:
    """Counts per bucket, by label set. `bounds` are the upper edges in seconds."""

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.rows: dict[Labels, tuple[list[int], list[float]]] = {}

    def observe(self, labels: Labels, value_s: float) -> None:
        row = self.rows.get(labels)
        if row is None:
            row = self.rows.setdefault(labels, ([0] * (len(self.bounds) + 1), [0.0]))
        row[0][bisect_left(self.bounds, value_s)] += 1
        row[1][0] += value_s


class Metrics:
    """What the process has counted. Fed and scraped on the event loop's thread only."""

    def __init__(self) -> None:
        self._aliases: frozenset[str] = frozenset()
        self.calls: dict[tuple[str, str, str, str, int], int] = {}
        self.spend: dict[tuple[str, str, str], list[int]] = {}
        self.refused: dict[str, int] = {}
        self.deprecated: dict[tuple[str, str, str], int] = {}
        self.latency = Histogram(CALL_SECONDS)
        self.ttft = Histogram(CALL_SECONDS)
        self.overhead = Histogram(OVERHEAD_SECONDS)
        self.alerts: dict[tuple[str, str], int] = {}
        self.downgrades: dict[str, int] = {}
        self.credential_refusals: dict[tuple[str, str, str], int] = {}
        self.credentials_aside: frozenset[tuple[str, str]] = frozenset()
        self.credentials_due: Mapping[str, int] = {}
        self.errors: dict[str, int] = {}
        self.workers: dict[str, WorkerGauges | None] = {}
        self.ratios: dict[str, float] = {}
        self.generation = 0
        self.version = 0
        self.backlog_bytes = 0
        self.ledger_faults = 0
        self.ledger_checked_at_s = 0.0

    def declare_aliases(self, names: Iterable[str]) -> None:
        """The aliases that may appear as labels, wildcards (`openai/*`) included."""
        self._aliases = frozenset(names)

    def observe(self, events: Sequence[UsageEvent]) -> None:
        """Counts committed events. Each event must be given once."""
        for event in events:
            alias = event.alias if event.alias in self._aliases else self._wildcard(event.alias)
            provider = event.provider
            call = (event.team, alias, provider, event.cause, event.status)
            if call not in self.calls and len(self.calls) >= MAX_SERIES:
                call = (OTHER, OTHER, OTHER, event.cause, event.status)
            self.calls[call] = self.calls.get(call, 0) + 1
            if event.decision:
                self._decided(event)
            if event.cause == "refused":
                code = event.error_code or OTHER
                self.refused[code] = self.refused.get(code, 0) + 1
                continue
            self._spent((event.team, alias, provider), event)
            self.latency.observe((provider,), event.latency_ms / 1000)
            self.overhead.observe((), event.overhead_ms / 1000)
            if event.ttft_ms is not None:
                self.ttft.observe((provider,), event.ttft_ms / 1000)

    def _wildcard(self, alias: str) -> str:
        wildcard = alias.partition("/")[0] + "/*"
        return wildcard if wildcard in self._aliases else OTHER if alias else ""

    def _decided(self, event: UsageEvent) -> None:
        """Counts the calls that another model took over, by the limit, and those of an alias that is on its way out, by
        who still makes them."""
        downgrade = event.decision.get("downgrade")
        if downgrade is not None and "refused" not in downgrade:
            for step in (downgrade, *downgrade.get("then", ())):
                self.downgrades[step["limit"]] = self.downgrades.get(step["limit"], 0) + 1
        if (alias := event.decision.get("deprecated")) is not None:
            key = (event.team, alias, event.decision["replaced_by"])
            if key not in self.deprecated and len(self.deprecated) >= MAX_SERIES:
                key = (OTHER, OTHER, OTHER)
            self.deprecated[key] = self.deprecated.get(key, 0) + 1

    def _spent(self, key: tuple[str, str, str], event: UsageEvent) -> None:
        row = self.spend.get(key)
        if row is None:
            if len(self.spend) >= MAX_SERIES:
                key = (OTHER, OTHER, OTHER)
            row = self.spend.setdefault(key, [0] * (1 + len(TOKEN_CLASSES)))
        usage = event.usage
        row[0] += event.cost_nanousd
        row[1] += usage.input
        row[2] += usage.output
        if usage.cache_read:
            row[3] += usage.cache_read
        if usage.cache_write:
            row[4] += sum(usage.cache_write.values())
        if usage.reasoning:
            row[5] += usage.reasoning
        if usage.audio_in or usage.audio_out:
            row[6] += usage.audio_in
            row[7] += usage.audio_out

    def worker_up(self, node: str) -> None:
        self.workers[node] = WorkerGauges()

    def worker_said(self, node: str, gauges: WorkerGauges) -> None:
        before = self.workers.get(node)
        counted = before.refused_strangers if before else 0
        strangers = gauges.refused_strangers - (counted if counted <= gauges.refused_strangers else 0)
        if strangers:
            self.refused[STRANGER] = self.refused.get(STRANGER, 0) + strangers
        self.workers[node] = gauges

    def worker_down(self, node: str) -> None:
        self.workers[node] = None

    def alerted(self, limit: str, fraction: float) -> None:
        """A limit's settled amount crossed `fraction` of it."""
        key = (limit, f"{fraction:g}")
        self.alerts[key] = self.alerts.get(key, 0) + 1

    def credential_refused(self, provider: str, credential: str, verdict: str) -> None:
        """A provider has refused a credential, for as long as it is asked; `verdict`: rejected or exhausted."""
        key = (provider, credential, verdict)
        self.credential_refusals[key] = self.credential_refusals.get(key, 0) + 1

    def failed(self, task: str) -> None:
        """One of the control process's own tasks met an error; `task` is one of a handful of fixed names."""
        self.errors[task] = self.errors.get(task, 0) + 1

    def settled_ratios(self, ratios: Mapping[str, float]) -> None:
        """Limit name -> settled share of its amount, the fullest of its current balances."""
        self.ratios = dict(ratios)
