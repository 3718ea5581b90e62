"""The envelope opens for what it was sealed for, and for nothing else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.errors import SealBroken
from penstock.vault import envelope

KEY = bytes(range(32))
CONTEXT = ("credential", "openai-main", "openai", "", "", "cv_1")


@given(st.binary(max_size=2_000), st.lists(st.text(max_size=20), max_size=6))
def test_what_is_sealed_opens_again_for_the_same_context_and_no_other(secret: bytes, context: list[str]) -> None:
    sealed = envelope.seal(KEY, secret, context)
    assert envelope.unseal(KEY, sealed, context) == secret
    with pytest.raises(SealBroken):
        envelope.unseal(KEY, sealed, [*context, ""])


@pytest.mark.parametrize("place", range(len(CONTEXT)))
def test_a_value_does_not_open_under_another_name_address_team_or_version(place: int) -> None:
    sealed = envelope.seal(KEY, b"sk-1", CONTEXT)
    moved = [*CONTEXT[:place], CONTEXT[place] + "x", *CONTEXT[place + 1 :]]
    with pytest.raises(SealBroken, match="does not open"):
        envelope.unseal(KEY, sealed, moved)


def test_parts_of_a_context_do_not_run_into_each_other() -> None:
    sealed = envelope.seal(KEY, b"sk-1", ("ab", "c"))
    with pytest.raises(SealBroken):
        envelope.unseal(KEY, sealed, ("a", "bc"))


def test_no_changed_byte_passes() -> None:
    sealed = envelope.seal(KEY, b"sk-1", CONTEXT)
    for place in range(len(sealed)):
        changed = bytearray(sealed)
        changed[place] ^= 1
        with pytest.raises(SealBroken):
            envelope.unseal(KEY, bytes(changed), CONTEXT)
    for length in range(len(sealed)):
        with pytest.raises(SealBroken):
            envelope.unseal(KEY, sealed[:length], CONTEXT)


def test_the_same_secret_is_sealed_differently_each_time_and_is_not_in_it() -> None:
    first, second = (envelope.seal(KEY, b"sk-canary", CONTEXT) for _ in range(2))
    assert first != second
    assert b"sk-canary" not in first + second


def test_a_key_is_256_random_bits() -> None:
    first, second = envelope.new_key(), envelope.new_key()
    assert len(first) == len(second) == 32
    assert first != second
