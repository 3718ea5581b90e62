"""The rows of a table that a reach covers, by the columns that say whose they are."""

from typing import Any

from sqlalchemy import ColumnElement, and_, false, or_, true

from penstock.domain.access import Reach


def within(reach: Reach, team: ColumnElement[Any], project: ColumnElement[Any]) -> ColumnElement[bool]:
    """A project counts as far as it was its present team's: names are free again when an object is deleted."""
    if reach.everything:
        return true()
    parts = [and_(team == owner, project == name) for name, owner in sorted(reach.projects.items())]
    return or_(false(), team.in_(sorted(reach.teams)), *parts)
