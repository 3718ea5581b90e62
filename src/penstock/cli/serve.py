"""`penstock serve`: validate the file, then become the supervisor of the control process and the workers."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from penstock.cli.options import ConfigFile, config_file
from penstock.cli.output import remark
from penstock.config.environment import Environment
from penstock.config.loading import load
from penstock.config.settings import MAX_WORKERS
from penstock.errors import ConfigFaults

EXIT_FAULTY = 2


def serve(
    config: ConfigFile = None,
    workers: Annotated[
        int | None,
        typer.Option(help="How many worker processes (default: `server.workers`).", min=1, max=MAX_WORKERS),
    ] = None,
) -> None:
    """Serve the data plane and the admin API as the configuration file says."""
    path = config_file(config)
    try:
        found = load(path, require_secrets=True)
    except ConfigFaults as error:
        for fault in error.faults:
            remark(fault)
        raise typer.Exit(EXIT_FAULTY) from None
    data = Environment.read().data or Path(found.server.data)
    # The supervisor takes this process's place, so that none of the validation's memory stays. -P: no module of the
    # directory in which an operator happens to stand is imported.
    words = ["-P", "-m", "penstock.app.supervisor", "--config", str(path), "--data", str(data)]
    words += ["--listen", found.server.listen, "--workers", str(workers or found.server.workers)]
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, *words])  # noqa: S606 - our own interpreter and words
