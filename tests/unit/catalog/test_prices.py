from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import pytest

from penstock.catalog.prices import RELEASE, Catalog
from penstock.domain.money import PriceOverride
from penstock.domain.snapshot import Deployment, Provider

CATALOG = Catalog()
NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
OPENAI = Provider("main", "openai", "https://api.openai.com/v1")
LOCAL = Provider("lab", "compatible", "http://127.0.0.1:9001/v1")


def at(provider: Provider, model: str) -> Deployment:
    return CATALOG.deployment(provider, model, at=NOW)


def compatible(base_url: str) -> Provider:
    return Provider("p", "compatible", base_url)


def test_a_listed_model_has_its_price_its_bounds_and_where_they_come_from() -> None:
    deployment = at(OPENAI, "gpt-4.1-2025-04-14")
    assert deployment.provider == "main"
    assert deployment.model == "gpt-4.1-2025-04-14"
    assert deployment.price is not None
    assert deployment.price.version == f"{RELEASE} openai/gpt-4.1"
    assert deployment.price.rates["input"].base == 2_000_000_000
    assert deployment.price.rates["cache_read"].base == 500_000_000
    assert deployment.price.rates["output"].base == 8_000_000_000
    assert (deployment.max_output, deployment.context_window, deployment.image_tokens) == (32_768, 1_047_576, 1_445)


def test_a_class_without_a_listed_price_costs_what_it_is_a_kind_of() -> None:
    price = at(OPENAI, "gpt-4.1").price
    assert price is not None
    assert price.rates["audio_in"] == price.rates["input"]
    assert price.rates["audio_out"] == price.rates["output"]


def test_cache_writes_have_their_lifetimes() -> None:
    price = at(Provider("a", "anthropic", "https://api.anthropic.com"), "claude-haiku-4-5").price
    assert price is not None
    assert price.rates["cache_write:5m"].base == 1_250_000_000
    assert price.rates["cache_write:1h"].base == 2_000_000_000


def test_tiers_are_kept() -> None:
    price = at(
        Provider("g", "google", "https://generativelanguage.googleapis.com/v1beta/openai"), "gemini-2.5-pro"
    ).price
    assert price is not None
    assert price.rates["input"].at(200_000) == 1_250_000_000
    assert price.rates["input"].at(200_001) == 2_500_000_000


def test_a_charge_per_request_is_kept() -> None:
    price = at(compatible("https://api.perplexity.ai"), "sonar").price
    assert price is not None
    assert price.request_nanousd == 12_000_000


@pytest.mark.parametrize(
    ("base_url", "model", "listed"),
    [
        ("https://api.groq.com/openai/v1", "openai/gpt-oss-120b", "groq/openai/gpt-oss-120b"),
        ("https://API.OpenAI.com/v1", "gpt-4o-mini", "openai/gpt-4o-mini"),
        ("https://openrouter.ai/api/v1", "openai/gpt-4.1", "openrouter/openai/gpt-4.1"),
        ("https://acme.openai.azure.com/openai/v1", "gpt-4o", "azure/gpt-4o"),
        (
            "https://generativelanguage.googleapis.com/v1beta/openai",
            "models/gemini-2.5-flash",
            "google/gemini-2.5-flash",
        ),
    ],
)
def test_a_compatible_provider_is_known_by_its_address(base_url: str, model: str, listed: str) -> None:
    price = at(compatible(base_url), model).price
    assert price is not None
    assert price.version == f"{RELEASE} {listed}"


def test_the_address_says_more_than_the_kind() -> None:
    price = at(Provider("p", "openai", "https://api.groq.com/openai/v1"), "openai/gpt-oss-20b").price
    assert price is not None
    assert price.version.endswith("groq/openai/gpt-oss-20b")


def test_a_vendor_s_kind_is_priced_behind_an_address_of_one_s_own() -> None:
    price = at(Provider("p", "xai", "https://proxy.example/v1"), "grok-4.7").price
    assert price is not None
    assert price.version.endswith("x-ai/grok-4.7")


@pytest.mark.parametrize("kind", ["compatible", "simulated"])
def test_a_model_at_an_unknown_address_has_bounds_but_no_price(kind: str) -> None:
    deployment = at(Provider("lab", kind, "http://127.0.0.1:9001/v1"), "gpt-4.1-2025-04-14")
    assert deployment.price is None
    assert deployment.max_output == 32_768


def test_a_model_that_is_not_listed_has_no_price_and_no_bound() -> None:
    assert at(OPENAI, "gpt-99") == Deployment("main", "gpt-99")


@pytest.mark.parametrize(
    ("provider", "model"),
    [
        (OPENAI, "whisper-1"),
        (OPENAI, "tts-1"),
        (compatible("https://openrouter.ai/api/v1"), "deepseek/deepseek-r1:free"),
        (compatible("https://api.mistral.ai/v1"), "mistral-ocr-2512"),
    ],
)
def test_a_model_priced_in_other_meters_or_not_at_all_is_unknown_and_not_free(provider: Provider, model: str) -> None:
    assert at(provider, model).price is None


def test_the_operator_s_price_replaces_the_list_s_entirely() -> None:
    override = PriceOverride(input=Decimal(1), output=Decimal(2))
    deployment = CATALOG.deployment(OPENAI, "gpt-4.1", at=NOW, override=override, max_output=100)
    assert deployment.price is not None
    assert deployment.price.version.startswith("override:")
    assert deployment.price.rates["cache_read"].base == 1_000_000_000
    assert deployment.max_output == 100
    assert deployment.image_tokens == 1_445


def test_an_operator_can_price_a_model_at_an_unknown_address() -> None:
    override = PriceOverride(input=Decimal(0), output=Decimal("0.5"))
    deployment = CATALOG.deployment(LOCAL, "llama", at=NOW, override=override)
    assert deployment.price is not None
    assert deployment.max_output is None


def test_most_prices_do_not_depend_on_time() -> None:
    assert CATALOG.next_change(OPENAI, "gpt-4.1", NOW) is None
    assert CATALOG.next_change(OPENAI, "gpt-99", NOW) is None
    assert CATALOG.next_change(LOCAL, "gpt-4.1", NOW) is None


def test_a_price_changes_on_the_day_it_starts() -> None:
    change = datetime(2025, 6, 10, tzinfo=UTC)
    just_before = change - timedelta(microseconds=1)
    assert CATALOG.next_change(OPENAI, "o3", datetime(2025, 6, 1, 5, tzinfo=UTC)) == change
    assert CATALOG.next_change(OPENAI, "o3", just_before) == change
    assert CATALOG.next_change(OPENAI, "o3", change) is None
    before, after = (CATALOG.deployment(OPENAI, "o3", at=moment).price for moment in (just_before, change))
    assert before is not None
    assert after is not None
    assert before.rates["input"].base == 10_000_000_000
    assert after.rates["input"].base == 2_000_000_000


def test_a_price_by_time_of_day_changes_at_every_edge_and_nowhere_else() -> None:
    deepseek = Provider("d", "deepseek", "https://api.deepseek.com")
    moment = datetime(2026, 11, 20, 0, 0, tzinfo=timezone(timedelta(hours=9)))
    card = CATALOG.deployment(deepseek, "deepseek-flash", at=moment).price
    edges = []
    while len(edges) < 8:
        change = CATALOG.next_change(deepseek, "deepseek-flash", moment)
        assert change is not None
        assert change > moment
        assert CATALOG.deployment(deepseek, "deepseek-flash", at=change - timedelta(microseconds=1)).price == card
        moment = change
        flipped = CATALOG.deployment(deepseek, "deepseek-flash", at=moment).price
        assert flipped != card
        card = flipped
        edges.append(moment.time().hour)
    assert sorted(set(edges)) == [1, 4, 6, 10]
