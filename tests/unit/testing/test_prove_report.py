"""The report of a proof: a line per scenario, every figure and every fault, and what the exit code says."""

import io
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from rich.console import Console

from penstock.testing.oracles import Verdict
from penstock.testing.prove import report
from penstock.testing.prove.__main__ import plan_of, read_arguments
from penstock.testing.prove.report import Report
from penstock.testing.prove.run import NAMES, Plan, _performed
from penstock.testing.prove.stage import Outcome, Times


def outcome(name: str, *faults: str) -> Outcome:
    verdicts = [Verdict(f"O{number}", 10 * number) for number in range(1, 6)]
    return Outcome(name, 123, [*verdicts, Verdict("O6", 60, faults)], Verdict("promise", 7), {"seeds": "1 to 5"})


def report_of(*outcomes: Outcome) -> Report:
    plan = Plan(judge_times=False, store="postgresql://ann:secret@host/db")
    return Report(datetime(2026, 11, 20, 12, tzinfo=UTC), 61.5, 3.2, plan, outcomes)


def test_what_holds_says_how_much_was_looked_at() -> None:
    page = report.page(report_of(outcome("overspend")))
    assert "| overspend | 123 | ok 10 | ok 20 | ok 30 | ok 40 | ok 50 | ok 60 | ok 7 |" in page
    assert "* **overspend**, seeds: 1 to 5" in page
    assert "2026-11-20 12:00 UTC" in page
    assert "times not judged: the load average was 3.2" in page
    assert "Everything holds" in page


def test_a_fault_is_in_the_table_and_below_it() -> None:
    failed = report_of(outcome("overspend"), outcome("crashes", "first", "second"))
    assert not failed.holds
    assert "| ok 50 | FAILED 2 |" in report.page(failed)
    assert "* **crashes** FAILED O6: first\n" in report.page(failed)
    shown = Console(file=io.StringIO(), width=200)
    report.show(failed, shown)
    assert isinstance(shown.file, io.StringIO)
    assert "crashes FAILED O6: second" in shown.file.getvalue()
    assert "NOT everything holds" in shown.file.getvalue()


def test_a_scenario_that_is_broken_off_has_failed_and_keeps_nobody_from_the_others() -> None:
    def break_off() -> Outcome:
        raise TimeoutError("not within 20 s: ready")

    broken = report_of(_performed("crashes", break_off), _performed("hostile", lambda: outcome("hostile")))
    assert not broken.holds
    page = report.page(broken)
    assert "| crashes | 0 | - | - | - | - | - | - | FAILED 1 |" in page
    assert "promise: it was broken off: not within 20 s: ready" in page
    assert "| hostile | 123 | ok 10 |" in page
    assert "* **hostile**, took: 0 s" in page


def test_the_page_says_how_many_boxes_and_workers_there_were() -> None:
    assert "store postgresql, boxes 1, workers of each 2" in report.page(report_of(outcome("overspend")))


def test_only_the_first_of_many_faults_are_shown() -> None:
    page = report.page(report_of(outcome("crashes", *(f"fault {number}" for number in range(50)))))
    assert page.count("FAILED O6") == 20
    assert "FAILED and 30 more" in page


def test_the_table_fits_a_terminal() -> None:
    shown = Console(file=io.StringIO(), width=80)
    report.show(report_of(outcome("disconnects")), shown)
    assert isinstance(shown.file, io.StringIO)
    assert "disconnects 123 ok 10" in " ".join(shown.file.getvalue().split())


def test_a_report_is_json_or_markdown_by_its_name_and_names_no_password(tmp_path: Path) -> None:
    done = report_of(outcome("hostile"))
    report.write(done, tmp_path / "proof.json")
    report.write(done, tmp_path / "proof.md")
    plain = msgspec.json.decode((tmp_path / "proof.json").read_bytes())
    assert plain["holds"] is True
    assert plain["plan"]["store"] == "postgresql"
    assert plain["scenarios"][0]["verdicts"][0] == {"oracle": "O1", "checked": 10, "faults": []}
    assert (tmp_path / "proof.md").read_text() == report.page(done)
    assert "secret" not in (tmp_path / "proof.json").read_text() + (tmp_path / "proof.md").read_text()


def test_the_words_of_the_command_make_the_plan() -> None:
    assert plan_of(read_arguments(["money"]), 0.0) == Plan()
    assert plan_of(read_arguments(["money"]), 0.0).boxes == 1
    shared = plan_of(read_arguments(["money", "--store", "postgresql"]), 0.0)
    assert (shared.boxes, shared.workers, shared.only) == (2, 2, NAMES)
    named = plan_of(read_arguments(["money", "--store", "postgresql://db/x", "--boxes", "3", "--workers", "1"]), 0.0)
    assert (named.boxes, named.workers) == (3, 1)
    assert "outages" not in named.only
    full = plan_of(read_arguments(["money", "--full", "--cycles", "9"]), 99.0)
    assert (full.seeds, full.cycles, full.leavings, full.judge_times) == (200, 9, 500, False)
    one = plan_of(read_arguments(["money", "--only", "hostile"]), 0.0)
    assert one.only == ("hostile",)
    assert all(one.steps(name) for name in NAMES)


@pytest.mark.parametrize(
    "words",
    [
        ["--seeds", "0"],
        ["--quick", "--full"],
        ["--report", "/nowhere/proof.md"],
        ["--boxes", "2"],
        ["--only", "outages"],
    ],
)
def test_what_makes_no_sense_is_a_usage_error(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        read_arguments(["money", *words])
    assert ended.value.code == 2
    assert "penstock prove: error:" in capsys.readouterr().err


def test_measured_times_are_told_by_their_worst_and_their_median() -> None:
    times = Times()
    assert not times
    times.add(900.4)
    assert (str(times), times.worst_ms) == ("900 ms", 900.4)
    for ms in (2_767.0, 1_020.0):
        times.add(ms)
    assert (str(times), times.worst_ms) == ("2,767 ms (median of 3: 1,020)", 2_767.0)
