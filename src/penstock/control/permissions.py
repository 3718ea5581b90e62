"""The permission table: which role may do what. Nothing else in Penstock decides that.

What is not marked is denied. A role is bound to a part of the organisation (`bindings`), and its permissions reach as
far as that part. The second column says what a permission is about:

* `tenant`: objects of teams and projects. Whoever has it for a team sees and changes that team's alone.
* `whole`: what is the organisation's own. It counts only where the role is bound to the organisation.
* `shared`: what belongs to no tenant and everybody may know, wherever the role is bound.

An owner alone may make provisioning tokens, with which groups are filled, so nobody else can grant that role.
"""

from collections.abc import Mapping
from typing import Literal, NamedTuple, cast, get_args

Role = Literal["owner", "admin", "operator", "finance", "auditor", "developer", "viewer"]
About = Literal["tenant", "whole", "shared"]

ROLES: tuple[Role, ...] = get_args(Role)
MEANINGS: Mapping[Role, str] = {
    "owner": "everything",
    "admin": "everything but making owners and provisioning tokens",
    "operator": "sees what runs, may stop calls",
    "finance": "sees spend, sets limits and prices, may stop calls",
    "auditor": "sees everything, changes nothing",
    "developer": "sees its project and makes its keys",
    "viewer": "sees, changes nothing",
}


class Permission(NamedTuple):
    about: About
    roles: frozenset[Role]


_WRITTEN = """
                    about   owner  admin  operator  finance  auditor  developer  viewer
organisation.read   whole     x      x       x         x        x         .        x
organisation.write  whole     x      x       .         .        .         .        .
team.read           tenant    x      x       x         x        x         x        x
team.write          tenant    x      x       .         .        .         .        .
project.read        tenant    x      x       x         x        x         x        x
project.write       tenant    x      x       .         .        .         .        .
key.read            tenant    x      x       x         x        x         x        x
key.write           tenant    x      x       .         .        .         x        .
limit.read          tenant    x      x       x         x        x         x        x
limit.write         tenant    x      x       .         x        .         .        .
user.read           whole     x      x       x         x        x         .        x
user.write          whole     x      x       .         .        .         .        .
provider.read       whole     x      x       x         x        x         .        x
provider.write      whole     x      x       .         .        .         .        .
credential.read     whole     x      x       x         .        x         .        .
credential.write    whole     x      x       .         .        .         .        .
model.read          shared    x      x       x         x        x         x        x
model.write         whole     x      x       .         .        .         .        .
price.read          shared    x      x       x         x        x         x        x
price.write         whole     x      x       .         x        .         .        .
kill.read           tenant    x      x       x         x        x         x        x
kill.raise          tenant    x      x       x         x        .         .        .
kill.lift           whole     x      x       .         .        .         .        .
usage.read          tenant    x      x       x         x        x         x        x
receipt.read        tenant    x      x       x         x        x         x        x
ledger.read         tenant    x      x       x         x        x         x        x
ledger.adjust       tenant    x      x       .         x        .         .        .
ledger.verify       whole     x      x       x         x        x         .        .
audit.read          tenant    x      x       .         .        x         x        .
config.read         whole     x      x       x         .        x         .        .
config.write        whole     x      x       .         .        .         .        .
status.read         whole     x      x       x         x        x         .        x
role.read           shared    x      x       x         x        x         x        x
binding.read        tenant    x      x       .         .        x         .        .
binding.write       tenant    x      x       .         .        .         .        .
session.read        whole     x      x       .         .        x         .        .
session.write       whole     x      x       .         .        .         .        .
token.read          whole     x      x       .         .        x         .        .
token.write         whole     x      x       .         .        .         .        .
provisioning.write  whole     x      .       .         .        .         .        .
"""


def _read(written: str) -> dict[str, Permission]:
    heading, *lines = (line.split() for line in written.strip().splitlines())
    if heading != ["about", *ROLES]:
        raise ValueError("the columns of the permission table are not the roles")
    table: dict[str, Permission] = {}
    for name, about, *marks in lines:
        if name in table or about not in get_args(About) or len(marks) != len(ROLES) or set(marks) - {"x", "."}:
            raise ValueError(f"the permission table cannot be read at {name!r}")
        roles = frozenset(role for role, mark in zip(ROLES, marks, strict=True) if mark == "x")
        table[name] = Permission(cast(About, about), roles)
    return table


TABLE: Mapping[str, Permission] = _read(_WRITTEN)


def granted(role: Role) -> frozenset[str]:
    """The permissions of a role."""
    return frozenset(name for name, permission in TABLE.items() if role in permission.roles)
