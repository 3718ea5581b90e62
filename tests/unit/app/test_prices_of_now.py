"""What changes without a change: prices that depend on time."""

import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from genai_prices.data import providers as vendors
from genai_prices.types import ModelPrice

from penstock.app.control.prices import Prices
from penstock.catalog.prices import Catalog
from penstock.domain.snapshot import Provider


def a_model_whose_price_depends_on_the_hour() -> tuple[Provider, str, datetime]:
    """With an instant at which its price flips."""
    now = datetime(2026, 11, 20, tzinfo=UTC)
    for vendor in vendors:
        provider = Provider(vendor.id, vendor.id, "")
        for model in vendor.models:
            flip = None if isinstance(model.prices, ModelPrice) else Catalog().next_change(provider, model.id, now)
            if flip is None:
                continue
            before = Catalog().deployment(provider, model.id, at=flip - timedelta(seconds=1)).price
            if before != Catalog().deployment(provider, model.id, at=flip).price:
                return provider, model.id, flip
    pytest.skip("the installed catalogue has no price that depends on time")


def test_a_price_is_looked_up_once_and_again_when_it_can_be_another() -> None:
    provider, model, flip = a_model_whose_price_depends_on_the_hour()
    now = [flip - timedelta(seconds=1)]
    prices = Prices(lambda: now[0])
    before = prices.resolve(provider, model, None, None)
    assert prices.resolve(provider, model, None, None) is before
    now[0] = flip
    assert prices.resolve(provider, model, None, None).price != before.price


OPENAI = Provider("a", "openai", "")
LONG_AGO = datetime(2026, 11, 1, tzinfo=UTC)


def _kept(file: Path, now: datetime = LONG_AGO) -> Prices:
    """The prices of a start that asked for one model and kept what it was told."""
    prices = Prices(lambda: now, file)
    prices.resolve(OPENAI, "gpt-4o-mini", None, None)
    prices.keep()
    return prices


def test_the_next_start_has_the_same_answers_without_the_price_list(tmp_path: Path) -> None:
    before = _kept(tmp_path / "prices")
    script = f"""
import sys
from pathlib import Path
from penstock.app.control.prices import Prices
from penstock.domain.snapshot import Provider
prices = Prices(file=Path({str(tmp_path / "prices")!r}))
print(prices.resolve(Provider("a", "openai", ""), "gpt-4o-mini", None, None), "genai_prices" in sys.modules)
"""
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.strip()
    assert said == f"{before.resolve(OPENAI, 'gpt-4o-mini', None, None)} False"
    assert (tmp_path / "prices").stat().st_mode & 0o777 == 0o600


def test_a_kept_price_is_not_taken_once_it_can_be_another_nor_before_it_was_asked_for(tmp_path: Path) -> None:
    provider, model, flip = a_model_whose_price_depends_on_the_hour()
    moments = [flip - timedelta(seconds=1), flip, flip - timedelta(days=30)]
    first = Prices(lambda: moments[0], tmp_path / "prices")
    before = first.resolve(provider, model, None, None)
    first.keep()
    for moment in moments:
        found = Prices(lambda moment=moment: moment, tmp_path / "prices")  # type: ignore[misc]
        assert found.resolve(provider, model, None, None) == Catalog().deployment(provider, model, at=moment)
        assert found.is_loaded == (moment != moments[0])
    assert before == Catalog().deployment(provider, model, at=moments[0])


@pytest.mark.parametrize("harm", [lambda content: content[:-1], lambda content: b"", lambda content: os.urandom(200)])
def test_a_file_that_is_not_whole_is_passed_over(tmp_path: Path, harm: Callable[[bytes], bytes]) -> None:
    _kept(tmp_path / "prices")
    (tmp_path / "prices").write_bytes(harm((tmp_path / "prices").read_bytes()))
    again = _kept(tmp_path / "prices")
    assert again.is_loaded
    assert not _kept(tmp_path / "prices").is_loaded


def test_what_another_catalogue_said_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _kept(tmp_path / "prices")
    monkeypatch.setattr("penstock.app.control.prices.edition", lambda: b"another")
    assert _kept(tmp_path / "prices").is_loaded
    monkeypatch.setattr("penstock.app.control.prices.edition", lambda: None)
    assert _kept(tmp_path / "prices").is_loaded


def test_where_prices_cannot_be_kept_they_are_known_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "prices.new").mkdir()
    assert _kept(tmp_path / "prices").resolve(OPENAI, "gpt-4o-mini", None, None).price is not None
    assert not (tmp_path / "prices").exists()


def test_what_differs_in_the_question_is_never_answered_from_memory() -> None:
    prices = Prices()
    openai = Provider("a", "openai", "")
    known = prices.resolve(openai, "gpt-4o-mini", None, None)
    assert known.price is not None
    bounds = [prices.resolve(openai, "gpt-of-another-year", None, most).max_output for most in (None, 7)]
    assert bounds == [None, 7]
    unknown = Provider("a", "compatible", "http://127.0.0.1:9/v1")
    assert prices.resolve(unknown, "gpt-4o-mini", None, None).price is None
