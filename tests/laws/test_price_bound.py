"""Laws of cost: the bound bounds, grows with what it bounds, and lines add up."""

from hypothesis import given
from hypothesis import strategies as st

from penstock.catalog.cost import cost, worst_cost
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


CARDS = st.builds(
    RateCard,
    st.dictionaries(st.sampled_from([*METERS, "cache_write"]), rates()),
    st.just("law"),
    st.one_of(st.just(0), st.integers(0, 10**8)),
)
USAGES = st.builds(
    Usage,
    input=TOKENS,
    output=TOKENS,
    cache_read=TOKENS,
    cache_write=st.dictionaries(LIFETIMES, TOKENS),
    audio_in=TOKENS,
    audio_out=TOKENS,
    images=st.integers(0, 20),
    requests=st.integers(0, 1),
)


@given(CARDS, USAGES)
def test_no_usage_costs_more_than_the_worst_case_of_its_totals(card: RateCard, usage: Usage) -> None:
    worst = worst_cost(
        card,
        usage.total_input,
        usage.total_output,
        images=usage.images,
        audio_in=usage.audio_in > 0,
        audio_out=usage.audio_out > 0,
    )
    assert cost(card, usage)[0] <= worst


@given(CARDS, USAGES, TOKENS, TOKENS, st.integers(0, 20))
def test_the_worst_case_never_falls_when_more_is_allowed(
    card: RateCard, usage: Usage, more_input: int, more_output: int, more_images: int
) -> None:
    less = worst_cost(card, usage.total_input, usage.total_output, images=usage.images)
    more = worst_cost(
        card,
        usage.total_input + more_input,
        usage.total_output + more_output,
        images=usage.images + more_images,
        audio_in=True,
        audio_out=True,
    )
    assert less <= more


@given(CARDS, USAGES)
def test_lines_add_up_to_the_total_and_each_is_rounded_up(card: RateCard, usage: Usage) -> None:
    total, lines = cost(card, usage)
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
    assert worst_cost(card, input_tokens, output_tokens) == cost(card, usage)[0]
