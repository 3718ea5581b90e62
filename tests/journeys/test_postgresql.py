"""PostgreSQL in place of the embedded store: the whole main job, and outages."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from penstock.store.migrate import newest_revision
from penstock.testing.gateway import Gateway
from penstock.testing.lab import Lab
from penstock.testing.postgres import USER, Postgres
from penstock.testing.wire import eventually

KEYS: dict[str, dict[str, Any]] = {"ci": {"team": "growth"}}
LIMITS = [{"name": "everything", "match": {}, "unit": "usd", "amount": 100, "per": "total"}]
COST = 60_000

MakeLab = Callable[..., Lab]


def _status(lab: Lab) -> int:
    try:
        return lab.chat("ci").status
    except OSError:
        return 0


def _problem(lab: Lab, method: str, path: str, body: Any = None) -> dict[str, Any]:
    answer = lab.gateway.admin(method, path, body)
    assert answer.status == 503, answer.body
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["retry-after"]
    problem: dict[str, Any] = answer.json()
    assert problem["code"] == "store_unavailable" and problem["request_id"]
    return problem


def _healthy(lab: Lab) -> bool:
    return lab.gateway.admin("GET", "/healthz").status == 200


def test_the_main_job_from_a_key_to_the_books_and_over_a_crash(own_lab: MakeLab, database: str) -> None:
    lab = own_lab(KEYS, LIMITS, store=database)
    gateway = lab.gateway
    made = gateway.run("key", "create", "made", "--team", "growth", "--json")
    assert made.returncode == 0, made.stderr
    limited = gateway.run(
        "limit", "create", "--match", "key=made", "--unit", "requests", "--amount", "2", "--per", "day"
    )
    assert limited.returncode == 0, limited.stderr
    answer = lab.chat("ci")
    assert answer.status == 200
    receipt = gateway.receipt(answer.headers["x-request-id"])
    assert receipt["cost_nanousd"] == COST and receipt["key"] == "ci"
    assert lab.gateway.admin("GET", "/admin/v1/usage?by=team,day").json()["total"]["cost_nanousd"] == COST
    assert gateway.settled("everything") == COST and gateway.held() == 0
    for _ in range(5):
        assert lab.chat("ci").status == 200
    gateway.kill_tree()
    gateway.start()
    assert gateway.settled("everything") == 6 * COST and gateway.held() == 0
    assert gateway.run("limit", "list").stdout.count("made") >= 1
    raised = gateway.run("kill", "--key", "ci", "--reason", "leaked")
    assert raised.returncode == 0, raised.stderr
    assert lab.chat("ci").status == 403
    verified = gateway.verify()
    assert verified.returncode == 0, verified.stdout + verified.stderr
    assert not (gateway.data / "penstock.db").exists()
    assert gateway.stop() == 0
    assert "Traceback" not in gateway.output()


def test_a_stopped_database_stops_no_call_and_loses_no_spend(own_lab: MakeLab, own_postgres: Postgres) -> None:
    lab = own_lab(KEYS, LIMITS, store=own_postgres.url("postgres"))
    assert lab.chat("ci").status == 200
    own_postgres.stop()
    for _ in range(5):
        assert lab.chat("ci").status == 200
    eventually(lambda: lab.gateway.admin("GET", "/admin/v1/teams").status == 503, 10, "the outage is noticed")
    for method, path, body in (
        ("GET", "/admin/v1/keys", None),
        ("GET", "/admin/v1/usage", None),
        ("GET", "/admin/v1/ledger", None),
        ("POST", "/admin/v1/ledger/verify", None),
        ("POST", "/admin/v1/teams", {"name": "later"}),
        ("POST", "/admin/v1/kill", {"scope": {"all": True}, "reason": "outage"}),
    ):
        _problem(lab, method, path, body)
    eventually(lambda: "store" in lab.gateway.admin("GET", "/healthz").json().get("failing_since", {}), 10)
    assert lab.gateway.admin("GET", "/admin/v1/status").status == 200
    assert b"penstock_journal_backlog_bytes" in lab.gateway.admin("GET", "/metrics").body
    assert lab.chat("ci").status == 200
    own_postgres.start()
    eventually(lambda: _healthy(lab), 15, "everything works again")
    eventually(
        lambda: lab.gateway.admin_is_up() and lab.gateway.settled("everything") == 7 * COST, 15, "it has drained"
    )
    assert lab.gateway.held() == 0
    assert lab.gateway.verify().returncode == 0
    assert lab.gateway.admin("POST", "/admin/v1/teams", {"name": "later"}).status == 201
    assert lab.gateway.admin("GET", "/admin/v1/kills").json()["items"] == []


def test_the_data_plane_refuses_when_the_store_was_away_for_the_freshness_and_goes_on_after(
    own_lab: MakeLab, own_postgres: Postgres
) -> None:
    lab = own_lab(KEYS, LIMITS, store=own_postgres.url("postgres"), stop={"freshness": "2s"})
    assert lab.chat("ci").status == 200
    own_postgres.freeze()
    began = time.monotonic()
    assert lab.chat("ci").status == 200
    eventually(lambda: _status(lab) == 503, 20, "the data plane stops")
    assert time.monotonic() - began > 1  # the freshness, but for the second before in which it was last confirmed
    assert lab.chat("ci").headers["x-penstock-error"] == "store_unavailable"
    eventually(lambda: not _healthy(lab), 15, "the control process has noticed")
    _problem(lab, "GET", "/admin/v1/keys")
    own_postgres.thaw()
    eventually(lambda: _status(lab) == 200, 15, "the data plane goes on")
    eventually(lambda: _healthy(lab), 15)
    assert lab.gateway.held() == 0 and lab.gateway.verify().returncode == 0


def test_a_gateway_that_stops_during_an_outage_brings_its_journal_in_at_the_next_start(
    own_lab: MakeLab, own_postgres: Postgres
) -> None:
    lab = own_lab(KEYS, LIMITS, store=own_postgres.url("postgres"))
    assert lab.chat("ci").status == 200
    own_postgres.kill()
    for _ in range(2):
        assert lab.chat("ci").status == 200
    assert lab.gateway.stop() == 0
    lab.gateway.start(wait=False)
    eventually(lambda: "cannot be reached" in lab.gateway.output(), 10, "it says what it waits for")
    own_postgres.start()
    lab.gateway.wait_until_ready(20)
    assert lab.gateway.settled("everything") == 3 * COST and lab.gateway.held() == 0
    assert "Traceback" not in lab.gateway.output()


def test_a_password_comes_from_a_file_and_is_in_no_log_no_argument_and_no_answer(
    postgres: Postgres, tmp_path: Path
) -> None:
    with postgres.database() as database:
        role, password = f"r_{database}", "pg-canary-7d31f0"
        postgres.demand_password(role, password, database)
        kept = tmp_path / "pgpass"
        kept.write_text(f"*:*:*:*:{password}\n")
        kept.chmod(0o600)
        store = postgres.url(database).replace(f"{USER}@", f"{role}@")
        with Gateway(tmp_path / "gateway", {"store": store}, {"PGPASSFILE": str(kept)}) as gateway:
            told = [gateway.admin("GET", f"/admin/v1/{path}").body for path in ("status", "config", "audit")]
            told += [gateway.admin("GET", "/metrics").body, gateway.admin("GET", "/healthz").body]
            done = gateway.run("doctor", "-c", str(gateway.file))
            told += [(done.stdout + done.stderr).encode()]
            told += [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.is_file()]
        kept.write_text(f"*:*:*:*:{password}-wrong\n")
        refused = gateway.run("migrate", "-c", str(gateway.file))
        told += [(refused.stdout + refused.stderr).encode(), gateway.output().encode()]
        assert refused.returncode != 0 and "password authentication failed" in refused.stderr
        told += [path.read_bytes() for path in gateway.data.rglob("*") if path.is_file()]
        assert [text for text in told if password.encode() in text] == []


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_migrate_says_what_it_did_and_what_there_is_to_do(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    file = tmp_path / "penstock.yaml"
    file.write_text(f"store: {kind if kind == 'sqlite' else request.getfixturevalue('database')}\n")
    run = Gateway(tmp_path, {}).run
    behind = run("migrate", "--check", "-c", str(file))
    assert (behind.returncode, behind.stdout) == (1, "") and behind.stderr.startswith("penstock: the store is ")
    assert behind.stderr.rstrip().endswith(("penstock migrate brings it there", "and so does penstock serve"))
    done = run("migrate", "-c", str(file))
    assert (done.returncode, done.stdout) == (0, f"the store is at revision {newest_revision()}; it was empty\n"), (
        done.stderr
    )
    again = run("migrate", "-c", str(file))
    assert (again.returncode, again.stdout) == (0, f"the store is at revision {newest_revision()}\n")
    assert run("migrate", "--check", "-c", str(file)).returncode == 0


def test_migrate_fails_in_one_sentence(tmp_path: Path) -> None:
    file = tmp_path / "penstock.yaml"
    run = Gateway(tmp_path, {}).run
    for store, code in (("postgresql://nobody@127.0.0.1:1/none", 1), ("mysql://db", 2)):
        file.write_text(f"store: {store}\n")
        told = run("migrate", "-c", str(file))
        assert told.returncode == code and told.stdout == ""
        assert len(told.stderr.strip().splitlines()) == 1
