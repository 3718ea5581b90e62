"""Keys under keys: what a key has from the one above it, and whether it asks for more than that one has.

Workers hold every call to the rights of all the keys above its own, so what is narrowed later is narrowed for the keys
below as well. Here it is found out what a key names and could never use.
"""

from collections.abc import Iterator, Mapping, Sequence
from ipaddress import ip_network
from typing import Any

from penstock.config.document import Path
from penstock.config.settings import DeclaredKey, DeclaredProject

INHERITED = ("team", "project", "user")
"""What a key has of the one above it, where that one has it."""

Fields = Mapping[str, Any]
"""A key by the names of its settings, with all that it inherits."""


def completed(keys: Sequence[DeclaredKey], projects: Sequence[DeclaredProject]) -> list[DeclaredKey]:
    """The keys with what is unwritten filled in: from the key above, and a team from the project."""
    teams = {project.name: project.team for project in projects}
    by_name = {key.name: key for key in keys}
    done: dict[str, DeclaredKey] = {}

    def complete(key: DeclaredKey, below: tuple[str, ...] = ()) -> DeclaredKey:
        if key.name in done:
            return done[key.name]
        above = by_name.get(key.parent) if key.parent not in below else None
        fields = inherited(key.model_dump(include=set(INHERITED)), _fields_above(above, key, below, complete))
        fields["team"] = fields["team"] or teams.get(fields["project"], "")
        done[key.name] = key.model_copy(update=fields)
        return done[key.name]

    return [complete(key) for key in keys]


def _fields_above(above: DeclaredKey | None, key: DeclaredKey, below: tuple[str, ...], complete: Any) -> Fields:
    if above is None:
        return {}
    whole: DeclaredKey = complete(above, (*below, key.name))
    return whole.model_dump(include=set(INHERITED))


def parents_first(keys: Sequence[DeclaredKey]) -> list[DeclaredKey]:
    """The keys, each after the one above it. There is no circle among them."""
    parents = {key.name: key.parent for key in keys}

    def depth(name: str) -> int:
        return 1 + depth(parents[name]) if name in parents else 0

    return sorted(keys, key=lambda key: depth(key.name))


def inherited(child: Fields, parent: Fields) -> dict[str, Any]:
    """The fields of `INHERITED`: the key's own, else those of the one above it."""
    return {field: child[field] or parent.get(field, "") for field in INHERITED}


def wider(child: Fields, parent: Fields) -> Iterator[tuple[Path, str]]:
    """Each setting by which the key asks for what the one above it does not have, with the sentence that says so. What
    is empty asks for no more than what the other has."""
    for field in INHERITED:
        if parent[field] and child[field] != parent[field]:
            yield (field,), f"must be {parent[field]!r}, as that of its parent {parent['name']!r}"
    ends = (child["expires_at"], parent["expires_at"])
    if None not in ends and ends[0] > ends[1]:
        yield ("expires_at",), f"must not be later than that of its parent {parent['name']!r}"
    for field, is_covered in (("models", _names), ("surfaces", _is), ("allowed_cidrs", _holds)):
        for index, value in enumerate(child[field]):
            if parent[field] and not any(is_covered(outer, value) for outer in parent[field]):
                yield (field, index), f"{value!r} is not among those of its parent {parent['name']!r}"
    yield from _other_tags(child, parent)


def _other_tags(child: Fields, parent: Fields) -> Iterator[tuple[Path, str]]:
    pinned, allowed = parent["tags"], parent["allowed_tags"]
    bounds = {**allowed, **{tag: [value] for tag, value in pinned.items()}}
    for tag, value in child["tags"].items():
        if value not in bounds.get(tag, (value,)):
            yield ("tags", tag), f"{value!r} is not among those of its parent {parent['name']!r}"
    for tag, values in child["allowed_tags"].items():
        for index, value in enumerate(values):
            if value not in bounds.get(tag, (value,)):
                yield ("allowed_tags", tag, index), f"{value!r} is not among those of its parent {parent['name']!r}"


def _names(pattern: str, model: str) -> bool:
    """Whether all that `model` names, itself a pattern perhaps, falls under `pattern`."""
    return model == pattern or (pattern.endswith("/*") and model.startswith(pattern[:-1]))


def _is(surface: str, other: str) -> bool:
    return surface == other


def _holds(outer: str, inner: str) -> bool:
    wide, narrow = ip_network(outer), ip_network(inner)
    return wide.version == narrow.version and narrow.subnet_of(wide)  # type: ignore[arg-type]
