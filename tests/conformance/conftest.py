"""Fixtures of the conformance tests."""

from collections.abc import Iterator

import pytest
from tests.conformance.stage import Stage


@pytest.fixture(scope="session")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """One gateway for every recording; a test process starts it once."""
    with Stage(tmp_path_factory.mktemp("conformance")) as stage:
        yield stage
