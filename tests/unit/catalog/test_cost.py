import subprocess
import sys
from collections.abc import Collection

import pytest

from penstock.catalog.cost import Bounds, cost, worst_cost
from penstock.domain.money import CostLine, Rate, RateCard
from penstock.domain.usage import Usage

CARD = RateCard(
    {
        "input": Rate(2_000_000_000),
        "cache_read": Rate(500_000_000),
        "cache_write": Rate(2_500_000_000),
        "cache_write:1h": Rate(4_000_000_000),
        "audio_in": Rate(40_000_000_000),
        "output": Rate(8_000_000_000),
        "audio_out": Rate(80_000_000_000),
    },
    "test",
)
TIERED = RateCard(
    {
        "input": Rate(1_250_000_000, ((200_000, 2_500_000_000),)),
        "output": Rate(10_000_000_000, ((200_000, 15_000_000_000),)),
    },
    "test",
)


IN_PICTURES = RateCard(
    {
        "input": Rate(1_000_000_000),
        "image_in": Rate(3_000_000_000),
        "video_in": Rate(60_000_000_000),
        "output": Rate(2_000_000_000),
        "image_out": Rate(30_000_000_000),
    },
    "test",
)


IN_TIERS = RateCard(
    {"input": Rate(2_000_000_000), "output": Rate(8_000_000_000)},
    "test",
    request_nanousd=3,
    variants={
        "priority": {"input": Rate(3_500_000_000), "output": Rate(14_000_000_000)},
        "flex": {"input": Rate(1_000_000_000), "output": Rate(4_000_000_000)},
    },
)


def test_each_class_of_tokens_has_a_line_at_its_own_price() -> None:
    total, lines = cost(CARD, Usage(input=1_000, cache_read=500, output=200))
    assert lines == (
        CostLine("input", 1_000, 2_000_000_000, 2_000_000),
        CostLine("cache_read", 500, 500_000_000, 250_000),
        CostLine("output", 200, 8_000_000_000, 1_600_000),
    )
    assert total == 3_850_000


def test_reasoning_is_billed_once_as_a_part_of_the_output() -> None:
    assert cost(CARD, Usage(output=200, reasoning=150)) == cost(CARD, Usage(output=200))


def test_each_line_is_rounded_up_to_a_whole_nano_dollar() -> None:
    card = RateCard({"input": Rate(1), "output": Rate(999_999)}, "test")
    assert cost(card, Usage(input=1, output=2))[0] == 1 + 2


def test_an_unknown_price_costs_nothing_and_has_no_lines() -> None:
    assert cost(None, Usage(input=5, output=5)) == (0, ())


def test_a_meter_that_the_card_does_not_price_has_no_line() -> None:
    assert cost(RateCard({"input": Rate(1_000_000)}, "test"), Usage(output=5, images=1)) == (0, ())


def test_a_meter_priced_at_zero_shows_as_a_line() -> None:
    assert cost(RateCard({"input": Rate(0)}, "test"), Usage(input=5)) == (0, (CostLine("input", 5, 0, 0),))


def test_cache_writes_of_lifetimes_without_a_rate_of_their_own_share_one_line() -> None:
    total, lines = cost(CARD, Usage(cache_write={"1h": 10, "24h": 3, "default": 4}))
    assert lines == (
        CostLine("cache_write:1h", 10, 4_000_000_000, 40_000),
        CostLine("cache_write", 7, 2_500_000_000, 17_500),
    )
    assert total == 57_500


def test_a_flat_charge_per_call_is_a_line_of_requests() -> None:
    card = RateCard({"input": Rate(1_000_000_000)}, "test", request_nanousd=5_000_000)
    total, lines = cost(card, Usage(input=1_000))
    assert lines[-1] == CostLine("requests", 1, 5_000_000_000_000, 5_000_000)
    assert total == 6_000_000
    assert cost(card, Usage(requests=0)) == (0, ())


@pytest.mark.parametrize(("cached", "input_price"), [(0, 1_250_000_000), (1, 2_500_000_000)])
def test_a_tier_is_entered_by_all_input_cached_or_not_and_prices_the_whole_call(cached: int, input_price: int) -> None:
    _, lines = cost(TIERED, Usage(input=200_000, cache_read=cached, output=10))
    assert lines[0].unit_price_nanousd_per_million == input_price
    assert lines[-1].unit_price_nanousd_per_million == (15_000_000_000 if cached else 10_000_000_000)


def test_the_worst_case_takes_the_dearest_class_of_input() -> None:
    assert worst_cost(CARD, Bounds(1_000, 100)) == 1_000 * 4_000 + 100 * 8_000


def test_audio_counts_in_the_worst_case_only_where_it_is_possible() -> None:
    assert worst_cost(CARD, Bounds(1_000, 100, audio_in=True)) == 1_000 * 40_000 + 100 * 8_000
    assert worst_cost(CARD, Bounds(1_000, 100, audio_out=True)) == 1_000 * 4_000 + 100 * 80_000


def test_the_worst_case_takes_a_tier_only_when_the_input_can_reach_it() -> None:
    assert worst_cost(TIERED, Bounds(200_000, 10)) == 200_000 * 1_250 + 10 * 10_000
    assert worst_cost(TIERED, Bounds(200_001, 10)) == 200_001 * 2_500 + 10 * 15_000


def test_a_cheaper_tier_does_not_lower_the_worst_case_because_less_input_would_miss_it() -> None:
    falling = RateCard({"input": Rate(3_000_000_000, ((100, 1_000_000_000),))}, "test")
    assert worst_cost(falling, Bounds(101, 0)) == 101 * 3_000


def test_the_worst_case_includes_pieces_and_the_flat_charge() -> None:
    card = RateCard({"output": Rate(0), "images": Rate(40_000_000 * 1_000_000)}, "test", request_nanousd=7)
    assert worst_cost(card, Bounds(0, 10, images=3)) == 3 * 40_000_000 + 7
    assert cost(card, Usage(images=3))[0] == 3 * 40_000_000 + 7


@pytest.mark.parametrize(("tier", "input_price"), [("priority", 3_500_000_000), ("flex", 1_000_000_000)])
def test_a_service_tier_is_billed_at_its_own_rates_and_the_same_flat_charge(tier: str, input_price: int) -> None:
    total, lines = cost(IN_TIERS, Usage(input=1_000), tier)
    assert lines[0] == CostLine("input", 1_000, input_price, input_price // 1_000)
    assert total == input_price // 1_000 + 3


@pytest.mark.parametrize("tier", ["", "default", "standard", "scale", "Priority"])
def test_a_tier_that_the_card_does_not_know_is_billed_at_the_standard_rates(tier: str) -> None:
    assert cost(IN_TIERS, Usage(input=1_000, output=7), tier) == cost(IN_TIERS, Usage(input=1_000, output=7))


def test_a_card_without_variants_costs_the_same_in_every_tier() -> None:
    assert cost(CARD, Usage(input=1_000), "priority") == cost(CARD, Usage(input=1_000))
    assert worst_cost(CARD, Bounds(1_000, 100), ("priority",)) == worst_cost(CARD, Bounds(1_000, 100), None)


@pytest.mark.parametrize(
    ("tiers", "input_price"),
    [
        ((), 2_000),
        (("default",), 2_000),
        (("flex",), 2_000),
        (("priority",), 3_500),
        ({"flex", "priority"}, 3_500),
        (None, 3_500),
    ],
)
def test_the_worst_case_is_the_dearest_of_standard_and_the_tiers_that_may_be_served(
    tiers: Collection[str] | None, input_price: int
) -> None:
    assert worst_cost(IN_TIERS, Bounds(1_000, 0), tiers) == 1_000 * input_price + 3


def test_pictures_and_films_are_billed_apart_from_the_rest_where_they_have_a_price() -> None:
    usage = Usage(input=100, image_in=40, video_in=10, output=70, image_out=60, video_out=9)
    total, lines = cost(IN_PICTURES, usage)
    assert {line.meter: (line.quantity, line.cost_nanousd) for line in lines} == {
        "image_in": (40, 120_000),
        "video_in": (10, 600_000),
        "input": (50, 50_000),
        "image_out": (60, 1_800_000),
        "output": (10, 20_000),
    }
    assert total == sum(line.cost_nanousd for line in lines)
    assert [line.meter for line in cost(CARD, usage)[1]] == ["input", "output"]
    assert [line.quantity for line in cost(CARD, usage)[1]] == [100, 70]


def test_a_call_without_pictures_is_not_held_at_what_they_cost() -> None:
    assert worst_cost(IN_PICTURES, Bounds(1_000, 0)) == 1_000_000
    assert worst_cost(IN_PICTURES, Bounds(1_000, 0, image_in=True)) == 3_000_000
    assert worst_cost(IN_PICTURES, Bounds(1_000, 0, image_in=True, video_in=True)) == 60_000_000
    assert worst_cost(IN_PICTURES, Bounds(0, 1_000)) == 30_000_000, "what comes out is not known before"


def test_workers_can_price_without_the_control_process_s_libraries() -> None:
    banned = {"genai_prices", "pydantic", "fastapi", "sqlalchemy", "typer", "rich"}
    code = f"import sys, penstock.catalog.cost; print(*({banned} & sys.modules.keys()))"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, timeout=30, capture_output=True, text=True)
    assert loaded.stdout.strip() == ""
