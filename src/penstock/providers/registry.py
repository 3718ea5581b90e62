"""Every kind of provider, visible in one list."""

from penstock.domain.vendors import COMPATIBLE
from penstock.providers.anthropic import Anthropic
from penstock.providers.base import Reframes, Vendor
from penstock.providers.bedrock import Bedrock
from penstock.providers.catalogue import Catalogued
from penstock.providers.compatible import Compatible
from penstock.providers.google import Google
from penstock.providers.openai import OpenAI
from penstock.providers.simulated import Simulated

VENDORS: dict[str, Vendor] = {
    **{kind: Catalogued(kind, entry) for kind, entry in COMPATIBLE.items()},
    **{vendor.kind: vendor for vendor in (OpenAI(), Anthropic(), Bedrock(), Google(), Compatible(), Simulated())},
}

REFRAMING: dict[str, Reframes] = {kind: vendor for kind, vendor in VENDORS.items() if isinstance(vendor, Reframes)}


def provider_for(kind: str) -> Vendor:
    """The vendor's file for a kind that configuration has already checked."""
    return VENDORS[kind]
