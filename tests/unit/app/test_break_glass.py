"""The break-glass file: what is in it, and what counts when it is not what the command writes."""

from pathlib import Path

import pytest

from penstock.app import break_glass
from penstock.app.break_glass import GlassFault
from penstock.domain.snapshot import BREAK_GLASS, Kill, Snapshot


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / "control.lock").touch()
    return tmp_path


def test_it_is_pulled_and_lifted_with_who_and_why(data: Path) -> None:
    pulled = break_glass.pull(data, "a leak")
    assert break_glass.is_pulled(data)
    assert break_glass.read(data).pulled == pulled
    assert (pulled.reason, bool(pulled.by), pulled.at[-1]) == ("a leak", True, "Z")
    lifted = break_glass.lift(data, "over")
    assert not break_glass.is_pulled(data)
    assert break_glass.read(data) == break_glass.Glass(None, (pulled, lifted))


def test_pulling_twice_keeps_the_first(data: Path) -> None:
    assert break_glass.pull(data, "a leak") == break_glass.pull(data, "again")


def test_only_the_owner_may_read_it(data: Path) -> None:
    break_glass.pull(data, "a leak")
    assert (data / "BREAK_GLASS").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("content", [b"", b"\xff\x00", b"[]", b'{"at": 3}', b"[" * 20_000, b'{"at": '])
def test_any_content_stops(data: Path, content: bytes) -> None:
    (data / "BREAK_GLASS").write_bytes(content)
    assert break_glass.is_pulled(data)
    pulled = break_glass.read(data).pulled
    assert pulled is not None
    assert (pulled.by, pulled.reason) == ("", "")


def test_a_folder_and_a_link_to_nowhere_stop_too(data: Path) -> None:
    place = data / "BREAK_GLASS"
    place.symlink_to(data / "nowhere")
    assert break_glass.is_pulled(data)
    place.unlink()
    place.mkdir()
    assert break_glass.is_pulled(data)
    with pytest.raises(GlassFault, match="cannot be taken away"):
        break_glass.lift(data, "over")


def test_where_no_gateway_has_run_nothing_is_made(tmp_path: Path) -> None:
    with pytest.raises(GlassFault, match="no gateway has run on"):
        break_glass.pull(tmp_path, "a typing error")
    assert list(tmp_path.iterdir()) == []


def test_there_is_nothing_to_lift_where_nothing_was_pulled(data: Path) -> None:
    with pytest.raises(GlassFault, match="is not stopped by it"):
        break_glass.lift(data, "over")


def test_a_snapshot_is_seen_with_it_and_without_it() -> None:
    kill = Kill(7, {"team": "growth"})
    clear = Snapshot(kills={7: kill}, generation=7)
    stopped = break_glass.seen_through(clear, True)
    assert stopped.kills == {0: BREAK_GLASS, 7: kill}
    assert stopped.generation == 7
    assert break_glass.seen_through(stopped, True) is stopped
    assert break_glass.seen_through(stopped, False) == clear
