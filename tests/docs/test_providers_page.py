"""The page of providers has every entry of the catalogue as it is."""

from pathlib import Path

from penstock.domain.vendors import COMPATIBLE

PAGE = (Path(__file__).parents[2] / "docs" / "providers.md").read_text().splitlines()


def test_every_vendor_is_on_the_page_as_its_entry_says() -> None:
    missing = []
    for kind, entry in COMPATIBLE.items():
        row = (
            f"| `{kind}` | {entry.title} | {entry.base_url or 'state it'} | {', '.join(entry.paths)} | `{entry.cap}` "
            f"| {entry.usage} | {entry.ending} | [{entry.read}]({entry.docs}) |"
        )
        missing += [] if row in PAGE else [row]
    assert missing == []
