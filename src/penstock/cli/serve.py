"""`penstock serve`: validate the file, then become the supervisor of the control process and the workers."""

from typing import Annotated

import typer

from penstock.cli.options import ConfigFile, config_file
from penstock.cli.output import remark
from penstock.cli.start import Start, become_supervisor
from penstock.config.loading import load
from penstock.config.place import MAX_WORKERS, Place
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
        server = load(path, require_secrets=True).server
    except ConfigFaults as error:
        for fault in error.faults:
            remark(fault)
        raise typer.Exit(EXIT_FAULTY) from None
    become_supervisor(Start(path, Place(server.listen, server.data, workers or server.workers)))
