"""What is read as a list or a mapping, whatever stands there."""

from typing import Any


def listed(value: Any) -> list[Any]:
    """The list itself, else none."""
    return value if isinstance(value, list) else []


def mapped(value: Any) -> dict[str, Any]:
    """The mapping itself with its names as text, else none."""
    return {str(name): inner for name, inner in value.items()} if isinstance(value, dict) else {}


def texts(value: Any) -> list[str]:
    """The texts of a list, or the one text."""
    return [value] if isinstance(value, str) else [item for item in listed(value) if isinstance(item, str)]
