"""The two paths that the environment may name. A start needs no more of it, and for them a command reads no file."""

import os
from pathlib import Path


def named_config() -> Path | None:
    """The configuration file that `PENSTOCK_CONFIG` names, where `-c` names none."""
    return _named("PENSTOCK_CONFIG")


def named_data() -> Path | None:
    """The data directory that `PENSTOCK_DATA` names, over the file's."""
    return _named("PENSTOCK_DATA")


def _named(variable: str) -> Path | None:
    path = os.environ.get(variable)
    return Path(path) if path else None
