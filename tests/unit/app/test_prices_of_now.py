"""What changes without a change: prices that depend on time."""

from datetime import UTC, datetime, timedelta

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


def test_what_differs_in_the_question_is_never_answered_from_memory() -> None:
    prices = Prices()
    openai = Provider("a", "openai", "")
    known = prices.resolve(openai, "gpt-4o-mini", None, None)
    assert known.price is not None
    bounds = [prices.resolve(openai, "gpt-of-another-year", None, most).max_output for most in (None, 7)]
    assert bounds == [None, 7]
    unknown = Provider("a", "compatible", "http://127.0.0.1:9/v1")
    assert prices.resolve(unknown, "gpt-4o-mini", None, None).price is None
