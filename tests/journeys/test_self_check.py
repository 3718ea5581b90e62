"""The gateway checks its own books and says so wherever somebody may look."""

import json
import sqlite3
from collections.abc import Callable

from penstock.app.control.selfcheck import AFTER_START_S
from penstock.testing.lab import Lab
from penstock.testing.wire import eventually


def checked(lab: Lab) -> bool:
    return lab.gateway.admin("GET", "/admin/v1/status").json()["ledger"]["checked_at"] is not None


def test_good_books_are_checked_a_minute_after_the_start(lab: Lab) -> None:
    eventually(lambda: checked(lab), AFTER_START_S + 20, "the first check is done")
    status = lab.gateway.admin("GET", "/admin/v1/status").json()["ledger"]
    assert (status["complete"], status["fault_count"]) == (True, 0)
    assert lab.gateway.admin("GET", "/healthz").status == 200
    metrics = lab.gateway.admin("GET", "/metrics").body.decode()
    assert "\npenstock_ledger_faults 0.0\n" in metrics
    assert "\npenstock_ledger_checked_timestamp_seconds 0.0\n" not in metrics


def test_a_ledger_that_disagrees_with_itself_is_told_by_log_metric_health_and_doctor(
    own_lab: Callable[..., Lab],
) -> None:
    lab = own_lab()
    gateway = lab.gateway
    assert lab.chat("ci").status == 200
    gateway.stop()
    store = sqlite3.connect(gateway.data / "penstock.db")
    with store:
        assert store.execute("UPDATE balances SET settled = settled + 1 WHERE per = 'day'").rowcount
    store.close()
    gateway.start()
    assert gateway.verify().returncode == 1
    assert gateway.admin("GET", "/healthz").status == 503
    assert list(gateway.admin("GET", "/healthz").json()["failing_since"]) == ["ledger"]
    assert "\npenstock_ledger_faults 1.0\n" in gateway.admin("GET", "/metrics").body.decode()
    assert '"the ledger disagrees with itself"' in gateway.output()
    findings = {each["check"]: each for each in json.loads(gateway.run("doctor", "--json").stdout)["findings"]}
    assert (findings["store"]["state"], findings["ledger"]["state"]) == ("ok", "fail")
    assert "balance_differs" in findings["ledger"]["detail"]
    store = sqlite3.connect(gateway.data / "penstock.db")
    with store:
        store.execute("UPDATE balances SET settled = settled - 1 WHERE per = 'day'")
    store.close()
    assert gateway.verify().returncode == 0
    assert gateway.admin("GET", "/healthz").status == 200
