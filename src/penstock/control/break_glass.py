"""What the audit log says of the break-glass file, which works without it: told afterwards, each stop and lift once."""

from typing import Any

from sqlalchemy import select

from penstock.control import audit
from penstock.control.write import Write
from penstock.store.tables.control import audit as rows

ACTOR = "system:break-glass"
"""Who the gateway is in the audit log when it tells of the file. Who made it stands in the picture."""
KIND = "break_glass"
BY_HAND = {"at": "", "by": "", "reason": "the file was taken away by hand"}

Mark = dict[str, Any]


async def tell(write: Write, node: str, pulled: Mark | None, last: tuple[Mark, Mark] | None) -> int:
    """Brings the log up to what the data directory of box `node` says: the stop in force, and the last one that was
    lifted with a word. Marks are `{at, by, reason}`. Returns how many rows that took."""
    query = select(rows).where(rows.c.kind == KIND, rows.c.name == node).order_by(rows.c.seq.desc()).limit(1)
    newest = (await write.conn.execute(query)).mappings().first()
    is_open = newest is not None and newest["action"] == "raise"
    known: Mark | None = None
    if newest is not None:
        known = newest["after"] if is_open else newest["before"]
    steps: list[tuple[str, Mark | None, Mark | None]] = []
    if last is not None and last[0] != known and last[1]["at"] > _latest(newest):
        if is_open:
            steps.append(("lift", known, BY_HAND))
        steps.append(("raise", None, last[0]))
        known, is_open = last[0], True
    if is_open and known != pulled:
        steps.append(("lift", known, last[1] if last is not None and last[0] == known else BY_HAND))
        is_open = False
    if pulled is not None and not is_open:
        steps.append(("raise", None, pulled))
    for action, before, after in steps:
        await audit.record(write, action, (KIND, node), before, after)
    return len(steps)


def _latest(newest: Any) -> str:
    """When what the newest row tells of happened; a lift by hand has no moment, and counts as its stop's."""
    if newest is None:
        return ""
    moments = [picture["at"] for picture in (newest["before"], newest["after"]) if picture]
    return str(max(moments))
