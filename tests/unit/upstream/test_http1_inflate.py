"""Content codings: in any pieces the same, bounded in every step, damage noticed."""

import gzip
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.upstream.http1.inflate import STEP_BYTES, Inflater


def coded(data: bytes, coding: str) -> bytes:
    if coding == "gzip":
        return gzip.compress(data, mtime=0)
    coder = zlib.compressobj(wbits=15 if coding == "zlib" else -15)
    return coder.compress(data) + coder.flush()


def plain(parts: list[bytes], coding: str) -> bytes:
    inflater = Inflater("gzip" if coding == "gzip" else "deflate")
    result = b""
    for part in parts:
        inflater.push(part)
        while step := inflater.pull():
            assert len(step) <= STEP_BYTES
            result += step
    inflater.finish()
    return result


CODINGS = st.sampled_from(["gzip", "zlib", "bare"])


@given(st.binary(max_size=2_000), CODINGS, st.lists(st.integers(1, 500)))
def test_what_was_coded_comes_back_in_any_pieces(data, coding, widths):
    rest, parts = coded(data, coding), []
    for width in widths:
        parts.append(rest[:width])
        rest = rest[width:]
    assert plain([*filter(None, parts), rest], coding) == data


@given(st.binary(min_size=1, max_size=2_000), CODINGS, st.data())
def test_a_body_that_stops_in_the_middle_is_damaged(data, coding, draw):
    whole = coded(data, coding)
    with pytest.raises(ValueError, match="coded body"):
        plain([whole[: draw.draw(st.integers(1, len(whole) - 1))]], coding)


@pytest.mark.parametrize("coding", ["gzip", "zlib", "bare"])
def test_large_bodies_come_in_steps_even_when_all_input_is_already_there(coding):
    data = bytes(3_000_000) + b"end"
    assert plain([coded(data, coding)], coding) == data


def test_an_empty_body_is_whole():
    assert plain([], "gzip") == b""


@pytest.mark.parametrize("coding", ["zlib", "bare"])
def test_deflate_has_one_member(coding):
    with pytest.raises(ValueError, match="coded body"):
        plain([coded(b"one", coding) + coded(b"two", coding)], coding)
