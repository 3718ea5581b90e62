"""Organisation, team, project, key: what a call counts for, which tags it must carry, and what stops it."""

from typing import Any

import pytest

from penstock.testing.lab import Lab, chat


def _made(lab: Lab, noun: str, **fields: Any) -> dict[str, Any]:
    answer = lab.gateway.admin("POST", f"/admin/v1/{noun}", fields)
    assert answer.status == 201, answer.body
    made: dict[str, Any] = answer.json()
    return made


@pytest.fixture(scope="module")
def tenants(shared_lab: Lab) -> dict[str, str]:
    """The secrets of keys of two organisations."""
    lab = shared_lab
    _made(lab, "organisations", name="acme")
    _made(lab, "teams", name="acme-search", organisation="acme", required_tags=["feature"])
    _made(
        lab,
        "teams",
        name="acme-mail",
        organisation="acme",
        required_tags=["feature", "owner"],
        tags_from={"feature": "project", "owner": "user"},
    )
    _made(lab, "projects", name="digest", team="acme-mail", environment="staging")
    _made(lab, "users", name="ana@acme.test")
    return {
        key: _made(lab, "keys", name=key, **fields)["secret"]
        for key, fields in {
            "acme-plain": {"team": "acme-search"},
            "acme-listed": {"team": "acme-search", "allowed_tags": {"feature": ["search", "chat"]}},
            "acme-pinned": {"team": "acme-search", "tags": {"feature": "search"}},
            "acme-owned": {"project": "digest", "user": "ana@acme.test"},
            "acme-nobody": {"project": "digest"},
        }.items()
    }


def _call(lab: Lab, secret: str, tags: str = "") -> Any:
    headers = {"x-penstock-tags": tags} if tags else {}
    return lab.gateway.caller(secret).post("/v1/chat/completions", chat(), headers)


def test_a_call_without_a_tag_that_its_team_requires_is_refused(lab: Lab, tenants: dict[str, str]) -> None:
    refused = _call(lab, tenants["acme-plain"])
    assert (refused.status, refused.error["code"]) == (400, "invalid_request")
    assert "feature" in refused.error["message"] and not lab.provider.received
    assert _call(lab, tenants["acme-plain"], "feature=search").status == 200


def test_a_key_lists_the_values_that_a_tag_may_have(lab: Lab, tenants: dict[str, str]) -> None:
    assert _call(lab, tenants["acme-listed"], "feature=chat").status == 200
    refused = _call(lab, tenants["acme-listed"], "feature=mail")
    assert (refused.status, refused.error["code"]) == (403, "not_permitted")
    assert "'search', 'chat'" in refused.error["message"]


def test_what_a_key_pins_is_there_without_the_caller_and_against_it(lab: Lab, tenants: dict[str, str]) -> None:
    answer = _call(lab, tenants["acme-pinned"])
    assert answer.status == 200
    assert lab.gateway.receipt(answer.request_id)["tags"] == {"feature": "search"}
    assert _call(lab, tenants["acme-pinned"], "feature=chat").status == 403


def test_an_untagged_call_is_tagged_from_the_keys_own_attributes(lab: Lab, tenants: dict[str, str]) -> None:
    answer = _call(lab, tenants["acme-owned"])
    assert answer.status == 200
    receipt = lab.gateway.receipt(answer.request_id)
    assert receipt["tags"] == {"feature": "digest", "owner": "ana@acme.test"}
    assert (receipt["organisation"], receipt["team"], receipt["environment"]) == ("acme", "acme-mail", "staging")
    told = _call(lab, tenants["acme-owned"], "feature=weekly")
    assert lab.gateway.receipt(told.request_id)["tags"]["feature"] == "weekly", "the caller's word goes first"
    refused = _call(lab, tenants["acme-nobody"])
    assert refused.status == 400 and "owner" in refused.error["message"], "a key without a user has none to lend"


def test_limits_usage_and_kills_know_organisations_apart(lab: Lab, tenants: dict[str, str]) -> None:
    _made(lab, "limits", name="acme-calls", match={"organisation": "acme"}, unit="requests", amount=1000, per="total")
    assert _call(lab, tenants["acme-pinned"]).status == 200
    assert lab.chat("outsider").status == 200
    assert lab.gateway.settled("acme-calls") == 1
    usage = lab.gateway.admin("GET", "/admin/v1/usage?by=organisation").json()["rows"]
    assert {row["organisation"] for row in usage} >= {"acme", "default"}
    scope = {"scope": {"organisation": "acme"}, "reason": "a tenant asks for it"}
    generation = lab.gateway.admin("POST", "/admin/v1/kill", scope).json()["generation"]
    try:
        assert _call(lab, tenants["acme-pinned"]).error["code"] == "killed"
        assert lab.chat("outsider").status == 200
    finally:
        lifted = lab.gateway.admin("DELETE", f"/admin/v1/kill/{generation}", {"reason": "they ask for it again"})
        assert lifted.status == 200
    unknown = lab.gateway.admin("POST", "/admin/v1/kill", {"scope": {"organisation": "acmee"}, "reason": "a typo"})
    assert unknown.status == 422


def test_an_organisation_with_teams_cannot_be_deleted_nor_can_the_first_one(lab: Lab, tenants: dict[str, str]) -> None:
    assert tenants
    used = lab.gateway.admin("DELETE", "/admin/v1/organisations/acme")
    assert used.status == 409 and "acme-mail" in used.json()["detail"]
    assert lab.gateway.admin("DELETE", "/admin/v1/organisations/default").status == 409
    listed = lab.gateway.run("organisation", "list")
    assert listed.returncode == 0 and "acme" in listed.stdout and "default" in listed.stdout
