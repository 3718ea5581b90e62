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


def test_service_tiers_are_variants_under_the_names_that_answers_carry() -> None:
    price = at(OPENAI, "gpt-4.1").price
    assert price is not None
    assert {tier: rates["input"].base for tier, rates in price.variants.items()} == {
        "priority": 3_500_000_000,
        "fast": 3_500_000_000,
        "batch": 1_000_000_000,
    }
    claude = at(Provider("a", "anthropic", "https://api.anthropic.com"), "claude-opus-5").price
    assert claude is not None
    assert {tier: rates["cache_write:1h"].base for tier, rates in claude.variants.items()} == {
        "fast": 20_000_000_000,
        "batch": 5_000_000_000,
    }


def test_a_variant_has_every_rate_also_those_that_it_does_not_change() -> None:
    price = at(OPENAI, "o3").price
    assert price is not None
    assert price.variants["batch"].keys() == price.rates.keys()
    assert price.variants["batch"]["cache_read"] == price.rates["cache_read"]


def test_tiers_that_cost_the_standard_price_are_not_variants() -> None:
    for model in ("gpt-4.1", "gpt-5"):
        price = at(OPENAI, model).price
        assert price is not None
        assert "default" not in price.variants


def test_bedrock_charges_more_for_priority_and_less_for_flex_where_that_is_known() -> None:
    bedrock = Provider("aws", "bedrock", "https://bedrock-runtime.us-east-1.amazonaws.com")
    nova = at(bedrock, "amazon.nova-pro-v1:0").price
    assert nova is not None
    told = {tier: (rates["input"].base, rates["output"].base) for tier, rates in nova.variants.items()}
    assert (nova.rates["input"].base, nova.rates["output"].base) == (800_000_000, 3_200_000_000)
    assert told == {"priority": (1_400_000_000, 5_600_000_000), "flex": (400_000_000, 1_600_000_000)}
    assert nova.variants["priority"].keys() == nova.rates.keys()
    claude = at(bedrock, "us.anthropic.claude-sonnet-5").price
    assert claude is not None
    assert claude.variants == {}


def test_pictures_and_films_have_their_price_where_the_list_has_one() -> None:
    google = Provider("g", "google", "https://generativelanguage.googleapis.com")
    drawing, embedding = at(google, "gemini-2.5-flash-image").price, at(google, "gemini-embedding-2").price
    assert drawing is not None
    assert embedding is not None
    assert (drawing.rates["output"].base, drawing.rates["image_out"].base) == (2_500_000_000, 30_000_000_000)
    assert "image_in" not in drawing.rates
    told = {meter: embedding.rates[meter].base for meter in ("input", "image_in", "video_in")}
    assert told == {"input": 200_000_000, "image_in": 450_000_000, "video_in": 12_000_000_000}


def test_a_re_seller_without_a_price_of_its_own_does_not_get_its_maker_s_tiers() -> None:
    resold = at(compatible("https://acme.openai.azure.com/openai/v1"), "gpt-5.5-pro").price
    assert resold is not None
    assert resold.variants == {}
    own = at(OPENAI, "gpt-5.5-pro").price
    assert own is not None
    assert own.rates == resold.rates
    assert own.variants


def test_a_route_or_a_kind_of_search_is_not_a_service_tier() -> None:
    price = at(compatible("https://openrouter.ai/api/v1"), "mistralai/mistral-large-4-0").price
    assert price is not None
    assert price.variants == {}


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
    deployment = CATALOG.deployment(OPENAI, "gpt-4.1", at=NOW, override=override)
    assert deployment.price is not None
    assert deployment.price.version.startswith("override:")
    assert deployment.price.rates["cache_read"].base == 1_000_000_000
    assert deployment.image_tokens == 1_445


def test_the_operator_says_how_much_a_model_can_put_out_where_the_catalogue_does_not() -> None:
    assert CATALOG.deployment(OPENAI, "gpt-4.1", at=NOW, max_output=100).max_output == 32_768
    assert CATALOG.deployment(LOCAL, "llama", at=NOW, max_output=100).max_output == 100


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
    assert CATALOG.next_change(OPENAI, "o3", NOW) is None
    before, after = (CATALOG.deployment(OPENAI, "o3", at=moment).price for moment in (just_before, change))
    assert before is not None
    assert after is not None
    assert before.rates["input"].base == 10_000_000_000
    assert after.rates["input"].base == 2_000_000_000


def test_a_price_changes_on_the_day_that_a_service_tier_starts() -> None:
    start = datetime(2026, 10, 12, tzinfo=UTC)
    assert CATALOG.next_change(OPENAI, "gpt-4.1", start - timedelta(days=40)) == start
    before = CATALOG.deployment(OPENAI, "gpt-4.1", at=start - timedelta(microseconds=1)).price
    after = CATALOG.deployment(OPENAI, "gpt-4.1", at=start).price
    assert before is not None
    assert after is not None
    assert before.variants.keys() == set()
    assert after.variants.keys() == {"priority", "fast"}


def test_a_price_by_time_of_day_changes_at_every_edge_and_nowhere_else() -> None:
    deepseek = Provider("d", "deepseek", "https://api.deepseek.com")
    moment = datetime(2026, 11, 20, 0, 0, tzinfo=timezone(timedelta(hours=9)))
    card = CATALOG.deployment(deepseek, "deepseek-flash", at=moment).price
    edges: list[int] = []
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
