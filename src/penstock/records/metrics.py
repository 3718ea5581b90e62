"""What `/metrics` shows: counters and histograms from committed usage events, gauges from the workers' beats.

Events are summed into plain dictionaries and only become Prometheus families when somebody scrapes, so that an event
costs a few microseconds. Counters start at zero with the process, which Prometheus expects. Labels are bounded: teams,
providers and aliases are the operator's own names, an alias that nobody declared counts as its wildcard or as `other`,
and beyond `MAX_SERIES` label sets of a family new ones are counted as `other`.

Units: seconds for times, USD (and nano-USD, exact) for money, bytes for sizes.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate

from msgspec import Struct, field
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from penstock.domain.events import UsageEvent
from penstock.domain.money import NANO

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
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
        self._bounds = bounds
        self._rows: dict[Labels, tuple[list[int], list[float]]] = {}

    def observe(self, labels: Labels, value_s: float) -> None:
        row = self._rows.get(labels)
        if row is None:
            row = self._rows.setdefault(labels, ([0] * (len(self._bounds) + 1), [0.0]))
        row[0][bisect_left(self._bounds, value_s)] += 1
        row[1][0] += value_s

    def family(self, name: str, text: str, labels: Sequence[str]) -> HistogramMetricFamily:
        family = HistogramMetricFamily(name, text, labels=labels)
        edges = [*(str(bound) for bound in self._bounds), "+Inf"]
        for values, (counts, total) in self._rows.items():
            family.add_metric(values, list(zip(edges, accumulate(counts), strict=True)), total[0])
        return family


class Metrics(Collector):
    """The one collector of the process. Fed and scraped on the event loop's thread only."""

    def __init__(self) -> None:
        self._aliases: frozenset[str] = frozenset()
        self._calls: dict[tuple[str, str, str, str, int], int] = {}
        self._spend: dict[tuple[str, str, str], list[int]] = {}
        self._refused: dict[str, int] = {}
        self._deprecated: dict[tuple[str, str, str], int] = {}
        self._latency = Histogram(CALL_SECONDS)
        self._ttft = Histogram(CALL_SECONDS)
        self._overhead = Histogram(OVERHEAD_SECONDS)
        self._alerts: dict[tuple[str, str], int] = {}
        self._downgrades: dict[str, int] = {}
        self._refused_credentials: dict[tuple[str, str, str], int] = {}
        self.credentials_aside: frozenset[tuple[str, str]] = frozenset()
        self.credentials_due: Mapping[str, int] = {}
        self._errors: dict[str, int] = {}
        self._workers: dict[str, WorkerGauges | None] = {}
        self._settled_ratios: dict[str, float] = {}
        self.generation = 0
        self.version = 0
        self.backlog_bytes = 0
        self.ledger_faults = 0
        self.ledger_checked_at_s = 0.0
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def declare_aliases(self, names: Iterable[str]) -> None:
        """The aliases that may appear as labels, wildcards (`openai/*`) included."""
        self._aliases = frozenset(names)

    def observe(self, events: Sequence[UsageEvent]) -> None:
        """Counts committed events. Each event must be given once."""
        for event in events:
            alias = event.alias if event.alias in self._aliases else self._wildcard(event.alias)
            provider = event.provider
            call = (event.team, alias, provider, event.cause, event.status)
            if call not in self._calls and len(self._calls) >= MAX_SERIES:
                call = (OTHER, OTHER, OTHER, event.cause, event.status)
            self._calls[call] = self._calls.get(call, 0) + 1
            if event.decision:
                self._decided(event)
            if event.cause == "refused":
                code = event.error_code or OTHER
                self._refused[code] = self._refused.get(code, 0) + 1
                continue
            self._spent((event.team, alias, provider), event)
            self._latency.observe((provider,), event.latency_ms / 1000)
            self._overhead.observe((), event.overhead_ms / 1000)
            if event.ttft_ms is not None:
                self._ttft.observe((provider,), event.ttft_ms / 1000)

    def _wildcard(self, alias: str) -> str:
        wildcard = alias.partition("/")[0] + "/*"
        return wildcard if wildcard in self._aliases else OTHER if alias else ""

    def _decided(self, event: UsageEvent) -> None:
        """Counts the calls that another model took over, by the limit, and those of an alias that is on its way out, by
        who still makes them."""
        downgrade = event.decision.get("downgrade")
        if downgrade is not None and "refused" not in downgrade:
            for step in (downgrade, *downgrade.get("then", ())):
                self._downgrades[step["limit"]] = self._downgrades.get(step["limit"], 0) + 1
        if (alias := event.decision.get("deprecated")) is not None:
            key = (event.team, alias, event.decision["replaced_by"])
            if key not in self._deprecated and len(self._deprecated) >= MAX_SERIES:
                key = (OTHER, OTHER, OTHER)
            self._deprecated[key] = self._deprecated.get(key, 0) + 1

    def _spent(self, key: tuple[str, str, str], event: UsageEvent) -> None:
        row = self._spend.get(key)
        if row is None:
            if len(self._spend) >= MAX_SERIES:
                key = (OTHER, OTHER, OTHER)
            row = self._spend.setdefault(key, [0] * (1 + len(TOKEN_CLASSES)))
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
        self._workers[node] = WorkerGauges()

    def worker_said(self, node: str, gauges: WorkerGauges) -> None:
        before = self._workers.get(node)
        counted = before.refused_strangers if before else 0
        strangers = gauges.refused_strangers - (counted if counted <= gauges.refused_strangers else 0)
        if strangers:
            self._refused[STRANGER] = self._refused.get(STRANGER, 0) + strangers
        self._workers[node] = gauges

    def worker_down(self, node: str) -> None:
        self._workers[node] = None

    def alerted(self, limit: str, fraction: float) -> None:
        """A limit's settled amount crossed `fraction` of it."""
        key = (limit, f"{fraction:g}")
        self._alerts[key] = self._alerts.get(key, 0) + 1

    def credential_refused(self, provider: str, credential: str, verdict: str) -> None:
        """A provider has refused a credential, for as long as it is asked; `verdict`: rejected or exhausted."""
        key = (provider, credential, verdict)
        self._refused_credentials[key] = self._refused_credentials.get(key, 0) + 1

    def failed(self, task: str) -> None:
        """One of the control process's own tasks met an error; `task` is one of a handful of fixed names."""
        self._errors[task] = self._errors.get(task, 0) + 1

    def settled_ratios(self, ratios: Mapping[str, float]) -> None:
        """Limit name -> settled share of its amount, the fullest of its current balances."""
        self._settled_ratios = dict(ratios)

    def exposition(self) -> bytes:
        """The text format, `CONTENT_TYPE`."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        yield from self._counters()
        yield self._latency.family("penstock_latency_seconds", "From request to the last byte.", ["provider"])
        yield self._ttft.family("penstock_ttft_seconds", "From request to the first content byte.", ["provider"])
        yield self._overhead.family(
            "penstock_overhead_seconds", "The part of the latency that is the gateway's own.", []
        )
        yield from self._gauges()

    def _counters(self) -> Iterator[Metric]:
        calls = CounterMetricFamily(
            "penstock_calls", "Exchanges by how they ended.", labels=["team", "alias", "provider", "cause", "status"]
        )
        for (*names, status), count in self._calls.items():
            calls.add_metric([*map(str, names), str(status)], count)
        yield calls
        spent = ["team", "alias", "provider"]
        usd = CounterMetricFamily("penstock_cost_usd", "Money owed, in US dollars.", labels=spent)
        nanousd = CounterMetricFamily("penstock_cost_nanousd", "Money owed, in nano-dollars.", labels=spent)
        tokens = CounterMetricFamily("penstock_tokens", "Tokens by class.", labels=["class", *spent])
        for key, (cost, *counts) in self._spend.items():
            usd.add_metric(key, cost / NANO)
            nanousd.add_metric(key, cost)
            for token_class, count in zip(TOKEN_CLASSES, counts, strict=True):
                if count:
                    tokens.add_metric((token_class, *key), count)
        yield from (usd, nanousd, tokens)
        yield _counter("penstock_refused", "Calls refused, by error code.", "code", self._refused)
        yield _counter("penstock_control_errors", "Errors in the control process's own tasks.", "task", self._errors)
        deprecated = CounterMetricFamily(
            "penstock_deprecated_calls",
            "Calls of an alias that callers are told to leave.",
            labels=["team", "alias", "replaced_by"],
        )
        for callers, count in self._deprecated.items():
            deprecated.add_metric(callers, count)
        yield deprecated
        alerts = CounterMetricFamily(
            "penstock_limit_alerts",
            "How often a limit's settled amount crossed a fraction.",
            labels=["limit", "fraction"],
        )
        for alert, count in self._alerts.items():
            alerts.add_metric(alert, count)
        yield alerts
        refused = CounterMetricFamily(
            "penstock_credential_refusals",
            "Credentials that a provider has refused, each as often as it was tried.",
            labels=["provider", "credential", "verdict"],
        )
        for verdict, count in self._refused_credentials.items():
            refused.add_metric(verdict, count)
        yield refused
        text = "Calls that another model took over because of a limit."
        yield _counter("penstock_downgrades", text, "limit", self._downgrades)

    def _gauges(self) -> Iterator[Metric]:
        up = {node: float(gauges is not None) for node, gauges in self._workers.items()}
        live = {node: gauges for node, gauges in self._workers.items() if gauges is not None}
        held: dict[str, float] = {}
        for gauges in live.values():
            for limit, amount in gauges.held.items():
                held[limit] = held.get(limit, 0) + amount
        yield _gauge("penstock_worker_up", "1 while the worker is connected.", "node", up)
        in_flight = {node: gauges.in_flight for node, gauges in live.items()}
        yield _gauge("penstock_in_flight", "Calls being served.", "node", in_flight)
        streams = {node: gauges.streams for node, gauges in live.items()}
        yield _gauge("penstock_streams", "Streams being served.", "node", streams)
        lag = {node: gauges.loop_lag_ms / 1000 for node, gauges in live.items()}
        yield _gauge("penstock_loop_lag_seconds", "How late the worker's event loop runs.", "node", lag)
        confirmed = {node: gauges.generation for node, gauges in live.items()}
        yield _gauge("penstock_worker_kill_generation", "The newest kill that the worker knows.", "node", confirmed)
        yield _gauge("penstock_held", "Amount held now, in the limit's unit (nano-dollars for usd).", "limit", held)
        yield _gauge(
            "penstock_limit_settled_ratio",
            "Settled share of the limit's fullest balance.",
            "limit",
            self._settled_ratios,
        )
        aside = GaugeMetricFamily(
            "penstock_credential_set_aside",
            "1 while a provider's credential is set aside.",
            labels=["provider", "credential"],
        )
        for place in sorted(self.credentials_aside):
            aside.add_metric(place, 1)
        yield aside
        due = {name: at / NANO for name, at in self.credentials_due.items()}
        text = "When a credential of the vault is to be rotated, in Unix seconds."
        yield _gauge("penstock_credential_due_timestamp_seconds", text, "credential", due)
        yield GaugeMetricFamily("penstock_kill_generation", "The newest kill, lifted ones included.", self.generation)
        yield GaugeMetricFamily("penstock_snapshot_version", "The newest published snapshot.", self.version)
        yield GaugeMetricFamily(
            "penstock_journal_backlog_bytes", "Journal bytes that are not in the store yet.", self.backlog_bytes
        )
        yield GaugeMetricFamily(
            "penstock_ledger_faults", "Faults that the last check of the ledger found.", self.ledger_faults
        )
        yield GaugeMetricFamily(
            "penstock_ledger_checked_timestamp_seconds",
            "When the ledger was checked last, in Unix seconds; 0 before the first check.",
            self.ledger_checked_at_s,
        )


def _counter(name: str, text: str, label: str, values: Mapping[str, int]) -> CounterMetricFamily:
    family = CounterMetricFamily(name, text, labels=[label])
    for key, count in values.items():
        family.add_metric([key], count)
    return family


def _gauge(name: str, text: str, label: str, values: Mapping[str, float]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, text, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family
