"""Every kind of provider, visible in one list."""

from penstock.domain.vendors import COMPATIBLE
from penstock.providers.anthropic import Anthropic
from penstock.providers.azure import Azure
from penstock.providers.base import Reframes, TradesCredentials, Vendor
from penstock.providers.bedrock import Bedrock
from penstock.providers.catalogue import Catalogued
from penstock.providers.cohere import Cohere
from penstock.providers.compatible import Compatible
from penstock.providers.google import Google
from penstock.providers.openai import OpenAI
from penstock.providers.simulated import Simulated
from penstock.providers.vertex import Vertex

_WITH_FILES: tuple[Vendor, ...] = (
    *(OpenAI(), Anthropic(), Azure(), Bedrock(), Cohere(), Google(), Vertex()),
    *(Compatible(), Simulated()),
)

VENDORS: dict[str, Vendor] = {
    **{kind: Catalogued(kind, entry) for kind, entry in COMPATIBLE.items()},
    **{vendor.kind: vendor for vendor in _WITH_FILES},
}

TRADING: dict[str, TradesCredentials] = {
    kind: vendor for kind, vendor in VENDORS.items() if isinstance(vendor, TradesCredentials)
}
"""Those that take an access token instead of some credentials."""

REFRAMING: dict[str, Reframes] = {kind: vendor for kind, vendor in VENDORS.items() if isinstance(vendor, Reframes)}


def provider_for(kind: str) -> Vendor:
    """The vendor's file for a kind that configuration has already checked."""
    return VENDORS[kind]
