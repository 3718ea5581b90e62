"""The page on clients says what works: each vendor's library is called as it stands there."""

import re
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from penstock.testing.lab import Lab

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "clients.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
LIBRARIES = [re.search(r"(?:from|import) (\w+)", block)[1] for block in BLOCKS]  # type: ignore[index]


def test_every_vendors_library_is_on_the_page() -> None:
    assert LIBRARIES == ["openai", "anthropic", "google", "cohere", "boto3"]


@pytest.mark.parametrize("block", BLOCKS, ids=LIBRARIES)
def test_a_vendors_library_is_answered(lab: Lab, block: str) -> None:
    code = block.replace("http://127.0.0.1:8080", lab.gateway.url).replace("dam-keeper", "lab-model")
    names: dict[str, Any] = {"KEY": lab.secrets["ci"]}
    exec(code, names)
    assert names["answer"] == "Hello there."
    with ExitStack() as stack:  # so that no socket is left open
        client = names["client"]
        if hasattr(client, "__exit__"):
            stack.enter_context(client)
        else:
            client.close()
