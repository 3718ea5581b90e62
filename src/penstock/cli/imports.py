"""`penstock import`: configuration from elsewhere."""

from pathlib import Path
from typing import Annotated

import typer

from penstock.cli.configuration import to_yaml
from penstock.cli.output import CommandFailed, print_line, remark
from penstock.config.litellm.convert import MAX_BYTES, convert
from penstock.config.litellm.notes import Note
from penstock.config.loading import parse
from penstock.errors import ConfigError, ConfigFaults

app = typer.Typer(help="Configuration from elsewhere.", add_completion=False, no_args_is_help=True)


@app.callback()
def imports() -> None:
    """Read the configuration of another gateway."""


@app.command(epilog="Example: penstock import litellm config.yaml --output penstock.yaml")
def litellm(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The proxy's config.yaml.", show_default=False)],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="Write the file there (default: stdout).")
    ] = None,
    keys: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="What the proxy's /key/list?return_full_object=true answers, as JSON."),
    ] = None,
) -> None:
    """Turn the config.yaml of a LiteLLM proxy into a configuration file, and say what could not be carried."""
    try:
        imported = convert(_read(file), None if keys is None else _read(keys))
    except ConfigError as error:
        raise CommandFailed(f"{file}: {error}", 2) from None
    if not imported.document:
        raise CommandFailed(f"{file} has nothing that could be carried: is it a proxy's config.yaml?", 1)
    text = _remarks(file, imported.notes) + to_yaml(imported.document)
    try:
        parse(text.encode(), output or "penstock.yaml")
    except ConfigFaults as error:
        remark(f"penstock: what came out has faults, which are to be mended by hand:\n{error}")
    if output is None:
        print_line(text.rstrip())
    else:
        _write(output, text)
    for note in imported.notes:
        remark(note.line())
    counts = ", ".join(f"{len(objects)} {section}" for section, objects in imported.document.items())
    remark(f"carried: {counts}; not carried, or not just so: {len(imported.notes)} (listed above, and in the file)")


def _read(file: Path) -> bytes:
    try:
        with file.open("rb") as opened:
            return opened.read(MAX_BYTES + 1)
    except OSError as error:
        raise CommandFailed(f"{file} cannot be read: {error.strerror}", 2) from None


def _write(output: Path, text: str) -> None:
    """Never over a file that is there: it may be the one that serves."""
    try:
        with output.open("x", encoding="utf-8") as opened:
            opened.write(text)
    except FileExistsError:
        raise CommandFailed(f"{output} exists already: name another, or move it away") from None
    except OSError as error:
        raise CommandFailed(f"{output} cannot be written: {error.strerror}") from None


def _remarks(file: Path, notes: tuple[Note, ...]) -> str:
    lines = [f"from {file.name}, the configuration of a LiteLLM proxy"]
    lines += ["not carried, or not just so:"] if notes else []
    lines += [f"  {note.line()}" for note in notes]
    return "".join(f"# {' '.join(line.splitlines())}\n" for line in lines)
