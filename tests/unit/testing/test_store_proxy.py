"""The store proxy takes PostgreSQL's answers apart at their messages, however they arrive."""

from hypothesis import given
from hypothesis import strategies as st

from penstock.testing.store_proxy import split


def message(kind: bytes, body: bytes) -> bytes:
    return kind + (len(body) + 4).to_bytes(4, "big") + body


MESSAGES = st.lists(st.builds(message, st.sampled_from([b"A", b"D", b"Z"]), st.binary(max_size=20)), max_size=6)


@given(MESSAGES, st.integers(0, 200))
def test_any_split_of_the_bytes_gives_the_same_messages(messages: list[bytes], at: int) -> None:
    data = b"".join(messages)
    first, waiting = split(data[:at])
    then, rest = split(waiting + data[at:])
    assert (first + then, rest) == (messages, b"")
