"""`penstock check`: validate a configuration file without starting anything."""

import typer

from penstock.cli.options import ConfigFile, Json, config_file
from penstock.cli.output import print_json, print_line, remark
from penstock.config.advice import advise
from penstock.config.loading import load
from penstock.config.settings import OBJECTS, Config
from penstock.errors import ConfigFaults

EXIT_FAULTY = 2


def check(config: ConfigFile = None, as_json: Json = False) -> None:
    """Validate a configuration file: exit 2 with one line per fault, each with its place in the file."""
    path = config_file(config)
    try:
        found = load(path)
    except ConfigFaults as error:
        if as_json:
            print_json({"faults": list(error.faults), "warnings": []})
        for fault in error.faults:
            remark(fault)
        raise typer.Exit(EXIT_FAULTY) from None
    warnings = advise(found)
    if as_json:
        print_json({"faults": [], "warnings": warnings})
        return
    for warning in warnings:
        remark(f"warning: {warning}")
    print_line(f"ok: {_counts(found)}")


def _counts(config: Config) -> str:
    counts = [(len(getattr(config, section)), section) for section in OBJECTS]
    return ", ".join(f"{count} {section if count != 1 else section[:-1]}" for count, section in counts)
