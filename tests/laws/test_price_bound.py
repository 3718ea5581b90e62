"""Laws of cost: the bound bounds, grows with what it bounds, and lines add up."""

from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs
from tests.laws.conversations import with_parts

from penstock.catalog.cost import Bounds, cost, worst_cost
from penstock.domain.money import Rate, RateCard, line_cost_nanousd
from penstock.domain.usage import METERS, Usage

PRICES = st.one_of(
    st.integers(0, 10**12),
    st.integers(0, 200_000).map(lambda thousandths: thousandths * 1_000_000),
    st.sampled_from([0, 1, 999_999, 1_000_000, 1_000_001]),
)
TOKENS = st.one_of(st.integers(0, 12), st.integers(0, 3_000_000))
LIFETIMES = st.sampled_from(["5m", "1h", "24h", "default"])


@st.composite
def rates(draw: st.DrawFn) -> Rate:
    starts = sorted(draw(st.sets(st.one_of(st.integers(0, 20), st.integers(0, 2_000_000)), max_size=3)))
    return Rate(draw(PRICES), tuple((start, draw(PRICES)) for start in starts))


RATES = st.dictionaries(st.sampled_from([*METERS, "cache_write"]), rates())
TIERS = st.sampled_from(["", "default", "priority", "flex", "batch"])
TIER_SETS = st.one_of(st.none(), st.frozensets(TIERS, max_size=3))
CARDS = st.builds(
    RateCard,
    RATES,
    st.just("law"),
    st.one_of(st.just(0), st.integers(0, 10**8)),
    st.dictionaries(st.sampled_from(["priority", "flex", "batch"]), RATES, max_size=2),
)
WHOLES = st.builds(
    Usage,
    input=TOKENS,
    output=TOKENS,
    cache_read=TOKENS,
    cache_write=st.dictionaries(LIFETIMES, TOKENS),
    audio_in=TOKENS,
    audio_out=TOKENS,
    images=st.integers(0, 20),
    requests=st.integers(0, 1),
    web_searches=st.integers(0, 40),
)
USAGES = st.builds(with_parts, WHOLES, st.tuples(TOKENS, TOKENS, TOKENS, TOKENS))


def bounds_of(usage: Usage) -> Bounds:
    """The tightest bounds of `usage`."""
    return Bounds(
        usage.total_input,
        usage.total_output,
        usage.images,
        audio_in=usage.audio_in > 0,
        audio_out=usage.audio_out > 0,
        image_in=usage.image_in > 0,
        video_in=usage.video_in > 0,
        web_searches=usage.web_searches,
    )


@given(CARDS, USAGES, TIER_SETS)
def test_no_usage_costs_more_than_the_worst_case_of_its_totals_in_any_tier_that_may_be_served(
    card: RateCard, usage: Usage, tiers: frozenset[str] | None
) -> None:
    worst = worst_cost(card, bounds_of(usage), tiers)
    for tier in ("", "default", *(card.variants if tiers is None else tiers)):
        assert cost(card, usage, tier)[0] <= worst


@given(CARDS, USAGES, TIER_SETS)
def test_the_worst_case_is_that_of_one_of_the_tiers_and_never_more(
    card: RateCard, usage: Usage, tiers: frozenset[str] | None
) -> None:
    bounds = bounds_of(usage)
    alone = [
        worst_cost(RateCard(rates, "law", card.request_nanousd), bounds)
        for rates in (
            card.rates,
            *(rates for tier, rates in card.variants.items() if tiers is None or tier in tiers),
        )
    ]
    assert worst_cost(card, bounds, tiers) == max(alone)


@given(CARDS, USAGES, TOKENS, TOKENS, st.tuples(TIER_SETS, TIER_SETS))
def test_the_worst_case_never_falls_when_more_is_allowed(
    card: RateCard,
    usage: Usage,
    more_input: int,
    more_output: int,
    tier_sets: tuple[frozenset[str] | None, frozenset[str] | None],
) -> None:
    some, others = tier_sets
    less = worst_cost(card, Bounds(usage.total_input, usage.total_output, usage.images), some)
    more = worst_cost(
        card,
        Bounds(
            usage.total_input + more_input,
            usage.total_output + more_output,
            usage.images + 1,
            audio_in=True,
            audio_out=True,
            image_in=True,
            video_in=True,
        ),
        None if some is None or others is None else some | others,
    )
    assert less <= more


@given(CARDS, USAGES, TIERS)
def test_lines_add_up_to_the_total_and_each_is_rounded_up(card: RateCard, usage: Usage, tier: str) -> None:
    total, lines = cost(card, usage, tier)
    assert total == sum(line.cost_nanousd for line in lines)
    for line in lines:
        assert line.cost_nanousd == line_cost_nanousd(line.quantity, line.unit_price_nanousd_per_million)
    assert len({line.meter for line in lines}) == len(lines)


@given(st.integers(0, 10**6), st.integers(0, 10**6), TOKENS, TOKENS)
def test_at_whole_nano_dollar_prices_the_worst_case_is_exactly_reachable(
    input_price: int, output_price: int, input_tokens: int, output_tokens: int
) -> None:
    card = RateCard(
        {"input": Rate(input_price * 10**6), "cache_read": Rate(0), "output": Rate(output_price * 10**6)}, "law"
    )
    usage = Usage(input=input_tokens, output=output_tokens)
    assert worst_cost(card, Bounds(input_tokens, output_tokens)) == cost(card, usage)[0]


@given(CARDS, st.lists(st.tuples(USAGES, TIER_SETS), min_size=2, max_size=4))
def test_a_card_that_was_asked_before_says_what_a_new_one_says(
    card: RateCard, asked: list[tuple[Usage, frozenset[str] | None]]
) -> None:
    for usage, tiers in asked:
        assert worst_cost(card, bounds_of(usage), tiers) == worst_cost(structs.replace(card), bounds_of(usage), tiers)
