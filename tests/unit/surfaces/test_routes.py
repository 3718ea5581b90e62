"""Which address is written to in which dialect."""

import pytest

from penstock.dialects.base import NO_ADDRESS
from penstock.dialects.registry import DIALECTS
from penstock.domain.kept import Errand
from penstock.surfaces.routes import ROUTES, methods_at, route


def test_every_route_leads_to_a_dialect() -> None:
    for known in ROUTES:
        path = known.path.replace("{model}", "gpt-4.1").replace("{id}", "resp_1").replace("{item}", "msg_1")
        spoken = route(path, path, known.method)
        assert spoken is not None, path
        assert spoken.dialect is DIALECTS[known.surface]
        verb = f"{known.verb}/msg_1" if "{item}" in known.path else known.verb
        errand = Errand(known.method, "resp_1", verb) if "{id}" in known.path else None
        assert spoken.address.errand == errand
        assert errand or spoken.address == NO_ADDRESS or spoken.address.model == "gpt-4.1"
        assert known.method in methods_at(path)
        assert route(path, path, "PUT") is None
        assert spoken.address.streaming == known.streaming


def test_a_model_in_the_address_may_have_slashes() -> None:
    spoken = route(
        "/openai/deployments/lab/gpt-4.1/chat/completions", "/openai/deployments/lab%2Fgpt-4.1/chat/completions"
    )
    assert spoken is not None
    assert spoken.address.model == "lab/gpt-4.1"


def test_an_item_is_no_step_up_and_stays_one_segment() -> None:
    for item in (".", "..", "a/b", ""):
        assert route(f"/v1/conversations/conv_1/items/{item}", "", "GET") is None
    spoken = route("/v1/conversations/conv_1/items/a?b#%2F", "", "GET")
    assert spoken is not None
    assert spoken.address.errand is not None
    assert spoken.address.errand.path == "/conv_1/items/a%3Fb%23%252F"


@pytest.mark.parametrize(
    "path",
    [
        "/v1/chat/completions/",
        "/v1//chat/completions",
        "/v1/chat/completions/../embeddings",
        "/V1/CHAT/COMPLETIONS",
        "/openai/deployments//chat/completions",
        "/openai/deployments/x/chat/completions/y",
        "/",
    ],
)
def test_what_only_resembles_a_route_is_none(path: str) -> None:
    assert route(path, path) is None
