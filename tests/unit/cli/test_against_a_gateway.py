"""Commands against a real gateway, in the order in which an operator would come upon them."""

import csv
import io
import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from penstock.testing.gateway import Gateway

Command = Callable[..., Any]


def _call(gateway: Gateway) -> str:
    """One call of the data plane; its request id."""
    body = {"model": "hello", "messages": [{"role": "user", "content": "three words here"}]}
    answer = gateway.caller(gateway.environment["CI_KEY"]).post("/v1/chat/completions", body)
    assert answer.status == 200, answer.body
    return str(answer.headers["x-request-id"])


def test_a_team_is_created_shown_changed_and_deleted(asked: Command) -> None:
    assert asked("team", "create", "lab", "--required-tag", "feature").code == 0
    assert json.loads(asked("team", "show", "lab", "--json").out)["required_tags"] == ["feature"]
    assert asked("team", "update", "lab", "--no-required-tags").code == 0
    assert [team["required_tags"] for team in json.loads(asked("team", "list", "--json").out)] == [[], []]
    assert "lab" in asked("team", "list").out
    assert asked("team", "delete", "lab").out == "team lab is deleted\n"
    gone = asked("team", "show", "lab")
    assert (gone.code, gone.sentence) == (1, "penstock: there is no team 'lab'")


def test_projects_users_providers_and_models_are_created_too(asked: Command) -> None:
    lines = (
        "project create docs --team growth --environment staging",
        "project update docs --environment production",
        "user create ana@example.com",
        "provider create lab --kind compatible --base-url http://127.0.0.1:9/v1 --timeout connect=2s --header x-a=b",
        "provider update lab --timeout total=5m",
        "model create big --target lab:big:7b --price input=2 --price output=8 --max-output 50",
        "model update big --catalogue-price",
    )
    for line in lines:
        assert asked(*line.split()).code == 0, line
    provider = json.loads(asked("provider", "show", "lab", "--json").out)
    assert (provider["timeouts"]["connect"], provider["timeouts"]["total"]) == ("2000ms", "300000ms")
    assert provider["headers"] == {"x-a": "b"}
    model = json.loads(asked("model", "show", "big", "--json").out)
    assert model["targets"][0]["model"] == "big:7b"
    assert model["price"] is None
    refused = asked("provider", "delete", "lab")
    assert (refused.code, "is used by model 'big'" in refused.sentence) == (1, True)
    for line in ("model delete big", "provider delete lab", "user delete ana@example.com", "project delete docs"):
        assert asked(*line.split()).code == 0, line


def test_a_keys_secret_is_shown_once(asked: Command) -> None:
    line = "key create bot --team growth --model hello --tag feature=search --expires 90d --json"
    made = json.loads(asked(*line.split()).out)
    assert made["secret"].startswith("pk-")
    shown = asked("key", "show", "bot")
    assert made["secret"] not in shown.out
    changed = json.loads(
        asked(*["key", "update", "bot", "--every-model", "--no-tags", "--never-expires", "--json"]).out
    )
    assert (changed["models"], changed["tags"], changed["expires_at"]) == ([], {}, None)
    assert json.loads(asked("key", "revoke", "bot", "--json").out)["revoked_at"] is not None
    assert asked("key", "delete", "bot").code == 0


def test_a_limit_takes_dollars_and_tags(asked: Command) -> None:
    line = (
        "limit create --match team=growth --match tag:feature=search --each customer --unit usd --amount 2.5 --per day"
    )
    made = json.loads(asked(*line.split(), "--alert-at", "0.8", "--json").out)
    assert made["name"] == "tag-feature-search.team-growth.each-customer.usd-day"
    assert made["amount_nanousd"] == 2_500_000_000
    assert made["match"] == {"team": "growth", "tag": {"feature": "search"}}
    assert json.loads(asked("limit", "update", made["name"], "--amount", "4", "--json").out)["amount"] == "4"
    assert "team=growth, tag:feature=search" in asked("limit", "list").out
    assert asked("limit", "delete", made["name"]).code == 0


def test_a_limit_takes_the_model_that_takes_over(asked: Command) -> None:
    assert asked("model", "create", "small", "--target", "sim:small").code == 0
    line = "limit create --match model=hello --unit usd --amount 1 --per day --on-exceeded downgrade:small --json"
    made = json.loads(asked(*line.split()).out)
    assert made["on_exceeded"] == {"downgrade": "small"}
    refused = asked("model", "delete", "small")
    assert (refused.code, f"is used by limit '{made['name']}'" in refused.sentence) == (1, True)
    updated = asked("limit", "update", made["name"], "--on-exceeded", "refuse", "--json")
    assert json.loads(updated.out)["on_exceeded"] == "refuse"
    assert asked("model", "delete", "small").code == asked("limit", "delete", made["name"]).code == 0


@pytest.mark.parametrize(
    ("line", "code", "sentence"),
    [
        ("limit create --unit requests --amount 5", 2, "penstock: per: is missing"),
        ("limit create --unit usd --amount lots --per day", 2, "penstock: amount: "),
        (
            "limit create --unit usd --amount 1 --per day --match team=nobody",
            2,
            "penstock: match.team: there is no team",
        ),
        (
            "limit create --unit usd --amount 1 --per day --on-exceeded downgrade:nothing",
            2,
            "penstock: on_exceeded.downgrade: there is no model 'nothing'",
        ),
        (
            "limit create --unit usd --amount 1 --per day --on-exceeded stop",
            2,
            "penstock: on_exceeded: must be refuse or {downgrade: MODEL}",
        ),
        ("team delete growth", 1, "penstock: team 'growth' is declared in the configuration file"),
        ("key update ci", 2, "penstock: nothing to change"),
        ("key create ci", 1, "penstock: name: there is a key 'ci' already"),
        ("key create bad/name", 2, "penstock: 'bad/name' is not a name: use letters"),
        ("kill --key nobody --reason x", 2, "penstock: scope.key: there is no key 'nobody'"),
        ("kill lift 999 --reason x", 1, "penstock: there is no kill 999"),
        ("receipt no-such-call", 1, "penstock: there is no receipt 'no-such-call'"),
        ("usage --by flavour", 2, "penstock: by: 'flavour' is not a dimension"),
    ],
)
def test_a_refusal_is_the_gateways_own_sentence(asked: Command, line: str, code: int, sentence: str) -> None:
    told = asked(*line.split())
    assert told.code == code
    assert told.sentence.startswith(sentence)


def test_a_wrong_key_is_said_to_be_wrong(asked: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENSTOCK_ADMIN_KEY", "not-the-key")
    told = asked("key", "list")
    assert told.code == 1
    assert "does not accept the key; set PENSTOCK_ADMIN_KEY" in told.sentence


def test_a_call_has_a_receipt_and_counts_as_usage(asked: Command, gateway: Gateway) -> None:
    request_id = _call(gateway)
    shown = asked("receipt", request_id).out
    for part in (request_id, "growth", "Cost", "Attempts", "Limits charged", "team-growth.usd-day", "computed"):
        assert part in shown
    assert json.loads(asked("receipt", request_id, "--json").out)["cost_nanousd"] > 0

    report = json.loads(asked(*["usage", "--by", "team,model", "--since", "1h", "--format", "json"]).out)
    assert report["total"]["calls"] >= 1
    (row,) = csv.DictReader(io.StringIO(asked(*["usage", "--by", "team", "--format", "csv"]).out))
    assert (row["team"], row["cost_nanousd"]) == ("growth", str(report["total"]["cost_nanousd"]))
    assert "total" in asked("usage").out


def test_usage_of_a_time_without_calls_is_an_empty_table(asked: Command) -> None:
    told = asked(*["usage", "--since", "2020-01-01", "--until", "2020-02-01"])
    assert (told.code, told.sentence) == (0, "nothing here")
    assert asked(*["usage", "--since", "2020-01-01", "--until", "2020-02-01", "--format", "csv"]).out == "team\n"


def test_the_ledger_is_shown_and_verified(asked: Command) -> None:
    assert "team-growth.usd-day" in asked("ledger", "show").out
    assert {row["limit"] for row in json.loads(asked("ledger", "show", "--json").out)["limits"]} == {
        "key-ci.concurrent",
        "team-growth.usd-day",
    }
    told = asked("ledger", "verify")
    assert (told.code, told.out) == (0, "ok: the ledger's invariants hold\n")
    assert json.loads(asked("ledger", "verify", "--json").out) == {"faults": []}


def test_a_kill_is_confirmed_by_every_worker_listed_and_lifted(asked: Command) -> None:
    killed = asked("kill", "--team", "growth", "--reason", "a drill")
    assert killed.code == 0
    assert "confirmed" in killed.out
    assert "is in force and confirmed by every worker" in killed.sentence
    (row,) = json.loads(asked("kill", "list", "--json").out)
    assert row["scope"] == {"team": "growth"}
    assert "a drill" in asked("kill", "list").out
    lifted = asked("kill", "lift", str(row["generation"]), "--reason", "over")
    assert (lifted.code, lifted.out) == (0, f"kill {row['generation']} is lifted\n")


def test_a_kill_need_not_be_waited_for(asked: Command) -> None:
    told = asked("kill", "--tag", "feature=search", "--reason", "a drill", "--no-wait", "--json")
    generation = json.loads(told.out)["generation"]
    assert asked("kill", "lift", str(generation), "--reason", "over").code == 0


def test_the_doctor_finds_a_running_gateway_well(asked: Command, gateway: Gateway) -> None:
    told = asked("doctor", "-c", str(gateway.file), "--json")
    findings = json.loads(told.out)["findings"]
    assert [finding for finding in findings if finding["state"] == "fail"] == []
    assert {"configuration", "admin API", "workers", "data plane", "store", "clock"} <= {f["check"] for f in findings}
    assert told.code == 0
    assert "workers" in asked("doctor", "-c", str(gateway.file)).out


def test_the_doctor_says_what_is_wrong_and_what_to_do(command: Command, tmp_path: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        (tmp_path / "p.yaml").write_text(
            f"providers: [{{name: lab, kind: compatible, base_url: 'http://127.0.0.1:{port}/v1'}}]\n"
            f"keys: []\nserver: {{data: {tmp_path / 'data'}}}\n"
        )
        (tmp_path / "data").mkdir(mode=0o755)
        (tmp_path / "data" / "secret").touch(mode=0o644)
        told = command("doctor", "-c", "p.yaml", "--json")
    failed = {
        finding["check"]: finding["advice"]
        for finding in json.loads(told.out)["findings"]
        if finding["state"] == "fail"
    }
    assert set(failed) == {"data directory", "secret", "admin API", "provider lab"}
    assert failed["secret"] == f"chmod 600 {tmp_path / 'data' / 'secret'}"
    assert told.code == 1
    assert told.sentence.startswith("penstock: 4 of ")


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("a.csv", "provider,model,inptu\n", "a.csv has the column 'inptu'; there are provider, model"),
        ("b.csv", "provider,input\n", "b.csv lacks the column provider or model"),
        ("c.csv", "provider,model,input,output\nsim,x,1\n", "c.csv:2: has another number of cells"),
        ("d.csv", "provider,model,input,output\n", "d.csv has no entries"),
        ("e.yaml", "prices: [", "e.yaml:2:1: this is not YAML"),
        ("f.yaml", "prices: {a: 1}", "f.yaml must be a list of entries"),
        ("g.yaml", "[{provider: sim, model: x, price: {input: 1}}]", "entries[0].price.output: is missing"),
        (
            "h.yaml",
            "[{provider: sim, model: x, price: null}, {provider: no, model: x, price: null}]",
            "no provider 'no'",
        ),
        (
            "i.yaml",
            "[{provider: sim, model: x, price: {input: 0.1234567891, output: 1}}]",
            "more than nine decimal places",
        ),
    ],
    ids=lambda value: value if "." in value and len(value) < 7 else "",
)
def test_a_book_that_cannot_be_read_says_where(asked: Command, name: str, content: str, sentence: str) -> None:
    Path(name).write_text(content)
    told = asked("price", "update", name)
    assert told.code == 2, told.err
    assert sentence in told.err
    assert json.loads(asked("price", "list", "--json").out) == []


def test_a_price_that_is_not_named_and_a_file_that_is_not_there_are_asked_wrongly(asked: Command) -> None:
    assert asked("price", "set", "sim", "x").code == 2
    assert asked("price", "update", "no-such-file.csv").code == 2
    assert json.loads(asked("price", "list", "--json").out) == []
