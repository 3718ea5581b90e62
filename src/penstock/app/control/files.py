"""Files of the data directory that are complete or not there, and its owner's alone.

Commands write them as well, and load nothing else of the control process for it.
"""

import os
from pathlib import Path

from penstock.errors import ConfigError

PREVIOUS = "secret_previous"
"""The file with the root secret before, until the vault is rewrapped."""


def keep_secret(path: Path, value: str) -> None:
    """Puts `value` into the file `path` for its owner alone. A half-written secret would lock everybody out after a
    crash. Raises ConfigError when the file cannot be written."""
    try:
        replace_file(path, f"{value}\n".encode())
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}") from error


def replace_file(path: Path, content: bytes) -> None:
    """Puts `content` into the file `path` for its owner alone, complete or not at all. Raises OSError."""
    draft = path.with_name(f"{path.name}.new")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    draft.rename(path)
