"""Before anything runs: the command line, the data directory and the lock on it, the box's id, and the two secrets that
every installation has."""

import fcntl
import os
import re
import secrets
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from penstock.app.control.files import PREVIOUS, keep_secret
from penstock.config.environment import Environment
from penstock.domain.snapshot import Secret
from penstock.errors import ConfigError, PenstockError
from penstock.identity.secret import Root, vault_key, verifier
from penstock.identity.secret import pepper as pepper_of
from penstock.records.log import Level
from penstock.store.claim import Box
from penstock.vault.wrappers import RootWrapper

LOCK_WAIT_S = 3.0
"""How long a predecessor may take to stop: a service manager may start the next one at once."""
_POLL_S = 0.02
_MAX_SECRET_BYTES = 4096
_BOX_ID = re.compile("[0-9a-f]{16}")


class DataInUse(PenstockError):
    """Another control process runs on this data directory."""


@dataclass(frozen=True)
class Options:
    """The command line. `parent_fd`: the read end of a pipe whose end means that the supervisor is gone. `workers`: how
    many the supervisor keeps alive, all of which a stop must reach; 0 where there is no supervisor to say so.
    `word_fd`: the write end of a pipe on which it waits for the word that a worker serves; it may be full."""

    config: Path
    data: Path
    parent_fd: int | None = None
    log_level: Level = "info"
    workers: int = 0
    word_fd: int | None = None


@dataclass(frozen=True)
class Secrets:
    """What the box is given. What comes from `root` is worked out when the store has been asked."""

    admin_key: Secret
    root: Root


def prepare_directory(data: Path) -> None:
    """Makes `data` and keeps everybody else out of it."""
    try:
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        data.chmod(0o700)
    except OSError as error:
        raise ConfigError(f"the data directory {data} cannot be used: {error.strerror}") from error


def lock_directory(data: Path, wait_s: float = LOCK_WAIT_S) -> int:
    """The descriptor whose lock says that `data` is ours, until this process ends. Raises DataInUse."""
    descriptor = os.open(data / "control.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + wait_s
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() < deadline:
                time.sleep(_POLL_S)
                continue
            os.close(descriptor)
            raise DataInUse(f"another gateway runs on the data directory {data}") from None
        return descriptor


def secrets_of(data: Path) -> Secrets:
    """The administrator's key and the root secret: from the environment or `data`, or made now. Raises ConfigError."""
    environment = Environment.read()

    def announce(what: str, path: Path) -> Callable[[str], None]:
        def say(value: str) -> None:
            # Once, on the way to a terminal or the service manager's log: nobody could get in without it.
            sys.stderr.write(f"penstock: made {what}, kept in {path}: {value}\n")
            sys.stderr.flush()

        return say

    admin_key_path, root_path = data / "admin_key", data / "secret"
    admin_key = kept_secret(environment.admin_key, admin_key_path, announce("an administrator's key", admin_key_path))
    root = kept_secret(environment.secret, root_path, announce("a root secret", root_path))
    try:
        pepper_of(root.reveal())
    except ValueError as error:
        raise ConfigError(str(error), "PENSTOCK_SECRET") from None
    return Secrets(admin_key, Root(root, previous_secret(environment.previous_secret, data / PREVIOUS)))


def root_wrapper(root: Root) -> RootWrapper:
    """Who wraps the data keys of the vault where nobody else is named: the root secret, and the one before it."""
    value, previous = root.value.reveal(), root.previous
    before = None if previous is None else vault_key(previous.reveal())
    return RootWrapper(vault_key(value), verifier(pepper_of(value))[:16], before)


def kept_secret(given: Secret | None, path: Path, announce: Callable[[str], None]) -> Secret:
    """`given` (from the environment), else what `path` holds, else a new one: kept in `path` with mode 0600 and
    announced this once. Raises ConfigError when the file cannot be used."""
    if given is not None:
        return given
    try:
        return _read(path)
    except FileNotFoundError:
        made = secrets.token_urlsafe(32)
        keep_secret(path, made)
        announce(made)
        return Secret(made)


def previous_secret(given: Secret | None, path: Path) -> Secret | None:
    """`given`, else what `path` holds; None where there is neither. Raises ConfigError when the file cannot be used."""
    try:
        return given or _read(path)
    except FileNotFoundError:
        return None


def box_of(data: Path, shares_store: bool) -> Box:
    """This box. Where the store can have others beside it, its id is what `data/box` holds, made at the first start,
    and its node is told from theirs by it. Raises ConfigError when the file cannot be used."""
    host = socket.gethostname()
    if not shares_store:
        return Box("", host, str(data))
    path = data / "box"
    try:
        id = _read(path).reveal()
    except FileNotFoundError:
        id = secrets.token_hex(8)
        keep_secret(path, id)
    if not _BOX_ID.fullmatch(id):
        raise ConfigError(f"{path} must hold the box's id, 16 hexadecimal digits: put it back, or delete the file")
    return Box(id, f"{host}-{id[:6]}", str(data))


def _read(path: Path) -> Secret:
    try:
        with path.open("rb") as file:
            text = file.read(_MAX_SECRET_BYTES).decode("ascii").strip()
    except FileNotFoundError:
        raise
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"what {path} holds cannot be read") from error
    if not text:
        raise ConfigError(f"{path} is empty")
    return Secret(text)
