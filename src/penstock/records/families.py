"""What has been counted, as Prometheus families and as text.

It is loaded with what administrators use, since calls wait for a start and nobody scrapes one.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from penstock.domain.money import NANO
from penstock.records.metrics import TOKEN_CLASSES, Histogram, Metrics

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def exposition(seen: Metrics) -> bytes:
    """The text format, `CONTENT_TYPE`."""
    registry = CollectorRegistry()
    registry.register(_Seen(seen))
    return generate_latest(registry)


class _Seen(Collector):
    def __init__(self, seen: Metrics) -> None:
        self._seen = seen

    def collect(self) -> Iterator[Metric]:
        return families(self._seen)


def families(seen: Metrics) -> Iterator[Metric]:
    """Every family, whether there is anything in it or not."""
    yield from _counters(seen)
    yield _histogram(seen.latency, "penstock_latency_seconds", "From request to the last byte.", ["provider"])
    yield _histogram(seen.ttft, "penstock_ttft_seconds", "From request to the first content byte.", ["provider"])
    yield _histogram(
        seen.overhead, "penstock_overhead_seconds", "The part of the latency that is the gateway's own.", []
    )
    yield from _gauges(seen)


def _counters(seen: Metrics) -> Iterator[Metric]:
    calls = CounterMetricFamily(
        "penstock_calls", "Exchanges by how they ended.", labels=["team", "alias", "provider", "cause", "status"]
    )
    for (*names, status), count in seen.calls.items():
        calls.add_metric([*map(str, names), str(status)], count)
    yield calls
    spent = ["team", "alias", "provider"]
    usd = CounterMetricFamily("penstock_cost_usd", "Money owed, in US dollars.", labels=spent)
    nanousd = CounterMetricFamily("penstock_cost_nanousd", "Money owed, in nano-dollars.", labels=spent)
    tokens = CounterMetricFamily("penstock_tokens", "Tokens by class.", labels=["class", *spent])
    for key, (cost, *counts) in seen.spend.items():
        usd.add_metric(key, cost / NANO)
        nanousd.add_metric(key, cost)
        for token_class, count in zip(TOKEN_CLASSES, counts, strict=True):
            if count:
                tokens.add_metric((token_class, *key), count)
    yield from (usd, nanousd, tokens)
    yield _counter("penstock_refused", "Calls refused, by error code.", "code", seen.refused)
    yield _counter("penstock_control_errors", "Errors in the control process's own tasks.", "task", seen.errors)
    deprecated = CounterMetricFamily(
        "penstock_deprecated_calls",
        "Calls of an alias that callers are told to leave.",
        labels=["team", "alias", "replaced_by"],
    )
    for callers, count in seen.deprecated.items():
        deprecated.add_metric(callers, count)
    yield deprecated
    alerts = CounterMetricFamily(
        "penstock_limit_alerts",
        "How often a limit's settled amount crossed a fraction.",
        labels=["limit", "fraction"],
    )
    for alert, count in seen.alerts.items():
        alerts.add_metric(alert, count)
    yield alerts
    refused = CounterMetricFamily(
        "penstock_credential_refusals",
        "Credentials that a provider has refused, each as often as it was tried.",
        labels=["provider", "credential", "verdict"],
    )
    for verdict, count in seen.credential_refusals.items():
        refused.add_metric(verdict, count)
    yield refused
    text = "Calls that another model took over because of a limit."
    yield _counter("penstock_downgrades", text, "limit", seen.downgrades)


def _gauges(seen: Metrics) -> Iterator[Metric]:
    up = {node: float(gauges is not None) for node, gauges in seen.workers.items()}
    live = {node: gauges for node, gauges in seen.workers.items() if gauges is not None}
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
        seen.ratios,
    )
    aside = GaugeMetricFamily(
        "penstock_credential_set_aside",
        "1 while a provider's credential is set aside.",
        labels=["provider", "credential"],
    )
    for place in sorted(seen.credentials_aside):
        aside.add_metric(place, 1)
    yield aside
    due = {name: at / NANO for name, at in seen.credentials_due.items()}
    text = "When a credential of the vault is to be rotated, in Unix seconds."
    yield _gauge("penstock_credential_due_timestamp_seconds", text, "credential", due)
    yield GaugeMetricFamily("penstock_kill_generation", "The newest kill, lifted ones included.", seen.generation)
    yield GaugeMetricFamily("penstock_snapshot_version", "The newest published snapshot.", seen.version)
    yield GaugeMetricFamily(
        "penstock_journal_backlog_bytes", "Journal bytes that are not in the store yet.", seen.backlog_bytes
    )
    yield GaugeMetricFamily(
        "penstock_ledger_faults", "Faults that the last check of the ledger found.", seen.ledger_faults
    )
    yield GaugeMetricFamily(
        "penstock_ledger_checked_timestamp_seconds",
        "When the ledger was checked last, in Unix seconds; 0 before the first check.",
        seen.ledger_checked_at_s,
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


def _histogram(counted: Histogram, name: str, text: str, labels: Sequence[str]) -> HistogramMetricFamily:
    family = HistogramMetricFamily(name, text, labels=labels)
    edges = [*(str(bound) for bound in counted.bounds), "+Inf"]
    for values, (counts, total) in counted.rows.items():
        family.add_metric(values, list(zip(edges, accumulate(counts), strict=True)), total[0])
    return family
