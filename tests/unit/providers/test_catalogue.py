"""The catalogue of vendors that speak OpenAI's dialect: what its entries say is what is sent."""

from datetime import date
from urllib.parse import urlsplit

import msgspec
import pytest

from penstock.config.settings import OWN_KINDS, VENDOR_KINDS
from penstock.dialects.openai_chat import ChatCompletions
from penstock.domain.snapshot import Credential, Provider, Secret
from penstock.domain.vendors import COMPATIBLE, load
from penstock.providers.base import Outgoing
from penstock.providers.catalogue import Catalogued
from penstock.providers.registry import VENDORS

NEW = """
[riverside]
title = "Riverside Models"
base_url = "https://api.riverside.example/openai"
surfaces = { embeddings = "/vectors" }
auth = "x-riverside-key"
cap = "max_completion_tokens"
usage = "always"
ending = "done"
docs = "https://riverside.example/docs"
read = "2026-11-26"
"""

every_entry = pytest.mark.parametrize("kind", sorted(COMPATIBLE))


def sent(vendor: Catalogued, surface: str = "chat.completions", base_url: str = "") -> tuple[str, dict[str, str]]:
    """The address and the headers of a call."""
    provider = Provider("mine", vendor.kind, base_url, headers={"x-extra": "1"})
    request = vendor.request(provider, Credential("main", Secret("sk-1")), Outgoing(surface, b"{}", "model-1"))
    origin = request.origin
    return f"{origin.scheme}://{origin.host}:{origin.port}{request.path}", dict(request.headers)


def test_a_new_vendor_is_one_entry() -> None:
    (entry,) = load(NEW).values()
    vendor = Catalogued("riverside", entry)
    assert vendor.surfaces("model-1") == ("chat.completions", "embeddings")
    assert not vendor.asks_usage
    assert vendor.marks_end == {"chat.completions", "completions"}
    assert vendor.output_cap_field("chat.completions") == "max_completion_tokens"
    address, headers = sent(vendor)
    assert address == "https://api.riverside.example:443/openai/chat/completions"
    assert headers == {"x-extra": "1", "content-type": "application/json", "x-riverside-key": "sk-1"}
    assert sent(vendor, "embeddings")[0].endswith("/openai/vectors")


def test_an_entry_may_split_its_models_between_chats_and_responses() -> None:
    (entry,) = load(NEW.replace("{ embeddings", '{ responses = "/responses", embeddings') + 'split = "/"\n').values()
    vendor = Catalogued("riverside", entry)
    assert vendor.surfaces("model-1") == ("chat.completions", "embeddings")
    assert vendor.surfaces("someone/model-1") == ("responses", "embeddings", "responses.stored")


def test_an_entry_with_an_unknown_member_is_refused() -> None:
    with pytest.raises(msgspec.ValidationError):
        load(NEW + 'qirk = "none"\n')
    with pytest.raises(msgspec.ValidationError):
        load(NEW.replace('"always"', '"sometimes"'))


def test_every_entry_is_a_kind_that_configuration_knows() -> None:
    assert len(COMPATIBLE) > 30
    assert set(COMPATIBLE) == set(VENDOR_KINDS)
    assert set(VENDORS) == {*OWN_KINDS, *VENDOR_KINDS}


@every_entry
def test_an_entry_names_its_documentation(kind: str) -> None:
    entry = COMPATIBLE[kind]
    assert urlsplit(entry.docs).scheme == "https"
    assert date.fromisoformat(entry.read) <= date(2100, 1, 1)
    assert entry.title


@every_entry
def test_a_call_goes_to_the_entrys_address_with_its_proof(kind: str) -> None:
    entry, vendor = COMPATIBLE[kind], VENDORS[kind]
    assert isinstance(vendor, Catalogued)
    base_url = entry.base_url or "https://customer.example/base"
    parts = urlsplit(base_url)
    address, headers = sent(vendor, base_url="" if entry.base_url else base_url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    assert address == f"{parts.scheme}://{parts.hostname}:{port}{parts.path}/chat/completions"
    assert headers["authorization" if entry.auth == "bearer" else entry.auth].endswith("sk-1")
    assert sent(vendor, base_url="http://127.0.0.1:9/own")[0] == "http://127.0.0.1:9/own/chat/completions"


@every_entry
def test_a_vendor_answers_calls_in_openais_dialect_first(kind: str) -> None:
    assert VENDORS[kind].surfaces("model-1")[0] == ChatCompletions.surface
