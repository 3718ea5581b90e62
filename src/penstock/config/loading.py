"""A file -> `Config`, or every fault in it."""

from difflib import get_close_matches
from hashlib import sha256
from pathlib import Path as FilePath
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from penstock.config import lineage
from penstock.config.checks import Parsed, check_secrets, cross_check
from penstock.config.document import Document, Fault, Path, read
from penstock.config.settings import OBJECTS, SHAPES, Config, Contents
from penstock.errors import ConfigFaults

MAX_FAULTS = 200

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
    "too_short": "must not be empty",
}


def load(path: FilePath | str, *, require_secrets: bool = False) -> Config:
    """The configuration in the file at `path`.

    `require_secrets`: every `env:` and `file:` reference must resolve, and declared keys' secrets be well formed, as
    whoever serves needs it; without it the file can be checked where its secrets are not. Raises ConfigFaults with all
    that is wrong, each as `file:line:column: path.to.field: sentence`.
    """
    try:
        content = FilePath(path).read_bytes()
    except OSError as error:
        raise ConfigFaults([f"{path}: the file cannot be read: {error.strerror}"]) from None
    return parse(content, path, require_secrets=require_secrets)


def parse(content: bytes, path: FilePath | str, *, require_secrets: bool = False) -> Config:
    """As `load`, of a file whose bytes are here. `path` is what its faults and the configuration call it."""
    return _checked(read(content), path, sha256(content).hexdigest(), require_secrets)


def restored(written: dict[str, Any], path: FilePath | str, digest: str) -> Config:
    """The configuration whose `Config.written` and digest were kept, by the rules of this release. Raises ConfigFaults,
    in which there are no lines."""
    return _checked(Document(written), path, digest, require_secrets=False)


def _checked(document: Document, path: FilePath | str, digest: str, require_secrets: bool) -> Config:
    name = str(path)
    faults = list(document.faults)
    contents = Contents()
    if document.data is not None or not faults:
        parsed, found = _parse(document)
        contents = parsed.contents
        faults += found + cross_check(parsed)
        faults += check_secrets(parsed) if require_secrets else []
    if faults:
        raise ConfigFaults(_lines(faults, name))
    contents = _completed(contents)
    completed = {name: getattr(contents, name) for name in Contents.model_fields}
    written = {section: document.data[section] for section in OBJECTS if document.data.get(section)}
    return Config.model_construct(**completed, path=FilePath(path), digest=digest, written=written)


def _lines(faults: list[Fault], name: str) -> list[str]:
    """In the order of the file, each once, and no more than anyone reads."""
    lines = list(dict.fromkeys(fault.line(name) for fault in sorted(faults, key=lambda fault: fault.spot or (0, 0))))
    if len(lines) > MAX_FAULTS:
        return [*lines[:MAX_FAULTS], f"{name}: there are {len(lines) - MAX_FAULTS} more faults"]
    return lines


def _completed(contents: Contents) -> Contents:
    """What is unwritten of a key, filled in."""
    return contents.model_copy(update={"keys": lineage.completed(contents.keys, contents.projects)})


def _parse(document: Document) -> tuple[Parsed, list[Fault]]:
    """What of the document is valid by itself, and the faults of the rest."""
    if not isinstance(document.data, dict):
        return Parsed(Contents(), document, {}), [
            document.fault((), "must be a mapping: server, providers, models, ...")
        ]
    written = {name: section for name, section in document.data.items() if section is not None}
    try:
        return Parsed(Contents.model_validate(written), document, {}), []
    except ValidationError as error:
        details = error.errors(include_url=False, include_input=False)
    faults = [_fault(document, detail) for detail in details]
    faulty = {detail["loc"][:2] if _in_list(written, detail["loc"]) else detail["loc"][:1] for detail in details}
    sound: dict[str, Any] = {}
    indices: dict[str, list[int]] = {}
    for name, section in written.items():
        if (name,) in faulty:
            continue
        if isinstance(section, list):
            indices[name] = [index for index in range(len(section)) if (name, index) not in faulty]
            sound[name] = [section[index] for index in indices[name]]
        else:
            sound[name] = section
    return Parsed(Contents.model_validate(sound), document, indices), faults


def _in_list(written: dict[str, Any], loc: Path) -> bool:
    return len(loc) > 1 and isinstance(written.get(str(loc[0])), list)


def _fault(document: Document, detail: ErrorDetails) -> Fault:
    """A pydantic error as a fault of the file: never with the value, unless our own sentence repeats it."""
    path = place_of(detail)
    if detail["type"] == "extra_forbidden":
        return document.fault(path, _unknown(path), at_key=True)
    return document.fault(path, sentence_of(detail), at_key="[key]" in detail["loc"])


def place_of(detail: ErrorDetails) -> Path:
    """Where a pydantic error lies: in a mapping, the name that is wrong stands for itself."""
    return tuple(step for step in detail["loc"] if step != "[key]")


def sentence_of(detail: ErrorDetails) -> str:
    """A pydantic error as we say it, in a file or elsewhere."""
    if detail["type"] == "value_error":
        return str(detail["ctx"]["error"])
    return _SENTENCES.get(detail["type"]) or detail["msg"].replace("Input should be", "must be")


def _unknown(path: Path) -> str:
    shape = tuple(step for step in path[:-1] if isinstance(step, str))
    model = SHAPES.get(shape)
    known = [field.alias or name for name, field in model.model_fields.items()] if model else []
    close = get_close_matches(str(path[-1]), known, n=1)
    return f"is not a setting here; did you mean `{close[0]}`?" if close else "is not a setting here"
