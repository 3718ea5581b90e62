"""`penstock kill`: stop calls, wait until every worker obeys, lift again."""

import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from penstock.app import break_glass as glass
from penstock.cli.admin_client import AdminClient
from penstock.cli.nouns import print_object
from penstock.cli.options import Json
from penstock.cli.output import CommandFailed, error_console, print_json, print_line, print_table, remark
from penstock.config.environment import DEFAULT_DATA, Environment

FIRST_POLL_S = 0.02
LONGEST_POLL_S = 0.5
DEFAULT_WAIT_S = 60.0
"""Longer than the default `stop.freshness`, after which a worker that cannot be reached refuses by itself."""

NODE_COLUMNS = ("node", "state", "confirmed_at", "streams_cut")

app = typer.Typer(
    invoke_without_command=True, add_completion=False, help="Stop calls: by key, team, project, ... or all of them."
)

Reason = Annotated[str, typer.Option(help="Why; it is kept with the kill.", show_default=False)]
BreakGlass = Annotated[
    bool, typer.Option("--break-glass", help="By a file in the data directory: works without admin API and database.")
]
Data = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="The data directory for --break-glass (default: PENSTOCK_DATA, else ./data)."),
]


def _scope_option(what: str) -> Any:
    return typer.Option(help=f"Stop the calls of this {what}.", show_default=False)


@app.callback(epilog="Example: penstock kill --team growth --reason 'key leaked'")
def kill(
    context: typer.Context,
    *,
    key: Annotated[str, _scope_option("key")] = "",
    team: Annotated[str, _scope_option("team")] = "",
    project: Annotated[str, _scope_option("project")] = "",
    organisation: Annotated[str, _scope_option("organisation")] = "",
    user: Annotated[str, _scope_option("user")] = "",
    customer: Annotated[str, _scope_option("customer")] = "",
    tag: Annotated[str, typer.Option(metavar="NAME=VALUE", help="Stop the calls with this tag.")] = "",
    provider: Annotated[str, _scope_option("provider")] = "",
    model: Annotated[str, _scope_option("model")] = "",
    everything: Annotated[bool, typer.Option("--all", help="Stop every call.")] = False,
    break_glass: BreakGlass = False,
    data: Data = None,
    reason: Reason = "",
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Return once the kill is durable.")] = False,
    wait_s: Annotated[
        float, typer.Option("--wait", metavar="SECONDS", min=0, help="How long to wait for every worker.")
    ] = DEFAULT_WAIT_S,
    as_json: Json = False,
) -> None:
    """Stop calls and wait until every worker obeys: new ones are refused, live streams are cut and settled."""
    named = {
        "key": key,
        "team": team,
        "project": project,
        "organisation": organisation,
        "user": user,
        "customer": customer,
        "tag": tag,
        "provider": provider,
        "model": model,
    }
    scope: dict[str, Any] = {dimension: value for dimension, value in named.items() if value}
    scope |= {"all": True} if everything else {}
    if context.invoked_subcommand is not None:
        if scope or reason or break_glass or data is not None:
            raise CommandFailed(f"`kill {context.invoked_subcommand}` takes its options after its name", 2)
        return
    if break_glass:
        if scope != {"all": True}:
            raise CommandFailed("the break-glass file stops everything: --break-glass --all", 2)
        _pull_glass(data, reason, as_json)
        return
    if data is not None:
        raise CommandFailed("--data belongs to --break-glass; other kills go to the admin API", 2)
    if len(scope) != 1:
        raise CommandFailed("name what to stop, once: --key, --team, --project, ... or --all", 2)
    if not reason.strip():
        raise CommandFailed("say why: --reason 'key leaked'", 2)
    _raise_kill(scope, reason, 0.0 if no_wait else wait_s, as_json)


@app.command("list", epilog="Example: penstock kill list --json")
def list_kills(as_json: Json = False) -> None:
    """List kills, the newest first, lifted ones included."""
    items = list(AdminClient.from_environment().items("/kills"))
    if as_json:
        print_json(items)
        return
    columns = ("generation", "scope", "reason", "by", "at", "lifted_at")
    print_table(columns, ([item.get(column) for column in columns] for item in items), right=("generation",))


@app.command(epilog="Example: penstock kill lift 7 --reason 'key replaced'")
def lift(
    generation: Annotated[int | None, typer.Argument(min=1, help="The kill's number.", show_default=False)] = None,
    *,
    reason: Reason,
    break_glass: BreakGlass = False,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Lift a kill, or take the break-glass file away: calls are admitted again."""
    if break_glass == (generation is not None):
        raise CommandFailed("name what to lift, once: the kill's number, or --break-glass", 2)
    if data is not None and not break_glass:
        raise CommandFailed("--data belongs to --break-glass; other kills are lifted through the admin API", 2)
    if break_glass:
        _lift_glass(data, reason, as_json)
        return
    lifted = AdminClient.from_environment().call("DELETE", f"/kill/{generation}", {"reason": reason})
    if as_json:
        print_object(lifted, as_json=True)
    else:
        print_line(f"kill {generation} is lifted")


def _pull_glass(data: Path | None, reason: str, as_json: bool) -> None:
    folder = _data(data)
    mark = glass.pull(folder, reason.strip())
    if as_json:
        print_json({"file": str(folder / glass.NAME), **asdict(mark)})
        return
    print_line(f"{folder / glass.NAME} is there since {mark.at}: every process of this box obeys it within a second")
    remark("other boxes have their own; lift it with: penstock kill lift --break-glass --reason ...")


def _lift_glass(data: Path | None, reason: str, as_json: bool) -> None:
    if not reason.strip():
        raise CommandFailed("say why: --reason 'the key is replaced'", 2)
    folder = _data(data)
    mark = glass.lift(folder, reason.strip())
    if as_json:
        print_json({"file": str(folder / glass.NAME), **asdict(mark)})
    else:
        print_line(f"{folder / glass.NAME} is gone: calls are admitted again; kills stay in force")


def _data(given: Path | None) -> Path:
    return given or Environment.read().data or DEFAULT_DATA


def _raise_kill(scope: Mapping[str, Any], reason: str, wait_s: float, as_json: bool) -> None:
    client = AdminClient.from_environment()
    generation = int(client.post("/kill", {"scope": scope, "reason": reason})["generation"])
    if wait_s == 0:
        if as_json:
            print_json({"generation": generation})
        else:
            print_line(f"kill {generation} is in force; `penstock kill list` shows it")
        return
    status = _wait(client, generation, wait_s)
    nodes = status["nodes"]
    if as_json:
        print_json(status)
    else:
        print_table(NODE_COLUMNS, ([node.get(column) for column in NODE_COLUMNS] for node in nodes), ("streams_cut",))
    pending = [str(node["node"]) for node in nodes if node["state"] != "confirmed"]
    if pending or not nodes:
        who = ", ".join(pending) or "no worker"
        raise CommandFailed(
            f"kill {generation} is in force, but after {wait_s:g} s it is not confirmed by everyone ({who}); "
            "a worker that cannot be reached refuses every call once `stop.freshness` has passed"
        )
    if not as_json:
        remark(f"kill {generation} is in force and confirmed by every worker")


def _wait(client: AdminClient, generation: int, wait_s: float) -> dict[str, Any]:
    """The kill's status once every worker has confirmed it, or as it is when the time is over."""
    deadline, pause_s = time.monotonic() + wait_s, FIRST_POLL_S
    console = error_console()
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(f"kill {generation} is in force; waiting for the workers")
        while True:
            status: dict[str, Any] = client.get(f"/kill/{generation}")
            nodes = status["nodes"]
            confirmed = sum(node["state"] == "confirmed" for node in nodes)
            if (nodes and confirmed == len(nodes)) or time.monotonic() >= deadline:
                return status
            progress.update(task, description=f"kill {generation}: {confirmed} of {len(nodes)} workers have confirmed")
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, LONGEST_POLL_S)
