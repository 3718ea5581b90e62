"""Exchanges for tokens, in the audit log: who got one, with what, from where, and for how long.

Those that differ in nothing but their time are one record with the ids of all of them, where they are written together.
"""

from collections.abc import Sequence
from dataclasses import replace

import msgspec

from penstock.control import audit
from penstock.control.actor import Actor, Kind
from penstock.control.write import Write
from penstock.domain.access import Tenant
from penstock.domain.trust import Exchanged
from penstock.records.receipts import rfc3339

KIND = "exchange"
MAX_ACTOR = 128
MAX_IDS = 100
"""Of so many tokens the ids are kept; the rest are counted."""


async def record(write: Write, made: Sequence[Exchanged]) -> None:
    alike: dict[Exchanged, list[Exchanged]] = {}
    for each in made:
        alike.setdefault(msgspec.structs.replace(each, token="", expires_at=0, request_id=""), []).append(each)
    for common, those in alike.items():
        kind: Kind = "workload" if common.act else "key"
        who = (common.act or common.key)[:MAX_ACTOR]
        actor = Actor(who, kind, address=common.address, request_id=those[0].request_id)
        after = {
            "tokens": [each.token for each in those[:MAX_IDS]],
            "count": len(those),
            "project": common.project,
            "user": common.user,
            "models": list(common.models),
            "surfaces": list(common.surfaces),
            "workload": common.act,
            "expires_at": rfc3339(max(each.expires_at for each in those) * 10**9),
        }
        about = audit.About(KIND, common.key, Tenant(common.team, common.key_project))
        await audit.record(replace(write, by=actor), "exchange", about, None, after)
