"""The report: medians of ratios within a round, latencies beyond the upstream's own, and a page that stands alone."""

import io
import platform

import pytest
from rich.console import Console

from penstock.ledger.matching import Index
from penstock.testing.bench import report
from penstock.testing.bench.__main__ import limits_plan_of, plan_of, read_arguments
from penstock.testing.bench.admission import DIMS, Admitted, limits_of
from penstock.testing.bench.gateways import LIMITED, NGINX
from penstock.testing.bench.keys import Kept
from penstock.testing.bench.processes import Memory
from penstock.testing.bench.report import Report, admission_cells
from penstock.testing.bench.run import Footprint, Phase, Plan, Results, Sample
from penstock.testing.bench.traffic import WORKLOADS
from penstock.testing.bench.values import Values

PLAIN = WORKLOADS[0]
PACED = WORKLOADS[-1]
MS = 1_000_000


def sample(contender: str, phase: Phase, number: int, cpu_us: float, whole_ms: float) -> Sample:
    """A hundred calls at `cpu_us` each, which took `whole_ms` each and half of it to the first byte."""
    cpu_ns = {"worker": int(cpu_us * 75_000), "control": int(cpu_us * 25_000)} if cpu_us else {}
    whole_ns = (int(whole_ms * MS),) * 100
    first_ns = (int(whole_ms * MS / 2),) * 100
    return Sample(contender, "plain", phase, number, 100, 50 * MS, cpu_ns, whole_ns, first_ns)


def footprint(contender: str) -> Footprint:
    return Footprint(
        contender, (10.0, 30.0, 20.0), (40.0, 60.0, 50.0), Memory(2048, 1024), {"worker": 1.5}, Memory(4096, 3072)
    )


def results() -> Results:
    samples: list[Sample] = []
    for number, floor_us, own_us in ((1, 10, 30), (2, 20, 40), (3, 10, 50)):
        samples += [
            sample("direct", "steady", number, 0, 1.0),
            sample("nginx", "busy", number, floor_us, 2.0),
            sample("nginx", "steady", number, floor_us * 2, 1.5),
            sample("penstock", "busy", number, own_us, 4.0),
            sample("penstock", "steady", number, own_us, 2.0),
        ]
    return Results(Plan(3, (PLAIN,)), tuple(samples), (footprint("nginx"), footprint("penstock")), 0.04)


def test_ratios_are_taken_within_a_round() -> None:
    nginx, penstock = report.rows(results())
    assert penstock.steady.us == pytest.approx(40)
    assert penstock.steady.ratios == pytest.approx((1.5, 1.0, 2.5))
    assert nginx.steady.ratios == ()
    assert report.cpu_cells(penstock.steady) == ("40", "1.5 (1.0-2.5)")


def test_latencies_are_those_beyond_the_upstream_alone_at_the_steady_rate() -> None:
    _, penstock = report.rows(results())
    assert penstock.added.whole_p50 == pytest.approx(1.0)
    assert penstock.added.first_p99 == pytest.approx(0.5)


def test_throughput_comes_from_the_busy_phase_and_roles_from_the_steady_one() -> None:
    _, penstock = report.rows(results())
    assert penstock.busy is not None
    cpu, calls_per_s = penstock.busy
    assert cpu.ratios == pytest.approx((3.0, 2.0, 5.0))
    assert calls_per_s == pytest.approx(2000)
    assert penstock.roles_us == pytest.approx({"control": 10, "worker": 30})
    assert report.role_cells(penstock)[2] == "worker 30.0, control 10.0"


def test_a_paced_workload_has_no_busy_phase() -> None:
    samples = []
    for contender, cpu_us in (("direct", 0), ("nginx", 1500), ("penstock", 3000)):
        plain = sample(contender, "steady", 1, cpu_us, 1000.0)
        samples.append(Sample(*(["paced" if f == "workload" else getattr(plain, f) for f in plain.__struct_fields__])))
    found = Results(Plan(1, (PACED,)), tuple(samples), (footprint("nginx"), footprint("penstock")), 0.04)
    _, penstock = report.rows(found)
    assert penstock.busy is None
    assert penstock.steady.ratios == pytest.approx((2.0,))
    assert (
        "At saturation"
        not in report.page(Report(found), "penstock bench --only paced").partition("How it is measured")[0]
    )


@pytest.mark.parametrize(("percent", "expected"), [(50, 2.0), (99, 4.0), (25, 1.0), (100, 4.0)])
def test_percentiles_are_those_of_the_nearest_rank(percent: int, expected: float) -> None:
    assert report.percentile([MS, 2 * MS, 3 * MS, 4 * MS], percent) == expected


def test_the_page_shows_command_machine_and_tables_but_no_name_of_the_machine() -> None:
    page = report.page(Report(results()), "penstock bench --write")
    assert "`penstock bench --write`" in page
    assert "cores of" in page
    assert "| plain | penstock | 40 | 3.0 (2.0-5.0) | 2000 |" in page
    assert "| plain | penstock | 40 | 1.5 (1.0-2.5) | 1.00 / 1.00 | 0.50 / 0.50 |" in page
    assert "| penstock | 2 MiB | 1 MiB | 4 MiB | 3 MiB | 20 | 50 |" in page
    assert "| penstock | worker 1.5 |" in page
    assert "600 calls" in page
    assert "took 0.0 cores meanwhile" in page
    assert platform.node() not in page.split()
    assert all(len(line) < 130 for line in page.splitlines())


def test_without_nginx_the_figures_are_absolute_and_the_report_says_so() -> None:
    whole = results()
    samples = tuple(s for s in whole.samples if s.contender != "nginx")
    alone = Results(whole.plan, samples, whole.footprints[1:], 1.2, ("nginx",))
    said = io.StringIO()
    report.show(Report(alone), Console(file=said, width=80))
    assert "nginx is not installed" in said.getvalue()
    assert "took 1.2 cores meanwhile" in said.getvalue()
    assert "the figures are absolute" in " ".join(said.getvalue().split())
    assert report.rows(alone)[0].steady.ratios == ()


def test_what_limits_cost_is_the_difference_within_a_round_to_as_many_workers_without() -> None:
    samples: list[Sample] = []
    for number, floor_us, more_us in ((1, 10, 5), (2, 20, 40), (3, 10, 10)):
        for phase in ("steady", "busy"):
            samples.append(sample(NGINX, phase, number, floor_us, 1.0))
            for name in LIMITED:
                own_us = 100 + 50 * ("2 workers" in name) + more_us * name.startswith("12")
                samples.append(sample(name, phase, number, own_us, 1.0))
    found = Results(Plan(3, (PLAIN,)), tuple(samples), (footprint(NGINX), *map(footprint, LIMITED)), 0.0)
    page = report.page(Report(None, found), "penstock bench --only limits")
    assert "| no limit, 2 workers | busy | 150 | 15.0 (7.5-15.0) |  |" in page
    assert "| 12 limits, 1 worker | steady | 110 | 10.5 (7.0-11.0) | 1.00 (0.50 to 2.00) |" in page
    assert "| 1 limit, 1 worker | steady | 100 | 10.0 (5.0-10.0) | 0.00 (0.00 to 0.00) |" in page


def test_what_an_admission_costs_is_told_by_limits_over_what_nginx_takes_in_the_same_round() -> None:
    admitted = Admitted("12 limits, 1 worker", us=(20.0, 24.0, 22.0), ratios=(0.5, 0.8, 0.6))
    assert admission_cells(admitted) == ("12 limits, 1 worker", "22.0", "0.60 (0.50-0.80)")


def test_every_limit_of_the_benchmark_counts_the_call_that_it_admits() -> None:
    for name, shape in LIMITED.items():
        table = limits_of(shape)
        assert len(Index(table).applying(DIMS)) == len(table) == len(shape.limits), name


def test_what_values_take_up_is_told_for_each() -> None:
    page = report.page(Report(None, None, (Values("each customer, 1 worker", 1_000, 2_048, 3_048),)), "penstock bench")
    assert "| each customer, 1 worker | 1,000 | 2 MiB | 3 MiB | 1,024 |" in page


def test_what_keys_take_up_is_told_with_the_longest_turns() -> None:
    page = report.page(Report(None, None, (), Kept(100_000, 65_536, 1_500.0, 20.0, 2_250.0)), "penstock bench")
    assert "| 100,000 | 64 MiB | 1.50 ms | 0.02 ms | 2.25 ms |" in page


def test_limits_are_measured_on_plain_calls_alone_in_more_and_shorter_rounds() -> None:
    arguments = read_arguments(["--quick", "--only", "limits"])
    plan, usual = limits_plan_of(arguments), plan_of(arguments)
    assert plan.workloads == (PLAIN,)
    assert plan.contenders == (NGINX, *LIMITED)
    assert plan.rounds > usual.rounds
    assert plan.rounds * plan.share == pytest.approx(usual.rounds * usual.share)


def test_quick_and_only_make_a_small_plan() -> None:
    plan = plan_of(read_arguments(["--quick", "--only", "stream"]))
    assert plan.rounds == 3
    assert [workload.name for workload in plan.workloads] == ["stream"]
    assert plan.share < 1
    assert plan_of(read_arguments(["--rounds", "2"])).rounds == 2


@pytest.mark.parametrize("words", [["--rounds", "0"], ["--only", "nothing"], ["--write"]])
def test_wrong_usage_exits_2(words: list[str], tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        read_arguments(words)
    assert ended.value.code == 2
