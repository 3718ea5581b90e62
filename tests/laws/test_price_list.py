"""Law: what we bill is what the price list's own calculation bills, for every model and service tier that it lists."""

from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from genai_prices.data import providers as vendors
from genai_prices.types import ModelInfo, ModelPrice, TieredPrices
from genai_prices.types import Provider as Vendor
from genai_prices.types import Usage as ListUsage
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.laws.conversations import with_parts

from penstock.catalog.cost import Bounds, cost, worst_cost
from penstock.catalog.prices import METER_PRICES, PART_PRICES, TIER_SELECTORS, listed_card
from penstock.domain.usage import Usage

CARRIED = {name for names in METER_PRICES.values() for name in names} | set(PART_PRICES.values())
MODELS = [(vendor, model) for vendor in vendors for model in vendor.models]
IN_TIERS = [
    (vendor, model, tier)
    for vendor, model in MODELS
    for tier in sorted(
        {value for v in model.price_variants or () for key, value in v.when.items() if key in TIER_SELECTORS}
    )
]
NOT_TIERS = {"route", "search_type"}
"""What else selects a price in the list: not part of the service that a caller asks for or is told of."""
MOMENTS = [
    datetime(2025, 1, 1, tzinfo=UTC),
    datetime(2026, 9, 15, 2, 30, tzinfo=UTC),
    datetime(2026, 9, 15, 5, 0, tzinfo=UTC),
    datetime(2026, 10, 12, 12, 0, tzinfo=UTC),
    datetime(2026, 11, 20, 6, 0, tzinfo=UTC),
    datetime(2026, 11, 20, 16, 30, tzinfo=UTC),
    datetime(2027, 6, 1, 23, 59, tzinfo=UTC),
]
COUNTS = st.one_of(st.just(0), st.integers(1, 40), st.integers(1, 400_000))
WHOLES = st.builds(
    Usage,
    input=COUNTS,
    output=COUNTS,
    cache_read=COUNTS,
    cache_write=st.dictionaries(st.sampled_from(["5m", "1h", "24h"]), COUNTS),
    audio_in=COUNTS,
    audio_out=COUNTS,
    web_searches=st.one_of(st.just(0), st.integers(1, 300)),
)
USAGES = st.builds(with_parts, WHOLES, st.tuples(COUNTS, COUNTS, COUNTS, COUNTS))


def in_list_terms(usage: Usage) -> ListUsage:
    """Our disjoint classes as the list counts them: each of its totals includes its parts."""
    return ListUsage(
        input_tokens=usage.total_input,
        output_tokens=usage.total_output,
        cache_read_tokens=usage.cache_read,
        cache_write_tokens=sum(usage.cache_write.values()),
        cache_write_5m_tokens=usage.cache_write.get("5m", 0),
        cache_write_1h_tokens=usage.cache_write.get("1h", 0),
        input_audio_tokens=usage.audio_in,
        output_audio_tokens=usage.audio_out,
        cache_audio_read_tokens=0,
        cache_audio_write_tokens=0,
        input_image_tokens=usage.image_in,
        output_image_tokens=usage.image_out,
        cache_image_read_tokens=0,
        input_video_tokens=usage.video_in,
        output_video_tokens=usage.video_out,
        web_searches=usage.web_searches,
    )


def listed_amounts(prices: ModelPrice) -> Iterator[Decimal]:
    for name in CARRIED:
        price = getattr(prices, name)
        if isinstance(price, TieredPrices):
            yield from (price.base, *(tier.price for tier in price.tiers))
        elif price is not None:
            yield price


def context_of(model: ModelInfo, tier: str) -> dict[str, str]:
    """What the list is told in order to price `tier`; nothing for standard service."""
    return next((v.when for v in model.price_variants or () if tier in v.when.values()), {})


def check(vendor: Vendor, model: ModelInfo, usage: Usage, at: datetime, tier: str = "") -> None:
    card = listed_card(model, vendor, at)
    context = context_of(model, tier)
    prices = model.get_prices(at, context)
    if card is None:
        assert not list(listed_amounts(prices)), "a price that is carried was lost"
        return
    total, lines = cost(card, usage, tier)
    listed = model.calc_price(in_list_terms(usage), vendor, genai_request_timestamp=at, price_context=context)
    theirs = listed.total_price * 10**9
    # Rounding up adds less than one nano-USD per line; a price of less than a nano-USD per million, rounded up too,
    # adds less than one per million tokens.
    slack = Decimal(len(lines))
    if any(amount * 10**9 % 1 for amount in listed_amounts(prices)):
        slack += Decimal(usage.total_input + usage.total_output) / 10**6
    assert total >= theirs
    assert total == theirs or total - theirs < slack, f"{vendor.id}/{model.id} {tier}: {total} against {theirs}"
    bounds = Bounds(
        usage.total_input,
        usage.total_output,
        audio_in=True,
        audio_out=True,
        image_in=True,
        video_in=True,
        web_searches=usage.web_searches,
    )
    assert total <= worst_cost(card, bounds, (tier,))
    assert total <= worst_cost(card, bounds, None)


@settings(max_examples=500)
@given(st.sampled_from(MODELS), USAGES, st.sampled_from(MOMENTS))
def test_any_usage_of_any_listed_model_costs_what_the_list_says(
    listed: tuple[Vendor, ModelInfo], usage: Usage, at: datetime
) -> None:
    check(*listed, usage, at)


@settings(max_examples=300)
@given(st.sampled_from(IN_TIERS), USAGES, st.sampled_from(MOMENTS))
def test_any_usage_in_any_listed_service_tier_costs_what_the_list_says(
    listed: tuple[Vendor, ModelInfo, str], usage: Usage, at: datetime
) -> None:
    vendor, model, tier = listed
    check(vendor, model, usage, at, tier)


@pytest.mark.parametrize("at", [MOMENTS[0], MOMENTS[2], MOMENTS[4], MOMENTS[-1]], ids=str)
def test_every_listed_model_costs_what_the_list_says_below_and_above_its_price_steps(at: datetime) -> None:
    usages = [
        Usage(input=7, output=3, cache_read=5, cache_write={"5m": 2, "1h": 1}, web_searches=3),
        Usage(input=300_001, output=1_021, cache_read=17, cache_write={"5m": 11, "24h": 13}, audio_in=5, audio_out=9),
        Usage(input=3_001, output=1_021, image_in=1_000, video_in=7, image_out=900, video_out=11),
    ]
    for vendor, model in MODELS:
        for usage in usages:
            check(vendor, model, usage, at)
    for vendor, model, tier in IN_TIERS:
        for usage in usages:
            check(vendor, model, usage, at, tier)


@settings(max_examples=200)
@given(
    st.sampled_from([m for m in MODELS if any("+tiers" in str(p) for p in [m[1].get_prices(MOMENTS[3])])]),
    st.integers(-1, 1),
    COUNTS,
)
def test_at_the_edge_of_a_tier_both_sides_agree(listed: tuple[Vendor, ModelInfo], offset: int, output: int) -> None:
    prices = listed[1].get_prices(MOMENTS[3])
    starts = {
        tier.start
        for name in CARRIED
        if isinstance(price := getattr(prices, name), TieredPrices)
        for tier in price.tiers
    }
    for start in starts:
        total = max(0, start + offset)
        cached = total // 3
        check(*listed, Usage(input=total - cached, cache_read=cached, output=output), MOMENTS[3])


def test_most_of_the_list_is_priced() -> None:
    priced = [1 for vendor, model in MODELS if listed_card(model, vendor, MOMENTS[3]) is not None]
    assert len(priced) > 0.85 * len(MODELS)


def test_what_selects_a_price_is_one_known_thing_and_no_two_name_the_same_tier_of_a_model() -> None:
    for vendor, model in MODELS:
        contexts = [variant.when for variant in model.price_variants or ()]
        assert all(len(when) == 1 and set(when) <= {*TIER_SELECTORS, *NOT_TIERS} for when in contexts), model.id
        selectors = {tuple(*when.items()) for when in contexts}
        assert len({value for _, value in selectors}) == len(selectors), f"{vendor.id}/{model.id}"


def test_the_charge_per_request_is_the_same_in_every_service_tier() -> None:
    for _, model, tier in IN_TIERS:
        for at in MOMENTS:
            assert model.get_prices(at, context_of(model, tier)).requests_kcount == model.get_prices(at).requests_kcount


def test_a_model_has_variants_for_exactly_the_tiers_whose_price_differs() -> None:
    usage = Usage(input=10**6, output=10**6, cache_read=10**6, cache_write={"5m": 10**6, "1h": 10**6})
    seen = set()
    for vendor, model in MODELS:
        card = listed_card(model, vendor, MOMENTS[5])
        if card is None:
            continue
        for tier in card.variants:
            assert card.variants[tier] != card.rates
            assert card.variants[tier].keys() >= card.rates.keys()
            seen.add(tier)
        for name in {tier for v, m, tier in IN_TIERS if m is model and v is vendor} - card.variants.keys():
            assert cost(card, usage, name) == cost(card, usage)
    assert seen == {"priority", "fast", "flex", "batch"}


def test_where_a_tier_has_two_names_the_one_asked_for_bounds_the_one_that_is_answered() -> None:
    openai = next(vendor for vendor in vendors if vendor.id == "openai")
    for model in openai.models:
        for at in MOMENTS:
            card = listed_card(model, openai, at)
            if card is not None:
                assert card.variants.get("fast") == card.variants.get("priority"), model.id
