"""Where a gateway stands, read without the rest of its file."""

import pytest

from penstock.config.loading import parse
from penstock.config.place import DEFAULT_PLACE, Place, place_in
from penstock.errors import ConfigFaults


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("teams: []", DEFAULT_PLACE),
        ("server:", DEFAULT_PLACE),
        ("server: {admin: '127.0.0.1:9'}", DEFAULT_PLACE),
        ("server: {listen: '[::1]:80', workers: 3, data: /d}\nproviders: 7", Place("[::1]:80", "/d", 3)),
    ],
)
def test_it_is_what_the_file_says_whatever_else_is_wrong_there(text: str, place: Place) -> None:
    assert place_in(text.encode()) == place


@pytest.mark.parametrize(
    "text",
    [
        "",
        "server: {listen: 8080}",
        "server: {listen: 'localhost'}",
        "server: {listen: 'localhost:70000'}",
        "server: {listen: }",
        "server: {workers: 0}",
        "server: {workers: 65}",
        "server: {workers: true}",
        "server: {data: ''}",
        "server: [listen]",
        "server: {listen: a:1, listen: b:2}",
        "- server",
        "server: {listen: 'a:1'",
        "server: !!python/name:os.system",
    ],
)
def test_what_is_not_plainly_right_is_for_the_check_of_the_whole_file(text: str) -> None:
    assert place_in(text.encode()) is None
    with pytest.raises(ConfigFaults):
        parse(text.encode(), "penstock.yaml")


def test_the_defaults_are_those_of_the_whole_file() -> None:
    server = parse(b"teams: [{name: growth}]", "penstock.yaml").server
    assert Place(server.listen, server.data, server.workers) == DEFAULT_PLACE
