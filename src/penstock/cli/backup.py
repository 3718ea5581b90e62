"""`penstock backup` and `penstock restore`: store, journals and secrets of this box, copied and put back."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from penstock.cli.options import ConfigFile, Json
from penstock.cli.output import CommandFailed, error_console, print_json, print_line, remark
from penstock.config.environment import DEFAULT_DATA, Environment
from penstock.config.loading import load
from penstock.control.backup import SECRETS, Manifest, Place, back_up
from penstock.control.backup import restore as put_back
from penstock.store.dump import OnRows
from penstock.store.engine import database_url

Data = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR", help="The data directory (default: PENSTOCK_DATA, else the file's `server.data`, else ./data)."
    ),
]


def backup(
    target: Annotated[Path, typer.Argument(metavar="DIR", help="Where to; empty or not there.", show_default=False)],
    config: ConfigFile = None,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Back up store, journals and secrets of this box, consistently, while the gateway runs or not.

    Without a configuration file the store is the one in the data directory.
    """
    place = _place(config, data)
    with _progress("backing up") as on_rows:
        manifest = back_up(place, target, on_rows)
    if as_json:
        print_json(_shown(manifest))
        return
    print_line(f"ok: {_named(place)} is backed up in {target}: {_counts(manifest)}")
    if SECRETS[0] not in manifest.files:
        remark("the root secret is not in the backup, since PENSTOCK_SECRET gives it: keep that too")


def restore(
    source: Annotated[Path, typer.Argument(metavar="DIR", help="A backup.", show_default=False)],
    config: ConfigFile = None,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Put a backup back into an empty data directory and the empty store that the file names, and verify it.

    The store may be of another kind than the one that was backed up. Without a configuration file it is the one in the
    data directory.
    """
    place = _place(config, data)
    with _progress("putting the backup back") as on_rows:
        manifest, faults = put_back(source, place, on_rows)
    if as_json:
        print_json({**_shown(manifest), "faults": [{"kind": fault.kind, "detail": fault.detail} for fault in faults]})
    else:
        print_line(f"ok: {_named(place)} is as of {manifest.made_at}: {_counts(manifest)}")
    if faults:
        raise CommandFailed(f"the ledger had faults when it was backed up: {faults[0].kind}: {faults[0].detail}")


def _place(config: Path | None, data: Path | None) -> Place:
    environment = Environment.read()
    path = config or environment.config
    found = load(path) if path is not None else None
    directory = data or environment.data or (Path(found.server.data) if found else DEFAULT_DATA)
    return Place(directory, database_url(found.store if found else "sqlite", directory))


def _named(place: Place) -> str:
    return str(place.data) if place.file() else f"{place.data} with {place.store.render_as_string(hide_password=True)}"


@contextmanager
def _progress(doing: str) -> Iterator[OnRows]:
    """Says on a terminal which table is under way."""
    console = error_console()
    if not console.is_terminal:
        yield lambda _table, _count: None
        return
    with console.status(doing) as status:
        yield lambda table, count: status.update(f"{doing}: {table}, {count:,} rows")


def _counts(manifest: Manifest) -> str:
    files, rows = len(manifest.files), sum(manifest.rows.values())
    size = sum(kept.size for kept in manifest.files.values())
    return f"{rows:,} rows and {files} files, {size / 2**20:.1f} MiB, schema {manifest.revision}"


def _shown(manifest: Manifest) -> dict[str, object]:
    return {
        "release": manifest.release,
        "revision": manifest.revision,
        "store": manifest.store,
        "made_at": manifest.made_at,
        "rows": manifest.rows,
        "files": {name: kept.size for name, kept in manifest.files.items()},
        "digest": manifest.digest,
    }
