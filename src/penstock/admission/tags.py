"""Tags: the caller's own words for what a call is for, in `x-penstock-tags: feature=search,customer=acme`."""

from collections.abc import Mapping

from penstock.domain.snapshot import Key
from penstock.domain.tags import MAX_TAG_NAME, MAX_TAG_VALUE, is_tag_name, is_tag_value
from penstock.errors import InvalidRequest, NotPermitted

MAX_TAGS = 20


def read_tags(header: str | None) -> dict[str, str]:
    """The caller's tags. Raises `InvalidRequest` for what is not `name=value,...` within the bounds."""
    tags: dict[str, str] = {}
    for pair in _text(header or "").split(","):
        if not pair.strip():
            continue
        name, _, value = (part.strip() for part in pair.partition("="))
        if not is_tag_name(name) or not is_tag_value(value):
            raise InvalidRequest(
                f"'x-penstock-tags' must be name=value pairs: names of at most {MAX_TAG_NAME} letters, digits, '.', "
                f"'_' and '-', values of at most {MAX_TAG_VALUE} printable characters without ',' and '='.",
                param="x-penstock-tags",
            )
        tags[name] = value
    if len(tags) > MAX_TAGS:
        raise InvalidRequest(f"'x-penstock-tags' may hold at most {MAX_TAGS} tags.", param="x-penstock-tags")
    return tags


def _text(header: str) -> str:
    """HTTP hands header bytes over as latin-1; those that are UTF-8 are meant as UTF-8."""
    try:
        return header.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return header


def tags_of(key: Key, headers: Mapping[str, str]) -> dict[str, str]:
    """The call's tags: the caller's, under those that the key pins. Raises `InvalidRequest` when the team requires a
    tag that is missing, `NotPermitted` when the caller contradicts a pinned one."""
    header = headers.get("x-penstock-tags")
    if header is None and not key.required_tags:
        return key.tags
    tags = read_tags(header)
    for name, pinned in key.tags.items():
        if tags.get(name, pinned) != pinned:
            raise NotPermitted(f"The tag '{name}' is pinned by the API key and cannot be changed.")
    tags.update(key.tags)
    missing = [name for name in key.required_tags if name not in tags]
    if missing:
        raise InvalidRequest(
            f"Team '{key.team}' requires the tag '{missing[0]}': send 'x-penstock-tags: {missing[0]}=...'.",
            param="x-penstock-tags",
        )
    return tags
