"""Metrics: what `/metrics` says after events, beats and alerts."""

import time

import pytest
from prometheus_client.parser import text_string_to_metric_families

from penstock.domain.events import UsageEvent
from penstock.domain.usage import Usage
from penstock.records import metrics as subject
from penstock.records.families import exposition
from penstock.records.metrics import Metrics, WorkerGauges


def event(**more: object) -> UsageEvent:
    fields: dict[str, object] = {
        "event_id": "evt_1",
        "request_id": "req_1",
        "started_at": 1_000_000_000,
        "ended_at": 2_000_000_000,
        "team": "growth",
        "key": "ci",
        "alias": "gpt-4.1",
        "provider": "lab",
        "status": 200,
        "usage": Usage(input=10, output=5, reasoning=2, cache_read=3, cache_write={"5m": 4, "1h": 1}),
        "cost_nanousd": 1_500,
        "latency_ms": 120.0,
        "ttft_ms": 30.0,
        "overhead_ms": 0.08,
    }
    return UsageEvent(**{**fields, **more})  # type: ignore[arg-type]


def samples(metrics: Metrics) -> dict[str, float]:
    """`name{label="value",...}` -> value, labels in alphabetical order."""
    found = {}
    for family in text_string_to_metric_families(exposition(metrics).decode()):
        for sample in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}"] = sample.value
    return found


def declared() -> Metrics:
    metrics = Metrics()
    metrics.declare_aliases(["gpt-4.1", "openai/*"])
    return metrics


def test_a_call_counts_once_with_its_tokens_its_money_and_its_times() -> None:
    metrics = declared()
    metrics.observe([event(), event()])
    found = samples(metrics)
    labels = "alias=gpt-4.1,provider=lab,team=growth"
    assert found["penstock_calls_total{alias=gpt-4.1,cause=completed,provider=lab,status=200,team=growth}"] == 2
    assert found[f"penstock_cost_nanousd_total{{{labels}}}"] == 3_000
    assert found[f"penstock_cost_usd_total{{{labels}}}"] == 3_000 / 1e9
    tokens = {
        name: found[f"penstock_tokens_total{{alias=gpt-4.1,class={name},provider=lab,team=growth}}"]
        for name in ("input", "output", "reasoning", "cache_read", "cache_write")
    }
    assert tokens == {"input": 20, "output": 10, "reasoning": 4, "cache_read": 6, "cache_write": 10}
    assert found["penstock_latency_seconds_count{provider=lab}"] == 2
    assert found["penstock_latency_seconds_bucket{le=0.1,provider=lab}"] == 0
    assert found["penstock_latency_seconds_bucket{le=0.25,provider=lab}"] == 2
    assert found["penstock_ttft_seconds_sum{provider=lab}"] == 0.06
    assert found["penstock_overhead_seconds_bucket{le=5e-05}"] == 0
    assert found["penstock_overhead_seconds_bucket{le=0.0001}"] == 2


def test_a_refused_call_counts_by_its_code_and_costs_nothing() -> None:
    metrics = declared()
    metrics.observe([event(cause="refused", error_code="insufficient_quota", status=429, provider="", cost_nanousd=0)])
    found = samples(metrics)
    assert found["penstock_refused_total{code=insufficient_quota}"] == 1
    assert "penstock_latency_seconds_count{provider=}" not in found
    assert not any(name.startswith("penstock_cost") for name in found)


def test_an_undeclared_alias_counts_as_its_wildcard_or_as_other() -> None:
    metrics = declared()
    metrics.observe([event(alias="openai/gpt-9"), event(alias="evil-1"), event(alias="evil-2"), event(alias="")])
    aliases = {name.split("alias=")[1].split(",")[0] for name in samples(metrics) if name.startswith("penstock_calls")}
    assert aliases == {"openai/*", "other", ""}


def test_calls_of_a_deprecated_alias_are_counted_by_who_makes_them() -> None:
    metrics = declared()
    told = {"deprecated": "old", "replaced_by": "new", "replaced": False}
    metrics.observe([event(decision=told), event(decision=told, cause="refused", status=429), event(decision={"x": 1})])
    assert samples(metrics)["penstock_deprecated_calls_total{alias=old,replaced_by=new,team=growth}"] == 2


def test_label_sets_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subject, "MAX_SERIES", 200)
    metrics = declared()
    metrics.observe([event(team=f"team-{number}", status=200) for number in range(subject.MAX_SERIES + 50)])
    found = samples(metrics)
    assert sum(name.startswith("penstock_calls_total") for name in found) == subject.MAX_SERIES + 1
    assert found["penstock_calls_total{alias=other,cause=completed,provider=other,status=200,team=other}"] == 50
    assert found["penstock_cost_nanousd_total{alias=other,provider=other,team=other}"] == 50 * 1_500


def test_gauges_follow_the_workers_and_a_worker_that_is_gone_shows_as_down() -> None:
    metrics = declared()
    metrics.worker_up("a")
    metrics.worker_said("a", WorkerGauges(3, 2, {"monthly": 500}, 1.5, 7, 9, refused_strangers=4))
    metrics.worker_said("b", WorkerGauges(1, 0, {"monthly": 200}, 0.5, 6, 9))
    found = samples(metrics)
    assert found["penstock_held{limit=monthly}"] == 700
    assert found["penstock_in_flight{node=a}"] == 3
    assert found["penstock_streams{node=a}"] == 2
    assert found["penstock_loop_lag_seconds{node=a}"] == 0.0015
    assert found["penstock_worker_kill_generation{node=b}"] == 6
    assert found["penstock_refused_total{code=invalid_api_key}"] == 4
    metrics.worker_down("a")
    found = samples(metrics)
    assert found["penstock_worker_up{node=a}"] == 0
    assert found["penstock_worker_up{node=b}"] == 1
    assert found["penstock_held{limit=monthly}"] == 200
    assert "penstock_in_flight{node=a}" not in found


def test_strangers_are_counted_across_restarts_of_a_worker() -> None:
    metrics = declared()
    for count in (4, 6, 0, 1):
        metrics.worker_said("a", WorkerGauges(refused_strangers=count))
    assert samples(metrics)["penstock_refused_total{code=invalid_api_key}"] == 7


def test_what_the_process_says_of_itself_is_shown() -> None:
    metrics = declared()
    metrics.generation, metrics.version, metrics.backlog_bytes = 7, 9, 1_234
    metrics.failed("commit")
    metrics.alerted("monthly", 0.8)
    metrics.settled_ratios({"monthly": 0.81})
    found = samples(metrics)
    assert found["penstock_kill_generation{}"] == 7
    assert found["penstock_snapshot_version{}"] == 9
    assert found["penstock_journal_backlog_bytes{}"] == 1_234
    assert found["penstock_control_errors_total{task=commit}"] == 1
    assert found["penstock_limit_alerts_total{fraction=0.8,limit=monthly}"] == 1
    assert found["penstock_limit_settled_ratio{limit=monthly}"] == 0.81


def test_hostile_names_cannot_break_the_format() -> None:
    metrics = Metrics()
    metrics.declare_aliases(['a"b\\c\nd'])
    metrics.observe([event(alias='a"b\\c\nd', team='x"} 1\npenstock_fake 1')])
    families = {family.name for family in text_string_to_metric_families(exposition(metrics).decode())}
    assert not any("fake" in name for name in families)


def test_an_event_costs_little_to_count() -> None:
    metrics = declared()
    batch = [event() for _ in range(2_000)]
    started = time.process_time()
    metrics.observe(batch)
    # Ten times what it takes: this catches a change of kind, not a busy machine.
    assert (time.process_time() - started) / len(batch) < 80e-6
