"""What a caller, an operator or a program can meet is on the page that is for it; and the pages name nothing else."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from penstock.config import identity, settings
from penstock.domain.events import UsageEvent
from penstock.domain.tenancy import SURFACES
from penstock.errors import ControlError, GatewayError, UpstreamError, UpstreamRefused
from penstock.ledger.ledger import Ask
from penstock.records.families import families
from penstock.records.log import exchange_fields
from penstock.records.metrics import Metrics
from penstock.records.receipts import public
from penstock.store.tables.records import DIMENSIONS
from penstock.surfaces.admin.problems import _CODES as PROBLEM_CODES
from penstock.surfaces.routes import ROUTES
from penstock.testing.gateway import Gateway

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "penstock"
ERRORS, METRICS, API, CONFIGURATION, LIMITS = (
    (ROOT / "docs" / f"{name}.md").read_text() for name in ("errors", "metrics", "api", "configuration", "limits")
)
TO_CALLERS, TO_ADMINISTRATORS = ERRORS.split("## To administrators")


def rows(text: str) -> list[list[str]]:
    """The cells of every table row of a page."""
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def kinds_of(error: type) -> Iterator[type]:
    """The leaves and branches of an error's tree that can be raised."""
    for kind in error.__subclasses__():
        yield kind
        yield from kinds_of(kind)


CALLERS_ERRORS = sorted(
    {(kind.code, kind.status, issubclass(kind, UpstreamError)) for kind in kinds_of(GatewayError)}
    - {(UpstreamError.code, UpstreamError.status, True)}
)
ADMIN_PROBLEMS = sorted(
    {(kind.code, kind.status) for kind in kinds_of(ControlError)}
    | {(code, status) for status, code in PROBLEM_CODES.items() if status != 503}
)


@pytest.mark.parametrize(("code", "status", "is_upstream"), CALLERS_ERRORS)
def test_every_error_of_a_caller_is_on_the_page_with_its_status_and_what_to_do(
    code: str, status: int, is_upstream: bool
) -> None:
    found = [row for row in rows(TO_CALLERS) if row[0] == f"`{code}`" and str(status) in row[1].split(", ")]
    assert found, f"docs/errors.md lacks {code} with {status}"
    (_, _, header, meaning, advice) = found[0]
    assert meaning
    assert advice
    if status in (400, 401, 403, 404) and not is_upstream:
        assert header == "`x-should-retry: false`"


def test_a_providers_own_error_is_on_the_page() -> None:
    assert any(row[0] == f"`{UpstreamRefused.code}`" and row[1] == "the provider's" for row in rows(TO_CALLERS))


@pytest.mark.parametrize(("code", "status"), ADMIN_PROBLEMS)
def test_every_problem_of_an_administrator_is_on_the_page(code: str, status: int) -> None:
    assert [f"`{code}`", str(status)] in [row[:2] for row in rows(TO_ADMINISTRATORS)]


def test_the_page_names_no_error_that_does_not_exist() -> None:
    known = {kind.code for kind in (*kinds_of(GatewayError), *kinds_of(ControlError))} | set(PROBLEM_CODES.values())
    named = {row[0].strip("`") for row in rows(ERRORS) if row[0].startswith("`")}
    assert named <= known | {"internal_error"}


def test_every_metric_is_on_the_page_with_its_type_and_labels() -> None:
    listed = {row[0].strip("`"): row[1:3] for row in rows(METRICS) if row[0].startswith("`penstock_")}
    metrics = {}
    for family in families(Metrics()):
        name = f"{family.name}_total" if family.type == "counter" else family.name
        labels = ", ".join(f"`{label}`" for label in getattr(family, "_labelnames", ())) or "none"
        metrics[name] = [family.type, labels]
    assert listed == metrics


def test_a_running_gateway_shows_the_metrics_of_the_page(gateway: Gateway) -> None:
    text = gateway.admin("GET", "/metrics").body.decode()
    shown = set(re.findall(r"^# HELP (\w+) ", text, re.MULTILINE))
    assert shown == {row[0].strip("`") for row in rows(METRICS) if row[0].startswith("`penstock_")}


def test_the_alerts_ask_for_metrics_and_labels_that_exist() -> None:
    listed = {row[0].strip("`") for row in rows(METRICS)}
    assert set(re.findall(r"\bpenstock_\w+", METRICS)) <= listed


def test_every_field_of_a_calls_log_line_is_on_the_page() -> None:
    fields = exchange_fields(UsageEvent(event_id="evt_1", request_id="req_1", started_at=0, ended_at=1))
    listed = " ".join(row[0] for row in rows(METRICS.split("## Logs")[1]))
    assert sorted(re.findall(r"`(\w+)`", listed)) == sorted(fields)


def test_every_field_of_a_receipt_is_on_the_page() -> None:
    receipt = public(UsageEvent(event_id="evt_1", request_id="req_1", started_at=0, ended_at=1))
    listed = API.split("A receipt:")[1]
    assert [field for field in receipt if f"`{field}`" not in listed] == []


def test_every_path_of_the_data_plane_is_on_the_page() -> None:
    for path in (*(route.path for route in ROUTES), "/v1/models", "/v1/receipts/{request_id}", "/healthz", "/readyz"):
        assert re.search(rf"`(GET|POST) {re.escape(path)}`", API), path


def test_every_path_of_the_admin_api_is_on_the_page_with_a_curl(gateway: Gateway) -> None:
    paths = gateway.admin("GET", "/admin/openapi.json").json()["paths"]
    curls = [line for line in API.splitlines() if line.startswith("curl ")]
    for path in paths:
        noun = path.split("{")[0].rstrip("/")
        if noun.startswith("/admin/v1/"):
            assert any(noun in line for line in curls), f"docs/api.md has no curl for {noun}"


def test_every_header_that_callers_get_is_on_the_page() -> None:
    modules = [
        *(SOURCE / "pipeline").glob("*.py"),
        SOURCE / "upstream" / "call.py",
        *(SOURCE / "surfaces").rglob("*.py"),
    ]
    named = {
        name
        for module in modules
        for name in re.findall(r'b"(x-(?:penstock|should|upstream|request)[a-z-]*)"', module.read_text())
    }
    assert len(named) > 5
    assert [name for name in sorted(named) if f"`{name}`" not in API] == []


def test_every_dimension_of_usage_is_on_the_page() -> None:
    assert [name for name in DIMENSIONS if f"`{name}`" not in API] == []


@pytest.mark.parametrize("place", settings.SHAPES, ids=".".join)
def test_every_setting_is_in_the_table_of_its_section(place: tuple[str, ...]) -> None:
    shape = settings.SHAPES[place]
    section = CONFIGURATION
    if place:
        (section,) = [part for part in CONFIGURATION.split("\n## ")[1:] if part.startswith(f"`{place[0]}`")]
    for name, field in shape.model_fields.items():
        written = field.alias or name
        assert re.search(rf"[`{{, ]{written}[`,}}:]", section), (
            f"{'.'.join(place)}: docs/configuration.md lacks {written}"
        )


def test_no_shape_of_the_file_is_left_out() -> None:
    sections = {*kinds_of(settings._Section), *kinds_of(identity._Section)} - {settings.Config, identity.Signer}
    assert sections == set(settings.SHAPES.values())


def test_every_variable_of_the_environment_is_on_the_page() -> None:
    named = set(re.findall(r'"(PENSTOCK_[A-Z_]+)"', (SOURCE / "config" / "environment.py").read_text()))
    assert {name for name in named if not name.endswith("_")} <= set(re.findall(r"`(PENSTOCK_[A-Z_]+)`", CONFIGURATION))


def test_every_unit_window_mode_and_flag_is_explained() -> None:
    units = Ask(1, 1, 1).amounts()
    assert [unit for unit in units if f"`{unit}`" not in LIMITS] == []
    source = "".join(path.read_text() for path in SOURCE.rglob("*.py"))
    flags = set(re.findall(r'flags\.add\("(\w+)"|flags, "(\w+)"', source))
    named = {name for pair in flags for name in pair if name} | {"hostile_usage"}
    assert [flag for flag in sorted(named) if not re.search(rf"^\| `{flag}` \|", LIMITS, re.MULTILINE)] == []


def test_a_key_can_be_held_to_every_surface_and_to_nothing_else() -> None:
    assert set(SURFACES) == {route.surface for route in ROUTES}, "domain.tenancy lists the surfaces that a key can name"
    keys = (ROOT / "docs" / "keys.md").read_text()
    assert all(f"`{surface}`" in page for surface in SURFACES for page in (keys, CONFIGURATION))
