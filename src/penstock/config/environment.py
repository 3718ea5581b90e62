"""The environment and the secrets that it or a file holds. Nothing else in Penstock reads either, but for the two paths
of `paths`, which a start takes."""

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path

from penstock.config.paths import named_config, named_data
from penstock.domain.snapshot import Secret
from penstock.errors import ConfigError

DEFAULT_ADMIN_URL = "http://127.0.0.1:8081"
DEFAULT_DATA = Path("data")
MAX_SECRET_BYTES = 16 * 1024
OWN_PREFIX = "PENSTOCK_"
VAULT = "vault:"

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True)
class Environment:
    """The settings that come from the environment. An unset or empty variable is None.

    `config`: the file that `-c` defaults to. `admin_key`: the administrator's key. `secret`: the root secret,
    `previous_secret`: the one before, while it is replaced.
    `data`: the data directory, over the file's `server.data`. `admin_url`: where admin commands go; `admin_ca`: a file
    of those whose certificate may be there.
    """

    config: Path | None = None
    admin_key: Secret | None = None
    secret: Secret | None = None
    previous_secret: Secret | None = None
    data: Path | None = None
    admin_url: str | None = None
    admin_ca: Path | None = None

    @classmethod
    def read(cls) -> "Environment":
        """What the process's environment says now."""
        admin_ca = os.environ.get("PENSTOCK_ADMIN_CA")
        admin_key, secret = os.environ.get("PENSTOCK_ADMIN_KEY"), os.environ.get("PENSTOCK_SECRET")
        previous = os.environ.get("PENSTOCK_SECRET_PREVIOUS")
        return cls(
            config=named_config(),
            admin_key=Secret(admin_key) if admin_key else None,
            secret=Secret(secret) if secret else None,
            previous_secret=Secret(previous) if previous else None,
            data=named_data(),
            admin_url=os.environ.get("PENSTOCK_ADMIN_URL") or None,
            admin_ca=Path(admin_ca) if admin_ca else None,
        )


def for_commands() -> dict[str, str]:
    """The process's environment without the gateway's own settings and secrets: what a command of the operator's is
    given."""
    return {name: value for name, value in os.environ.items() if not name.upper().startswith(OWN_PREFIX)}


def read_secret_file(path: Path) -> Secret:
    """The secret in a file, without surrounding white space. Raises ConfigError, whose text holds no secret."""
    return Secret(one_line(_read_secret_file(path), f"the file {path}"))


def vault_name(reference: str) -> str | None:
    """The NAME of `vault:NAME`; None for any other reference."""
    return reference.removeprefix(VAULT) if reference.startswith(VAULT) else None


def check_reference(reference: str) -> None:
    """Raises ConfigError unless `reference` is `env:NAME` or `file:PATH`. Says nothing of what stands there, because
    whoever wrote a secret in place of a reference must not find it in a log."""
    scheme, _, rest = reference.partition(":")
    if scheme not in {"env", "file"} or not rest:
        raise ConfigError("must be env:NAME or file:PATH; a secret never stands in the file itself")
    if scheme == "file":
        return
    if not _NAME.fullmatch(rest):
        raise ConfigError("env: takes the name of a variable: letters, digits and underscores")
    if rest.upper().startswith(OWN_PREFIX):
        raise ConfigError(f"env: never refers to {OWN_PREFIX}*: those are the gateway's own secrets")


def resolve_secret(reference: str) -> Secret:
    """The secret that `env:NAME` or `file:PATH` names; a file's surrounding white space is dropped. Relative paths
    start at the directory in which the process was started. Raises ConfigError, whose text holds no secret."""
    check_reference(reference)
    scheme, _, rest = reference.partition(":")
    if scheme == "env":
        value, source = os.environ.get(rest, ""), f"the environment variable {rest}"
        if not value:
            raise ConfigError(f"{source} is not set")
    else:
        value, source = _read_secret_file(Path(rest)), f"the file {rest}"
    return Secret(one_line(value, source))


def one_line(value: str, source: str) -> str:
    """A secret as it can be sent: one line of printable ASCII. A JSON object of several lines, as some vendors write
    their credentials, is put on one. Raises ConfigError, in which `source` says where the secret stands."""
    value = value.strip()
    if value.startswith("{"):
        try:
            value = json.dumps(json.loads(value), separators=(",", ":"))
        except (ValueError, RecursionError):
            raise ConfigError(f"{source} begins like a JSON object and is none") from None
    if not value:
        raise ConfigError(f"{source} is empty")
    if not (value.isascii() and value.isprintable()):
        raise ConfigError(f"{source} must hold one line of printable ASCII characters, or a JSON object")
    return value


def _read_secret_file(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_SECRET_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"the file {path} cannot be read: {error.strerror}") from error
    if len(content) > MAX_SECRET_BYTES:
        raise ConfigError(f"the file {path} holds more than {MAX_SECRET_BYTES} bytes")
    return content.decode(errors="replace").strip()
