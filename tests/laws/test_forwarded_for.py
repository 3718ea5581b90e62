"""Laws of the address that a call comes from: no caller can choose it."""

from hypothesis import given
from hypothesis import strategies as st

from penstock.admission.address import client_address, is_within

TRUSTED = ("10.0.0.0/8",)
PROXIES = st.integers(0, 255).map(lambda number: f"10.0.0.{number}")
OTHERS = st.integers(0, 255).map(lambda number: f"198.51.100.{number}")
WRITTEN = st.lists(PROXIES | OTHERS | st.text("0123456789.:[], abc", max_size=12), max_size=4)
"""What a caller can have put into the header by itself."""


@given(WRITTEN, OTHERS, st.lists(PROXIES, min_size=1, max_size=4))
def test_whatever_a_caller_writes_its_address_is_the_one_that_the_first_proxy_saw(
    written: list[str], caller: str, proxies: list[str]
) -> None:
    """The caller calls the first proxy; each proxy appends the address that it was called from."""
    header = ", ".join([*written, caller, *proxies[:-1]])
    assert str(client_address(proxies[-1], header, TRUSTED)) == caller


@given(WRITTEN, OTHERS)
def test_who_comes_without_a_proxy_is_whom_the_connection_names(written: list[str], caller: str) -> None:
    assert str(client_address(caller, ", ".join(written), TRUSTED)) == caller


@given(WRITTEN, PROXIES)
def test_an_address_that_is_found_is_written_there_or_is_the_connections(written: list[str], peer: str) -> None:
    found = client_address(peer, ", ".join(written) or None, TRUSTED)
    if found is not None and str(found) != peer:
        assert any(str(found) in hop for hop in ", ".join(written).split(","))
        assert not is_within(found, TRUSTED) or all(
            is_within(hop, TRUSTED) for it in written if (hop := client_address(it, None, ())) is not None
        )
