import tomllib
from importlib.resources import files

import pytest
from genai_prices.data import providers as vendors

from penstock.catalog.models import ANYWHERE, Facts, load
from penstock.domain.capabilities import CAPABILITIES
from penstock.domain.snapshot import Deployment

FACTS = load()
DOCUMENT = tomllib.loads(files("penstock.catalog").joinpath("data/models.toml").read_text("utf-8"))
ENTRIES = [
    (table, model, entry)
    for table, entries in DOCUMENT.items()
    if table != "sources"
    for model, entry in entries.items()
]


@pytest.mark.parametrize(
    ("model", "max_output"),
    [
        ("gpt-4.1", 32_768),
        ("gpt-4.1-2025-04-14", 32_768),
        ("GPT-4.1", 32_768),
        ("openai/gpt-4.1", 32_768),
        ("gpt-4o", 16_384),
        ("gpt-4o-2024-05-13", 4_096),
        ("gpt-5", 128_000),
        ("gpt-5-pro-2025-10-06", 272_000),
        ("gpt-5-chat-latest", 16_384),
        ("claude-opus-4-20250514", 32_000),
        ("claude-opus-4-5-20251101", 64_000),
        ("claude-opus-4-5@20251101", 64_000),
        ("us.anthropic.claude-opus-4-5-20251101-v1:0", 64_000),
        ("anthropic/claude-sonnet-4.5", 64_000),
        ("models/gemini-2.5-pro", 65_536),
    ],
)
def test_a_model_is_found_in_the_spellings_of_its_resellers(model: str, max_output: int) -> None:
    assert FACTS.of(model, None).max_output == max_output


@pytest.mark.parametrize("model", ["gpt-7", "gpt-4.12", "gpt-4omni", "my-gpt-4o", "", "gemini-9", "-", "/"])
def test_an_entry_does_not_hold_for_another_model_that_begins_alike(model: str) -> None:
    assert FACTS.of(model, None) == Facts()


def test_what_holds_at_one_vendor_goes_before_what_holds_anywhere() -> None:
    assert FACTS.of("openai/gpt-oss-120b", "groq").max_output == 65_536
    assert FACTS.of("openai/gpt-oss-120b", "together").max_output == 131_072


def test_a_fact_that_the_vendor_s_own_entry_lacks_comes_from_the_general_one() -> None:
    assert FACTS.of("gemini-4-argon", "google") == Facts(image_tokens=2_400)


def test_facts_are_positive_and_the_answer_fits_the_window() -> None:
    for _, model, entry in ENTRIES:
        facts = {name: entry[name] for name in Facts.__struct_fields__ if name in entry and name != "lacks"}
        assert set(entry.get("lacks", ())) <= set(CAPABILITIES), model
        assert all(isinstance(value, int) and value > 0 for value in facts.values()), model
        if "max_output" in entry and "context_window" in entry:
            assert entry["max_output"] <= entry["context_window"], model


def test_every_entry_names_a_listed_source_and_nothing_unknown() -> None:
    for _, model, entry in ENTRIES:
        assert entry.keys() <= {*Facts.__struct_fields__, "source"}, model
        assert entry["source"] in DOCUMENT["sources"], model
    for source in DOCUMENT["sources"].values():
        assert source["page"].startswith("https://")
        assert source["as_of"]


def test_entries_are_lower_case_and_tables_are_vendors() -> None:
    known = {vendor.id for vendor in vendors} | {ANYWHERE}
    for table, model, _ in ENTRIES:
        assert table in known
        assert model == model.lower()


def test_image_bounds_cover_what_the_vendors_publish() -> None:
    most_tiles = 8
    assert FACTS.of("gpt-4o", "openai").image_tokens == 85 + most_tiles * 170
    assert FACTS.of("gpt-4o-mini", "openai").image_tokens == 2_833 + most_tiles * 5_667
    assert (FACTS.of("gpt-5-nano", "openai").image_tokens or 0) >= 1_536 * 2.46
    assert (FACTS.of("gpt-6-sol", "openai").image_tokens or 0) >= 30_000 * 1.2
    assert (FACTS.of("claude-opus-5-5", "anthropic").image_tokens or 0) >= 4_784
    assert Deployment("p", "claude-haiku-4-5").image_tokens >= 1_568
