"""The break-glass file: `BREAK_GLASS` in the data directory stops every call of the box while it is there.

It needs neither the admin API nor the database: each process looks for itself, a few times a second, and before it
serves its first call. What it holds is for people and for the audit log, so an empty one that somebody made by hand
stops as well. Lifting leaves `BREAK_GLASS.lifted` behind, which says who took the file away and why.
"""

import contextlib
import json
import os
import pwd
import socket
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from msgspec import structs

from penstock.domain.snapshot import BREAK_GLASS, Snapshot
from penstock.errors import PenstockError

NAME, LIFTED = "BREAK_GLASS", "BREAK_GLASS.lifted"
LOOK_EVERY_S = 0.2
"""How often each process looks: what it finds is obeyed well within a second."""
_MAX_BYTES = 16 * 1024
_MAX_TEXT = 1_000


@dataclass(frozen=True)
class Mark:
    """When the file was made or taken away (RFC 3339), by whom, and why; empty where nobody said so."""

    at: str
    by: str = ""
    reason: str = ""


@dataclass(frozen=True)
class Glass:
    """What a data directory says: the stop in force, and the last one that was lifted by the command."""

    pulled: Mark | None = None
    last: tuple[Mark, Mark] | None = None
    """Pulled and lifted."""


class GlassFault(PenstockError):
    """The file cannot be made or taken away."""


def is_pulled(data: Path) -> bool:
    """Whether the box is stopped. A directory that cannot be looked into counts as stopped."""
    try:
        os.lstat(data / NAME)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True


def read(data: Path) -> Glass:
    """What there is, for people; who asks whether to admit a call asks `is_pulled`."""
    pulled = None
    if is_pulled(data):
        pulled = _mark(_content(data / NAME)) or Mark(_made_at(data / NAME))
    before = _content(data / LIFTED)
    opened, closed = _mark(before.get("pulled")), _mark(before.get("lifted"))
    return Glass(pulled, (opened, closed) if opened and closed else None)


def pull(data: Path, reason: str) -> Mark:
    """Stops the box of this data directory. One that is stopped already stays as it was. Raises GlassFault."""
    _require_box(data)
    if (pulled := read(data).pulled) is not None:
        return pulled
    mark = _now(reason)
    try:
        _write(data / NAME, asdict(mark))
    except OSError:
        # A full disk takes no text, and still takes a name: that is all the stop needs.
        try:
            os.close(os.open(data / NAME, os.O_WRONLY | os.O_CREAT, 0o600))
        except OSError as error:
            raise GlassFault(f"{data / NAME} cannot be made: {error.strerror}; stop the gateway instead") from None
    return mark


def lift(data: Path, reason: str) -> Mark:
    """Takes the file away; who did so and why is kept beside it for the audit log. Raises GlassFault."""
    _require_box(data)
    pulled = read(data).pulled
    if pulled is None:
        raise GlassFault(f"there is no {data / NAME}: the box is not stopped by it")
    mark = _now(reason)
    try:
        _write(data / LIFTED, {"pulled": asdict(pulled), "lifted": asdict(mark)})
        (data / NAME).unlink()
    except OSError as error:
        raise GlassFault(f"{data / NAME} cannot be taken away: {error.strerror}") from None
    return mark


def seen_through(snapshot: Snapshot, pulled: bool) -> Snapshot:
    """`snapshot` with the stop of everything in force, or without it; itself where that changes nothing."""
    if (BREAK_GLASS.generation in snapshot.kills) == pulled:
        return snapshot
    kills = {number: kill for number, kill in snapshot.kills.items() if number != BREAK_GLASS.generation}
    if pulled:
        kills = {BREAK_GLASS.generation: BREAK_GLASS, **kills}
    return structs.replace(snapshot, kills=kills)


def _require_box(data: Path) -> None:
    """A typing error in the directory's name would stop nothing, and nobody would notice."""
    if not (data / "control.lock").exists():
        raise GlassFault(f"no gateway has run on {data.absolute()}: name its data directory with --data")


def _now(reason: str) -> Mark:
    try:
        user = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        user = str(os.getuid())
    return Mark(_rfc3339(datetime.now(UTC)), f"{user}@{socket.gethostname()}", reason)


def _rfc3339(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _made_at(path: Path) -> str:
    try:
        return _rfc3339(datetime.fromtimestamp(path.lstat().st_mtime, UTC))
    except OSError:
        return _rfc3339(datetime.fromtimestamp(0, UTC))


def _content(path: Path) -> dict[str, object]:
    """The object that the file holds; empty for whatever else is there."""
    try:
        with path.open("rb") as file:
            found = json.loads(file.read(_MAX_BYTES))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _mark(value: object) -> Mark | None:
    if not isinstance(value, dict) or not value.get("at"):
        return None
    texts = (value.get(name) for name in ("at", "by", "reason"))
    return Mark(*(text[:_MAX_TEXT] if isinstance(text, str) else "" for text in texts))


def _write(path: Path, value: object) -> None:
    """Complete, durable, and for the owner alone, or OSError."""
    draft = path.with_name(f"{path.name}.new")
    try:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            json.dump(value, file)
            file.flush()
            os.fsync(file.fileno())
        draft.rename(path)
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError:
        with contextlib.suppress(OSError):
            draft.unlink(missing_ok=True)
        raise
