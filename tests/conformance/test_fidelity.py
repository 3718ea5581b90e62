"""What each translation keeps: nothing goes in silence, and the page tells the truth."""

from pathlib import Path

from penstock.dialects.registry import CONVERSATIONS
from penstock.testing.fidelity import judge, vectors
from penstock.testing.fidelity.page import page

PAGE = Path(__file__).parents[2] / "docs" / "fidelity.md"


def test_nothing_of_a_request_is_lost_in_silence() -> None:
    judged = judge.requests()
    assert len(judged) > 30 * len(CONVERSATIONS)
    assert [one for one in judged if one.verdict == "LOST"] == []


def test_nothing_of_a_request_for_embeddings_is_lost_in_silence() -> None:
    judged = vectors.requests()
    assert len(judged) == len(vectors.TARGETS) * len(vectors.FEATURES)
    assert [one for one in judged if one.verdict == "LOST"] == []


def test_every_dialect_tells_its_callers_what_matters_of_an_answer() -> None:
    """Text, tool calls, why it ended, and what is billed: there is no dialect that cannot say these."""
    always = {"text", "a tool call", "text and parallel tool calls", "stopped at the cap", "tokens in and out"}
    told = [one for one in judge.answers() if one.feature in always]
    assert len(told) == len(always) * len(CONVERSATIONS)
    assert [one for one in told if one.verdict != "kept"] == []


def test_the_page_is_what_the_code_does() -> None:
    assert PAGE.read_text() == page(), "write it again: python -m penstock.testing.fidelity.page > docs/fidelity.md"
