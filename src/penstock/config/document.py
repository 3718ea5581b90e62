"""YAML text -> plain values, with the place of each.

Scalars are read as people write them: `true` and `false` are the only booleans (`on`, `yes` are text), a number is
decimal (`010` and `1:30` are text), a fraction is a `Decimal`, so that no float ever touches money. Tags and merge keys
are faults, anchors are fine; size, depth and the number of values (with anchors expanded) are bounded.
"""

import re
from decimal import Decimal
from typing import Any, NamedTuple

import yaml

MAX_BYTES = 8 * 1024 * 1024
MAX_DEPTH = 32
MAX_VALUES = 250_000

Path = tuple[str | int, ...]
Spot = tuple[int, int]
"""Line and column, from 1."""

_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9_]*)")
_FRACTION = re.compile(r"[-+]?(?:[0-9][0-9_]*(?:\.[0-9_]*)?|\.[0-9][0-9_]*)(?:[eE][-+]?[0-9]{1,2})?")
"""As YAML 1.2 writes them, and as programs write small and large ones: `.5`, `1.0e-05`, `1e6`."""
_POWER_OR_POINT = re.compile(r"[.eE]")
_CORE = "tag:yaml.org,2002:"
_PLAIN_TAGS = {_CORE + kind for kind in ("str", "int", "float", "bool", "null", "timestamp", "value")}
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class Fault(NamedTuple):
    """What is wrong, where: `path` from the root of the document, `spot` None when the whole file is meant."""

    message: str
    path: Path = ()
    spot: Spot | None = None

    def line(self, name: str) -> str:
        """`file:line:column: path.to.field: sentence`."""
        place = name if self.spot is None else f"{name}:{self.spot[0]}:{self.spot[1]}"
        return f"{place}: {dotted(self.path)}: {self.message}" if self.path else f"{place}: {self.message}"


class Document:
    """`data`: the values. `values` and `keys`: where the value of a path stands, and where its key does."""

    def __init__(self, data: Any = None) -> None:
        self.data = data
        self.values: dict[Path, Spot] = {}
        self.keys: dict[Path, Spot] = {}
        self.faults: list[Fault] = []

    def fault(self, path: Path, message: str, *, at_key: bool = False) -> Fault:
        """A fault at `path`, placed at the nearest value around it that the file holds."""
        if at_key and path in self.keys:
            return Fault(message, path, self.keys[path])
        spot = next((self.values[path[:end]] for end in range(len(path), -1, -1) if path[:end] in self.values), None)
        return Fault(message, path, spot)


def dotted(path: Path) -> str:
    """`("providers", 0, "kind")` -> `providers[0].kind`."""
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text


def read(content: bytes) -> Document:
    """The document in `content`. Whatever is wrong with it as YAML is in `faults`."""
    document = Document()
    root = _compose(content, document.faults)
    if root is not None:
        _Builder(document).start(root)
    return document


class _TooBig(Exception):
    """The document is beyond its bounds."""


def _check_depth(text: str) -> None:
    """Raises _TooBig before the composer, which recurses in C and would take the process with it."""
    depth = 0
    for event in yaml.parse(text, Loader=_LOADER):
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise _TooBig(f"the file is nested deeper than {MAX_DEPTH} levels")


def _compose(content: bytes, faults: list[Fault]) -> yaml.Node | None:
    if len(content) > MAX_BYTES:
        faults.append(Fault(f"the file holds more than {MAX_BYTES // 2**20} MiB"))
        return None
    try:
        text = content.decode("utf-8-sig")
        _check_depth(text)
        root: yaml.Node | None = yaml.compose(text, Loader=_LOADER)
    except UnicodeDecodeError as error:
        faults.append(Fault("the file is not UTF-8 here", spot=_spot_at(content, error.start)))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        spot = (mark.line + 1, mark.column + 1) if mark else None
        faults.append(Fault(f"this is not YAML: {error.problem or error.context}", spot=spot))
    except yaml.reader.ReaderError as error:
        faults.append(Fault(f"this is not YAML: {error.reason}", spot=_spot_at(content, error.position)))
    except _TooBig as error:
        faults.append(Fault(str(error)))
    else:
        if root is None:
            faults.append(Fault("the file is empty"))
        return root
    return None


class _Builder:
    def __init__(self, document: Document) -> None:
        self._document = document
        self._count = 0

    def start(self, root: yaml.Node) -> None:
        try:
            self._document.data = self._value(root, ())
        except _TooBig as error:
            self._document.data = None
            self._document.faults.append(Fault(str(error)))

    def _value(self, node: yaml.Node, path: Path) -> Any:
        self._count += 1
        if self._count > MAX_VALUES:
            raise _TooBig(f"the file holds more than {MAX_VALUES} values, with its anchors expanded")
        if len(path) > MAX_DEPTH:
            raise _TooBig(f"the file is nested deeper than {MAX_DEPTH} levels")
        self._document.values[path] = _spot(node)
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, path)
        if isinstance(node, yaml.SequenceNode):
            self._refuse_tag(node, path, {_CORE + "seq"})
            return [self._value(item, (*path, index)) for index, item in enumerate(node.value)]
        self._refuse_tag(node, path, {_CORE + "map"})
        return self._mapping(node, path)

    def _mapping(self, node: yaml.Node, path: Path) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if key_node.tag == _CORE + "merge":
                self._add("merge keys (<<) are not read: write the fields out", path, key_node)
                continue
            if not isinstance(key_node, yaml.ScalarNode):
                self._add("a field's name must be text", path, key_node)
                continue
            name = str(key_node.value)
            inner = (*path, name)
            if name in result:
                first = self._document.keys[inner][0]
                self._add(f"is given twice; the first stands in line {first}", inner, key_node)
                continue
            self._document.keys[inner] = _spot(key_node)
            result[name] = self._value(value_node, inner)
        return result

    def _scalar(self, node: yaml.ScalarNode, path: Path) -> Any:
        self._refuse_tag(node, path, _PLAIN_TAGS)
        text: str = node.value
        if node.style:
            return text
        if node.tag == _CORE + "null":
            return None
        if text.lower() in {"true", "false"}:
            return text.lower() == "true"
        if len(text) <= 40 and _INTEGER.fullmatch(text):
            return int(text)
        if len(text) <= 40 and _POWER_OR_POINT.search(text) and _FRACTION.fullmatch(text):
            return Decimal(text)
        return text

    def _refuse_tag(self, node: yaml.Node, path: Path, allowed: set[str]) -> None:
        if node.tag not in allowed:
            self._add(f"the tag {node.tag!r} is not read", path, node)

    def _add(self, message: str, path: Path, node: yaml.Node) -> None:
        self._document.faults.append(Fault(message, path, _spot(node)))


def _spot_at(content: bytes, offset: int) -> Spot:
    return content.count(b"\n", 0, offset) + 1, offset - content.rfind(b"\n", 0, offset)


def _spot(node: yaml.Node) -> Spot:
    return node.start_mark.line + 1, node.start_mark.column + 1
