"""The admin API is what its OpenAPI document says: schemathesis asks a real server what the document allows, and much
that it does not.

Left out is `positive_data_acceptance`: a body can be well-formed and still name a team that there is not.
"""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from penstock.testing.control import ControlProcess

CONFIG: dict[str, Any] = {
    "providers": [{"name": "lab", "kind": "compatible", "base_url": "http://127.0.0.1:9/v1"}],
    "models": [
        {"name": "gpt-4.1", "targets": [{"provider": "lab", "model": "up"}], "price": {"input": 2, "output": 8}},
        {"name": "lab/*"},
    ],
    "teams": [{"name": "growth"}],
    "projects": [{"name": "search", "team": "growth", "environment": "production"}],
    "limits": [{"name": "monthly", "match": {"team": "growth"}, "unit": "usd", "amount": 100, "per": "month"}],
}


SETTINGS = """
[generation]
with-security-parameters = false

[phases.coverage]
unexpected-methods = ["PUT"]
"""
"""Bounds on what is generated: one method that a path does not take tells as much as six."""


@pytest.mark.timeout(600)
def test_the_document_and_the_server_agree(tmp_path: Path) -> None:
    (tmp_path / "schemathesis.toml").write_text(SETTINGS)
    with ControlProcess(tmp_path, CONFIG) as control:
        words = ["--phases", "coverage,stateful", "--max-examples", "1", "--seed", "4", "--no-shrink", "--no-color"]
        words += ["--exclude-checks", "positive_data_acceptance", "--continue-on-failure", "--warnings", "off"]
        words += ["--exclude-path-regex", "/(organisations|projects|users|providers|bindings)"]  # as the other nouns
        words += ["--header", f"Authorization: Bearer {control.admin_key}"]
        asked = subprocess.run(
            [Path(sys.executable).with_name("st"), "run", *words, f"{control.url}/admin/openapi.json"],
            cwd=tmp_path,
            env={**os.environ, "HOME": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=560,
            check=False,
        )
        assert asked.returncode == 0, asked.stdout[-8000:] + asked.stderr[-2000:]
        generated = re.search(r"(\d+) generated", asked.stdout)
        assert generated is not None and int(generated[1]) > 500
        assert "Traceback" not in control.output()
