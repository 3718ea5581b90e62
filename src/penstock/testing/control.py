"""A real control process for a test, alone: in a folder of its own, on a free port, with the workers it is given."""

import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import msgspec
import yaml

from penstock.testing.caller import Answer, Caller
from penstock.testing.ports import free_ports
from penstock.testing.wire import eventually

START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 15.0


class ControlProcess:
    """`config`: the configuration file without its `server`. `environment` is added to a clean one; a value of None
    takes a variable away, such as `PENSTOCK_ADMIN_KEY`."""

    def __init__(
        self, directory: Path, config: Mapping[str, Any], environment: Mapping[str, str | None] | None = None
    ) -> None:
        self.data = directory / "data"
        self.file = directory / "penstock.yaml"
        self.log = directory / "stderr.log"
        listen, admin = free_ports(2)
        self.url = f"http://127.0.0.1:{admin}"
        self.config = {**config, "server": {"listen": f"127.0.0.1:{listen}", "admin": f"127.0.0.1:{admin}"}}
        self.admin_key = f"admin-{secrets.token_hex(20)}"
        given = {
            "PATH": os.environ.get("PATH", ""),
            "PENSTOCK_ADMIN_KEY": self.admin_key,
            "PENSTOCK_SECRET": secrets.token_hex(32),
            **(environment or {}),
        }
        self.environment = {name: value for name, value in given.items() if value is not None}
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def start(self, wait: bool = True, parent_fd: int | None = None) -> Self:
        """Starts the process; `wait`: until its admin listener answers. `RuntimeError` when it exits before."""
        self.file.write_text(yaml.safe_dump(self.config, sort_keys=False))
        command = [sys.executable, "-W", "error", "-m", "penstock.app.control"]
        arguments = ["--config", str(self.file), "--data", str(self.data)]
        if parent_fd is not None:
            arguments += ["--parent-fd", str(parent_fd)]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*command, *arguments],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=() if parent_fd is None else (parent_fd,),
            )
        if wait:
            eventually(self._is_up, START_TIMEOUT_S, "the control process is up")
        return self

    def _is_up(self) -> bool:
        if self.process is not None and self.process.poll() is not None:
            raise RuntimeError(f"it exited with {self.process.returncode}:\n{self.output()[-4000:]}")
        try:
            return self.send("GET", "/healthz").status == 200
        except OSError:
            return False

    def stop(self, signum: signal.Signals = signal.SIGTERM) -> int:
        """Sends the signal and waits; the exit code."""
        assert self.process is not None
        self.process.send_signal(signum)
        return self.process.wait(STOP_TIMEOUT_S)

    def send(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """One request as it stands, without a key."""
        return Caller(self.url).send(method, path, body, {"connection": "close", **(headers or {})}, 10.0)

    def admin(self, method: str, path: str, body: Any = None) -> Answer:
        """One request under `/admin/v1` with the administrator's key; `body` goes as JSON."""
        encoded = None if body is None else body if isinstance(body, bytes) else msgspec.json.encode(body)
        return self.send(method, f"/admin/v1{path}", encoded, {"authorization": f"Bearer {self.admin_key}"})

    def output(self) -> str:
        return self.log.read_text(errors="replace")
