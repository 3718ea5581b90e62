"""A refusal by a limit says so in the headers of the caller's own dialect."""

import pytest

from penstock.domain.policy import Denial, Limit, Unit
from penstock.surfaces.limit_headers import limit_headers

NOW_NS = 1_795_200_000_500_000_000


def _denied(unit: Unit, surface: str, retry_after_s: float | None = 61.0) -> dict[bytes, bytes]:
    denial = Denial(
        Limit("l", "l", unit, 100, "minute"), "", 0, 30, 20, held_by_others=False, retry_after_s=retry_after_s
    )
    return dict(limit_headers(denial, surface, NOW_NS))


@pytest.mark.parametrize("unit", ["requests", "tokens"])
def test_openais_callers_read_how_long_until_the_reset(unit: Unit) -> None:
    assert _denied(unit, "chat.completions") == {
        f"x-ratelimit-limit-{unit}".encode(): b"100",
        f"x-ratelimit-remaining-{unit}".encode(): b"20",
        f"x-ratelimit-reset-{unit}".encode(): b"61s",
    }


@pytest.mark.parametrize(
    ("unit", "name"),
    [
        ("requests", "requests"),
        ("tokens", "tokens"),
        ("input_tokens", "input-tokens"),
        ("output_tokens", "output-tokens"),
    ],
)
def test_anthropics_callers_read_the_moment_of_the_reset(unit: Unit, name: str) -> None:
    assert _denied(unit, "messages") == {
        f"anthropic-ratelimit-{name}-limit".encode(): b"100",
        f"anthropic-ratelimit-{name}-remaining".encode(): b"20",
        f"anthropic-ratelimit-{name}-reset".encode(): b"2026-11-20T18:41:01Z",
    }


@pytest.mark.parametrize("surface", ["chat.completions", "messages"])
def test_what_never_resets_has_no_reset_and_what_has_no_name_is_not_told(surface: str) -> None:
    assert len(_denied("requests", surface, None)) == 2
    assert _denied("usd", surface) == _denied("concurrent", surface) == {}
