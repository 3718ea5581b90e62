"""Coding agents of the vendors, unchanged, on a model of another vendor: they complete a task in three turns.

Claude Code speaks Messages and Codex speaks Responses; the model behind the gateway speaks Chat Completions. The agents
are installed by `make agents`; where they are not, these tests are skipped.
"""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from penstock.testing.gateway import Gateway, new_secret, usd_price
from penstock.testing.scripted import (
    DONE,
    SSE_TYPE,
    VENDOR_HEADERS,
    Reply,
    ScriptedProvider,
    chunk,
    completion,
    event,
    usage,
)

REPOSITORY = Path(__file__).resolve().parents[2]
INSTALLED = REPOSITORY / ".venv" / "agents" / "node_modules" / ".bin"
MODEL = "gpt-scripted"


def agent(name: str) -> str:
    """The path of an agent's command; the test is skipped without it."""
    found = shutil.which(name, path=f"{INSTALLED}:{os.environ.get('PATH', '')}")
    if found is None:
        pytest.skip(f"the command '{name}' is not here: make agents")
    return found


class Task:
    """A model with a plan: it has the agent write a file, read it, and then tells what it read. The tools are those of
    Claude Code."""

    needed = frozenset({"Write", "Read"})

    def __init__(self, file: Path) -> None:
        self.file = file
        self.results: list[str] = []

    def calls(self) -> list[tuple[str, dict[str, Any]]]:
        return [
            ("Write", {"file_path": str(self.file), "content": "north gauge: 12.4 m\n"}),
            ("Read", {"file_path": str(self.file)}),
        ]

    async def answer(self, reply: Reply) -> None:
        body = reply.received.json()
        told = [message["content"] for message in body["messages"] if message["role"] == "tool"]
        offered = {tool["function"]["name"] for tool in body.get("tools", ()) if tool["type"] == "function"}
        if not self.needed <= offered:  # the agent asks for a title, or something else beside the task
            await self._say(reply, [{"content": "Gauges"}], "stop")
            return
        self.results = [str(one) for one in told]
        if len(told) < len(self.calls()):
            name, arguments = self.calls()[len(told)]
            text = json.dumps(arguments)
            half = len(text) // 2
            call = {"index": 0, "id": f"call_{len(told)}", "type": "function"}
            deltas: list[dict[str, Any]] = [
                {"content": "One moment."},
                {"tool_calls": [{**call, "function": {"name": name, "arguments": text[:half]}}]},
                {"tool_calls": [{"index": 0, "function": {"arguments": text[half:]}}]},
            ]
            await self._say(reply, deltas, "tool_calls")
        else:
            await self._say(reply, [{"content": "The north gauge "}, {"content": "reads 12.4 m."}], "stop")

    @staticmethod
    async def _say(reply: Reply, deltas: list[dict[str, Any]], finish: str) -> None:
        if not reply.received.json().get("stream"):
            text = "".join(delta.get("content", "") for delta in deltas)
            data = json.dumps(completion(MODEL, text)).encode()
            await reply.whole(200, [("content-type", "application/json"), *VENDOR_HEADERS], data)
            return
        await reply.head(200, [SSE_TYPE, *VENDOR_HEADERS])
        for delta in [{"role": "assistant", "content": ""}, *deltas]:
            await reply.body(event(chunk(MODEL, delta)))
        await reply.body(event(chunk(MODEL, {}, finish)))
        await reply.body(event({**chunk(MODEL, {}), "choices": [], "usage": usage(1000, 20)}) + DONE)
        await reply.end()


class ShellTask(Task):
    """The same with the one tool that Codex has for everything."""

    needed = frozenset({"exec_command"})

    def calls(self) -> list[tuple[str, dict[str, Any]]]:
        return [
            ("exec_command", {"cmd": f"echo 'north gauge: 12.4 m' > {self.file}"}),
            ("exec_command", {"cmd": f"cat {self.file}"}),
        ]


def configuration(lab: ScriptedProvider, *surfaces: str) -> dict[str, Any]:
    """With a key that may be used at these surfaces alone."""
    return {
        "providers": [{"name": "lab", "kind": "moonshot", "base_url": lab.base_url}],
        "models": [
            {
                "name": "dam-keeper",
                "targets": [{"provider": "lab", "model": MODEL}],
                "price": usd_price(1, 4),
                "max_output": 32_000,
            }
        ],
        "teams": [{"name": "agents"}],
        "keys": [{"name": "agent", "team": "agents", "secret": "env:AGENT_KEY", "surfaces": list(surfaces)}],
        "limits": [{"match": {"team": "agents"}, "unit": "usd", "amount": 50, "per": "total"}],
    }


PROMPT = "Write down the reading of the north gauge, read it again, and tell me what it says."
PAGE = (REPOSITORY / "docs" / "agents.md").read_text()


def settings(language: str, url: str, key: str) -> list[str]:
    """What the page says to write, for this gateway and this key."""
    blocks = re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    return [block.replace("http://127.0.0.1:8080", url).replace("$PENSTOCK_KEY", key) for block in blocks]


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_codex_completes_a_task_of_three_turns_on_a_model_of_another_vendor(tmp_path: Path) -> None:
    command, key = agent("codex"), new_secret()
    work, home = tmp_path / "work", tmp_path / ".codex"
    work.mkdir()
    home.mkdir()
    task = ShellTask(work / "gauge.txt")
    with ScriptedProvider() as lab:
        lab.on(MODEL, task.answer)
        with Gateway(tmp_path / "gateway", configuration(lab, "responses"), {"AGENT_KEY": key}) as gateway:
            (config,) = settings("toml", gateway.url, key)
            (home / "config.toml").write_text(config)
            last = tmp_path / "last.txt"
            done = subprocess.run(
                [
                    *(command, "exec", "--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox"),
                    *("--output-last-message", str(last), PROMPT),
                ],
                cwd=work,
                env={"PATH": os.environ.get("PATH", ""), "HOME": str(tmp_path), "PENSTOCK_KEY": key},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=200,
                check=False,
            )
            assert done.returncode == 0, (done.stdout[-2000:], done.stderr[-2000:])
            total = gateway.admin("GET", "/admin/v1/usage?by=team,model").json()["total"]
    assert last.read_text().strip() == "The north gauge reads 12.4 m."
    assert task.file.read_text() == "north gauge: 12.4 m\n"
    assert "12.4 m" in task.results[1]
    assert total["errors"] == 0
    assert total["calls"] == len(lab.received) == 3


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize(("setting", "surface"), [(0, "messages"), (1, "invoke")], ids=["anthropic", "bedrock"])
def test_claude_code_completes_a_task_of_three_turns_on_a_model_of_another_vendor(
    tmp_path: Path, setting: int, surface: str
) -> None:
    command, key = agent("claude"), new_secret()
    work = tmp_path / "work"
    work.mkdir()
    task = Task(work / "gauge.txt")
    with ScriptedProvider() as lab:
        lab.on(MODEL, task.answer)
        with Gateway(tmp_path / "gateway", configuration(lab, surface), {"AGENT_KEY": key}) as gateway:
            environment = {
                "PATH": os.environ.get("PATH", ""),
                "HOME": str(tmp_path),
                **dict(re.findall(r"export (\w+)=(.*)", settings("sh", gateway.url, key)[setting])),
                "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
                "DISABLE_AUTOUPDATER": "1",
            }
            done = subprocess.run(
                [command, "-p", PROMPT, "--output-format", "json", "--allowedTools", "Write,Read"],
                cwd=work,
                env=environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=200,
                check=False,
            )
            assert done.returncode == 0, (done.stdout[-2000:], done.stderr[-2000:])
            told = json.loads(done.stdout)
            rows = gateway.admin("GET", "/admin/v1/usage?by=model").json()["rows"]
    assert told["result"] == "The north gauge reads 12.4 m."
    assert not told["is_error"]
    assert told["num_turns"] == 3
    assert task.file.read_text() == "north gauge: 12.4 m\n"
    assert "12.4 m" in task.results[1]
    # At Bedrock it also tries which of Anthropic's models there are; here, none.
    (used,) = [row for row in rows if row["model"] == MODEL]
    assert used["errors"] == 0
    assert used["cost_nanousd"] == sum(
        1000 * 1_000 + 20 * 4_000 for received in lab.received if received.json().get("stream")
    ) + sum(10 * 1_000 + 5 * 4_000 for received in lab.received if not received.json().get("stream"))
