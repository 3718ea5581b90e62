"""Rate cards from genai-prices, and deployments with their price and bounds. For the control process only.

How a price is found, in this order:

1. The operator's override replaces everything.
2. The origin: a `base_url` that a vendor's address pattern in genai-prices recognises is that vendor's.
3. The provider's kind, where the kind names a vendor (`openai` behind a corporate proxy is still OpenAI).
4. Otherwise the vendor is unknown and so is the price: a model on somebody's own machine must not be billed, by
   accident of its name, what a vendor asks for it. The operator states a price.

What is carried: tokens of input, output, cache reads, cache writes (with their lifetimes) and audio, those of pictures
and films where they have prices of their own, all price steps, charges per request and per search of the web, at the
vendor's standard service and, as the card's variants, in its other service tiers (batch, flex, priority, fast). What
genai-prices knows and is not carried: reasoning and citation tokens with prices of their own and cached audio and
pictures (they are billed as the class that they are a kind of), characters, seconds, pixels, pages, messages, searches
of storage and code runs, and the variants for a re-seller's route and a kind of search. A model that is priced in such
meters alone, and one without any price, is unknown and never free.

Prices are rounded up to whole nano-USD per million; all but some re-sold prices are whole already.
"""

import re
from datetime import UTC, datetime, time, timedelta
from decimal import ROUND_CEILING, Decimal
from importlib.metadata import version

from genai_prices import data as price_list
from genai_prices.types import (
    ModelInfo,
    ModelPrice,
    PriceVariant,
    StartDateConstraint,
    TieredPrices,
    TimeOfDateConstraint,
)
from genai_prices.types import Provider as Vendor

from penstock.catalog.cost import CACHE_WRITE
from penstock.catalog.models import load
from penstock.catalog.override import override_card
from penstock.domain.money import MAX_NANOUSD, NANO, PriceOverride, Rate, RateCard
from penstock.domain.snapshot import Deployment, Provider
from penstock.domain.usage import PARTS

RELEASE = f"genai-prices {version('genai-prices')}"

_VENDORS_BY_ID = {vendor.id: vendor for vendor in price_list.providers}

_VENDOR_OF_KIND = {
    "bedrock": "aws",
    "moonshot": "moonshotai",
    "vertex": "google",
    "voyage": "voyageai",
    "xai": "x-ai",
    "zhipu": "zhipuai",
}
"""Kinds of provider that genai-prices knows under another name; every other kind is looked up under its own."""

_GOOGLE_PREFIXES = ("models/", "google/")
"""How Google's OpenAI-style endpoints write a model that its price list has under its bare name."""

METER_PRICES = {
    "input": ("input_mtok",),
    "cache_read": ("cache_read_mtok", "input_mtok"),
    CACHE_WRITE: ("cache_write_mtok", "input_mtok"),
    "cache_write:5m": ("cache_write_5m_mtok", "cache_write_mtok", "input_mtok"),
    "cache_write:1h": ("cache_write_1h_mtok", "cache_write_mtok", "input_mtok"),
    "audio_in": ("input_audio_mtok", "input_mtok"),
    "output": ("output_mtok",),
    "audio_out": ("output_audio_mtok", "output_mtok"),
}
"""Our meters and the prices of genai-prices that apply to them, the first that exists: there, too, a class without a
price of its own is billed as the class that it is a kind of."""

PART_PRICES = {
    "image_in": "input_image_mtok",
    "video_in": "input_video_mtok",
    "image_out": "output_image_mtok",
    "video_out": "output_video_mtok",
}
"""The same for what is a part of a class: without a price of its own it is billed with the rest."""

WEB_SEARCHES = "web_searches"
"""Listed per thousand; like any rate, ours is per million."""

TIER_SELECTORS = ("service_tier", "speed", "processing")
"""What selects a service tier in the price list; the value that selects it is the tier's name on the wire:
`service_tier` at OpenAI and Google ("priority", "flex"; OpenAI takes "fast" for "priority" and answers "priority"),
Anthropic's `usage.speed` ("fast"), and "batch", which is what Anthropic's `usage.service_tier` says in a batch."""

_BEDROCK_TIERS = {"priority": (7, 4), "flex": (1, 2)}
"""What tokens cost in Bedrock's service tiers, as a fraction of the standard price, which genai-prices has alone."""

_IN_BEDROCK_TIERS = re.compile(r"\b(?:amazon\.nova-(?!\w*-?sonic)|openai\.gpt-oss-|qwen\.qwen3-)")
"""The models of which that is known: AWS Price List, `AmazonBedrock`, usage types `...-tokens-priority` and
`...-tokens-flex` of Nova Pro, Nova 2 Lite, gpt-oss-20b, Qwen3 32B and Qwen3 Coder Next, as of 2026-11."""

_DAY = timedelta(days=1)


class Catalog:
    """What deployments cost and can do, from the installed release of genai-prices and `data/models.toml`."""

    def __init__(self) -> None:
        self._facts = load()

    def deployment(
        self,
        provider: Provider,
        model: str,
        *,
        at: datetime,
        override: PriceOverride | None = None,
        max_output: int | None = None,
    ) -> Deployment:
        """`model` at `provider` as of `at` (aware), with the operator's `override` going first; `max_output`
        is the operator's for a model of which the catalogue does not say it.

        What is not known is None, but for `image_tokens`, which has the domain's default. `weight` is the caller's to
        set. Raises `ConfigError` for an override that is not a price.
        """
        vendor = _find_vendor(provider)
        listed = _find_model(vendor, model)
        facts = self._facts.of(model, vendor.id if vendor else None)
        price: RateCard | None = None
        if override is not None:
            price = override_card(override)
        elif listed is not None and vendor is not None:
            price = listed_card(listed, vendor, at)
        bounds = {} if facts.image_tokens is None else {"image_tokens": facts.image_tokens}
        return Deployment(
            provider.name,
            model,
            price,
            facts.max_output or max_output,
            facts.context_window or (listed.context_window if listed else None),
            lacks=facts.lacks or (),
            **bounds,
        )

    def next_change(self, provider: Provider, model: str, at: datetime) -> datetime | None:
        """The first instant after `at` (aware) when the listed price of `model` at `provider` can be another, in any
        service tier: a price starts, or a time of day begins or ends. None: it does not depend on time. An override
        never does."""
        vendor = _find_vendor(provider)
        listed = _find_model(vendor, model)
        if listed is None or vendor is None:
            return None
        standard = [] if isinstance(listed.prices, ModelPrice) else listed.prices
        constraints = [price.constraint for price in standard] + [v.constraint for v in _tier_prices(listed, vendor)]
        flips = [flip for constraint in constraints if constraint is not None for flip in _flips(constraint, at)]
        return min(flips, default=None)


def _find_vendor(provider: Provider) -> Vendor | None:
    base_url = provider.base_url.lower()
    for vendor in price_list.providers:
        if re.match(vendor.api_pattern, base_url):
            return vendor
    return _VENDORS_BY_ID.get(_VENDOR_OF_KIND.get(provider.kind, provider.kind))


def _find_model(vendor: Vendor | None, model: str) -> ModelInfo | None:
    if vendor is None:
        return None
    if vendor.id == "google":
        for prefix in _GOOGLE_PREFIXES:
            model = model.removeprefix(prefix)
    return vendor.find_model(model, all_providers=price_list.providers)


def listed_card(model: ModelInfo, vendor: Vendor, at: datetime) -> RateCard | None:
    """The card of `model` at `at`; None when it has no price in a meter that is carried. Variants are the service
    tiers whose rates then differ from the standard ones."""
    prices = model.get_prices(at)
    rates = _rates(prices)
    if not rates:
        return None
    per_thousand_requests = prices.requests_kcount
    request_nanousd = 0
    if per_thousand_requests is not None:
        request_nanousd = -(-_rate(per_thousand_requests).worst(MAX_NANOUSD) // 1_000)
    variants = _bedrock_variants(model, vendor, rates)
    for variant in _tier_prices(model, vendor):
        in_tier = _rates(model.get_prices(at, variant.when))
        if in_tier != rates:
            (tier,) = variant.when.values()
            variants[tier] = in_tier
    return RateCard(rates, f"{RELEASE} {vendor.id}/{model.id}", request_nanousd, variants)


def _tier_prices(model: ModelInfo, vendor: Vendor) -> list[PriceVariant]:
    """The prices of `model` in service tiers of `vendor`'s. A model that a vendor re-sells without an entry of its own
    is listed at its maker's standard price alone: the maker's tiers are not the re-seller's."""
    if not any(model is own for own in vendor.models):
        return []
    return [v for v in model.price_variants or () if len(v.when) == 1 and set(v.when) <= set(TIER_SELECTORS)]


def _bedrock_variants(model: ModelInfo, vendor: Vendor, rates: dict[str, Rate]) -> dict[str, dict[str, Rate]]:
    if vendor.id != _VENDOR_OF_KIND["bedrock"] or _IN_BEDROCK_TIERS.search(model.id) is None:
        return {}
    return {
        tier: {meter: rate if meter == WEB_SEARCHES else _share(rate, *share) for meter, rate in rates.items()}
        for tier, share in _BEDROCK_TIERS.items()
    }


def _share(rate: Rate, part: int, whole: int) -> Rate:
    """`part / whole` of a rate, rounded up."""
    return Rate(-(-rate.base * part // whole), tuple((start, -(-price * part // whole)) for start, price in rate.tiers))


def _rates(prices: ModelPrice) -> dict[str, Rate]:
    rates: dict[str, Rate] = {}
    for meter, names in METER_PRICES.items():
        price = next((price for name in names if (price := getattr(prices, name)) is not None), None)
        if price is not None:
            rates[meter] = _rate(price)
    for meter, name in PART_PRICES.items():
        if PARTS[meter] in rates and (price := getattr(prices, name)) is not None:
            rates[meter] = _rate(price)
    searches = prices.web_searches_kcount
    if rates and searches is not None:
        rates[WEB_SEARCHES] = Rate(_rate(searches).worst(MAX_NANOUSD) * 1_000)
    return rates


def _rate(price: Decimal | TieredPrices) -> Rate:
    if isinstance(price, TieredPrices):
        return Rate(_nanousd(price.base), tuple((tier.start, _nanousd(tier.price)) for tier in price.tiers))
    return Rate(_nanousd(price))


def _nanousd(usd: Decimal) -> int:
    return int((usd * NANO).to_integral_value(ROUND_CEILING))


def _flips(constraint: StartDateConstraint | TimeOfDateConstraint, at: datetime) -> list[datetime]:
    """The instants after `at` at which `constraint` next becomes or ceases to be true. Times without a zone are UTC."""
    at = at.astimezone(UTC)
    if isinstance(constraint, StartDateConstraint):
        start = datetime.combine(constraint.start_date, time(), UTC)
        return [start] if start > at else []
    return [_next(constraint.start_time, at), _next(constraint.end_time, at)]


def _next(clock: time, at: datetime) -> datetime:
    """The first instant after `at` when it is `clock` o'clock."""
    today = datetime.combine(at.date(), clock, clock.tzinfo or UTC)
    ahead = (today - at) % _DAY
    return at + (ahead or _DAY)
