"""What a file without faults becomes."""

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, TypeAdapter

from penstock.config.loading import load
from penstock.config.settings import SHAPES, Config, limit_name
from penstock.config.values import MAX_NAME, Name
from penstock.domain.http import Timeouts
from penstock.domain.snapshot import ServerSettings

GOLDENS = Path(__file__).parents[2] / "goldens" / "config"


@pytest.fixture(scope="module")
def full() -> Config:
    return load(GOLDENS / "valid_full.yaml")


def test_dollars_become_whole_nano_dollars_exactly(full: Config) -> None:
    amounts = {limit.name: limit.amount for limit in full.limits}
    assert amounts["growth-monthly"] == 100_000_000_000
    assert amounts["team-growth.each-customer.usd-day"] == 5
    assert amounts["key-ci.requests-minute"] == 600


def test_tags_of_a_match_are_dimensions_of_their_own(full: Config) -> None:
    limit = full.limits[3]
    assert limit.match == {"tag:feature": "search", "team": "growth"}
    assert limit.each == "tag:customer"


def test_a_limit_on_concurrency_has_no_window(full: Config) -> None:
    assert (full.limits[4].unit, full.limits[4].per, full.limits[4].mode) == ("concurrent", "total", "observe")


def test_durations_become_milliseconds(full: Config) -> None:
    assert full.providers[0].timeouts == Timeouts(300, 20_000, 1_500, 120_000)
    assert full.providers[1].timeouts == Timeouts()
    assert full.stop.freshness_ms == 20_000


def test_only_written_options_reach_the_simulated_provider(full: Config) -> None:
    assert full.providers[2].options == {"latency_ms": 5, "chunk_delay_ms": 1, "tokens": 12}


def test_prices_are_exact(full: Config) -> None:
    price = full.models[0].price
    assert price is not None
    assert (price.input, price.cache_read, price.request, price.audio_in) == (
        Decimal("2.00"),
        Decimal("0.50"),
        Decimal(0),
        None,
    )


def test_a_key_without_a_team_is_its_projects(full: Config) -> None:
    assert full.keys[0].team == "growth"
    assert full.keys[0].expires_at == datetime(2099, 12, 30, 22, tzinfo=UTC)


def test_a_wildcard_names_its_provider(full: Config) -> None:
    assert [model.wildcard for model in full.models] == [None, None, "openai"]


def test_the_worker_gets_its_listener_in_its_own_units(full: Config) -> None:
    assert full.server_settings() == ServerSettings(
        listen_host="127.0.0.1",
        listen_port=8080,
        max_body_bytes=16 * 2**20,
        header_read_timeout_ms=5_000,
        drain_timeout_ms=60_000,
        freshness_ms=20_000,
        max_concurrent_calls=500,
    )
    assert full.server.admin == "[::1]:8081"


def test_defaults_are_those_of_the_domain() -> None:
    assert load(GOLDENS / "valid_minimal.yaml").server_settings() == ServerSettings()


def test_the_digest_is_that_of_the_bytes(tmp_path: Path) -> None:
    one, other = tmp_path / "one.yaml", tmp_path / "other.yaml"
    one.write_text("store: sqlite\n")
    other.write_text("store: sqlite\n# a remark\n")
    assert load(one).digest == load(one).digest != load(other).digest


def test_anchors_share_what_they_name() -> None:
    config = load(GOLDENS / "valid_anchors.yaml")
    assert config.providers[0].timeouts == config.providers[1].timeouts == Timeouts(connect_ms=1_000, total_ms=600_000)
    assert config.providers[1].base_url == "http://127.0.0.1:9002/v1"


@given(
    st.dictionaries(st.sampled_from(["team", "key", "customer", "tag:feature"]), st.text(min_size=1, max_size=256)),
    st.sampled_from([None, "customer", "tag:feature"]),
)
def test_a_made_name_is_a_name_and_always_the_same(match: dict[str, str], each: str | None) -> None:
    made = limit_name(match, each, "usd", "day")
    assert made == limit_name(dict(reversed(match.items())), each, "usd", "day")
    assert TypeAdapter(Name).validate_python(made) == made
    assert len(made) <= MAX_NAME


def test_made_names_of_different_limits_differ() -> None:
    names = {limit_name({"customer": value}, None, "usd", "day") for value in ("a b", "a-b", "a/b", "a" * 200)}
    assert len(names) == 4


@pytest.mark.parametrize("shape", SHAPES.values(), ids=lambda shape: shape.__name__)
def test_every_shape_forbids_what_it_does_not_know(shape: type[BaseModel]) -> None:
    assert shape.model_config["extra"] == "forbid"
