"""The stop stops, on two boxes and whatever fails between them. `penstock prove stop` measures it in full.

Times are not judged here: CI's machine is busy with other tests. What is judged is that everything comes to its end.
"""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from penstock.testing.gateway import command, usd_price
from penstock.testing.postgres import Postgres
from penstock.testing.prove.stops import scenarios
from penstock.testing.prove.stops.scenarios import Row
from penstock.testing.prove.stops.stage import PATH, PATIENCE_S, SCOPES, Stage
from penstock.testing.scripted import fails
from penstock.testing.wire import eventually

STREAMS = 60
FRESHNESS_S = 4


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory, postgres: Postgres) -> Iterator[Stage]:
    with Stage(tmp_path_factory.mktemp("stops"), postgres, 1, FRESHNESS_S) as stage:
        yield stage
        for box in stage.boxes:
            assert "Traceback" not in box.output()


def nothing(_: str) -> None:
    """Nobody looks at the progress."""


def assert_holds(rows: list[Row], *checked: int) -> None:
    assert [fault for row in rows for fault in row.faults] == []
    assert [row.checked for row in rows] == list(checked)


def test_a_stop_is_obeyed_on_both_boxes(stage: Stage) -> None:
    assert_holds(scenarios.kills(stage, 2, nothing), 2, 2, 2)


def test_a_box_that_hears_no_calls_finds_the_stop_by_looking(stage: Stage) -> None:
    assert_holds(scenarios.push_dead(stage, 1, nothing), 1)


def test_a_box_that_is_cut_off_refuses_in_the_end_and_obeys_when_it_is_back(stage: Stage) -> None:
    (row,) = scenarios.partition(stage, 1, nothing)
    assert_holds([row], 1)
    assert row.figure("max") > 1_000 * (FRESHNESS_S - 2), "it went on under its leases"


def test_a_revoked_key_and_a_lowered_limit_are_obeyed_like_a_stop(stage: Stage) -> None:
    assert_holds(scenarios.revocations(stage, 1, nothing), 1, 1, 1, 1)


def test_a_credential_that_its_provider_rejects_is_set_aside_on_both_boxes(stage: Stage) -> None:
    stage.provider.on(
        "rejecting", fails(401, {"error": {"message": "Incorrect API key provided.", "type": "invalid_request_error"}})
    )
    place = {"kind": "compatible", "base_url": stage.provider.base_url}
    stage.ask("POST", "/credentials", {"name": "stolen", "value": "sk-stolen", **place})
    credentials = [{"name": "main", "value": "vault:stolen"}]
    stage.ask("POST", "/providers", {"name": "strict", **place, "credentials": credentials})
    targets = [{"provider": "strict", "model": "rejecting"}]
    stage.ask("POST", "/models", {"name": "rejected", "targets": targets, "price": usd_price(0, 10)})
    body = {"model": "rejected", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 5}
    caller = stage.boxes[0].caller(stage.secrets["probe"])

    def told(box: int) -> list[tuple[str, str]]:
        found = stage.ask("GET", "/status", box=box)["credentials"]["set_aside"]
        return [(it["credential"], it["verdict"]) for it in found]

    eventually(lambda: caller.post(PATH, body).status == 502, PATIENCE_S, "the provider is asked")
    for box in range(2):
        eventually(lambda box=box: told(box) == [("main", "rejected")], PATIENCE_S, "the box knows")  # type: ignore[misc]
    aside = stage.ask("GET", "/status", box=1)["credentials"]["set_aside"][0]
    assert aside["node"].startswith("box "), "the second box has not called the provider itself"


def test_each_scope_stops_what_it_covers_and_is_lifted(stage: Stage) -> None:
    assert_holds(scenarios.scopes(stage, 1, nothing), len(SCOPES))


@pytest.mark.timeout(120)
def test_live_streams_are_closed_on_both_sides_and_settled(stage: Stage) -> None:
    assert_holds(scenarios.streams(stage, STREAMS, nothing), STREAMS, STREAMS)


def test_the_break_glass_file_needs_neither_database_nor_control_process(stage: Stage) -> None:
    assert_holds(scenarios.glass(stage, 1, nothing), 1)


@pytest.mark.timeout(120)
def test_nothing_is_admitted_after_every_process_was_killed_and_started_again(stage: Stage) -> None:
    (row,) = scenarios.restarts(stage, 1, nothing)
    assert row.faults == []
    assert row.checked > 0


def test_the_command_measures_it_and_writes_a_report(tmp_path: Path) -> None:
    words = ["prove", "stop", "--only", "glass", "--report", "stop.json"]
    ended = subprocess.run([*command(), *words], cwd=tmp_path, capture_output=True, text=True, timeout=100, check=False)
    assert ended.returncode in (0, 1), ended.stderr
    assert "break-glass file" in ended.stdout
    told = msgspec.json.decode((tmp_path / "stop.json").read_bytes())
    assert (told["holds"], len(told["rows"])) == (ended.returncode == 0, 1)
    assert told["rows"][0]["checked"] == 1
