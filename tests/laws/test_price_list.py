"""Law: what we bill is what the price list's own calculation bills, for every model that it lists."""

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

from penstock.catalog.cost import cost, worst_cost
from penstock.catalog.prices import METER_PRICES, listed_card
from penstock.domain.usage import Usage

CARRIED = {name for names in METER_PRICES.values() for name in names}
MODELS = [(vendor, model) for vendor in vendors for model in vendor.models]
MOMENTS = [
    datetime(2025, 1, 1, tzinfo=UTC),
    datetime(2026, 9, 15, 2, 30, tzinfo=UTC),
    datetime(2026, 9, 15, 5, 0, tzinfo=UTC),
    datetime(2026, 11, 20, 6, 0, tzinfo=UTC),
    datetime(2026, 11, 20, 16, 30, tzinfo=UTC),
    datetime(2027, 6, 1, 23, 59, tzinfo=UTC),
]
COUNTS = st.one_of(st.just(0), st.integers(1, 40), st.integers(1, 400_000))
USAGES = st.builds(
    Usage,
    input=COUNTS,
    output=COUNTS,
    cache_read=COUNTS,
    cache_write=st.dictionaries(st.sampled_from(["5m", "1h", "24h"]), COUNTS),
    audio_in=COUNTS,
    audio_out=COUNTS,
)


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
    )


def listed_amounts(prices: ModelPrice) -> Iterator[Decimal]:
    for name in CARRIED:
        price = getattr(prices, name)
        if isinstance(price, TieredPrices):
            yield from (price.base, *(tier.price for tier in price.tiers))
        elif price is not None:
            yield price


def check(vendor: Vendor, model: ModelInfo, usage: Usage, at: datetime) -> None:
    card = listed_card(model, vendor, at)
    prices = model.get_prices(at)
    if card is None:
        assert not list(listed_amounts(prices)), "a price that is carried was lost"
        return
    total, lines = cost(card, usage)
    theirs = model.calc_price(in_list_terms(usage), vendor, genai_request_timestamp=at).total_price * 10**9
    # Rounding up adds less than one nano-USD per line; a price of less than a nano-USD per million, rounded up too,
    # adds less than one per million tokens.
    slack = Decimal(len(lines))
    if any(amount * 10**9 % 1 for amount in listed_amounts(prices)):
        slack += Decimal(usage.total_input + usage.total_output) / 10**6
    assert total >= theirs
    assert total == theirs or total - theirs < slack, f"{vendor.id}/{model.id}: {total} against {theirs}"
    assert total <= worst_cost(card, usage.total_input, usage.total_output, audio_in=True, audio_out=True)


@settings(max_examples=1_500)
@given(st.sampled_from(MODELS), USAGES, st.sampled_from(MOMENTS))
def test_any_usage_of_any_listed_model_costs_what_the_list_says(
    listed: tuple[Vendor, ModelInfo], usage: Usage, at: datetime
) -> None:
    check(*listed, usage, at)


@pytest.mark.parametrize("at", [MOMENTS[0], MOMENTS[2], MOMENTS[-1]], ids=str)
def test_every_listed_model_costs_what_the_list_says_below_and_above_its_tiers(at: datetime) -> None:
    usages = [
        Usage(input=7, output=3, cache_read=5, cache_write={"5m": 2, "1h": 1}),
        Usage(input=300_001, output=1_021, cache_read=17, cache_write={"5m": 11, "24h": 13}, audio_in=5, audio_out=9),
    ]
    for vendor, model in MODELS:
        for usage in usages:
            check(vendor, model, usage, at)


@settings(max_examples=400)
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
