"""The contenders: how each is configured and started for the same job, in front of the same upstream.

nginx is the floor: a reverse proxy that does nothing else, with one worker, unbuffered, kept alive on both sides, and
no log. Penstock has everything on that a paying customer would have: a virtual key, four limits (dollars, tokens,
requests, concurrency), the journal and its fsync, metrics, records and its log of exchanges. What limits cost is seen
by the same gateway with none, one and twelve of them, and with one and two workers. Peers are other gateways,
with one worker, their default settings and a master key as the only key: no limit, no ledger.
"""

import json
import secrets
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from msgspec import Struct, structs

from penstock.testing.bench.processes import Launch
from penstock.testing.bench.traffic import ALIASES, TRANSLATED
from penstock.testing.ports import free_ports

DIRECT = "direct"
NGINX = "nginx"
PENSTOCK = "penstock"

FOUR_LIMITS: list[dict[str, object]] = [
    {"match": {"team": "growth"}, "unit": "usd", "amount": 1_000_000, "per": "month"},
    {"match": {"project": "search"}, "unit": "tokens", "amount": 1_000_000_000_000, "per": "day"},
    {"match": {"key": "bench"}, "unit": "requests", "amount": 100_000_000, "per": "minute"},
    {"match": {"key": "bench"}, "unit": "concurrent", "amount": 1_000},
]
TWELVE_LIMITS: list[dict[str, object]] = [
    *FOUR_LIMITS,
    {"match": {}, "unit": "usd", "amount": 9_000_000, "per": "total"},
    {"match": {"environment": "production"}, "unit": "input_tokens", "amount": 10**12, "per": "hour"},
    {"match": {"model": "bench-plain"}, "unit": "output_tokens", "amount": 10**12, "per": "day"},
    {"match": {"provider": "lab"}, "unit": "requests", "amount": 10**9, "per": "hour", "window": "sliding"},
    {"match": {"key": "bench"}, "unit": "usd", "amount": 1_000_000, "per": "week", "window": "sliding"},
    {"match": {}, "each": "key", "unit": "usd", "amount": 1_000_000, "per": "day"},
    {"match": {}, "each": "project", "unit": "tokens", "amount": 10**12, "per": "minute", "window": "sliding"},
    {"match": {"team": "growth"}, "unit": "requests", "amount": 10_000_000, "per": "second"},
]
"""All strict, of every unit and kind of window, by several dimensions; each counts every plain call, and none is ever
reached."""
EACH_CUSTOMER: list[dict[str, object]] = [
    {"match": {}, "each": "tag:customer", "unit": "usd", "amount": 1_000, "per": "day"}
]

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

_NGINX_CONFIG = """\
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log stderr error;
events {{ worker_connections 2048; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  keepalive_requests 100000000;
  keepalive_timeout 600s;
  upstream vendor {{ server 127.0.0.1:{upstream_port}; keepalive 512; keepalive_requests 100000000; }}
  server {{
    listen 127.0.0.1:{port} backlog=1024;
    location / {{
      proxy_pass http://vendor;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_buffering off;
    }}
  }}
}}
"""


class Shape(Struct, frozen=True):
    """A Penstock that is not the usual one. `limits`: as in the configuration file."""

    limits: list[dict[str, object]]
    workers: int = 1


def _shapes(name: str, limits: list[dict[str, object]]) -> dict[str, Shape]:
    return {f"{name}, 1 worker": Shape(limits), f"{name}, 2 workers": Shape(limits, 2)}


LIMITED = {**_shapes("no limit", []), **_shapes("1 limit", FOUR_LIMITS[:1]), **_shapes("12 limits", TWELVE_LIMITS)}
"""What is compared to see what limits cost: held by the only worker there is, and leased to each of two."""
PER_VALUE = _shapes("each customer", EACH_CUSTOMER)
"""What is compared to see what a limit's values take up."""


class Contender(Struct, frozen=True):
    """One gateway, ready to be started. `ready_path` answers 200 once calls can be admitted; empty: the first call
    tells. `key`: what callers present."""

    name: str
    port: int
    key: str
    launch: Launch
    ready_path: str = ""


def find(name: str) -> str | None:
    """The program of a contender: beside this Python, else on the machine."""
    program = PENSTOCK if name in LIMITED or name in PER_VALUE else name
    return shutil.which(program, path=f"{Path(sys.executable).parent}:{PATH}")


def make(name: str, folder: Path, upstream_port: int) -> Contender:
    """A contender with a configuration of its own in `folder`, which is made. It must be installed."""
    binary = find(name)
    assert binary is not None
    folder.mkdir()
    shape = LIMITED.get(name) or PER_VALUE.get(name)
    if shape is not None:
        return structs.replace(_penstock(binary, folder, upstream_port, shape), name=name)
    return _MAKERS[name](binary, folder, upstream_port)


def _nginx(binary: str, folder: Path, upstream_port: int) -> Contender:
    (port,) = free_ports(1)
    config = folder / "nginx.conf"
    config.write_text(_NGINX_CONFIG.format(folder=folder, port=port, upstream_port=upstream_port))
    command = (binary, "-p", str(folder), "-c", str(config), "-e", "stderr")
    return Contender(NGINX, port, "pk-unused", Launch(command, {"PATH": PATH}, folder, folder / "log"))


def _penstock(binary: str, folder: Path, upstream_port: int, shape: Shape | None = None) -> Contender:
    shape = shape or Shape(FOUR_LIMITS)
    port, admin_port = free_ports(2)
    key = f"pk-{secrets.token_hex(32)}"
    config = {
        "server": {
            "listen": f"127.0.0.1:{port}",
            "admin": f"127.0.0.1:{admin_port}",
            "data": str(folder / "data"),
            "workers": shape.workers,
        },
        "providers": [
            {
                "name": "lab",
                "kind": "compatible",
                "base_url": f"http://127.0.0.1:{upstream_port}/v1",
                "credentials": [{"name": "main", "value": "env:LAB_KEY"}],
            },
            {
                "name": "messages",
                "kind": "anthropic",
                "base_url": f"http://127.0.0.1:{upstream_port}",
                "credentials": [{"name": "main", "value": "env:LAB_KEY"}],
            },
        ],
        "models": [
            {
                "name": alias,
                "targets": [{"provider": "messages" if alias == TRANSLATED else "lab", "model": alias}],
                "price": {"input": 2.00, "output": 8.00, "cache_read": 0.50},
                "max_output": 4096,
            }
            for alias in (*ALIASES, TRANSLATED)
        ],
        "teams": [{"name": "growth"}],
        "projects": [{"name": "search", "team": "growth", "environment": "production"}],
        "keys": [{"name": "bench", "team": "growth", "project": "search", "secret": "env:BENCH_KEY"}],
        "limits": shape.limits,
    }
    path = folder / "penstock.yaml"
    path.write_text(json.dumps(config, indent=2))
    environment = {"PATH": PATH, "LAB_KEY": "sk-lab-bench", "BENCH_KEY": key}
    command = (binary, "serve", "-c", str(path))
    return Contender(PENSTOCK, port, key, Launch(command, environment, folder, folder / "log"), "/readyz")


def _litellm(binary: str, folder: Path, upstream_port: int) -> Contender:
    (port,) = free_ports(1)
    base = f"http://127.0.0.1:{upstream_port}/v1"
    models = [
        {"model_name": a, "litellm_params": {"model": f"openai/{a}", "api_base": base, "api_key": "sk-lab-bench"}}
        for a in ALIASES
    ]
    translated = {"model": f"anthropic/{TRANSLATED}", "api_base": base.removesuffix("/v1"), "api_key": "sk-lab-bench"}
    models.append({"model_name": TRANSLATED, "litellm_params": translated})
    path = folder / "litellm.yaml"
    key = f"sk-{secrets.token_hex(32)}"
    path.write_text(json.dumps({"model_list": models, "general_settings": {"master_key": key}}))
    listen = ("--host", "127.0.0.1", "--port", str(port))
    command = (binary, "--config", str(path), *listen, "--num_workers", "1", "--keepalive_timeout", "600")
    environment = {"PATH": PATH, "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    launch = Launch(command, environment, folder, folder / "log")
    return Contender("litellm", port, key, launch, "/health/readiness")


PEERS = ("litellm",)
_MAKERS: dict[str, Callable[[str, Path, int], Contender]] = {NGINX: _nginx, PENSTOCK: _penstock, "litellm": _litellm}
