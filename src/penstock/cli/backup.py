"""`penstock backup` and `penstock restore`: the data directory of this box, copied and put back."""

from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from penstock.cli.options import Json
from penstock.cli.output import CommandFailed, error_console, print_json, print_line, remark
from penstock.config.environment import DEFAULT_DATA, Environment
from penstock.control.backup import SECRETS, Manifest, back_up
from penstock.control.backup import restore as put_back

Data = Annotated[
    Path | None, typer.Option(metavar="DIR", help="The data directory (default: PENSTOCK_DATA, else ./data).")
]


def backup(
    target: Annotated[Path, typer.Argument(metavar="DIR", help="Where to; empty or not there.", show_default=False)],
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Back up store, journals and secrets of this box, consistently, while the gateway runs or not."""
    source = _data(data)
    console = error_console()
    with console.status("copying the data directory") if console.is_terminal else nullcontext():
        manifest = back_up(source, target)
    if as_json:
        print_json(_shown(manifest))
        return
    print_line(f"ok: {source} is backed up in {target}: {_counts(manifest)}")
    if SECRETS[0] not in manifest.files:
        remark("the root secret is not in the backup, since PENSTOCK_SECRET gives it: keep that too")


def restore(
    source: Annotated[Path, typer.Argument(metavar="DIR", help="A backup.", show_default=False)],
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Put a backup back as the data directory of this box, which must be empty, and verify it."""
    target = _data(data)
    console = error_console()
    with console.status("putting the backup back") if console.is_terminal else nullcontext():
        manifest, faults = put_back(source, target)
    if as_json:
        print_json({**_shown(manifest), "faults": [{"kind": fault.kind, "detail": fault.detail} for fault in faults]})
    else:
        print_line(f"ok: {target} is as of {manifest.made_at}: {_counts(manifest)}")
    if faults:
        raise CommandFailed(f"the ledger had faults when it was backed up: {faults[0].kind}: {faults[0].detail}")


def _data(given: Path | None) -> Path:
    return given or Environment.read().data or DEFAULT_DATA


def _counts(manifest: Manifest) -> str:
    count = len(manifest.files)
    size = sum(kept.size for kept in manifest.files.values())
    return f"{count} file{'' if count == 1 else 's'}, {size / 2**20:.1f} MiB, schema {manifest.revision}"


def _shown(manifest: Manifest) -> dict[str, object]:
    sizes = {name: kept.size for name, kept in manifest.files.items()}
    return {
        "release": manifest.release,
        "revision": manifest.revision,
        "made_at": manifest.made_at,
        "files": sizes,
        "digest": manifest.digest,
    }
