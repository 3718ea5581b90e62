"""The page on access has the permission table that is in force."""

from pathlib import Path

from penstock.control.permissions import MEANINGS, ROLES, TABLE

PAGE = (Path(__file__).parents[2] / "docs" / "access.md").read_text()


def test_the_table_of_the_page_is_the_one_of_the_code() -> None:
    heading = f"| permission | about | {' | '.join(ROLES)} |"
    lines = PAGE.partition(heading)[2].strip().splitlines()[1:]
    written = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[: len(TABLE)]]
    assert written == [
        [f"`{name}`", about, *("x" if role in roles else "" for role in ROLES)]
        for name, (about, roles) in TABLE.items()
    ]


def test_every_role_is_explained_in_the_words_of_the_code() -> None:
    for role, meaning in MEANINGS.items():
        assert f"| {role} | {meaning}" in PAGE
