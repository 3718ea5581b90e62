"""A caller sees the models that its key may use, and no others."""

from collections.abc import Callable

import openai
import pytest

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
