"""What `check` warns of although it is allowed."""

from pathlib import Path

import pytest

from penstock.config.advice import advise
from penstock.config.loading import load

PROVIDERS = "providers: [{name: sim, kind: simulated}, {name: lab, kind: simulated}]\nteams: [{name: growth}]\n"


def _advice(tmp_path: Path, text: str) -> list[str]:
    path = tmp_path / "penstock.yaml"
    path.write_text(PROVIDERS + text)
    return advise(load(path))


def _models(max_output: int) -> str:
    price = "price: {input: 1, output: 10}"
    return f"models: [{{name: m, targets: [{{provider: sim, model: x}}], {price}, max_output: {max_output}}}]\n"


def test_a_file_that_is_fine_has_no_warning(tmp_path: Path) -> None:
    limits = "limits: [{match: {team: growth}, unit: usd, amount: 100, per: day}]\n"
    assert _advice(tmp_path, _models(1_000) + limits) == []


def test_one_worst_case_over_five_percent_of_a_strict_limit_is_warned_of(tmp_path: Path) -> None:
    limits = "limits: [{match: {team: growth}, unit: usd, amount: 2, per: day}]\n"
    assert _advice(tmp_path, _models(10_000) + limits) == []
    (warning,) = _advice(tmp_path, _models(10_001) + limits)
    assert "holds 0.10001 of 2 USD, more than 5 %" in warning


def test_one_quantum_over_five_percent_of_a_metered_limit_is_warned_of(tmp_path: Path) -> None:
    limits = "limits: [{match: {team: growth}, unit: usd, amount: %s, per: day, mode: metered}]\n"
    assert _advice(tmp_path, _models(100_000) + limits % "0.2") == []
    assert _advice(tmp_path, _models(999) + limits % "0.1998") == []
    (warning,) = _advice(tmp_path, _models(100_000) + limits % "0.19")
    assert "one stream (1000 tokens at a time) to 'm' holds 0.01 of 0.19 USD" in warning


@pytest.mark.parametrize("unit", ["tokens", "output_tokens"])
def test_limits_on_tokens_are_looked_at_too(tmp_path: Path, unit: str) -> None:
    limits = f"limits: [{{match: {{team: growth}}, unit: {unit}, amount: 20000, per: day}}]\n"
    assert _advice(tmp_path, _models(1_000) + limits) == []
    (warning,) = _advice(tmp_path, _models(1_001) + limits)
    assert f"holds 1001 of 20000 {unit}, more than 5 %" in warning
    assert _advice(tmp_path, _models(1_001) + limits.replace(unit, "input_tokens")) == []


@pytest.mark.parametrize("limit", ["mode: observe", "match: {model: other}"])
def test_a_limit_that_does_not_hold_it_is_not_warned_of(tmp_path: Path, limit: str) -> None:
    other = _models(10_001).rstrip("]\n") + ", {name: other, targets: [{provider: sim, model: y}]}]\n"
    assert _advice(tmp_path, other + f"limits: [{{unit: usd, amount: 2, per: day, {limit}}}]\n") == []


@pytest.mark.parametrize("each", ["customer", "user", "tag:feature"])
def test_balances_that_callers_can_multiply_need_a_limit_around_them(tmp_path: Path, each: str) -> None:
    inner = f"{{match: {{team: growth}}, each: '{each}', unit: requests, amount: 5, per: day}}"
    (warning,) = _advice(tmp_path, f"limits: [{inner}]\n")
    assert f"each {each} is written by callers" in warning
    for outer in (
        "{unit: requests, amount: 9, per: day}",
        "{unit: requests, amount: 9, per: day, mode: metered}",
        "{match: {team: growth}, unit: requests, amount: 9, per: hour}",
    ):
        assert _advice(tmp_path, f"limits: [{inner}, {outer}]\n") == []
    (warning,) = _advice(tmp_path, f"limits: [{inner}, {{unit: tokens, amount: 9, per: day}}]\n")
    assert "is written by callers" in warning


def test_balances_of_an_operators_dimension_need_none(tmp_path: Path) -> None:
    assert _advice(tmp_path, "limits: [{each: team, unit: requests, amount: 5, per: day}]\n") == []


TWO = (
    "models: [{name: big, targets: [{provider: sim, model: x}]}, {name: small, targets: [{provider: lab, model: y}]}]\n"
    "limits: [{name: cap, unit: usd, amount: 100, per: day, on_exceeded: {downgrade: small}, "
)


@pytest.mark.parametrize("limit", ["match: {model: big}", "each: model", "match: {provider: sim}"])
def test_a_downgrade_out_of_the_limit_is_not_warned_of(tmp_path: Path, limit: str) -> None:
    assert _advice(tmp_path, TWO + limit + "}]\n") == []


@pytest.mark.parametrize("limit", ["match: {team: growth}", "match: {provider: lab}", "each: team"])
def test_a_downgrade_to_a_model_that_the_limit_counts_too_is_warned_of(tmp_path: Path, limit: str) -> None:
    (warning,) = _advice(tmp_path, TWO + limit + "}]\n")
    assert warning.startswith("limits.cap: it counts 'small' as well")


def test_a_downgrade_to_an_undeclared_model_is_looked_at_by_its_provider(tmp_path: Path) -> None:
    text = "models: [{name: 'sim/*'}]\nlimits: [{unit: usd, amount: 100, per: day, on_exceeded: {downgrade: sim/z}, "
    assert _advice(tmp_path, text + "match: {provider: lab}}]\n") == []
    (warning,) = _advice(tmp_path, text + "match: {provider: sim}}]\n")
    assert "it counts 'sim/z' as well" in warning


def test_a_downgrade_of_a_limit_that_denies_nothing_is_warned_of(tmp_path: Path) -> None:
    (warning,) = _advice(tmp_path, TWO + "match: {model: big}, mode: observe}]\n")
    assert "denies nothing" in warning


def test_an_admin_api_beyond_loopback_is_warned_of(tmp_path: Path) -> None:
    (warning,) = _advice(tmp_path, "server: {admin: '0.0.0.0:8081'}\n")
    assert "without TLS" in warning
    assert _advice(tmp_path, "server: {admin: 'localhost:8081'}\n") == []


def test_a_secret_that_is_not_here_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI_KEY", raising=False)
    (warning,) = _advice(tmp_path, "keys: [{name: ci, secret: env:CI_KEY}]\n")
    assert warning == "keys.ci: the environment variable CI_KEY is not set; `serve` needs it"


def test_giving_a_box_up_before_it_has_stopped_is_warned_of(tmp_path: Path) -> None:
    shared = "store: postgresql://u@db/penstock\n"
    (warning,) = _advice(tmp_path, f"{shared}server: {{box_lost_after: 30s}}\n")
    assert warning.startswith("server.box_lost_after: is shorter than stop.freshness")
    assert _advice(tmp_path, f"{shared}server: {{box_lost_after: 45s}}\n") == []
    assert _advice(tmp_path, "server: {box_lost_after: 30s}\n") == []
