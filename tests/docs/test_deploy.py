"""The container file and the systemd unit say what they promise: no root, one place to write to, nothing unpinned.

No container engine is needed for that. The unit is checked by systemd itself where the machine has it.
"""

import re
import shutil
import subprocess
import tomllib
from configparser import RawConfigParser
from pathlib import Path

import pytest

DEPLOY = Path(__file__).parents[2] / "deploy"
MOST_EXPOSED = 20
"""`systemd-analyze security` gives 0 (safe) to 100 points."""


def instructions() -> list[tuple[str, str]]:
    """Those of the container file, with their arguments on one line."""
    text = re.sub(r"\\\n\s*", "", (DEPLOY / "Containerfile").read_text())
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [(line.split(" ", 1)[0], line.split(" ", 1)[1]) for line in lines]


def test_the_container_runs_as_a_user_with_a_number_that_is_not_roots() -> None:
    said = instructions()
    users = [argument for word, argument in said if word == "USER"]
    assert users and users[-1].split(":")[0].isdigit() and users[-1].split(":")[0] != "0"
    last = max(position for position, (word, _) in enumerate(said) if word == "USER")
    assert not [word for word, _ in said[last:] if word in ("RUN", "COPY", "ADD")]


def test_the_container_writes_to_one_volume_and_says_whether_it_is_healthy() -> None:
    said = dict(instructions())
    assert said["VOLUME"] == '["/var/lib/penstock"]'
    assert "PENSTOCK_DATA=/var/lib/penstock" in said["ENV"]
    assert "/healthz" in said["HEALTHCHECK"]
    assert said["ENTRYPOINT"] == '["penstock"]'  # an exec form: signals reach the supervisor


def test_the_container_is_built_from_pinned_things_and_holds_no_secret() -> None:
    for word, argument in instructions():
        if word == "FROM":
            assert re.search(r":\d", argument), f"{argument} has no version"
        if "pip install" in argument:
            assert all(
                "--require-hashes" in each or "--no-deps" in each
                for each in argument.split("&&")
                if "pip install" in each
            )
        assert word != "ADD"
        assert not re.search(r"(KEY|SECRET|PASSWORD)=", argument)
    sources = [name for word, argument in instructions() if word == "COPY" for name in argument.split()[:-1]]
    for name in sources:
        if not name.startswith(("--", "/")):
            assert (DEPLOY.parent / name).exists(), name


def test_what_the_container_is_built_with_is_locked_by_hash_and_what_it_starts_is_there() -> None:
    project = tomllib.loads((DEPLOY.parent / "pyproject.toml").read_text())
    installs = [argument for word, argument in instructions() if word == "RUN" and "--require-hashes" in argument]
    locks = [match for argument in installs for match in re.findall(r"-r (\S+)", argument)]
    assert locks == ["requirements/postgres.lock"]
    lock = re.sub(r"\\\n\s*", " ", (DEPLOY.parent / locks[0]).read_text())
    lines = [line for line in lock.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    assert lines and all(re.match(r"[\w.-]+(\[[\w,-]+\])?==\S+.* --hash=sha256:", line) for line in lines)
    # Without build isolation the backend must have come from the lock file.
    backends = {re.split(r"[<>=~! ]", name)[0] for name in project["build-system"]["requires"]}
    assert backends <= {line.split("==")[0] for line in lines}
    (entry,) = re.findall(r'"(\w+)"', dict(instructions())["ENTRYPOINT"])
    assert entry in project["project"]["scripts"]
    (version,) = {re.search(r"python:(\d+\.\d+)", argument)[1] for word, argument in instructions() if word == "FROM"}  # type: ignore[index]
    assert project["project"]["requires-python"] == f">={version}"


def test_the_unit_gives_the_gateway_no_rights_that_it_does_not_need() -> None:
    unit = RawConfigParser(strict=False)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(DEPLOY / "penstock.service")
    service = unit["Service"]
    assert service["User"] not in ("", "root")
    assert (service["ProtectSystem"], service["NoNewPrivileges"], service["CapabilityBoundingSet"]) == (
        "strict",
        "yes",
        "",
    )
    assert service["StateDirectory"] == "penstock"
    assert int(service["TimeoutStopSec"]) > 30  # server.drain_timeout


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed here")
def test_systemd_understands_the_unit_and_finds_it_little_exposed(tmp_path: Path) -> None:
    unit = tmp_path / "penstock.service"
    program = shutil.which("true")
    text = (DEPLOY / "penstock.service").read_text()
    unit.write_text(re.sub(r"ExecStart=\S+", f"ExecStart={program}", text))
    verified = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, check=False)
    if "Failed to" in verified.stderr and "bus" in verified.stderr:
        pytest.skip("systemd cannot be asked here")
    assert (verified.returncode, verified.stderr) == (0, "")
    words = ["systemd-analyze", "security", "--offline=true", f"--threshold={MOST_EXPOSED}", str(unit)]
    judged = subprocess.run(words, capture_output=True, text=True, check=False)
    assert judged.returncode == 0, judged.stdout[-500:] + judged.stderr
