"""A caller sees the models that its key may use, and no others."""

from collections.abc import Callable

import anthropic
import cohere
import httpx
import openai
import pytest
from google import genai
from google.genai import types

from penstock.testing.lab import Lab

Sdk = Callable[..., openai.OpenAI]


def test_a_key_without_restriction_sees_every_alias(lab: Lab, sdk: Sdk) -> None:
    names = {model.id for model in sdk(lab).models.list()}
    assert {"lab-model", "other-model", "pair", "embed"} <= names


def test_a_restricted_key_sees_only_what_it_may_use(lab: Lab, sdk: Sdk) -> None:
    assert [model.id for model in sdk(lab, "narrow").models.list()] == ["other-model"]


def test_one_model_can_be_read(lab: Lab, sdk: Sdk) -> None:
    assert sdk(lab).models.retrieve("lab-model").id == "lab-model"


@pytest.mark.parametrize(("key", "name"), [("narrow", "lab-model"), ("ci", "no-such-model")])
def test_a_model_that_a_key_cannot_see_does_not_exist_for_it(lab: Lab, sdk: Sdk, key: str, name: str) -> None:
    with pytest.raises(openai.NotFoundError):
        sdk(lab, key).models.retrieve(name)


def test_the_list_needs_a_key(lab: Lab) -> None:
    assert lab.gateway.caller().get("/v1/models").status == 401


def test_health_and_readiness_need_no_key(lab: Lab) -> None:
    assert lab.gateway.caller().get("/healthz").status == 200
    assert lab.gateway.caller().get("/readyz").status == 200


# -- as the clients of several vendors list them ----------------------------------------------------------------------


def test_anthropics_client_lists_them_in_pages(lab: Lab) -> None:
    with anthropic.Anthropic(base_url=lab.gateway.url, api_key=lab.secrets["ci"], max_retries=0) as client:
        listed = list(client.models.list(limit=2))
        assert [model.id for model in listed] == sorted(model.id for model in listed)
        assert {"lab-model", "other-model", "pair", "embed"} <= {model.id for model in listed}
        one = client.models.retrieve("lab-model")
        assert (one.id, one.type, one.lifecycle, one.created_at.year) == ("lab-model", "model", "active", 1970)
        with pytest.raises(anthropic.NotFoundError) as refused:
            client.models.retrieve("no-such-model")
        assert refused.value.type == "not_found_error"
        with pytest.raises(anthropic.BadRequestError):
            client.models.list(limit=0)


@pytest.mark.parametrize("version", ["v1", "v1beta", "v1alpha"])
def test_googles_client_lists_them_in_pages(lab: Lab, version: str) -> None:
    options = types.HttpOptions(base_url=lab.gateway.url, api_version=version)
    with genai.Client(api_key=lab.secrets["ci"], http_options=options) as client:
        names = [model.name or "" for model in client.models.list(config={"page_size": 2})]
        assert names == sorted(names)
        assert {"models/lab-model", "models/other-model", "models/pair", "models/embed"} <= set(names)
        assert client.models.get(model="lab-model").display_name == "lab-model"
        with pytest.raises(genai.errors.ClientError) as refused:
            client.models.get(model="no-such-model")
        assert (refused.value.code, refused.value.status) == (404, "NOT_FOUND")


def test_coheres_client_lists_them_in_pages(lab: Lab) -> None:
    with httpx.Client() as http:
        client = cohere.ClientV2(lab.secrets["ci"], base_url=f"{lab.gateway.url}/cohere", httpx_client=http)
        page = client.models.list(page_size=2)
        assert page.models is not None and len(page.models) == 2
        assert page.next_page_token == page.models[-1].name
        assert client.models.get("lab-model").name == "lab-model"
        with pytest.raises(cohere.NotFoundError):
            client.models.get("no-such-model")


def test_azures_address_lists_them_as_openais(lab: Lab) -> None:
    caller = lab.caller("ci")
    assert caller.get("/openai/v1/models?api-version=v1").body == caller.get("/v1/models").body
