"""Heads: what a request's must be, how its path is read, and how an answer's is written."""

from email.utils import parsedate_to_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.surfaces.http1.heads import LOWER, BadRequest, DateHeader, answer_head, path_of


@pytest.mark.parametrize(
    ("target", "path"),
    [
        (b"/", "/"),
        (b"/v1/models?limit=2&x=/y", "/v1/models"),
        (b"/a%20b%2Fc", "/a b/c"),
        (b"/a%2520b", "/a%20b"),
        (b"/..%2f../etc", "/../../etc"),
        (b"/caf%c3%a9", "/café"),
        (b"/%ff", "/\ufffd"),
        (b"/%zz", "/%zz"),
        (b"*", "*"),
        (b"http://host:1/v1/models?x=1", "/v1/models"),
        (b"http://host", "/"),
        (b"/go/http://host/x", "/go/http://host/x"),
    ],
)
def test_a_path_is_decoded_once_and_has_no_query(target: bytes, path: str) -> None:
    assert path_of(target) == path


@pytest.mark.parametrize("target", [b"/%00", b"/a%0d%0ab", b"/%1b[31m", b"/%7f", b"/%c2%85"])
def test_a_path_with_control_characters_is_refused(target: bytes) -> None:
    with pytest.raises(BadRequest) as refused:
        path_of(target)
    assert refused.value.status == 400


@given(st.binary(max_size=60))
def test_any_target_has_a_path_or_is_refused(target: bytes) -> None:
    try:
        assert isinstance(path_of(target), str)
    except BadRequest as refused:
        assert refused.status == 400


def test_an_answers_head_is_the_status_line_and_the_fields_as_given() -> None:
    assert answer_head(200, [(b"x-a", b"1"), (b"x-b", b"caf\xe9")]) == b"HTTP/1.1 200 OK\r\nx-a: 1\r\nx-b: caf\xe9\r\n"
    assert answer_head(529, []) == b"HTTP/1.1 529 \r\n"


@pytest.mark.parametrize("bad", [b"a\r\nset-cookie: b", b"a\nb", b"a\rb", b"a\0b", b"\r\n"])
def test_a_header_with_a_line_break_is_never_written(bad: bytes) -> None:
    for field in ((b"x-a", bad), (bad, b"1")):
        with pytest.raises(ValueError, match="line break"):
            answer_head(200, [(b"x-z", b"1"), field])


def test_the_date_is_now_as_http_writes_it() -> None:
    line = DateHeader().line()
    assert line.startswith(b"date: ")
    assert line.endswith(b" GMT\r\n")
    assert parsedate_to_datetime(line.decode()[6:].strip()).year >= 2024


def test_the_usual_names_are_known_in_both_forms() -> None:
    assert LOWER[b"Content-Type"] == LOWER[b"content-type"] == "content-type"
    assert all(form.decode().lower() == name for form, name in LOWER.items())
