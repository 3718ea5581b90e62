"""What a LiteLLM configuration becomes: each golden file has the text and the notes that stand beside it."""

from decimal import Decimal
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.config.litellm import quantities
from penstock.config.litellm.convert import convert
from penstock.config.litellm.vendors import split
from penstock.config.loading import restored
from penstock.errors import ConfigError

GOLDENS = Path(__file__).parents[2] / "goldens" / "litellm"
FILES = sorted(GOLDENS.glob("*.yaml"))

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12) | st.sampled_from(["30d", "gpt-4o"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
PARAMS = ("api_base", "api_key", "rpm", "timeout", "input_cost_per_token", "max_budget", "extra_headers")
CLOUDS = ("azure/x", "bedrock/x", "bedrock/us-east-1/x", "vertex_ai/x", "anthropic/x", "cohere/x")
PARAMS += ("api_version", "azure_ad_token", "aws_region_name", "aws_access_key_id", "vertex_project", "vertex_location")
PARAMS += ("vertex_credentials", "aws_bedrock_runtime_endpoint")
SETTINGS = ("max_budget", "budget_duration", "fallbacks", "default_fallbacks", "request_timeout", "model_group_alias")
KEY = ("key_alias", "team_id", "user_id", "models", "max_budget", "rpm_limit", "expires", "model_max_budget", "blocked")


@pytest.mark.parametrize("path", FILES, ids=[path.stem for path in FILES])
def test_what_comes_out_has_no_fault_and_no_secret(path: Path) -> None:
    keys = path.with_suffix(".json")
    imported = convert(path.read_bytes(), keys.read_bytes() if keys.exists() else None)
    restored(imported.document, "imported", "")
    assert "canary" not in str(imported)
    assert "canary" in "".join(file.read_text() for file in GOLDENS.iterdir())


@settings(max_examples=200, deadline=None)
@given(
    st.fixed_dictionaries(
        {},
        optional={
            "model_list": st.lists(
                st.fixed_dictionaries(
                    {"model_name": st.sampled_from(["a", "b"]) | values},
                    optional={
                        "litellm_params": st.fixed_dictionaries(
                            {"model": st.sampled_from(["gpt-4o", "groq/x", *CLOUDS])},
                            optional=dict.fromkeys(PARAMS, values),
                        )
                        | values,
                        "model_info": values,
                    },
                )
                | values,
                max_size=3,
            )
            | values,
            "litellm_settings": st.fixed_dictionaries({}, optional=dict.fromkeys(SETTINGS, values)) | values,
            "router_settings": st.fixed_dictionaries({}, optional=dict.fromkeys(SETTINGS, values)) | values,
            "general_settings": values,
            "teams": st.lists(values, max_size=2) | values,
            "keys": st.lists(st.fixed_dictionaries({}, optional=dict.fromkeys(KEY, values)) | values, max_size=3)
            | values,
        },
    )
)
def test_whatever_stands_in_a_file_it_is_read_or_refused_in_a_sentence(data: dict[str, object]) -> None:
    try:
        imported = convert(yaml.safe_dump(data).encode())
    except ConfigError:
        return
    restored(imported.document, "imported", "")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"a: [", "line 1: this is not YAML"),
        (b"text", "must be a mapping with model_list"),
        (b"1: 2", "must be a mapping with model_list"),
        (b"\xff\xfe\x00", "not YAML that can be read"),
        (b"a: !!python/object:os.system x", "could not determine a constructor"),
        (b"[" * 5000, "not YAML that can be read"),
        (b"x" * (8 * 1024 * 1024 + 1), "more than 8 MiB"),
    ],
)
def test_what_is_no_such_file_is_refused(content: bytes, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        convert(content)


@pytest.mark.parametrize(
    ("duration", "window"),
    [
        (None, ("total", True)),
        ("1s", ("second", True)),
        ("30s", ("minute", False)),
        ("1h", ("hour", True)),
        ("24h", ("day", True)),
        ("1d", ("day", True)),
        ("2d", ("week", False)),
        ("7d", ("week", True)),
        ("1w", ("week", True)),
        ("30d", ("month", False)),
        ("1mo", ("month", True)),
        ("2mo", ("year", False)),
        ("2y", ("total", False)),
        ("0d", None),
        ("monthly", None),
    ],
)
def test_a_duration_becomes_a_window_that_allows_no_more(duration: str | None, window: tuple[str, bool] | None) -> None:
    assert quantities.window(duration) == window


def test_a_price_per_token_becomes_one_per_million_exactly() -> None:
    found, lost = quantities.price(
        {"input_cost_per_token": "1.5e-07", "output_cost_per_token": Decimal("6E-7"), "x": 1}
    )
    assert (found, lost) == ({"input": Decimal("0.15"), "output": Decimal("0.6")}, [])
    assert quantities.price({"input_cost_per_token": -1})[1] == ["input_cost_per_token"]


@pytest.mark.parametrize(
    ("model", "named", "has_address", "found"),
    [
        ("openai/facebook/opt-125m", None, True, ("openai", "facebook/opt-125m")),
        ("gpt-4o", None, False, ("openai", "gpt-4o")),
        ("my-model", None, True, ("openai", "my-model")),
        ("my-model", None, False, (None, "my-model")),
        ("claude-opus-4", None, True, ("anthropic", "claude-opus-4")),
        ("deepseek/deepseek-chat", "deepseek", False, ("deepseek", "deepseek-chat")),
        ("meta/llama", "together_ai", False, ("together_ai", "meta/llama")),
        ("acme/x", None, False, ("acme", "x")),
    ],
)
def test_the_vendor_of_a_model_is_found_as_the_proxy_finds_it(
    model: str, named: str | None, has_address: bool, found: tuple[str | None, str]
) -> None:
    assert split(model, named, has_address) == found
