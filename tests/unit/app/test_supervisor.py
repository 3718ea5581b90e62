"""The supervisor's loop, in a process of its own, over children that are told how to end."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from penstock.app.supervisor import LONGEST_PAUSE_S, STABLE_AFTER_S, WORD_WITHIN_S, Child
from penstock.testing.wire import eventually

SCRIPT = """
import os, signal, sys
from penstock.app import supervisor
from penstock.app.supervisor import WATCHED, Child, Supervisor

supervisor.WORD_WITHIN_S = float(sys.argv[1])
signal.pthread_sigmask(signal.SIG_BLOCK, WATCHED)
word, said = os.pipe()
os.set_blocking(word, False)
python = [sys.executable, "-c"]
control, *workers = [Child(name, [*python, code, str(said)], (said,)) for name, code in zip("abcd", sys.argv[2:])]
sys.exit(Supervisor(control, workers, [], word).run())
"""
STAYS = "import time; time.sleep(60)"
SAYS_SO = f"import os, sys; os.write(int(sys.argv[1]), b'.'); {STAYS}"
Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start() -> Iterator[Start]:
    """Runs a supervisor over the control process `a` and the workers `b`, `c` and `d`, each given as Python."""
    started: list[subprocess.Popen[str]] = []

    def run(*children: str, word_within_s: float = WORD_WITHIN_S) -> "subprocess.Popen[str]":
        command = [sys.executable, "-c", SCRIPT, str(word_within_s), *children]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        started.append(process)
        return process

    yield run
    for process in started:
        process.terminate()
        process.communicate(timeout=20)


def _notes(path: Path, code: int) -> str:
    """A child that leaves a mark and ends with `code`."""
    return f"open({str(path)!r}, 'a').write('x'); raise SystemExit({code})"


def test_children_that_die_are_started_again_each_for_itself(start: Start, tmp_path: Path) -> None:
    marks = [tmp_path / name for name in "bc"]
    supervisor = start(SAYS_SO, *(_notes(mark, 1) for mark in marks))
    eventually(lambda: all(mark.exists() and len(mark.read_text()) >= 3 for mark in marks), 20)
    supervisor.send_signal(signal.SIGTERM)
    assert supervisor.wait(20) == 0


@pytest.mark.parametrize(("code", "told"), [(2, 2), (3, 1)])
def test_what_starting_again_cannot_cure_ends_everything(start: Start, tmp_path: Path, code: int, told: int) -> None:
    mark = tmp_path / "c"
    supervisor = start(STAYS, STAYS, _notes(mark, code))
    assert supervisor.wait(20) == told
    assert mark.read_text() == "x"


def test_all_but_one_worker_wait_for_the_word_of_the_control_process(start: Start, tmp_path: Path) -> None:
    def marks(name: str, code: str = STAYS) -> str:
        return f"import time; open({str(tmp_path / name)!r}, 'w').write(str(time.monotonic())); {code}"

    def begun_at() -> dict[str, float]:
        return {path.name: float(text) for path in tmp_path.glob("?") if (text := path.read_text())}

    go = tmp_path / "go"
    waits = f"import os\nwhile not os.path.exists({str(go)!r}): time.sleep(0.01)\n{SAYS_SO}"
    start(marks("a", "0\n" + waits), marks("b"), marks("c"), marks("d"), word_within_s=60)
    eventually(lambda: set(begun_at()) == {"a", "b"}, 20)
    said_at = time.monotonic()
    go.touch()
    eventually(lambda: len(begun_at()) == 4, 20)
    found = begun_at()
    assert max(found["a"], found["b"]) < said_at < min(found["c"], found["d"])


def test_without_a_word_of_the_control_process_workers_begin_all_the_same(start: Start, tmp_path: Path) -> None:
    mark = tmp_path / "c"
    began = time.monotonic()
    start(STAYS, STAYS, _notes(mark, 0), word_within_s=0.5)
    eventually(mark.exists, 20)
    assert time.monotonic() - began >= 0.5


def test_workers_are_told_to_stop_together_and_before_the_control_process(start: Start, tmp_path: Path) -> None:
    def noting(name: str, after_s: float) -> str:
        mark = str(tmp_path / name)
        return (
            "import pathlib, signal, sys, time\n"
            f"mark = pathlib.Path({mark!r})\n"
            "def end(*_):\n"
            f"    began = time.monotonic(); time.sleep({after_s})\n"
            "    mark.write_text(f'{began} {time.monotonic()}'); sys.exit()\n"
            "signal.signal(signal.SIGTERM, end); mark.touch(); time.sleep(60)"
        )

    supervisor = start(noting("a", 0), noting("b", 0.5), noting("c", 0.5))
    eventually(lambda: all((tmp_path / name).exists() for name in "abc"), 20)
    supervisor.send_signal(signal.SIGTERM)
    assert supervisor.wait(20) == 0
    spans = {name: [float(at) for at in (tmp_path / name).read_text().split()] for name in "abc"}
    assert max(spans["b"][0], spans["c"][0]) < min(spans["b"][1], spans["c"][1])
    assert spans["a"][0] >= max(spans["b"][1], spans["c"][1])


def test_a_child_that_dies_young_pauses_longer_each_time_up_to_a_bound() -> None:
    child = Child("worker-0", [], ())
    pauses = []
    for _ in range(7):
        child.started_at = time.monotonic()
        pauses.append(child.pause_s)
        child.rest(1)
        assert child.due_at >= child.started_at + pauses[-1]
    assert pauses == [0.05, 0.1, 0.2, 0.4, 0.8, LONGEST_PAUSE_S, LONGEST_PAUSE_S]
    child.started_at = time.monotonic() - STABLE_AFTER_S - 1
    child.rest(1)
    assert child.pause_s == 0.1
