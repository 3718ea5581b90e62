"""The supervisor: starts the control process and the worker of one box, and starts again whichever dies.

It is the parent that an operator's service manager knows. It does nothing else, imports nothing but the standard
library, and so stays at a few megabytes. Both children hold the read end of a pipe: when the supervisor is gone,
however it went, they see its end and stop.
"""

import argparse
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

WATCHED = {signal.SIGCHLD, signal.SIGTERM, signal.SIGINT}
STABLE_AFTER_S = 5.0
FIRST_PAUSE_S = 0.05
LONGEST_PAUSE_S = 1.0
STOP_WITHIN_S = 900.0
"""A child bounds its own stop (`server.drain_timeout`); this only ends one that hangs."""

EXIT_CONFIG = 2
EXIT_IN_USE = 3
FATAL = {EXIT_CONFIG, EXIT_IN_USE}
"""Exit codes of a child that starting again cannot cure."""


@dataclass
class Child:
    """One process to keep alive. `pause_s` doubles while it dies young."""

    name: str
    command: list[str]
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    pause_s: float = FIRST_PAUSE_S

    def start(self, parent_fd: int) -> None:
        self.started_at = time.monotonic()
        self.process = subprocess.Popen(
            [*self.command, "--parent-fd", str(parent_fd)],
            pass_fds=(parent_fd,),
            preexec_fn=_unblock_signals,  # noqa: PLW1509  this process has one thread
            start_new_session=True,
        )

    def exit_code(self) -> int | None:
        return self.process.poll() if self.process is not None else None

    def stop(self, within_s: float) -> None:
        """SIGTERM, then SIGKILL when it takes longer than `within_s`."""
        if self.process is None or self.process.poll() is not None:
            return
        self.process.terminate()
        try:
            self.process.wait(within_s)
        except subprocess.TimeoutExpired:
            _say(f"{self.name} did not stop within {within_s:.0f} s; killing it")
            self.process.kill()
            self.process.wait()


@dataclass
class Supervisor:
    children: list[Child]
    """In the order of starting; stopped in reverse, so that the worker drains while its control process still runs."""
    parent_fd: int
    stopping: bool = field(default=False)

    def run(self) -> int:
        """Keeps the children alive until SIGTERM or SIGINT. Returns the exit code of the whole."""
        for child in self.children:
            child.start(self.parent_fd)
        while True:
            caught = signal.sigwait(WATCHED)
            if caught != signal.SIGCHLD:
                self._stop()
                return 0
            for child in self.children:
                code = child.exit_code()
                if code is None:
                    continue
                if code in FATAL:
                    self._stop()
                    return EXIT_CONFIG if code == EXIT_CONFIG else 1
                self._restart(child, code)

    def _restart(self, child: Child, code: int) -> None:
        if time.monotonic() - child.started_at > STABLE_AFTER_S:
            child.pause_s = FIRST_PAUSE_S
        _say(f"{child.name} ended with code {code}; starting it again")
        time.sleep(child.pause_s)
        child.pause_s = min(child.pause_s * 2, LONGEST_PAUSE_S)
        child.start(self.parent_fd)

    def _stop(self) -> None:
        for child in reversed(self.children):
            child.stop(STOP_WITHIN_S)


def _unblock_signals() -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, WATCHED)


def _say(message: str) -> None:
    print(f"penstock: {message}", file=sys.stderr, flush=True)  # noqa: T201  structlog would cost this process its size


def main() -> int:
    parser = argparse.ArgumentParser(prog="penstock.app.supervisor")
    parser.add_argument("--config", required=True)
    parser.add_argument("--data", required=True)
    arguments = parser.parse_args()
    Path(arguments.data).mkdir(mode=0o700, parents=True, exist_ok=True)
    signal.pthread_sigmask(signal.SIG_BLOCK, WATCHED)
    read_end, _write_end = os.pipe()
    python = [sys.executable, "-P", "-m"]
    control = [*python, "penstock.app.control", "--config", arguments.config, "--data", arguments.data]
    node = f"{socket.gethostname()}/worker-0"
    worker = [*python, "penstock.app.worker", "--data", arguments.data, "--node", node]
    return Supervisor([Child("control process", control), Child("worker", worker)], read_end).run()


if __name__ == "__main__":
    sys.exit(main())
