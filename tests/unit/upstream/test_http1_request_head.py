"""The head of a request: what it looks like, and what cannot get into it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.domain.http import HttpRequest, Origin
from penstock.upstream.http1.request import RequestWriter

LAB = Origin("http", "lab.example", 9001)


def head(method: str = "POST", path: str = "/v1/x", headers: list[tuple[str, str]] | None = None, **fields) -> bytes:
    origin = fields.pop("origin", LAB)
    return RequestWriter(origin).head(HttpRequest(method, origin, path, headers or [], **fields))


def test_a_head_is_what_a_server_expects():
    assert head(headers=[("authorization", "Bearer k"), ("x-latin", "é")], body=b"12345") == (
        b"POST /v1/x HTTP/1.1\r\nhost: lab.example:9001\r\nauthorization: Bearer k\r\nx-latin: \xe9\r\n"
        b"accept-encoding: identity\r\ncontent-length: 5\r\n\r\n"
    )


def test_an_empty_body_has_a_length_only_where_a_body_is_expected():
    assert b"content-length: 0\r\n" in head("POST")
    assert b"content-length" not in head("GET")
    assert b"content-length: 1\r\n" in head("DELETE", body=b"x")


def test_a_request_that_names_its_codings_is_left_alone():
    assert head(headers=[("accept-encoding", "gzip")]).count(b"accept-encoding") == 1


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        (Origin("http", "a.example", 80), b"a.example"),
        (Origin("https", "a.example", 443), b"a.example"),
        (Origin("https", "a.example", 80), b"a.example:80"),
        (Origin("http", "::1", 8080), b"[::1]:8080"),
        (Origin("http", "bücher.example", 80), b"xn--bcher-kva.example"),
    ],
)
def test_the_host_line_names_the_origin(origin, host):
    assert b"\r\nhost: " + host + b"\r\n" in head(origin=origin)


@pytest.mark.parametrize("origin", [Origin("ftp", "a", 1), Origin("http", "a b", 1), Origin("http", "a\r\nb", 1)])
def test_an_origin_that_is_none_is_refused(origin):
    with pytest.raises(ValueError, match="origin"):
        RequestWriter(origin)


@pytest.mark.parametrize("value", ["a\rb", "a\nb", "a\r\nx: y", "a\0", "\n", "snow ☃"])
def test_a_value_cannot_end_its_line(value):
    with pytest.raises(ValueError, match=r"line break|latin-1"):
        head(headers=[("x-model", value)])


@pytest.mark.parametrize(
    "name",
    ["", "x y", "x:", "x\r\n", "Upper", "é", "host", "content-length", "connection", "transfer-encoding", "upgrade"],
)
def test_a_name_is_a_lower_case_token_and_not_the_transports_own(name):
    with pytest.raises(ValueError, match="header name"):
        head(headers=[(name, "x")])


@pytest.mark.parametrize("path", ["", "v1", "/a b", "/a\r\nx: y", "/é", "/a\0", "http://other.example/"])
def test_a_path_is_visible_ascii_from_the_root(path):
    with pytest.raises(ValueError, match="request line"):
        head(path=path)


@pytest.mark.parametrize("method", ["", "get", "GET /x", "G\r\n"])
def test_a_method_is_a_word(method):
    with pytest.raises(ValueError, match="request line"):
        head(method)


@given(st.lists(st.tuples(st.text(max_size=8), st.text(max_size=12)), max_size=5), st.text(max_size=12))
def test_whatever_is_written_has_exactly_the_lines_that_were_asked_for(headers, path):
    try:
        written = head("GET", path, headers)
    except ValueError:
        return
    lines = written.split(b"\r\n")
    named = any(name == "accept-encoding" for name, _ in headers)
    assert len(lines) == 2 + len(headers) + (not named) + 2
    assert lines[-2:] == [b"", b""]
    assert not any(b"\r" in line or b"\n" in line or b"\0" in line for line in lines)


def test_what_is_remembered_stays_bounded_and_right():
    writer = RequestWriter(LAB)
    for number in range(3_000):
        written = writer.head(HttpRequest("GET", LAB, f"/{number}", [(f"x-{number}", "1")]))
        assert written.startswith(b"GET /%d HTTP/1.1\r\n" % number)
    assert len(writer._starts) <= 1_024
    assert len(writer._checked_names) <= 1_024
