"""The examples of the documents work: commands and curls against a real gateway, YAML in `penstock check`.

A page is read as its reader would follow it, from top to bottom. What an example cannot know (ports, the id of a call,
the number of a kill) is put in; everything else runs as it stands.
"""

import os
import re
import shlex
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest.mock import patch
from urllib.parse import quote

import pytest
import yaml

from penstock.cli.commands import run
from penstock.testing.caller import Caller
from penstock.testing.gateway import Gateway

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
COMMAND = re.compile(r"(\.venv/bin/)?(penstock|curl|export) ")
NOT_HERE = re.compile(r"penstock (serve|demo|bench|prove)\b")
"""They serve until they are stopped, or measure and prove for minutes; tests of their own start them."""
CALL_ID, KILL_NUMBER = re.compile(r"req_(\.\.\.|[0-9a-f]+)"), re.compile(r"(?<=kill lift )\d+|(?<=/kill/)\d+")
HELLO = {"model": "gpt-4.1", "messages": [{"role": "user", "content": "Say hello."}], "max_tokens": 50}


def blocks(page: Path, *languages: str) -> list[str]:
    """The fenced blocks of a page in these languages."""
    return [text for language, text in FENCE.findall(page.read_text()) if language in languages]


def commands(page: Path) -> list[str]:
    """The commands of a page that can run, in their order, continued lines joined."""
    text = "\n".join(blocks(page, "", "sh")).replace("\\\n", " ")
    lines = [line.strip() for line in text.splitlines() if COMMAND.match(line)]
    return [line.removeprefix(".venv/bin/") for line in lines if not NOT_HERE.search(line)]


_USERS_FIRST = [
    "limits",
    "keys",
    "models",
    "providers",
    "credentials",
    "tokens",
    "bindings",
    "projects",
    "users",
    "teams",
    "organisations",
]
"""What a page can make, each before what it refers to."""
SECRET_FILES = ("key.txt", "new-key.txt")
"""Where a reader keeps a provider's key."""


class Reader:
    """Somebody at a terminal beside the gateway who has followed the README: there is a key `ci`, and it has called."""

    def __init__(self, gateway: Gateway, capture: pytest.CaptureFixture[str]) -> None:
        self._gateway = gateway
        self._capture = capture

    def prepare(self, lines: list[str]) -> None:
        if not any("key create ci" in line for line in lines):
            self.follow("penstock key create ci --team growth --project search")

    def follow(self, line: str) -> None:
        """Runs one line of a page; fails with what it said unless it succeeds."""
        gateway, line = self._gateway, self._with_what_only_a_reader_knows(line)
        if line.startswith("penstock "):
            words = shlex.split(os.path.expandvars(line), comments=True)
            self._capture.readouterr()
            code = run(words[1:])
            said = self._capture.readouterr()
            assert code == 0, f"{line}\n{said.out}{said.err}"
            if secret := re.search(r"^secret +(pk-\w+)", said.out, re.MULTILINE):
                os.environ["PENSTOCK_KEY"] = secret[1]
                answer = gateway.caller(secret[1]).post("/v1/chat/completions", HELLO)
                narrow = answer.status == 403 and answer.error["code"] == "not_permitted"
                assert answer.status == 200 or narrow, answer.body
            return
        script = f'curl() {{ command curl -sS --fail-with-body "$@"; }}; {line}'
        variable = re.match(r"export (\w+)=", line)
        script += f'; printf %s "${variable[1]}"' if variable else ""
        ended = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=20, check=False)
        assert ended.returncode == 0, f"{line}\n{ended.stdout}{ended.stderr}"
        if variable:
            os.environ[variable[1]] = ended.stdout

    def _with_what_only_a_reader_knows(self, line: str) -> str:
        line = line.replace("http://127.0.0.1:8080", self._gateway.url)
        line = line.replace("http://127.0.0.1:8081", self._gateway.admin_url)
        if CALL_ID.search(line):
            of_a_call = next(item for item in self._items("receipts") if item["status"] == 200)
            line = CALL_ID.sub(of_a_call["request_id"], line)
        if KILL_NUMBER.search(line):
            line = KILL_NUMBER.sub(str(self._items("kills")[0]["generation"]), line)
        return line

    def tidy_up(self) -> None:
        """Lifts what was killed and deletes what was made, for the reader of the next page."""
        for kill in self._items("kills"):
            if kill["lifted_at"] is None:
                self._gateway.admin("DELETE", f"/admin/v1/kill/{kill['generation']}", {"reason": "the page is read"})
        for path in _USERS_FIRST:
            for made in sorted(self._items(path), key=lambda item: not item.get("parent")):  # children before parents
                if made["origin"] == "api" and (path, made["name"]) != ("organisations", "default"):
                    answer = self._gateway.admin("DELETE", f"/admin/v1/{path}/{quote(made['name'])}")
                    assert answer.status == 204, answer.body
        self._await_readiness()

    def _await_readiness(self) -> None:
        """A break-glass file that a page took away is missed by the worker a moment later."""
        deadline = time.monotonic() + 10
        while Caller(self._gateway.url).get("/readyz").status != 200:
            assert time.monotonic() < deadline, "the gateway does not admit calls again"
            time.sleep(0.02)

    def _items(self, path: str) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = self._gateway.admin("GET", f"/admin/v1/{path}").json()["items"]
        return items


@pytest.fixture
def reader(gateway: Gateway, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Reader]:
    for name, value in gateway.environment.items():
        monkeypatch.setenv(name, value)
    for name in ("PENSTOCK_KEY", "ADMIN"):
        monkeypatch.setenv(name, "")
    monkeypatch.chdir(gateway.directory)
    for name in SECRET_FILES:
        (gateway.directory / name).write_text("sk-made-up\n")
    reader = Reader(gateway, capsys)
    with patch.dict(os.environ):  # what a page exports is for that page
        yield reader
        reader.tidy_up()


@pytest.mark.parametrize("page", [page for page in PAGES if commands(page)], ids=lambda page: page.name)
def test_the_commands_of_a_page_work_from_top_to_bottom(page: Path, reader: Reader) -> None:
    lines = commands(page)
    reader.prepare(lines)
    for line in lines:
        reader.follow(line)


@pytest.mark.parametrize(
    ("page", "example"),
    [
        pytest.param(page, example, id=f"{page.name}-{number}")
        for page in PAGES
        for number, example in enumerate(blocks(page, "yaml"), 1)
    ],
)
def test_the_configuration_examples_have_no_fault(
    page: Path, example: str, readme_configuration: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "penstock.yaml"
    shown = yaml.safe_load(example)
    if "providers" in shown:
        file.write_text(example)
    else:
        # A part of a file stands for itself in the README's.
        settings = {name: value for name, value in shown.items() if isinstance(value, dict)}
        objects = {name: value for name, value in shown.items() if name not in settings}
        lists = {name: readme_configuration.get(name, []) + value for name, value in objects.items()}
        mine = {name: {item.get("name", repr(item)): item for item in items} for name, items in lists.items()}
        merged = readme_configuration | settings | {name: list(items.values()) for name, items in mine.items()}
        file.write_text(yaml.safe_dump(merged))
    code = run(["check", "-c", str(file)])
    assert code == 0, capsys.readouterr().err


def test_the_worked_example_of_a_limit_is_what_happens(gateway: Gateway, reader: Reader) -> None:
    page = (ROOT / "docs" / "limits.md").read_text()
    slow = {"provider": "slow", "model": "gpt-4.1"}
    model = {"name": "slow", "targets": [slow], "price": {"input": 2, "output": 8}, "max_output": 32_768}
    gateway.admin("POST", "/admin/v1/providers", {"name": "slow", "kind": "simulated", "options": {"latency_ms": 1500}})
    assert gateway.admin("POST", "/admin/v1/models", model).status == 201
    for line in commands(ROOT / "docs" / "limits.md"):
        if "key create example" in line:
            secret = gateway.admin("POST", "/admin/v1/keys", {"name": "example", "project": "search"}).json()["secret"]
        elif "limit create example-daily" in line:
            reader.follow(line)
    caller = gateway.caller(secret)

    (shown,) = [text for text in blocks(ROOT / "docs" / "limits.md", "json") if '"messages"' in text]

    def call(amount: str, body: str = shown) -> tuple[int, str, str]:
        """Status, code and words, under this amount."""
        assert gateway.admin("PATCH", "/admin/v1/limits/example-daily", {"amount": amount}).status == 200
        answer = caller.post("/v1/chat/completions", body.encode())
        if answer.status == 200:
            return 200, answer.headers["x-penstock-cost-usd"], ""
        return answer.status, answer.error["code"], answer.error["message"]

    def told(status: int, code: str, message: str) -> str:
        return f"{status} {code}\n" + re.sub(r"until \S+Z", "until 2026-11-21T00:00:00Z", message)

    assert told(*call("0.0005")) in page
    with ThreadPoolExecutor(1) as other:
        running = other.submit(call, "0.001", shown.replace("gpt-4.1", "slow"))
        held = _until_held(gateway)
        assert held == 614_000
        assert told(*call("0.001")) in page
        status, cost_usd, _ = running.result()
    assert status == 200
    assert f"x-penstock-cost-usd: {cost_usd}" in page
    assert told(*call("0.00062")) in page
    _, _, refused = call("0.00062", shown.replace(', "max_tokens": 50', ""))
    worst = re.search(r"up to (\$[0-9.]+),", refused)
    assert worst is not None
    assert f"the worst case is {worst[1]}" in " ".join(page.split())
    for number in ("614,000", "28,000", "107 x 2,000 + 50 x 8,000"):
        assert number in page


def _until_held(gateway: Gateway) -> int:
    """What is held on the example's limit, as soon as it is anything."""
    for _ in range(50):
        held = [row["held"] for row in gateway.limits() if row["limit"] == "example-daily"]
        if any(held):
            return sum(held)
        time.sleep(0.02)
    raise TimeoutError("nothing was held")
