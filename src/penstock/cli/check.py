"""`penstock check`: validate a configuration file without starting anything."""

from datetime import UTC, datetime

import typer

from penstock.catalog.prices import Catalog
from penstock.cli.options import ConfigFile, Json, config_file
from penstock.cli.output import print_json, print_line, remark
from penstock.config.advice import Output, Outputs, advise, declared_output
from penstock.config.loading import load
from penstock.config.settings import OBJECTS, Config, DeclaredModel
from penstock.domain.snapshot import Provider
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
    warnings = advise(found, _outputs(found))
    if as_json:
        print_json({"faults": [], "warnings": warnings})
        return
    for warning in warnings:
        remark(f"warning: {warning}")
    print_line(f"ok: {_counts(found)}")


def _outputs(config: Config) -> Outputs:
    """What the gateway knows of an alias's targets: what the file says, else what the catalogue does."""
    catalog, now = Catalog(), datetime.now(UTC)
    accounts = {it.name: Provider(it.name, it.kind, it.base_url) for it in config.providers}

    def of(model: DeclaredModel) -> list[Output]:
        (declared,) = declared_output(model)
        found = []
        for target in model.targets:
            listed = catalog.deployment(accounts[target.provider], target.model, at=now)
            rate = listed.price.rates.get("output") if listed.price else None
            price = declared.price_nanousd if rate is None or model.price is not None else rate.base
            found.append(Output(price, declared.most or listed.max_output))
        return found

    return of


def _counts(config: Config) -> str:
    counts = [(len(getattr(config, section)), section) for section in OBJECTS]
    return ", ".join(f"{count} {section if count != 1 else section[:-1]}" for count, section in counts)
