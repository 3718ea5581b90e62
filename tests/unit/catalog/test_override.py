from decimal import Decimal

import pytest

from penstock.catalog.cost import cost
from penstock.catalog.override import override_card
from penstock.domain.money import PriceOverride
from penstock.domain.usage import Usage
from penstock.errors import ConfigError


def priced(**prices: str) -> PriceOverride:
    return PriceOverride(**{"input": Decimal(2), "output": Decimal(8)} | {k: Decimal(v) for k, v in prices.items()})


def test_dollars_per_million_tokens_become_nano_dollars_exactly() -> None:
    card = override_card(priced(input="0.123456789", cache_read="0.5"))
    assert card.rates["input"].base == 123_456_789
    assert card.rates["cache_read"].base == 500_000_000


def test_what_is_not_named_costs_what_it_is_a_kind_of() -> None:
    base = {meter: rate.base for meter, rate in override_card(priced()).rates.items()}
    assert {base[m] for m in ("input", "cache_read", "cache_write:5m", "cache_write:1h", "audio_in")} == {2_000_000_000}
    assert {base[m] for m in ("output", "audio_out")} == {8_000_000_000}


def test_a_cache_write_for_an_hour_falls_back_to_the_cache_write() -> None:
    rates = override_card(priced(cache_write="2.5")).rates
    assert rates["cache_write:1h"] == rates["cache_write:5m"]
    assert rates["cache_write:1h"].base == 2_500_000_000
    assert override_card(priced(cache_write="2.5", cache_write_1h="4")).rates["cache_write:1h"].base == 4_000_000_000


def test_a_search_has_a_price_of_its_own_and_none_where_none_is_stated() -> None:
    searched = Usage(input=1_000_000, web_searches=3)
    assert cost(override_card(priced(web_search="0.01")), searched)[0] == 2_000_000_000 + 30_000_000
    assert cost(override_card(priced()), searched)[0] == 2_000_000_000
    with pytest.raises(ConfigError, match="at most 1000 dollars per search"):
        override_card(priced(web_search="1000.01"))


def test_every_class_of_tokens_is_priced() -> None:
    everything = Usage(input=1, output=1, cache_read=1, cache_write={"5m": 1, "2h": 1}, audio_in=1, audio_out=1)
    total, lines = cost(override_card(priced()), everything)
    assert sum(line.quantity for line in lines) == everything.total_input + everything.total_output
    assert total == 5 * 2_000 + 2 * 8_000


def test_an_explicit_zero_is_free() -> None:
    card = override_card(priced(input="0", output="0", cache_write="0"))
    assert cost(card, Usage(input=10, output=10, cache_read=10))[0] == 0


def test_a_price_per_call_is_charged_once() -> None:
    card = override_card(priced(request="0.005"))
    assert cost(card, Usage())[0] == 5_000_000


def test_the_operator_s_price_is_the_same_in_every_service_tier() -> None:
    card = override_card(priced())
    assert card.variants == {}
    assert cost(card, Usage(input=10), "priority") == cost(card, Usage(input=10))


def test_the_version_changes_with_the_price_and_not_with_its_spelling() -> None:
    assert override_card(priced()).version == override_card(priced(input="2.00")).version
    assert override_card(priced()).version != override_card(priced(audio_out="9")).version
    assert override_card(priced()).version.startswith("override:")
    assert len(override_card(priced()).version) == len("override:") + 8


@pytest.mark.parametrize(
    ("price", "why"),
    [
        ("0.1234567891", "at most 9 decimals"),
        ("1.0000000000000000000000000000000000000000000001", "at most 9 decimals"),
        ("1e-400", "at most 9 decimals"),
        ("1e-99999999", "at most 9 decimals"),
        ("-1", "from 0 up"),
        ("NaN", "from 0 up"),
        ("sNaN", "from 0 up"),
        ("Infinity", "from 0 up"),
        ("1e30", "at most 9223372036 dollars"),
        ("1e999999", "at most 9223372036 dollars"),
    ],
)
def test_what_is_not_an_exact_price_is_a_fault_at_its_field(price: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why) as caught:
        override_card(priced(cache_read=price))
    assert caught.value.place == "cache_read"
