"""`penstock provider`."""

from typing import Annotated, Any

import typer

from penstock.cli import nouns
from penstock.cli.options import Json, NameArgument, given, pairs
from penstock.cli.output import CommandFailed

PROVIDER = nouns.Noun("provider", ("name", "kind", "base_url", "credentials", "origin"), "lab")

BaseUrl = Annotated[str, typer.Option(metavar="URL", help="Where it answers, such as http://127.0.0.1:9001/v1.")]
Timeouts = Annotated[
    list[str] | None,
    typer.Option(
        "--timeout", metavar="NAME=DURATION", help="connect, first_byte, between_chunks or total, such as connect=2s."
    ),
]
Options = Annotated[
    list[str] | None,
    typer.Option("--option", metavar="NAME=NUMBER", help="An option of a simulated provider, such as latency_ms=50."),
]
Headers = Annotated[
    list[str] | None, typer.Option("--header", metavar="NAME=VALUE", help="A header that every call carries.")
]

Credentials = Annotated[
    list[str] | None,
    typer.Option("--credential", metavar="NAME=vault:ENTRY", help="A credential of the vault; repeatable."),
]

app = nouns.command_group(PROVIDER, "Providers: the vendor accounts that calls go to.")


def _fields(
    base_url: str, timeouts: list[str] | None, options: list[str] | None, headers: list[str] | None
) -> dict[str, Any]:
    return given(
        base_url=base_url,
        timeouts=pairs(timeouts or [], "--timeout"),
        options={name: _number(value) for name, value in pairs(options or [], "--option").items()},
        headers=pairs(headers or [], "--header"),
    )


def _credentials(texts: list[str] | None) -> dict[str, Any]:
    return given(credentials=[{"name": name, "value": it} for name, it in pairs(texts or [], "--credential").items()])


def _number(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise CommandFailed(f"--option takes NAME=NUMBER, not {text!r}", 2) from None


@app.command(epilog="Example: penstock provider create lab --kind compatible --base-url http://127.0.0.1:9001/v1")
def create(
    name: NameArgument,
    *,
    kind: Annotated[str, typer.Option(help="openai, compatible or simulated.", show_default=False)],
    base_url: BaseUrl = "",
    credential: Credentials = None,
    timeout: Timeouts = None,
    option: Options = None,
    header: Headers = None,
    as_json: Json = False,
) -> None:
    """Create a provider."""
    fields = _fields(base_url, timeout, option, header) | _credentials(credential)
    nouns.create(PROVIDER, {"name": name, "kind": kind, **fields}, as_json)


@app.command(epilog="Example: penstock provider update lab --timeout first_byte=20s")
def update(
    name: NameArgument,
    *,
    base_url: BaseUrl = "",
    credential: Credentials = None,
    timeout: Timeouts = None,
    option: Options = None,
    header: Headers = None,
    as_json: Json = False,
) -> None:
    """Change a provider. What is not named stays."""
    nouns.update(PROVIDER, name, _fields(base_url, timeout, option, header) | _credentials(credential), as_json)
