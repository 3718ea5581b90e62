"""What YAML text is read as, and what no text can do."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.config.document import MAX_BYTES, dotted, read


def test_scalars_are_what_people_mean_by_them() -> None:
    text = b"""
a: true
b: yes
c: on
d: 010
e: 1:30
f: 0.1
g: 1_000
h: -5
i: ~
j: '5'
k: 2026-01-01
l: .inf
m: 123456789.123456789
n: ''
o: 1.0e-05
p: .5
q: 1e6
r: -2.5E+3
s: 1e500
t: e5
u: 7e
"""
    assert read(text).data == {
        "a": True,
        "b": "yes",
        "c": "on",
        "d": "010",
        "e": "1:30",
        "f": Decimal("0.1"),
        "g": 1000,
        "h": -5,
        "i": None,
        "j": "5",
        "k": "2026-01-01",
        "l": ".inf",
        "m": Decimal("123456789.123456789"),
        "n": "",
        "o": Decimal("0.00001"),
        "p": Decimal("0.5"),
        "q": Decimal(1_000_000),
        "r": Decimal(-2500),
        "s": "1e500",
        "t": "e5",
        "u": "7e",
    }


def test_every_value_and_key_has_its_place() -> None:
    document = read(b"a:\n  - x: 1\n    y: {z: 2}\n")
    assert document.values[("a", 0, "y", "z")] == (3, 12)
    assert document.keys[("a", 0, "y")] == (3, 5)


def test_a_fault_of_something_absent_stands_where_it_should_have_been() -> None:
    document = read(b"a:\n  - x: 1\n")
    assert document.fault(("a", 0, "missing"), "is missing").line("f") == "f:2:5: a[0].missing: is missing"


@pytest.mark.parametrize("text", ["[" * 100_000, "{a: " * 100_000, "- " * 100_000, "? " * 100_000])
def test_depth_is_bounded_before_anything_recurses(text: str) -> None:
    (fault,) = read(text.encode()).faults
    assert "nested deeper than 32 levels" in fault.message


def test_size_is_bounded_before_it_is_parsed() -> None:
    (fault,) = read(b"#" * (MAX_BYTES + 1)).faults
    assert fault.message == "the file holds more than 8 MiB"


@pytest.mark.parametrize(
    ("content", "place"),
    [
        (b"a: 1\nb: [", "f:3:1"),
        (b"a: 1\nb: \xff", "f:2:4"),
        (b"a: 1\nb: \x07", "f:2:4"),
        (b"a: *nothing", "f:1:4"),
        (b"---\na: 1\n---\nb: 1\n", "f:3:1"),
    ],
)
def test_what_is_not_yaml_says_where(content: bytes, place: str) -> None:
    (fault,) = read(content).faults
    assert fault.line("f").startswith(f"{place}: ")


def test_a_byte_order_mark_is_no_fault() -> None:
    assert read("\ufeffa: 1".encode()).data == {"a": 1}


def test_a_tag_never_makes_an_object() -> None:
    document = read(b"a: !!python/object/apply:os.getcwd []")
    assert "is not read" in document.faults[0].message
    assert document.data == {"a": []}


@given(st.binary(max_size=200))
def test_no_bytes_crash_the_reader(content: bytes) -> None:
    for fault in read(content).faults:
        assert fault.line("f")


@given(st.text(alphabet="[]{}:,-*&!|>'\"\n #?%@ab01.", max_size=120))
def test_no_yaml_like_text_crashes_the_reader(text: str) -> None:
    for fault in read(text.encode()).faults:
        assert fault.line("f")


def test_paths_read_like_code() -> None:
    assert dotted(("providers", 0, "credentials", 1, "value")) == "providers[0].credentials[1].value"
