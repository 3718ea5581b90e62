"""A file -> `Config`, or every fault in it."""

from difflib import get_close_matches
from hashlib import sha256
from pathlib import Path as FilePath
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from penstock.config.checks import check_secrets, cross_check
from penstock.config.document import Document, Fault, Path, read
from penstock.config.settings import Config, Contents
from penstock.errors import ConfigFaults

MAX_FAULTS = 200

_LATER = {
    ("limits", "sliding"),
    ("providers", "models"),
}
"""Fields of later releases that no model declares."""

_SENTENCES = {
    "missing": "is missing",
    "string_type": "must be text; put it in quotes",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "bool_type": "must be true or false",
    "list_type": "must be a list",
    "dict_type": "must be a mapping of names to values",
    "model_type": "must be a mapping of names to values",
    "model_attributes_type": "must be a mapping of names to values",
    "string_too_short": "must not be empty",
}


def load(path: FilePath | str, *, require_secrets: bool = False) -> Config:
    """The configuration in the file at `path`.

    `require_secrets`: every `env:` and `file:` reference must resolve, and declared keys' secrets be well formed, as
    whoever serves needs it; without it the file can be checked where its secrets are not. Raises ConfigFaults with all
    that is wrong, each as `file:line:column: path.to.field: sentence`.
    """
    name = str(path)
    try:
        content = FilePath(path).read_bytes()
    except OSError as error:
        raise ConfigFaults([f"{name}: the file cannot be read: {error.strerror}"]) from None
    document = read(content)
    faults = list(document.faults)
    contents = Contents()
    if document.data is not None:
        contents, found = _validate(document)
        faults += found
        faults += cross_check(contents, document)
        if require_secrets:
            faults += check_secrets(contents, document)
    if faults:
        faults.sort(key=lambda fault: fault.spot or (0, 0))
        lines = list(dict.fromkeys(fault.line(name) for fault in faults))
        raise ConfigFaults([*lines[:MAX_FAULTS], *([f"{name}: and more faults"] if len(lines) > MAX_FAULTS else [])])
    return Config.model_construct(**dict(contents), path=FilePath(path), digest=sha256(content).hexdigest())
