"""A start without delay: `penstock serve` becomes the supervisor before the parser of commands is loaded.

That, and the models of the file, take longer to load than all else that a start has to wait for, and a box that has
crashed refuses calls meanwhile. The control process checks the file in any case; its faults end the whole. Words or a
file that are not plainly right go to the command `serve`, which says what is wrong with them.
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, NoReturn

from penstock.config.paths import named_config, named_data
from penstock.config.place import Place, is_count_of_workers, place_in


class Start(NamedTuple):
    """What a start takes: the configuration file, and where the gateway stands."""

    config: Path
    place: Place


def start_if_plain(words: Sequence[str]) -> None:
    """Returns where these words after `serve`, or their file, have to be looked at."""
    start = plain_start(words)
    if start is not None:
        become_supervisor(start)


def plain_start(words: Sequence[str]) -> Start | None:
    """Of options with a value each; None for any other words, or a file that has to be looked at."""
    if len(words) % 2:
        return None
    given = dict(zip(words[::2], words[1::2], strict=True))
    named = given.pop("-c", None) or given.pop("--config", None)
    workers = given.pop("--workers", None)
    config = Path(named) if named else named_config()
    if given or config is None:
        return None
    try:
        place = place_in(config.read_bytes())
    except OSError:
        return None
    if place is not None and workers is not None:
        place = place._replace(workers=int(workers)) if _is_count(workers) else None
    return None if place is None else Start(config, place)


def _is_count(text: str) -> bool:
    return text.isascii() and text.isdigit() and is_count_of_workers(int(text[:6]))


def become_supervisor(start: Start) -> NoReturn:
    """The supervisor takes this process's place, so that none of its memory stays. -P: no module of the directory in
    which an operator happens to stand is imported."""
    config, (listen, data, workers) = start
    words = ["-P", "-m", "penstock.app.supervisor", "--config", str(config)]
    words += ["--data", str(named_data() or Path(data)), "--listen", listen, "--workers", str(workers)]
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, *words])  # noqa: S606 - our own interpreter and words
