"""What the claims of a trusted issuer's token mean here: which key a workload gets a token of, and who its user is."""

from collections.abc import Mapping
from typing import Any

from penstock.domain.tags import is_tag_value
from penstock.domain.tenancy import Principal, Rights
from penstock.domain.trust import Front, Issuer, Rule
from penstock.errors import InvalidApiKey, NotPermitted

Claims = Mapping[str, Any]


def rule_for(issuer: Issuer, claims: Claims) -> Rule | None:
    """The first rule all of whose claims are met."""
    return next((rule for rule in issuer.rules if _is_met(rule, claims)), None)


def user_in(claims: Claims, name: str) -> str:
    """The user whom a claim names; empty where no claim does. Raises `InvalidApiKey` where it should and does not."""
    if not name:
        return ""
    value = claim(claims, name)
    if not isinstance(value, str) or not is_tag_value(value):
        raise InvalidApiKey(f"The token names no user in its claim '{name}'.")
    return value


def vouched(principal: Principal, front: Front, claims: Claims) -> Principal:
    """The principal as the API gateway in front says whose call it is: with its user and its tags, which nobody behind
    it can change. Raises `NotPermitted` where the key is another user's."""
    user = user_in(claims, front.user)
    if user and principal.user not in {"", user}:
        raise NotPermitted(f"The API key '{principal.key}' is of another user than the call.")
    tags = {}
    for tag, name in front.tags.items():
        value = claim(claims, name)
        if isinstance(value, str) and is_tag_value(value):
            tags[tag] = value
    return principal.narrowed(Rights(tags=tags), user=user)


def claim(claims: Claims, name: str) -> Any:
    """The value of a claim, or of one within others where the name is a JSON pointer; None where there is none."""
    if not name.startswith("/"):
        return claims.get(name)
    found: Any = claims
    for step in name[1:].split("/"):
        found = found.get(step.replace("~1", "/").replace("~0", "~")) if isinstance(found, Mapping) else None
    return found


def _is_met(rule: Rule, claims: Claims) -> bool:
    return all(_has(claim(claims, name), values) for name, values in rule.claims.items())


def _has(said: Any, values: tuple[str, ...]) -> bool:
    """A list, such as that of somebody's groups, has what one of its members is."""
    if isinstance(said, list):
        return any(_has(each, values) for each in said if isinstance(each, str))
    if isinstance(said, bool):
        said = str(said).lower()
    return isinstance(said, str) and any(
        said.startswith(value[:-1]) if value.endswith("*") else said == value for value in values
    )
