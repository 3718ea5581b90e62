"""Backups: which journals they must have, and which manifests are refused."""

from penstock.control.backup import Kept, _nothing_missed


def test_a_journal_that_is_deleted_after_the_store_was_copied_must_be_among_the_copies() -> None:
    kept = {"journals/1-0.journal": Kept(900, ""), "journals/1-1.journal": Kept(500, "")}
    assert _nothing_missed({1: (0, 700)}, {1: (0, 700), 2: (0, 0)}, {"journals/2-0.journal": Kept(30, "")})
    assert _nothing_missed({1: (0, 700)}, {1: (1, 400)}, kept)
    assert not _nothing_missed({1: (0, 700)}, {1: (1, 600)}, kept), "it grew after it was copied"
    assert not _nothing_missed({1: (0, 700)}, {1: (2, 10)}, kept), "a later part is missing"
    assert not _nothing_missed({1: (0, 700)}, {1: (0, 700), 2: (0, 80)}, kept), "a whole epoch is missing"
