"""The supervisor: starts the control process and the workers of one box, and starts again whichever dies.

One worker begins with the control process. The others wait until that says that this one serves calls: they would only
take turns with both on the processors.

It is the parent that an operator's service manager knows. It binds the address of the data plane and does nothing else;
it imports nothing but the standard library, and so stays at a few megabytes. Its children hold the read end of a pipe:
when the supervisor is gone, however it went, they see its end and stop.

The whole box waits until it has begun, so of the standard library it takes what is small: the words that it is started
with are `cli`'s and in order, and its values are plain classes.
"""

import contextlib
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence

from penstock.app import box

WATCHED = {signal.SIGCHLD, signal.SIGTERM, signal.SIGINT}
STABLE_AFTER_S = 5.0
FIRST_PAUSE_S = 0.05
LONGEST_PAUSE_S = 1.0
WORD_WITHIN_S = 10.0
"""Without a word of the control process the other workers begin after this time."""
_LOOK_S = 0.02
STOP_WITHIN_S = 900.0
"""A child bounds its own stop (`server.drain_timeout`); this only ends one that hangs."""

EXIT_CONFIG = 2
EXIT_IN_USE = 3
FATAL = {EXIT_CONFIG, EXIT_IN_USE}
"""Exit codes of a child that starting again cannot cure."""


class Child:
    """One process to keep alive. `pause_s` doubles while it dies young; at `due_at`, in monotonic seconds, one that has
    ended is started again. `descriptors`: what it inherits."""

    def __init__(self, name: str, command: list[str], descriptors: tuple[int, ...]) -> None:
        self.name = name
        self.command = command
        self.descriptors = descriptors
        self.process: subprocess.Popen[bytes] | None = None
        self.started_at = 0.0
        self.pause_s = FIRST_PAUSE_S
        self.due_at = 0.0

    def start_if_due(self) -> None:
        if self.process is not None or time.monotonic() < self.due_at:
            return
        self.started_at = time.monotonic()
        self.process = subprocess.Popen(
            self.command,
            pass_fds=self.descriptors,
            preexec_fn=_unblock_signals,  # noqa: PLW1509  this process has one thread
            start_new_session=True,
        )

    def ended(self) -> int | None:
        """The exit code of a process that has ended since this was asked last."""
        code = self.process.poll() if self.process is not None else None
        if code is not None:
            self.process = None
        return code

    def rest(self, code: int) -> None:
        """It is started again after a pause of its own."""
        now = time.monotonic()
        if now - self.started_at > STABLE_AFTER_S:
            self.pause_s = FIRST_PAUSE_S
        _say(f"{self.name} ended with code {code}; starting it again")
        self.due_at = now + self.pause_s
        self.pause_s = min(self.pause_s * 2, LONGEST_PAUSE_S)


class Supervisor:
    """`addresses`: the sockets that the workers listen on. `word`: the read end of a pipe, not blocking, into which the
    control process writes when it has a worker that serves."""

    def __init__(self, control: Child, workers: list[Child], addresses: list[list[socket.socket]], word: int) -> None:
        self.control = control
        self.workers = workers
        self.addresses = addresses
        self.word = word

    def run(self) -> int:
        """Keeps the children alive until SIGTERM or SIGINT. Returns the exit code of the whole."""
        children = [self.control, *self.workers]
        held_back = self.workers[1:]
        for child in held_back:
            child.due_at = time.monotonic() + WORD_WITHIN_S
        while True:
            if held_back and self._has_word():
                for child in held_back:
                    child.due_at = 0.0
                held_back = []
            for child in children:
                child.start_if_due()
            held_back = [child for child in held_back if not child.started_at]
            if _next_signal(children, _LOOK_S if held_back else None) in (signal.SIGTERM, signal.SIGINT):
                self._stop()
                return 0
            for child in children:
                code = child.ended()
                if code in FATAL:
                    self._stop()
                    return EXIT_CONFIG if code == EXIT_CONFIG else 1
                if code is not None:
                    child.rest(code)

    def _has_word(self) -> bool:
        try:
            return bool(os.read(self.word, 1))
        except BlockingIOError:
            return False

    def _stop(self) -> None:
        """The workers together, so that they drain while their control process still runs; then that."""
        box.close(self.addresses)
        _stop(self.workers)
        _stop([self.control])


def _next_signal(children: Sequence[Child], at_most_s: float | None) -> int | None:
    """The next of `WATCHED`; None when the time has come to start a child, or after `at_most_s`."""
    due_s = [max(0.0, child.due_at - time.monotonic()) for child in children if child.process is None]
    if at_most_s is not None:
        due_s.append(at_most_s)
    if not due_s:
        return signal.sigwait(WATCHED)
    caught = signal.sigtimedwait(WATCHED, min(due_s))
    return None if caught is None else caught.si_signo


def _stop(children: Sequence[Child]) -> None:
    """SIGTERM to all, then SIGKILL to those that take longer than `STOP_WITHIN_S`."""
    running = [(child.name, child.process) for child in children if child.process is not None]
    for _, process in running:
        process.terminate()
    deadline = time.monotonic() + STOP_WITHIN_S
    for name, process in running:
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            _say(f"{name} did not stop within {STOP_WITHIN_S:.0f} s; killing it")
            process.kill()
            process.wait()


def _unblock_signals() -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, WATCHED)


def _say(message: str) -> None:
    print(f"penstock: {message}", file=sys.stderr, flush=True)  # noqa: T201  structlog would cost this process its size


def _allow_sockets() -> None:
    """A call takes two descriptors, and the soft limit of many systems is less than `server.max_concurrent_calls`."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    with contextlib.suppress(OSError, ValueError):  # a sandbox may forbid it; what there is has to do then
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _supervisor(told: dict[str, str], addresses: list[list[socket.socket]]) -> Supervisor:
    """`told`: the options that this process was started with."""
    read_end, _write_end = os.pipe()
    word, said = os.pipe()
    for end in (word, said):
        os.set_blocking(end, False)
    python = [sys.executable, "-P", "-m"]
    everyone = ["--data", told["--data"], "--parent-fd", str(read_end)]
    control = [*python, "penstock.app.control", "--config", told["--config"], "--workers", told["--workers"]]
    control += ["--word-fd", str(said), *everyone]
    listening = [each for sockets in addresses for each in ("--listen", box.written(sockets))]
    descriptors = (read_end, *(place.fileno() for sockets in addresses for place in sockets))
    workers = []
    for number in range(int(told["--workers"])):
        command = [*python, "penstock.app.worker", "--number", str(number), *listening, *everyone]
        workers.append(Child(f"worker-{number}", command, descriptors))
    return Supervisor(Child("control process", control, (read_end, said)), workers, addresses, word)


def main() -> int:
    """Of `--config FILE --data DIR --listen HOST:PORT --workers N`."""
    told = dict(zip(sys.argv[1::2], sys.argv[2::2], strict=True))
    host, _, port = told["--listen"].rpartition(":")
    try:
        addresses = box.bind(host.strip("[]"), int(port), int(told["--workers"]))
    except OSError as error:
        _say(f"cannot listen on {told['--listen']}: {error.strerror}")
        return 1
    _allow_sockets()
    signal.pthread_sigmask(signal.SIG_BLOCK, WATCHED)
    return _supervisor(told, addresses).run()


if __name__ == "__main__":
    sys.exit(main())
