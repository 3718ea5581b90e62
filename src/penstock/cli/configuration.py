"""`penstock diff`, `penstock apply` and `penstock config`: the declared configuration of a running gateway."""

from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
import yaml

from penstock.cli.admin_client import ROOT, AdminClient
from penstock.cli.options import ConfigFile, Json, config_file
from penstock.cli.output import cell, print_fields, print_json, print_line, print_table, remark
from penstock.config.loading import load

PLAN = ("action", "kind", "name", "changes")
HISTORY = ("version", "applied_at", "how", "by", "node", "changes", "digest")
DIGEST_SHOWN = 12

DryRun = Annotated[bool, typer.Option("--dry-run", help="Print what would change, and change nothing.")]
Version = Annotated[int, typer.Argument(metavar="VERSION", min=1, help="Its number in the history.")]

app = typer.Typer(help="The versions of the declared configuration.", add_completion=False, no_args_is_help=True)


def diff(
    config: ConfigFile = None,
    exit_code: Annotated[bool, typer.Option("--exit-code", help="Exit with 1 where there are differences.")] = False,
    as_json: Json = False,
) -> None:
    """Show what applying a configuration file to the running gateway would change."""
    outcome = _asked("/config/apply", _read(config_file(config)), dry_run=True)
    _print(outcome, as_json)
    if exit_code and outcome["steps"]:
        raise typer.Exit(1)


def apply(config: ConfigFile = None, dry_run: DryRun = False, as_json: Json = False) -> None:
    """Put a configuration file in force on the running gateway: all of it in one transaction, or nothing."""
    _plan_and_change("/config/apply", _read(config_file(config)), dry_run, as_json)


@app.command(epilog="Example: penstock config history")
def history(as_json: Json = False) -> None:
    """List the versions that were applied, the newest first."""
    versions = list(AdminClient.from_environment().items("/config"))
    if as_json:
        print_json(versions)
        return
    print_table(HISTORY, [[_shown_of(version)[column] for column in HISTORY] for version in versions])


@app.command(epilog="Example: penstock config show 1")
def show(version: Version, as_json: Json = False) -> None:
    """Print what a version declared, as a configuration file."""
    client = AdminClient.from_environment()
    found = client.get(f"/config/{version}")
    if as_json:
        print_json(found)
        return
    if found["document"] is None:
        print_fields(_shown_of(found))
        return
    # Once more, with numbers as they were written: what is printed can be applied.
    _, content = client.exchange("GET", f"{ROOT}/config/{version}")
    document = msgspec.json.Decoder(float_hook=Decimal).decode(content)["document"]
    print_line(to_yaml(document).rstrip())


@app.command(epilog="Example: penstock config rollback 1 --dry-run")
def rollback(version: Version, dry_run: DryRun = False, as_json: Json = False) -> None:
    """Put a version in force again, as a new version."""
    _plan_and_change(f"/config/{version}/rollback", None, dry_run, as_json)


def to_yaml(document: Mapping[str, Any]) -> str:
    """The text of a configuration file, one object per line where it fits."""
    return yaml.dump(document, Dumper=_Dumper, sort_keys=False, default_flow_style=None, width=120, allow_unicode=True)


class _Dumper(yaml.SafeDumper):
    """Decimals as they were written: a float would lose digits, or come out with an exponent."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _exact(dumper: yaml.SafeDumper, number: Decimal) -> yaml.Node:
    text = format(number, "f")
    return dumper.represent_scalar(f"tag:yaml.org,2002:{'float' if '.' in text else 'int'}", text)


_Dumper.add_representer(Decimal, _exact)


def _read(path: Path) -> bytes:
    """The file's bytes, once it has no fault: those are told here, with the name that it has here."""
    load(path)
    return path.read_bytes()


def _plan_and_change(path: str, content: bytes | None, dry_run: bool, as_json: bool) -> None:
    """Prints the plan, then changes what was planned, or nothing when somebody else was faster."""
    plan = _asked(path, content, dry_run=True)
    if dry_run or not plan["new_version"]:
        _print(plan, as_json)
        return
    if not as_json:
        _print(plan, as_json)
    done = _asked(path, content, base=plan["base"])
    if as_json:
        print_json(done)
    else:
        print_line(f"version {done['version']} is in force")


def _asked(path: str, content: bytes | None, dry_run: bool = False, base: int | None = None) -> dict[str, Any]:
    query = {"dry_run": "true"} if dry_run else {"base": str(base)}
    outcome: dict[str, Any] = AdminClient.from_environment().call("POST", path, content, query)
    return outcome


def _print(outcome: Mapping[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(outcome)
        return
    for note in outcome["notes"]:
        remark(f"note: {note}")
    if not outcome["steps"]:
        print_line("no object changes")
        return
    print_table(PLAN, [[it["action"], it["kind"], it["name"], _changes(it)] for it in outcome["steps"]])
    counts = [sum(it["action"] == action for it in outcome["steps"]) for action in ("create", "update", "delete")]
    print_line("{} to create, {} to update, {} to delete".format(*counts))


def _changes(step: Mapping[str, Any]) -> str:
    """`amount: 100 -> 50` for each field of an update, `amount=100` for each of what is new."""
    if step["action"] == "create":
        return ", ".join(f"{name}={cell(after)}" for name, (_, after) in step["fields"].items() if name != "name")
    return ", ".join(f"{name}: {cell(before)} -> {cell(after)}" for name, (before, after) in step["fields"].items())


def _shown_of(version: Mapping[str, Any]) -> dict[str, Any]:
    """A version as a line of the history."""
    how = version["how"] if version["restores"] is None else f"{version['how']} to {version['restores']}"
    return {**version, "how": how, "changes": len(version["changes"]), "digest": version["digest"][:DIGEST_SHOWN]}
