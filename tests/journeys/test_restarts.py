"""Either side restarts alone, streams are drained on SIGTERM, and nothing that was settled is lost."""

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from penstock.testing.lab import Lab, chat
from penstock.testing.scripted import streamed
from penstock.testing.wire import eventually

MakeLab = Callable[..., Lab]
KEYS: dict[str, dict[str, Any]] = {"ci": {"team": "growth"}}
LIMITS = [{"name": "everything", "match": {}, "unit": "usd", "amount": 100, "per": "total"}]
COST = 60_000


@pytest.fixture(scope="module")
def running(file_lab: MakeLab) -> Lab:
    return file_lab(KEYS, LIMITS)


@pytest.fixture
def own(running: Lab) -> Lab:
    """A gateway that is ready, and has settled what was called before."""
    running.fresh()
    if not running.gateway.pids():
        running.gateway.stop()
        running.gateway.start()
    running.gateway.wait_until_ready(15)
    eventually(lambda: running.gateway.held() == 0, 5, "nothing is held")
    return running


def _answers(lab: Lab) -> bool:
    try:
        return lab.chat("ci").status == 200
    except OSError:
        return False


def _die(lab: Lab, role: str, is_back: Callable[[], bool]) -> None:
    """Returns when what `role` did is done again. How long that takes, `penstock prove money` measures."""
    eventually(lambda: lab.gateway.roles().get(role), 15)
    assert lab.gateway.kill(role)
    eventually(is_back, 30, f"back after the death of {role}")


def test_the_data_plane_is_back_after_its_workers_death_and_nothing_is_lost(own: Lab) -> None:
    before = own.gateway.settled("everything")
    assert own.chat("ci").status == 200
    _die(own, "worker", lambda: _answers(own))
    eventually(lambda: own.gateway.settled("everything") == before + 2 * COST, 5, "nothing is lost")
    assert own.gateway.held() == 0


def test_the_admin_plane_is_back_after_its_process_death(own: Lab) -> None:
    _die(own, "control", own.gateway.admin_is_up)


def test_the_data_plane_serves_while_its_control_process_is_dead(own: Lab) -> None:
    before = own.gateway.settled("everything")
    assert own.chat("ci").status == 200
    assert own.gateway.kill("control")
    served = 0
    while not own.gateway.admin_is_up():
        assert own.chat("ci").status == 200
        served += 1
        time.sleep(0.02)
    assert served
    eventually(lambda: own.gateway.settled("everything") == before + (served + 1) * COST, 3, "nothing is lost")
    assert own.chat("ci").status == 200


def test_a_call_in_flight_survives_the_death_of_the_control_process(own: Lab) -> None:
    before = own.gateway.settled("everything")
    own.provider.on("lab-upstream", streamed(["x"] * 10, delay_ms=100))
    with own.caller("ci").open("/v1/chat/completions", chat(stream=True)) as call:
        assert call.read_some()
        own.gateway.kill("control")
        assert call.read_all().endswith(b"data: [DONE]\n\n")
    eventually(own.gateway.admin_is_up, 20)
    eventually(lambda: own.gateway.settled("everything") == before + COST, 3, "the call is settled")


def test_what_was_settled_is_there_after_the_whole_tree_died(own: Lab) -> None:
    before = own.gateway.settled("everything")
    for _ in range(5):
        assert own.chat("ci").status == 200
    own.gateway.kill_tree()
    own.gateway.start()
    assert own.gateway.settled("everything") == before + 5 * COST
    assert own.gateway.held() == 0
    assert own.gateway.verify().returncode == 0


def test_a_call_that_was_cut_by_a_crash_is_an_estimate_of_at_most_its_hold(own: Lab) -> None:
    before = own.gateway.settled("everything")
    own.provider.on("lab-upstream", streamed(["x"] * 50, delay_ms=100))
    with own.caller("ci").open("/v1/chat/completions", chat(stream=True)) as call:
        request_id = call.headers["x-request-id"]
        assert call.read_some()
        own.gateway.kill_tree()
    own.gateway.start()
    receipt = own.gateway.receipt(request_id)
    assert receipt["cost_basis"] == "estimated"
    assert "crash" in receipt["flags"]
    assert 0 < own.gateway.settled("everything") - before == receipt["cost_nanousd"] <= 500_000
    assert own.gateway.held() == 0


def test_sigterm_drains_live_streams(own: Lab) -> None:
    before = own.gateway.settled("everything")
    own.provider.on("lab-upstream", streamed(["x"] * 10, delay_ms=100))
    with own.caller("ci").open("/v1/chat/completions", chat(stream=True)) as call:
        assert call.read_some()
        stopping = threading.Thread(target=own.gateway.stop)
        stopping.start()
        assert call.read_all().endswith(b"data: [DONE]\n\n")
        stopping.join(10)
    assert own.gateway.process is not None
    assert own.gateway.process.returncode == 0
    assert not own.gateway.pids()
    own.gateway.start()
    assert own.gateway.settled("everything") == before + COST


def test_nothing_is_left_running_when_the_supervisor_is_killed(own: Lab) -> None:
    own.gateway.kill("supervisor")
    eventually(lambda: not own.gateway.pids(), 10, "the children are gone")


def test_a_second_gateway_on_the_same_data_refuses_to_start(own: Lab) -> None:
    told = own.gateway.run("serve", "-c", str(own.gateway.file), timeout_s=20)
    assert told.returncode != 0
    assert "Traceback" not in told.stderr
    assert own.chat("ci").status == 200
