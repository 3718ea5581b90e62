"""The plan of one exchange."""

from penstock.domain.snapshot import Alias, Deployment


def plan(alias: Alias) -> tuple[Deployment, ...]:
    """The targets to try, in order."""
    return alias.targets
