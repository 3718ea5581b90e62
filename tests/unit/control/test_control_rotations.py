"""Credentials that rotate by themselves: from a command or a file, and what happens when that fails."""

import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine
from tests.unit.control.vaults import Box

from penstock.config.settings import RotationSettings
from penstock.control import commands
from penstock.control.commands import CommandFailed, output_of
from penstock.control.rotations import ACTOR, Rotations


def by_command(code: str) -> RotationSettings:
    return RotationSettings.model_validate(
        {"credential": "lab-key", "every": "1h", "command": [sys.executable, "-c", code]}
    )


@pytest.fixture
async def box(whole_store: AsyncEngine) -> AsyncIterator[Box]:
    """With an entry that is in use and old enough."""
    box = await Box(whole_store).start()
    await box.use()
    await age(box)
    yield box
    await box.engine.dispose()


async def age(box: Box) -> None:
    """As if all that is staged had begun, and the value were two hours old."""
    async with box.engine.begin() as conn:
        for table, column in (("credentials", "rotated_at"), ("credential_versions", "active_from")):
            await conn.execute(text(f"UPDATE {table} SET {column} = {column} - 7200000000000"))


def rotations(box: Box, *settings: RotationSettings) -> Rotations:
    return Rotations(box.door, box.vault, settings)


async def test_what_a_command_gives_is_staged_and_serves_when_its_time_has_come(box: Box) -> None:
    code = "import os; print('sk-of-' + os.environ['CREDENTIAL'] + str('PENSTOCK_SECRET' in os.environ))"
    own = rotations(box, by_command(code))
    await own.look()
    assert (own.faults, box.sent()) == ({}, ["sk-canary-1"])
    await own.look()
    assert [it for it in await box.records() if it[2] == ACTOR] == [("rotate", "lab-key", ACTOR)], "once"
    await age(box)
    box.vault.look_soon()
    await box.vault.tend()
    await box.door.refresh()
    assert box.sent() == ["sk-of-lab-keyFalse"]


FAILING = {
    "import sys; print('sk-leaked'); sys.exit(3)": "exited with 3",
    "print('sk-canary-1')": "gave the value that there is already",
    "print()": "is empty",
    "print('a' * 20_000)": "wrote more than",
}


async def test_a_command_that_fails_is_told_and_leaves_what_serves(box: Box) -> None:
    for code, fault in FAILING.items():
        counted: list[str] = []
        own = Rotations(box.door, box.vault, [by_command(code)], counted.append)
        await own.look()
        assert fault in own.faults["lab-key"] and "sk-" not in own.faults["lab-key"]
        assert (box.sent(), counted) == (["sk-canary-1"], ["rotation"])
        await own.look()
        assert counted == ["rotation"], "it is not run again at once"


async def test_a_command_that_does_not_end_is_ended_and_one_that_is_not_there_says_so() -> None:
    with pytest.raises(CommandFailed, match="had not ended"):
        await output_of([sys.executable, "-c", "import time; time.sleep(60)"], {}, 10, timeout_s=0.2)
    with pytest.raises(CommandFailed, match="cannot be run: No such file"):
        await output_of(["/nowhere/at-all"], {}, 10)
    assert commands.TIMEOUT_S == 60


async def test_a_file_with_another_content_is_the_next_value(box: Box, tmp_path: Path) -> None:
    secret = tmp_path / "key"
    own = rotations(box, RotationSettings.model_validate({"credential": "lab-key", "file": f"file:{secret}"}))
    await own.look()
    assert "cannot be read" in own.faults["lab-key"]
    for content in ("sk-canary-1\n", "sk-second\n", "sk-second\n"):
        secret.write_text(content)
        await own.look()
        assert own.faults == {}
    assert [it[0] for it in await box.records() if it[2] == ACTOR] == ["rotate"]


async def test_an_entry_that_is_not_there_is_a_fault_of_its_own(box: Box) -> None:
    lost = RotationSettings.model_validate({"credential": "lost", "every": "1h", "command": ["/bin/true"]})
    own = rotations(box, lost, by_command("print('sk-second')"))
    await own.look()
    assert own.faults.keys() == {"lost"}
    assert ("rotate", "lab-key", ACTOR) in await box.records()


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"command": ["/bin/true"]},
        {"command": ["true"], "every": "30d"},
        {"file": "file:/run/key", "every": "30d"},
        {"file": "file:/run/key", "command": ["/bin/true"], "every": "30d"},
    ],
)
def test_a_rotation_that_says_too_little_or_too_much_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"command|file"):
        RotationSettings.model_validate({"credential": "lab-key", **fields})
