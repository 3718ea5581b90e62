"""Exchanges for tokens in the audit log."""

from typing import Any

from msgspec import structs

from penstock.control import audit, exchanges
from penstock.control.paging import Page
from penstock.domain.access import Reach
from penstock.domain.trust import Exchanged

ONE = Exchanged("tok_1", "ci", "growth", "search", "search", 1_790_000_600, address="192.0.2.7", request_id="req_1")


async def test_those_that_are_alike_share_a_record_and_others_have_their_own(plane: Any) -> None:
    again = structs.replace(ONE, token="tok_2", request_id="req_2", expires_at=1_790_000_700)
    narrow = structs.replace(ONE, token="tok_3", models=("gpt-4.1",))
    workload = structs.replace(ONE, token="tok_4", act="github|repo:acme/search", key="search-ci")
    await plane.change(exchanges.record, [ONE, narrow, again, workload])
    async with plane.door.read() as conn:
        rows = (await audit.list_page(conn, Page(), "exchange")).items
        for reach, count in ((Reach(projects={"search": "growth"}), 3), (Reach(teams=frozenset({"other"})), 0)):
            assert len((await audit.list_page(conn, Page(), "exchange", reach=reach)).items) == count
    found = {tuple(row["after"]["tokens"]): row for row in rows}
    assert found.keys() == {("tok_1", "tok_2"), ("tok_3",), ("tok_4",)}
    shared = found["tok_1", "tok_2"]
    assert (shared["action"], shared["name"], shared["after"]["count"]) == ("exchange", "ci", 2)
    assert (shared["actor"], shared["actor_kind"], shared["address"]) == ("ci", "key", "192.0.2.7")
    assert shared["after"]["expires_at"] == "2026-09-21T14:25:00Z"
    assert (found["tok_4",]["actor"], found["tok_4",]["actor_kind"]) == ("github|repo:acme/search", "workload")
