"""The proofs about money hold, each in a short form. `penstock prove money` runs them in full.

With two workers on SQLite, and what boxes can do to each other with two boxes of two workers on PostgreSQL.
`PENSTOCK_KILL_CYCLES` sets how many crashes there are.
"""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from penstock.testing.gateway import command
from penstock.testing.oracles import Verdict
from penstock.testing.postgres import CannotRun, Postgres
from penstock.testing.prove import clocks, crashes, disconnects, hostile, metered, network, outages, overspend
from penstock.testing.prove.run import SCENARIOS
from penstock.testing.prove.stage import Outcome, Size, Stage

CYCLES = int(os.environ.get("PENSTOCK_KILL_CYCLES", "4"))
AWAY_S = 8.0
CALLERS = 4
"""Who call during the outages, which last; crashes and contests have more of them."""


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    scenes = [scenario.scene() for scenario in SCENARIOS]
    with Stage(tmp_path_factory.mktemp("stage"), scenes, Size(workers=2)) as stage:
        yield stage


@pytest.fixture(scope="module")
def boxes(tmp_path_factory: pytest.TempPathFactory, postgres: Postgres) -> Iterator[Stage]:
    """Two of them, with two workers each."""
    scenes = [overspend.scene(), metered.scene(), crashes.scene()]
    with (
        postgres.database() as name,
        Stage(tmp_path_factory.mktemp("boxes"), scenes, Size(postgres.url(name), 2, 2)) as stage,
    ):
        yield stage


def nothing(_: str) -> None:
    """Nobody looks at the progress."""


def assert_holds(outcome: Outcome) -> None:
    """Every oracle looked at something, and found nothing wrong."""
    verdicts: list[Verdict] = [*outcome.verdicts, outcome.promise]
    assert [one.oracle for one in verdicts] == ["O1", "O2", "O3", "O4", "O5", "O6", "promise"]
    assert all(one.checked for one in verdicts)
    assert [fault for one in verdicts for fault in one.faults] == []


def test_a_thousand_parallel_calls_spend_a_limit_of_a_hundred_and_not_one_more(stage: Stage) -> None:
    assert_holds(overspend.run(stage, [1, 2], overspend.CALLERS, False, nothing))


@pytest.mark.timeout(120 + 20 * CYCLES)
def test_the_ledger_equals_the_banks_statement_after_any_crash(stage: Stage) -> None:
    assert_holds(crashes.run(stage, CYCLES, False, nothing))


def test_boxes_that_share_a_database_spend_a_limit_to_the_last_call_and_not_one_more(boxes: Stage) -> None:
    assert_holds(overspend.run(boxes, [1], overspend.CALLERS, False, nothing))


def test_streams_that_top_up_from_one_budget_are_cut_where_it_ends(boxes: Stage) -> None:
    outcome = metered.run(boxes, [1, 2], nothing)
    assert_holds(outcome)
    assert outcome.figures["overspend"] == "0 nano-USD"


@pytest.mark.timeout(120 + 20 * CYCLES)
def test_the_ledger_equals_the_banks_statement_after_any_crash_of_any_box(boxes: Stage) -> None:
    assert_holds(crashes.run(boxes, max(len(crashes.ROLES), CYCLES // 2), False, nothing))


def test_clocks_that_are_apart_and_are_set_back_under_callers_break_nothing(tmp_path: Path, postgres: Postgres) -> None:
    with (
        postgres.database() as name,
        Stage(tmp_path, [clocks.scene()], Size(postgres.url(name), 2, 1, wrong_clocks=True)) as boxes,
    ):
        settings = [clocks.SETTINGS[0], clocks.SETTINGS[-1]]
        assert_holds(clocks.run(boxes, settings, 2 * overspend.ROOM, False, nothing))


@pytest.mark.timeout(240)
def test_a_database_that_goes_away_under_two_boxes_costs_nobody_any_money(tmp_path: Path) -> None:
    try:
        server = Postgres().__enter__()
    except CannotRun as reason:
        pytest.skip(str(reason))
    size = Size(server.url("postgres"), 2, 2, outages.freshness_s(AWAY_S))
    with contextlib.closing(server), Stage(tmp_path, [outages.scene()], size) as boxes:
        outcome = outages.run(boxes, server, AWAY_S, False, nothing, callers=CALLERS)
    assert_holds(outcome)


def test_a_caller_who_leaves_at_any_moment_is_charged_what_the_bank_bills(stage: Stage) -> None:
    outcome = disconnects.run(stage, 24, False, nothing)
    assert_holds(outcome)
    assert int(outcome.figures["left in a stream"]) > 0


def test_a_network_that_fails_anywhere_in_an_answer_loses_no_money(stage: Stage) -> None:
    assert_holds(network.run(stage, 1, nothing))


def test_a_usage_report_that_cannot_be_true_is_not_believed(stage: Stage) -> None:
    assert_holds(hostile.run(stage, 1, nothing))


def test_the_command_proves_it_and_writes_a_report(tmp_path: Path) -> None:
    words = ["prove", "money", "--only", "hostile", "--report", "proof.json"]
    ended = subprocess.run([*command(), *words], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "everything holds" in ended.stdout
    assert "hostile" in ended.stdout
    (scenario,) = msgspec.json.decode((tmp_path / "proof.json").read_bytes())["scenarios"]
    assert scenario["scenario"] == "hostile"
    assert scenario["holds"] is True


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--boxes", "2"], "several boxes share a PostgreSQL database"),
        (["--only", "outages"], "it needs one of its own"),
        (["--boxes", "9", "--store", "postgresql"], "must be at most 4"),
    ],
)
def test_boxes_and_outages_that_cannot_be_are_refused_at_once(words: list[str], said: str) -> None:
    ended = subprocess.run([*command(), "prove", "money", *words], capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert said in " ".join(ended.stderr.split())


def test_a_store_that_there_is_not_is_said_in_a_sentence(tmp_path: Path) -> None:
    words = ["prove", "money", "--only", "hostile", "--store", "nonsense"]
    ended = subprocess.run([*command(), *words], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 1
    assert "store: must be" in " ".join(ended.stderr.split())
    assert "Traceback" not in ended.stderr
