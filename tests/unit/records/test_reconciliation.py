"""A provider's export is read in the provider's own words, and what differs from the books is found."""

from decimal import Decimal
from typing import Any

import pytest

from penstock.records.reconciliation import Export, Sums, Tolerance, UnreadableExport, compare, read_export, read_usage

DAY = "2026-11-01"


def read(form: str, *lines: str, **renamed: str) -> Export:
    return read_export([f"{line}\n" for line in lines], form, renamed)


def row(cost: int, estimated: int = 0, **fields: Any) -> dict[str, Any]:
    used = {"input": 10, "cache_read": 5, "audio_in": 1, "cache_write": {"5m": 2}, "output": 7, "audio_out": 0}
    place = {"day": DAY, "provider": "lab", "model": "big", "key": "ci"}
    return {**place, "usage": used, "cost_nanousd": cost, "estimated_nanousd": estimated, **fields}


def test_a_generic_export_is_added_up_by_day_model_and_key() -> None:
    head = "date,key,model,input_tokens,output_tokens,cost_usd"
    export = read("generic", head, f"{DAY},ci,big,10,2,0.5", f"{DAY}T23:30:00-02:00,ci,BIG,1,1,1e-9", BIG="big")
    assert export.sums == {
        (DAY, "big", "ci"): Sums(500_000_000, 10, 2),
        ("2026-11-02", "big", "ci"): Sums(1, 1, 1),
    }
    assert (export.costs, export.tokens, export.models, export.keys) == (True, True, True, True)


def test_the_usage_export_of_openai_counts_text_and_audio() -> None:
    head = "start_time,end_time,start_time_iso,model,api_key_id,input_tokens,output_tokens,input_audio_tokens"
    lines = ("1793491200,1793577600,2026-11-01T00:00:00+00:00,gpt-5,key_1,30,4,2", "1793577600,1793664000,,,,,,")
    export = read("openai", head, *lines)
    assert export.sums == {(DAY, "gpt-5", ""): Sums(0, 32, 4)}
    assert (export.costs, export.tokens, export.keys) == (False, True, False)


def test_the_cost_export_of_openai_is_by_line_item_or_by_day_alone() -> None:
    head = "start_time,start_time_iso,amount_value,amount_currency,line_item"
    plain = read("openai", head, "1793491200,,0.25,usd,web search")
    assert list(plain.sums) == [(DAY, "web search", "")]
    quoted = read("openai", head, '1793491200,,0.25,usd,"gpt-5, input"', '1793491200,,0.5,usd,"gpt-5, cached input"')
    assert quoted.sums == {(DAY, "gpt-5", ""): Sums(750_000_000)}
    whole = read("openai", head, "1793491200,,0.25,usd,")
    assert (whole.sums, whole.models) == ({(DAY, "", ""): Sums(250_000_000)}, False)


def test_both_exports_of_anthropic_are_read() -> None:
    head = "usage_date_utc,model_version,usage_input_tokens_no_cache,usage_input_tokens_cache_read,usage_output_tokens"
    assert read("anthropic", head, f'{DAY},claude,"1,000",30,4').sums == {(DAY, "claude", ""): Sums(0, 1_030, 4)}
    lines = (f"{DAY},Claude,input,0.10", f"{DAY},Claude,output,0.20")
    costs = read("anthropic", "usage_date_utc,model,token_type,cost_usd", *lines, Claude="claude")
    assert costs.sums == {(DAY, "claude", ""): Sums(300_000_000)}


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        (("day,model,cost_usd",), "no column date"),
        (("date,model",), "none of the columns"),
        (("date,model,cost_usd,cost_usd",), "same name"),
        (("date,model,cost_usd", "soon,big,1"), "line 2: 'soon' is not a date"),
        (("date,model,cost_usd", f"{DAY},big,much"), "line 2: cost_usd: 'much' is not a figure"),
        (("date,model,cost_usd", f"{DAY},big,NaN"), "is not a figure"),
        (("date,model,cost_usd", f"{DAY},big,1e999999"), "is not a figure"),
        (("date,model,cost_usd", f"{DAY},big,1e15"), "beyond all measure"),
        (("date,model,input_tokens", f"{DAY},big,-1"), "is not a figure"),
        (("date,model,cost_usd", f"{DAY},big"), "another number of columns"),
        (("date,model,cost_usd", f'{DAY},"big,1'), "not CSV"),
        ((), "no column date"),
    ],
)
def test_what_is_no_export_is_refused_with_its_line(lines: tuple[str, ...], sentence: str) -> None:
    with pytest.raises(UnreadableExport, match=sentence):
        read("generic", *lines)


def test_our_side_has_the_detail_of_the_export_and_no_other_provider() -> None:
    rows = [row(100), row(50, key="second"), row(7, provider="other")]
    by_key = read("generic", "date,key,model,cost_usd", f"{DAY},ci,big,1")
    assert read_usage(rows, "lab", by_key) == {
        (DAY, "big", "ci"): Sums(100, 18, 7),
        (DAY, "big", "second"): Sums(50, 18, 7),
    }
    by_day = read("openai", "start_time,amount_value", "1793491200,1")
    assert read_usage(rows, "lab", by_day) == {(DAY, "", ""): Sums(150, 36, 14)}


def test_a_tolerance_is_of_money_or_a_share_of_the_providers_figure() -> None:
    export = read("generic", "date,model,input_tokens,cost_usd", f"{DAY},big,100,1")
    ours = {(DAY, "big", ""): Sums(990_000_000, 102)}
    assert [each.beyond for each in compare(ours, export, Tolerance(nanousd=10_000_000))] == [False]
    assert [each.beyond for each in compare(ours, export, Tolerance(nanousd=9_999_999))] == [True]
    assert [each.beyond for each in compare(ours, export, Tolerance(percent=Decimal(2)))] == [False]
    assert [each.beyond for each in compare(ours, export, Tolerance(percent=Decimal("1.9")))] == [True]


def test_a_day_that_only_one_side_knows_differs() -> None:
    export = read("generic", "date,model,cost_usd", f"{DAY},big,1")
    found = compare({(DAY, "small", ""): Sums(5)}, export, Tolerance())
    assert [(each.model, each.delta_nanousd, each.beyond) for each in found] == [
        ("big", 1_000_000_000, True),
        ("small", -5, True),
    ]


def test_a_correction_gives_back_no_more_than_was_estimated() -> None:
    export = read("generic", "date,model,cost_usd", f"{DAY},big,1", f"{DAY},exact,1", f"{DAY},more,3")
    ours = {
        (DAY, "big", ""): Sums(2_000_000_000, estimated_nanousd=300_000_000),
        (DAY, "exact", ""): Sums(2_000_000_000),
        (DAY, "more", ""): Sums(2_000_000_000, estimated_nanousd=1),
    }
    found = compare(ours, export, Tolerance())
    assert [each.correction_nanousd for each in found] == [-300_000_000, 0, 1_000_000_000]
