"""What a tag may be: one grammar for callers, keys, limits and kills, so that whatever can be declared can be sent."""

import re

MAX_TAG_NAME = 128
MAX_TAG_VALUE = 256
_TAG_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def is_tag_name(text: str) -> bool:
    """Up to 128 letters, digits, dots, underscores and hyphens, a letter or digit first."""
    return len(text) <= MAX_TAG_NAME and _TAG_NAME.fullmatch(text) is not None


def is_tag_value(text: str) -> bool:
    """1 to 256 printable characters without comma and equals sign."""
    return 0 < len(text) <= MAX_TAG_VALUE and text.isprintable() and "," not in text and "=" not in text
