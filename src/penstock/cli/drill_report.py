"""What a drill has measured, judged against what a stop promises, and written down for auditors."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from penstock.cli.drill_traffic import Party
from penstock.cli.output import CommandFailed, cell, printable


@dataclass(frozen=True)
class Stop:
    """The stop as this process saw it, in monotonic seconds: the kill's acknowledgement, and when every node was seen
    to have confirmed (None: not in time). `nodes`: as the admin API tells. `held`: calls of the leaked key that its
    limit still counts at the end."""

    generation: int
    acknowledged: float
    confirmed: float | None
    nodes: Sequence[Mapping[str, Any]]
    held: int = 0


@dataclass(frozen=True)
class Check:
    check: str
    required: str
    measured: str
    holds: bool


def judged(stop: Stop, leaked: Party, spared: Party, within_s: float) -> list[Check]:
    """Every promise, what was measured, and whether it holds. Times are from the acknowledgement of the kill."""
    bound = f"within {within_s * 1000:g} ms"
    admission, byte = last_admission_s(stop, leaked), last_byte_s(stop, leaked)
    endings = Counter(one.ending for one in leaked.streams)
    refusals = refusals_of(stop, leaked)
    told = stop.confirmed
    later = 0 if told is None else sum(call.status == 200 and call.sent_at > told for call in leaked.calls)
    missing = [str(node["node"]) for node in stop.nodes if node["state"] != "confirmed"]
    harmed = sum(call.status != 200 for call in spared.calls)
    goes_on = all(one.ending == "open" and one.last_at > stop.acknowledged + byte for one in spared.streams)
    return [
        Check("last admission with the leaked key", bound, _ms(admission), admission <= within_s),
        Check("last byte of its last stream", bound, _ms(byte), byte <= within_s),
        Check("its streams end with the stop's error event", "all", _counted(endings), set(endings) == {"killed"}),
        Check("its refusals", "403 killed, nothing else", _counted(refusals), set(refusals) == {"403 killed"}),
        Check(
            "confirmed by every node",
            f"{len(stop.nodes)} of {len(stop.nodes)}",
            f"missing: {', '.join(missing)}" if missing else f"all, seen {_ms((told or 0) - stop.acknowledged)} after",
            bool(stop.nodes) and not missing and told is not None,
        ),
        Check("admitted after the confirmation", "0", str(later), later == 0 and told is not None),
        Check("calls that the limit still counts", "0", str(stop.held), stop.held == 0),
        Check("another key's calls that failed", "0", f"{harmed} of {len(spared.calls)}", harmed == 0),
        Check("another key's stream", "goes on", "goes on" if goes_on else "was disturbed", goes_on),
    ]


def last_admission_s(stop: Stop, leaked: Party) -> float:
    """When the last call that was admitted had its answer: it was admitted no later. At least 0."""
    ends = [call.ended_at - stop.acknowledged for call in leaked.calls if call.status == 200]
    return max(0.0, *ends) if ends else 0.0


def last_byte_s(stop: Stop, leaked: Party) -> float:
    """When the last byte of any stream came. At least 0."""
    return max(0.0, *(one.last_at - stop.acknowledged for one in leaked.streams))


def refusals_of(stop: Stop, leaked: Party) -> Counter[str]:
    """How the calls that were answered after the acknowledgement were refused."""
    ended = (call for call in leaked.calls if call.ended_at > stop.acknowledged and call.status != 200)
    return Counter(f"{call.status} {call.code}" for call in ended)


def as_json(facts: Mapping[str, Any], stop: Stop, checks: Sequence[Check], left: Sequence[str]) -> dict[str, Any]:
    """The report's one shape. `left`: what could not be removed again, in sentences."""
    faults = [f"{check.check}: {check.measured} (required: {check.required})" for check in checks if not check.holds]
    return {
        **facts,
        "generation": stop.generation,
        "held": not faults and not left,
        "checks": [asdict(check) for check in checks],
        "nodes": [dict(node) for node in stop.nodes],
        "faults": faults,
        "left_behind": list(left),
    }


def write(folder: Path, report: Mapping[str, Any]) -> tuple[Path, Path]:
    """Writes `drill-<time>.md` and `.json`; where they are. Raises CommandFailed."""
    name = f"drill-{str(report['began_at']).replace(':', '-')}"
    places = folder / f"{name}.md", folder / f"{name}.json"
    try:
        for place, text in zip(places, (_markdown(report), json.dumps(report, indent=2) + "\n"), strict=True):
            place.write_text(text)
    except OSError as error:
        raise CommandFailed(f"the report cannot be written to {folder}: {error.strerror}") from None
    return places


def _markdown(report: Mapping[str, Any]) -> str:
    verdict = "The stop held." if report["held"] else "THE STOP DID NOT HOLD."
    told = [
        f"# Drill: a leaked key is stopped, {report['began_at']}",
        "",
        f"{verdict} {report['scenario']}",
        "",
        *_table(("", ""), [(name, report[name]) for name in ("began_at", "ended_at", "by", "release", "data_plane")]),
        "",
        f"Kill {report['generation']}. Times are from the acknowledgement of the kill.",
        "",
        *_table(
            ("check", "required", "measured", "holds"),
            [(it["check"], it["required"], it["measured"], it["holds"]) for it in report["checks"]],
        ),
        "",
        *_table(
            ("node", "state", "confirmed at", "streams cut"),
            [(node["node"], node["state"], node["confirmed_at"], str(node["streams_cut"])) for node in report["nodes"]],
        ),
    ]
    for title, lines in (("Faults", report["faults"]), ("Left behind", report["left_behind"])):
        told += ["", f"## {title}", "", *(f"* {printable(line)}" for line in lines)] if lines else []
    return "\n".join(told) + "\n"


def _table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[str]:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return lines + ["| " + " | ".join(cell(value).replace("|", "\\|") for value in row) + " |" for row in rows]


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms"


def _counted(counts: Counter[Any]) -> str:
    return ", ".join(f"{count} {what}" for what, count in counts.most_common()) or "none"
