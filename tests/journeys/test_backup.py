"""A backup made under load is one consistent state, and a gateway that is put back from it goes on with equal books,
on the same kind of database or on the other."""

import json
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import yaml

from penstock.store.migrate import newest_revision
from penstock.testing.gateway import Gateway
from penstock.testing.lab import Lab
from penstock.testing.postgres import Postgres
from penstock.testing.wire import eventually

COUNTED: list[dict[str, Any]] = [
    {"name": "calls", "match": {"key": "ci"}, "unit": "requests", "amount": 1_000_000, "per": "total"},
    {"name": "money", "match": {"key": "ci"}, "unit": "usd", "amount": 1_000, "per": "month"},
]
WORST_NANOUSD = 1_000_000
"""More than one call holds."""

KEYS: dict[str, dict[str, Any]] = {"ci": {"team": "growth"}}


class Load:
    """Calls, one after the other, until the block ends. `answered` counts those that were answered with 200."""

    def __init__(self, lab: Lab) -> None:
        self.answered = 0
        self._lab = lab
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._stop.wait(0.01):
            self.answered += self._lab.chat("ci").status == 200

    def __enter__(self) -> "Load":
        self._thread.start()
        eventually(lambda: self.answered >= 5, 20, "calls are answered")
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


MakeStore = Callable[[str], str]


@pytest.fixture
def new_store(request: pytest.FixtureRequest) -> Iterator[MakeStore]:
    """Makes the setting `store` for an empty store of a kind."""
    with ExitStack() as stack:

        def make(kind: str) -> str:
            if kind == "sqlite":
                return "sqlite"
            server: Postgres = request.getfixturevalue("postgres")
            return server.url(stack.enter_context(server.database()))

        yield make


def back_up(gateway: Gateway, target: Path) -> Path:
    made = gateway.run("backup", str(target), "-c", str(gateway.file))
    assert made.returncode == 0, made.stderr
    return target


def put_back(lab: Lab, backup: Path, store: str) -> None:
    """The gateway stops, loses its data directory and its store, and starts on the backup with another."""
    gateway = lab.gateway
    gateway.stop()
    gateway.data.rename(gateway.directory / "lost")
    gateway.config["store"] = store
    gateway.file.write_text(yaml.safe_dump(gateway.config, sort_keys=False))
    restored = gateway.run("restore", str(backup), "-c", str(gateway.file))
    assert restored.returncode == 0, restored.stderr
    gateway.start()


@pytest.mark.parametrize(("kind", "kind_after", "workers"), [("sqlite", "postgresql", 2), ("postgresql", "sqlite", 1)])
def test_a_backup_under_load_is_put_back_with_every_call_that_was_answered_before_it(
    own_lab: Callable[..., Lab], new_store: MakeStore, tmp_path: Path, kind: str, kind_after: str, workers: int
) -> None:
    lab = own_lab(KEYS, COUNTED, workers, store=new_store(kind))
    with Load(lab) as load:
        before = load.answered
        back_up(lab.gateway, tmp_path / "backup")
        after = load.answered + 1
    assert any((tmp_path / "backup" / "journals").iterdir())
    (money,) = [row for row in lab.gateway.limits() if row["limit"] == "money"]
    price = money["settled"] // load.answered
    put_back(lab, tmp_path / "backup", new_store(kind_after))
    calls = lab.gateway.settled("calls")
    assert before <= calls <= after
    # The call that was under way is an estimate.
    assert (calls - 1) * price <= lab.gateway.settled("money") <= calls * price + WORST_NANOUSD
    eventually(lambda: lab.gateway.held() == 0, 5, "nothing is held")
    verified = lab.gateway.verify()
    assert verified.returncode == 0, verified.stderr
    assert lab.chat("ci").status == 200
    eventually(lambda: lab.gateway.settled("calls") == calls + 1, 5, "the next call is counted")


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_what_a_killed_gateway_left_is_backed_up_while_it_is_down_and_nothing_is_lost(
    own_lab: Callable[..., Lab], new_store: MakeStore, tmp_path: Path, kind: str
) -> None:
    lab = own_lab(KEYS, COUNTED, store=new_store(kind))
    answered = sum(lab.chat("ci").status == 200 for _ in range(20))
    lab.gateway.kill_tree()
    made = lab.gateway.run("backup", str(tmp_path / "backup"), "-c", str(lab.gateway.file), "--json")
    assert made.returncode == 0, made.stderr
    told = json.loads(made.stdout)
    assert (told["store"], told["revision"], told["rows"]["keys"]) == (kind, newest_revision(), 1)
    put_back(lab, tmp_path / "backup", new_store(kind))
    assert (lab.gateway.settled("calls"), lab.gateway.held()) == (answered, 0)
    assert lab.gateway.verify().returncode == 0


def everything(gateway: Gateway) -> dict[str, Any]:
    """What an administrator sees of what a gateway has, but for what the file declares and what names its processes."""
    shown = {
        noun: gateway.admin("GET", f"/admin/v1/{noun}").json()["items"]
        for noun in ("teams", "projects", "users", "keys", "limits", "providers", "models", "kills", "receipts")
    }
    shown["usage"] = gateway.admin("GET", "/admin/v1/usage?by=team,key,model,hour").json()
    shown["ledger"] = gateway.limits()
    return shown


def changed(gateway: Gateway, path: str, body: dict[str, Any]) -> dict[str, Any]:
    answer = gateway.admin("POST", f"/admin/v1/{path}", body)
    assert answer.status in (201, 202), answer.body
    shown: dict[str, Any] = answer.json()
    return shown


@pytest.mark.parametrize(("kind", "kind_after"), [("sqlite", "postgresql"), ("postgresql", "sqlite")])
def test_a_gateway_that_moves_to_the_other_kind_of_store_takes_everything_along(
    own_lab: Callable[..., Lab], new_store: MakeStore, tmp_path: Path, kind: str, kind_after: str
) -> None:
    lab = own_lab(KEYS | {"stopped": {"team": "other"}}, COUNTED, store=new_store(kind))
    gateway = lab.gateway
    made = changed(gateway, "keys", {"name": "made", "team": "growth", "tags": {"feature": "s\u00e9arch"}})
    caller = gateway.caller(made["secret"])
    each = {"match": {"team": "growth"}, "each": "customer", "unit": "requests", "amount": 5, "per": "day"}
    changed(gateway, "limits", each)
    body = {"model": "lab-model", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 20}
    headers = {"x-penstock-tags": "customer=acme"}
    for _ in range(3):
        assert caller.post("/v1/chat/completions", body, headers).status == 200
        assert lab.chat("ci").status == 200
    changed(gateway, "kill", {"scope": {"key": "ci"}, "reason": "first"})
    assert gateway.admin("DELETE", "/admin/v1/kill/1", {"reason": "was a drill"}).status == 200
    changed(gateway, "kill", {"scope": {"key": "stopped"}, "reason": "leaked"})
    eventually(lambda: gateway.held() == 0 and len(everything(gateway)["receipts"]) == 6, 10, "all is in the store")
    before, audited = everything(gateway), gateway.admin("GET", "/admin/v1/audit").json()["items"]
    assert gateway.stop() == 0
    back_up(gateway, tmp_path / "backup")
    put_back(lab, tmp_path / "backup", new_store(kind_after))
    after = everything(gateway)
    assert {row["limit"]: row["settled"] for row in before["ledger"]} == {
        row["limit"]: row["settled"] for row in after["ledger"]
    }
    assert {**before, "ledger": None} == {**after, "ledger": None}
    again = gateway.admin("GET", "/admin/v1/audit").json()["items"]
    assert [each for each in again if each in audited] == audited
    kept = [(each["action"], each["actor"]) for each in again if each["kind"] == "backup"]
    assert kept == [("restore", "penstock restore"), ("export", "penstock backup")]
    assert gateway.verify().returncode == 0
    assert lab.chat("stopped").status == 403
    for status in (200, 200, 429):
        assert caller.post("/v1/chat/completions", body, headers).status == status
    assert changed(gateway, "kill", {"scope": {"key": "ci"}, "reason": "again"})["generation"] == 3
    changed(gateway, "keys", {"name": "later", "team": "growth"})


def test_a_restore_says_why_it_changes_nothing_in_a_store_that_it_does_not_take(
    own_lab: Callable[..., Lab], new_store: MakeStore, tmp_path: Path
) -> None:
    lab = own_lab(KEYS, COUNTED, store=new_store("postgresql"))
    backup, file, data = back_up(lab.gateway, tmp_path / "backup"), tmp_path / "other.yaml", tmp_path / "other"

    def refusal(store: str) -> str:
        file.write_text(yaml.safe_dump({"store": store}))
        ended = lab.gateway.run("restore", str(backup), "-c", str(file), "--data", str(data))
        assert ended.returncode == 1 and ended.stdout == "" and not data.exists()
        assert len(ended.stderr.splitlines()) == 1
        return ended.stderr

    running = lab.gateway.config["store"]
    assert "a gateway serves from the store" in refusal(running)
    lab.gateway.stop()
    assert "is not empty" in refusal(running)
    assert "the store cannot be used: " in refusal("postgresql://nobody@127.0.0.1:1/none")
    lab.gateway.start()
    assert lab.chat("ci").status == 200


@pytest.fixture(scope="module")
def running(file_lab: Callable[..., Lab]) -> Lab:
    """A gateway that has journals; what is tried with it leaves it as it is."""
    lab = file_lab(KEYS, COUNTED)
    assert lab.chat("ci").status == 200
    return lab


def test_a_backup_is_its_owners_alone_and_holds_the_secrets_that_the_data_directory_holds(
    running: Lab, tmp_path: Path
) -> None:
    secret = running.gateway.data / "secret"
    secret.write_text("a root secret of the directory's own\n")
    made = running.gateway.run("backup", str(tmp_path / "backup"))
    secret.unlink()
    assert made.returncode == 0
    for path in [tmp_path / "backup", *(tmp_path / "backup").rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path
    assert (tmp_path / "backup" / "secret").read_text() == "a root secret of the directory's own\n"
    again = running.gateway.run("backup", str(tmp_path / "backup"))
    assert (again.returncode, "is not empty" in again.stderr) == (1, True)


def test_a_backup_that_is_not_whole_is_refused_and_leaves_nothing_behind(running: Lab, tmp_path: Path) -> None:
    backup, target = tmp_path / "backup", tmp_path / "restored"
    assert running.gateway.run("backup", str(backup)).returncode == 0
    occupied = running.gateway.run("restore", str(backup))
    assert (occupied.returncode, occupied.stderr) == (1, "penstock: data is not empty: name a new directory\n")
    journal = next((backup / "journals").iterdir())
    content = journal.read_bytes()
    journal.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    refused = running.gateway.run("restore", str(backup), "--data", str(target))
    assert refused.returncode == 1
    assert "is not the file that was backed up" in refused.stderr
    assert not target.exists()
    journal.write_bytes(content)
    assert running.gateway.run("restore", str(backup), "--data", str(target)).returncode == 0
    assert sorted(path.name for path in target.iterdir()) == ["journals", "penstock.db"]
    for path in [target, *target.rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


def test_a_directory_without_a_store_is_not_backed_up(running: Lab, tmp_path: Path) -> None:
    refused = running.gateway.run("backup", str(tmp_path / "backup"), "--data", str(tmp_path))
    assert refused.returncode == 1
    assert "there is no store in" in refused.stderr
