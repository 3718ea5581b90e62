"""Processes under measurement: started, found with all their descendants, counted and ended.

CPU time is user and system time as the kernel's scheduler counts it, in nanoseconds: the process clock that
`clock_getcpuclockid(3)` names, which is what `/proc/<pid>/stat` shows in ticks of 10 ms, plus from that file what
ended children left behind. Memory is `/proc/<pid>/smaps_rollup`. Linux only.
"""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from msgspec import Struct

_TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
_STOP_S = 10.0


class Stat(Struct, frozen=True):
    """Of `/proc/<pid>/stat`: parent, session, and what reaped children have used."""

    pid: int
    parent: int
    session: int
    children_ns: int


class Memory(Struct, frozen=True):
    """Of a whole tree, in KiB. PSS shares out what processes have in common, so its sum is what the tree occupies."""

    rss_kib: int
    pss_kib: int


class Launch(Struct, frozen=True):
    """What to start: the command, its whole environment, its working directory and where its output goes."""

    command: tuple[str, ...]
    environment: dict[str, str]
    folder: Path
    log: Path


@contextmanager
def started(launch: Launch) -> Iterator[int]:
    """The process id of a new session's leader. At the end it is asked to stop, then its whole tree is killed."""
    with launch.log.open("ab") as log:
        process = subprocess.Popen(
            launch.command,
            env=launch.environment,
            cwd=launch.folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        yield process.pid
    finally:
        members = tree(process.pid)
        process.terminate()
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for pid in members:
            kill_if_alive(pid)


def kill_if_alive(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def is_alive(pid: int) -> bool:
    return _stat(pid) is not None


def tree(leader: int) -> list[int]:
    """The leader, its descendants, and whoever is in its session (a child whose parent ended), in order of pid."""
    stats = [stat for entry in Path("/proc").iterdir() if entry.name.isdigit() and (stat := _stat(int(entry.name)))]
    members = {leader}
    while True:
        found = {s.pid for s in stats if s.parent in members or s.session == leader} - members
        if not found:
            return sorted(members)
        members |= found


def cpu_ns(leader: int) -> dict[str, int]:
    """Used so far by each role of the tree; the processes of one role are added up."""
    used: dict[str, int] = {}
    for pid in tree(leader):
        stat = _stat(pid)
        own_ns = _clock_ns(pid)
        if stat and own_ns is not None:
            role = _role(pid)
            used[role] = used.get(role, 0) + own_ns + stat.children_ns
    return used


def machine_ns() -> int:
    """CPU time that all processes of the machine have used since it started, what its host took away included."""
    ticks = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    user, nice, system, _idle, _iowait, irq, softirq, steal = ticks
    return (user + nice + system + irq + softirq + steal) * _TICK_NS


def memory(leader: int, role: str = "") -> Memory:
    """Of the whole tree, or of its processes of one role."""
    rss_kib = pss_kib = 0
    for pid in tree(leader):
        if role and _role(pid) != role:
            continue
        sizes = _smaps(pid)
        rss_kib += sizes.get("Rss", 0)
        pss_kib += sizes.get("Pss", 0)
    return Memory(rss_kib, pss_kib)


def settle(leader: int, rest_ms: float = 0.0, most_s: float = 15.0) -> None:
    """Waits until the tree has done what it put off: three tenths of a second in each of which it uses little more
    than the `rest_ms` of CPU time per second that it takes at rest."""
    enough_ns = int(2_000_000 + 0.15 * rest_ms * 1_000_000)
    quiet = 0
    before_ns = sum(cpu_ns(leader).values())
    end_s = time.monotonic() + most_s
    while quiet < 3 and time.monotonic() < end_s:
        time.sleep(0.1)
        now_ns = sum(cpu_ns(leader).values())
        quiet = quiet + 1 if now_ns - before_ns < enough_ns else 0
        before_ns = now_ns


def _stat(pid: int) -> Stat | None:
    """None when the process is gone. The command's name may hold anything, so fields count from its last `)`."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = text[text.rindex(")") + 2 :].split()
    if fields[0] == "Z":
        return None
    return Stat(pid, int(fields[1]), int(fields[3]), (int(fields[13]) + int(fields[14])) * _TICK_NS)


def _clock_ns(pid: int) -> int | None:
    """The CPU time of all threads a process has or had; None when it is gone. The clock's number is the inverted pid
    with 2 (the scheduler's clock) in the low bits, as glibc's `clock_getcpuclockid` makes it."""
    try:
        return time.clock_gettime_ns((~pid << 3) | 2)
    except OSError:
        return None


def _role(pid: int) -> str:
    """What a process is, from its command line: the last part of `-m a.b.worker`, the script that Python runs, or how
    the process calls itself."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").decode(errors="replace").split("\0")
    except (FileNotFoundError, ProcessLookupError):
        return "ended"
    if "-m" in words[:-1]:
        return words[words.index("-m") + 1].rpartition(".")[2]
    if ": " in words[0]:
        return " ".join(words[0].split()[:2]).replace(":", "")
    program = Path(words[0]).name
    if program.startswith("python") and len(words) > 1 and not words[1].startswith("-"):
        return Path(words[1]).name
    return program


def _smaps(pid: int) -> dict[str, int]:
    """Field -> KiB; empty when the process is gone."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    except (FileNotFoundError, ProcessLookupError):
        return {}
    return {line.split(":")[0]: int(line.split()[1]) for line in lines if line.endswith("kB")}
