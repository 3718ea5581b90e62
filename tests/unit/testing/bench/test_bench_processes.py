"""Process trees as the benchmark sees them: found whole, counted exactly, ended without a rest."""

import os
import sys
import time
from pathlib import Path

from penstock.testing.bench import processes
from penstock.testing.bench.processes import Launch

BUSY = "import time\nend = time.process_time() + {seconds}\nwhile time.process_time() < end: pass\n"


def launch(folder: Path, code: str) -> Launch:
    return Launch((sys.executable, "-c", code), {}, folder, folder / "log")


def wait_for(folder: Path, word: str) -> None:
    end_s = time.monotonic() + 20
    while word not in (folder / "log").read_text():
        assert time.monotonic() < end_s
        time.sleep(0.01)


def test_a_tree_holds_grandchildren_and_orphans_of_its_session(tmp_path: Path) -> None:
    code = (
        "import os, time\n"
        "if os.fork() == 0:\n"
        "    if os.fork() == 0: print('grandchild', flush=True); time.sleep(60)\n"
        "    os._exit(0)\n"
        "os.wait()\n"
        "time.sleep(60)\n"
    )
    with processes.started(launch(tmp_path, code)) as pid:
        wait_for(tmp_path, "grandchild")
        members = processes.tree(pid)
        assert pid in members
        assert len(members) == 2
        assert os.getpid() not in members


def test_nothing_of_a_tree_is_left_when_it_ends(tmp_path: Path) -> None:
    code = (
        "import os, signal, time\n"
        "if os.fork() == 0:\n"
        "    signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)\n"
        "time.sleep(60)\n"
    )
    with processes.started(launch(tmp_path, code)) as pid:
        wait_for(tmp_path, "deaf")
        members = processes.tree(pid)
    end_s = time.monotonic() + 5
    while any(processes.is_alive(member) for member in members):
        assert time.monotonic() < end_s
        time.sleep(0.01)
    assert len(members) == 2


def test_cpu_time_is_what_the_process_says_it_used(tmp_path: Path) -> None:
    code = BUSY.format(seconds=0.3) + "print(time.process_time_ns(), flush=True)\ntime.sleep(60)\n"
    with processes.started(launch(tmp_path, code)) as pid:
        wait_for(tmp_path, "\n")
        used_ns = sum(processes.cpu_ns(pid).values())
    said_ns = int((tmp_path / "log").read_text())
    assert 0 <= used_ns - said_ns < 20_000_000


def test_cpu_time_of_ended_children_is_counted(tmp_path: Path) -> None:
    child = BUSY.format(seconds=0.3)
    code = (
        "import subprocess, sys, time\n"
        f"subprocess.run([sys.executable, '-c', {child!r}])\n"
        "print('ended', flush=True)\ntime.sleep(60)\n"
    )
    with processes.started(launch(tmp_path, code)) as pid:
        wait_for(tmp_path, "ended")
        assert sum(processes.cpu_ns(pid).values()) >= 290_000_000


def test_the_machine_uses_at_least_what_one_process_does(tmp_path: Path) -> None:
    before_ns = processes.machine_ns()
    with processes.started(launch(tmp_path, BUSY.format(seconds=0.5) + "print('done', flush=True)\n")):
        wait_for(tmp_path, "done")
    assert processes.machine_ns() - before_ns >= 400_000_000


def test_a_tree_is_settled_when_it_has_stopped_working(tmp_path: Path) -> None:
    code = BUSY.format(seconds=0.5) + "print('done', flush=True)\ntime.sleep(60)\n"
    with processes.started(launch(tmp_path, code)) as pid:
        processes.settle(pid)
        assert "done" in (tmp_path / "log").read_text()


def test_memory_is_at_least_what_the_process_holds(tmp_path: Path) -> None:
    code = "held = bytearray(b'x' * (64 << 20))\nprint('held', flush=True)\nimport time\ntime.sleep(60)\n"
    with processes.started(launch(tmp_path, code)) as pid:
        wait_for(tmp_path, "held")
        memory = processes.memory(pid)
    assert 64 * 1024 <= memory.pss_kib <= memory.rss_kib < 128 * 1024


def test_roles_are_named_by_module_or_by_program(tmp_path: Path) -> None:
    command = (sys.executable, "-m", "http.server", "--bind", "127.0.0.1", "0")
    with processes.started(Launch(command, {}, tmp_path, tmp_path / "log")) as pid:
        end_s = time.monotonic() + 20
        while list(processes.cpu_ns(pid)) != ["server"]:
            assert time.monotonic() < end_s
            time.sleep(0.01)
    with processes.started(Launch(("/bin/sleep", "60"), {}, tmp_path, tmp_path / "log")) as pid:
        end_s = time.monotonic() + 20
        while list(processes.cpu_ns(pid)) != ["sleep"]:
            assert time.monotonic() < end_s
            time.sleep(0.01)


def test_a_script_is_named_by_its_file(tmp_path: Path) -> None:
    script = tmp_path / "gateway"
    script.write_text("import time\ntime.sleep(60)\n")
    with processes.started(Launch((sys.executable, str(script)), {}, tmp_path, tmp_path / "log")) as pid:
        end_s = time.monotonic() + 20
        while list(processes.cpu_ns(pid)) != ["gateway"]:
            assert time.monotonic() < end_s
            time.sleep(0.01)
