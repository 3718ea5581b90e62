"""Models as each vendor's clients list them: bounds, deprecation, pages and bad parameters."""

import json
from typing import Any

import pytest

from penstock.domain.snapshot import Alias, Deployment
from penstock.errors import InvalidRequest, ModelNotFound
from penstock.surfaces.models import asked_for, told

NOW_S = 1_795_200_000.0
OLD = Alias("old", (Deployment("lab", "m", None, 8_192, 128_000),), warn_at=NOW_S - 1, end_at=NOW_S + 86_400)
NEW = Alias("org/new", (Deployment("lab", "m", None, 8_192, 128_000),), max_output=100, warn_at=NOW_S + 1)
BARE = Alias("bare/*")


def _told(path: str, headers: dict[str, str] | None = None) -> Any:
    asked = asked_for(path.partition("?")[0], path, headers or {})
    assert asked is not None
    return json.loads(told(asked, [NEW, OLD, BARE], NOW_S))


def test_anthropics_clients_are_told_of_bounds_and_of_deprecation() -> None:
    bare, old, new = _told("/v1/models", {"anthropic-version": "2023-06-01"})["data"]
    assert (bare["max_input_tokens"], bare["max_tokens"], bare["lifecycle"]) == (None, None, "active")
    assert (old["max_input_tokens"], old["max_tokens"], old["lifecycle"]) == (128_000, 8_192, "deprecated")
    assert (old["deprecated_at"], old["retires_at"]) == ("2026-11-20T18:39:59Z", "2026-11-21T18:40:00Z")
    assert (new["max_tokens"], new["lifecycle"], new["deprecated_at"]) == (100, "active", None)


def test_googles_clients_are_told_of_bounds_where_they_are_known() -> None:
    bare, old, _ = _told("/v1beta/models")["models"]
    assert "inputTokenLimit" not in bare
    assert (old["name"], old["inputTokenLimit"], old["outputTokenLimit"]) == ("models/old", 128_000, 8_192)


def test_a_page_says_whether_there_is_another() -> None:
    pages = [_told(f"/v1/models?limit=2{after}", {"anthropic-version": "x"}) for after in ("", "&after_id=old")]
    assert [(page["has_more"], page["first_id"], page["last_id"]) for page in pages] == [
        (True, "bare/*", "old"),
        (False, "org/new", "org/new"),
    ]
    assert _told("/v1beta/models?pageSize=2")["nextPageToken"] == "old"
    assert "nextPageToken" not in _told("/v1beta/models?pageToken=old&=old")
    assert len(_told("/v1beta/models?=bare")["models"]) == 3
    assert _told("/cohere/v1/models?page_size=1")["next_page_token"] == "bare/*"
    assert _told("/v1/models", {"anthropic-version": "x"})["has_more"] is False
    assert len(_told("/v1/models?limit=1&=old")["data"]) == 3, "OpenAI has no pages"


def test_anthropics_clients_can_page_back() -> None:
    pages = [_told(f"/v1/models?limit=1&before_id={name}", {"anthropic-version": "x"}) for name in ("org/new", "old")]
    assert [(page["has_more"], page["first_id"]) for page in pages] == [(True, "old"), (False, "bare/*")]


def test_a_name_may_have_slashes() -> None:
    assert _told("/v1/models/org/new")["id"] == "org/new"
    assert _told("/v1beta/models/org/new")["name"] == "models/org/new"
    with pytest.raises(ModelNotFound):
        _told("/v1/models/org")


@pytest.mark.parametrize("size", ["0", "-1", "many", "1.5", "\u0661"])
def test_a_size_that_is_no_number_is_refused(size: str) -> None:
    with pytest.raises(InvalidRequest, match="'pageSize'"):
        _told(f"/v1beta/models?pageSize={size}")


@pytest.mark.parametrize("path", ["/v1/model", "/v2/models", "/v1/modelsx", "/models"])
def test_other_paths_are_not_about_models(path: str) -> None:
    assert asked_for(path, path, {}) is None
