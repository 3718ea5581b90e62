"""A real gateway for a test: `penstock serve` in a folder of its own, on free ports, seen only from the outside.

`Gateway` writes a configuration file, starts the command, waits until it can admit, and stops the whole process tree
at the end. Its processes can be found by role and killed by id, as a crash would.
"""

import contextlib
import os
import re
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import msgspec
import yaml

from penstock.testing.caller import Answer, Caller
from penstock.testing.ports import free_ports
from penstock.testing.wire import eventually

ROLE = re.compile(rb"penstock\.app\.(\w+)")
MARK = "GATEWAY_UNDER_TEST"
"""The variable by which the processes of one gateway are told from all others."""
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 15.0


def new_secret() -> str:
    """A caller's key for a configuration file: `pk-` and 43 random characters."""
    return "pk-" + secrets.token_urlsafe(32)


def usd_price(input_usd: float, output_usd: float, **more: float) -> dict[str, float]:
    """A `price` of the configuration file, in USD per million tokens."""
    return {"input": input_usd, "output": output_usd, **more}


class Gateway:
    """A gateway under test. `config` is the configuration file without its `server` addresses.

    `environment` is added to a clean one: nothing of the surrounding environment but the path to programs gets in.
    `workers`: how many it has.
    `url` and `admin_url` are the two listeners; `secrets` are the values that must never show up anywhere.
    """

    def __init__(
        self,
        directory: Path,
        config: Mapping[str, Any],
        environment: Mapping[str, str] | None = None,
        workers: int = 1,
    ) -> None:
        self.directory = directory
        self.data = directory / "data"
        self.file = directory / "penstock.yaml"
        self.log = directory / "stderr.log"
        listen, admin = free_ports(2)
        self.url, self.admin_url = f"http://127.0.0.1:{listen}", f"http://127.0.0.1:{admin}"
        self.admin_key, self.root_secret = f"admin-{secrets.token_hex(20)}", secrets.token_hex(32)
        server = {"workers": workers, **config.get("server", {}), "data": str(self.data)}
        server |= {"listen": f"127.0.0.1:{listen}", "admin": f"127.0.0.1:{admin}"}
        self.config = {**config, "server": server}
        self.environment = {
            "PATH": os.environ.get("PATH", ""),
            "HOME": str(directory),
            "PENSTOCK_ADMIN_KEY": self.admin_key,
            "PENSTOCK_ADMIN_URL": self.admin_url,
            "PENSTOCK_SECRET": self.root_secret,
            **(environment or {}),
        }
        self.process: subprocess.Popen[bytes] | None = None
        self._mark = secrets.token_hex(8)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self, wait: bool = True, arguments: Sequence[str] = ()) -> None:
        """Starts `penstock serve` and waits until `/readyz` says 200, and every worker of the file is connected;
        `RuntimeError` with its stderr when it exits. `arguments`: more of the command line."""
        self.directory.mkdir(parents=True, exist_ok=True)
        self.file.write_text(yaml.safe_dump(self.config, sort_keys=False))
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*command(), "serve", "-c", str(self.file), *arguments],
                cwd=self.directory,
                env={**self.environment, MARK: self._mark},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        if wait:
            self.wait_until_started()

    def wait_until_started(self) -> None:
        """Raises `RuntimeError` with its stderr when it is not ready in time, or has ended."""
        try:
            self.wait_until_ready(START_TIMEOUT_S)
        except TimeoutError:
            self.kill_tree()
            raise RuntimeError(f"not ready within {START_TIMEOUT_S} s:\n{self.output()[-4000:]}") from None

    def wait_until_ready(self, within_s: float) -> None:
        """Raises `TimeoutError`, and `RuntimeError` with its stderr when `penstock serve` has ended instead."""
        eventually(self._ready_or_dead, within_s, "ready")

    def _ready_or_dead(self) -> bool:
        if self.process is not None and self.process.poll() is not None:
            raise RuntimeError(f"serve exited with {self.process.returncode}:\n{self.output()[-4000:]}")
        return self.is_ready()

    def is_ready(self) -> bool:
        """Whether the data plane can admit, with all of its workers."""
        return self.admits() and (self.config["server"]["workers"] == 1 or self._is_complete())

    def admits(self) -> bool:
        """Whether the data plane can admit, with whichever worker gets the question."""
        try:
            return self.caller().get("/readyz", timeout_s=2).status == 200
        except OSError:
            return False

    def _is_complete(self) -> bool:
        nodes = self.nodes()
        return bool(nodes) and all(node["state"] == "connected" for node in nodes)

    def nodes(self) -> list[dict[str, Any]]:
        """The workers as `/admin/v1/status` shows them; none while the admin plane does not answer."""
        try:
            answer = self.admin("GET", "/admin/v1/status")
        except OSError:
            return []
        found: list[dict[str, Any]] = answer.json()["nodes"] if answer.status == 200 else []
        return found

    def admin_is_up(self) -> bool:
        try:
            return self.admin("GET", "/admin/v1/ledger", timeout_s=2).status == 200
        except OSError:
            return False

    def stop(self) -> int | None:
        """SIGTERM, then wait; the exit code. What is left after the time for it is killed."""
        if self.process is None:
            return None
        if self.process.poll() is None:
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(STOP_TIMEOUT_S)
        self.kill_tree()
        return self.process.returncode

    def kill_tree(self) -> None:
        """kill -9 for every process of the gateway, the topmost first."""
        if self.process is None:
            return
        for pid in self.pids():
            _kill(pid)
        self.process.wait(STOP_TIMEOUT_S)
        eventually(lambda: not self.pids(), STOP_TIMEOUT_S, "the process tree is gone")

    def kill(self, role: str, at_most: int | None = None) -> list[int]:
        """kill -9 for the processes of one role (`worker`, `control`, `supervisor`), or for some of them; the ids that
        were killed."""
        pids = self.roles().get(role, [])[:at_most]
        for pid in pids:
            _kill(pid)
        return pids

    def pids(self) -> list[int]:
        """The living processes of the gateway, orphans included, oldest first: those that carry its mark."""
        return sorted(_marked(f"{MARK}={self._mark}".encode()))

    def roles(self) -> dict[str, list[int]]:
        """Process ids by role, the role being the module of `penstock.app` that a process runs."""
        found: dict[str, list[int]] = {}
        for pid in self.pids():
            with contextlib.suppress(OSError):
                if match := ROLE.search(Path(f"/proc/{pid}/cmdline").read_bytes()):
                    found.setdefault(match[1].decode(), []).append(pid)
        return found

    def output(self) -> str:
        """Everything the processes wrote to their standard streams."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def caller(self, key: str = "") -> Caller:
        """A raw HTTP caller of the data plane with `key`."""
        return Caller(self.url, {"authorization": f"Bearer {key}"} if key else {})

    def admin(self, method: str, path: str, body: Any = None, timeout_s: float = 10.0) -> Answer:
        """One call of the admin plane with the administrator's key; `body` goes as JSON."""
        caller = Caller(self.admin_url, {"authorization": f"Bearer {self.admin_key}"})
        return caller.send(method, path, None if body is None else msgspec.json.encode(body), timeout_s=timeout_s)

    def run(self, *arguments: str, timeout_s: float = 30.0) -> subprocess.CompletedProcess[str]:
        """A `penstock` command in the gateway's folder and environment."""
        return subprocess.run(
            [*command(), *arguments],
            cwd=self.directory,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def limits(self) -> list[dict[str, Any]]:
        """The rows of the ledger: limit, window_start, value, settled, held, leased, amount, unit."""
        answer = self.admin("GET", "/admin/v1/ledger", timeout_s=30)
        if answer.status != 200:
            raise RuntimeError(f"the ledger answered {answer.status}: {answer.body[:300]!r}")
        rows: list[dict[str, Any]] = answer.json()["limits"]
        return rows

    def held(self) -> int:
        """What is held over all limits, in their units."""
        return sum(row["held"] for row in self.limits())

    def settled(self, limit: str) -> int:
        """What is settled on `limit`, over its windows and values, in its unit (nano-USD for `usd`)."""
        return sum(row["settled"] for row in self.limits() if row["limit"] == limit)

    def receipt(self, request_id: str) -> dict[str, Any]:
        """The usage event of one call as an administrator sees it; `TimeoutError` when there is none in time."""

        def read() -> Any:
            answer = self.admin("GET", f"/admin/v1/receipts/{request_id}")
            return answer.json() if answer.status == 200 else None

        event: dict[str, Any] = eventually(read, 5, f"a receipt of {request_id}")
        return event

    def verify(self) -> subprocess.CompletedProcess[str]:
        """`penstock ledger verify`."""
        return self.run("ledger", "verify", timeout_s=90)


def command() -> Sequence[str]:
    """The installed `penstock` of the interpreter that runs this."""
    script = Path(sys.executable).with_name("penstock")
    return [str(script)] if script.exists() else [sys.executable, "-m", "penstock.cli.main"]


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _marked(mark: bytes) -> Iterator[int]:
    """Every living process whose environment has `mark`. A process that is gone or a stranger's is none of ours."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if mark in (entry / "environ").read_bytes().split(b"\0"):
                    yield int(entry.name)
