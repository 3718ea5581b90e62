"""`penstock model`."""

from typing import Annotated, Any

import typer

from penstock.cli import nouns
from penstock.cli.options import Json, NameArgument, given, pairs
from penstock.cli.output import CommandFailed

MODEL = nouns.Noun("model", ("name", "targets", "price", "max_output", "origin"), "gpt-4.1")

Targets = Annotated[
    list[str] | None,
    typer.Option(
        "--target", metavar="PROVIDER:MODEL", help="Where its calls go; repeatable, tried in the order given."
    ),
]
Price = Annotated[
    list[str] | None,
    typer.Option(
        "--price",
        metavar="METER=USD",
        help="USD per million tokens over the catalogue's price: input and output, cache_read, ...; repeatable.",
    ),
]
MaxOutput = Annotated[
    int | None, typer.Option("--max-output", min=1, help="The cap on output tokens when a caller gives none.")
]

app = nouns.command_group(MODEL, "Models: the names that callers use, and the targets that answer to them.")


def _fields(targets: list[str] | None, price: list[str] | None, max_output: int | None) -> dict[str, Any]:
    return given(
        targets=[_target(text) for text in targets or []],
        price=pairs(price or [], "--price"),
        max_output=max_output,
    )


def _target(text: str) -> dict[str, str]:
    provider, colon, model = text.partition(":")
    if not provider or not colon or not model:
        raise CommandFailed(f"--target takes PROVIDER:MODEL, not {text!r}", 2)
    return {"provider": provider, "model": model}


@app.command(epilog="Example: penstock model create smart --target lab:big --price input=2 --price output=8")
def create(
    name: NameArgument, target: Targets = None, price: Price = None, max_output: MaxOutput = None, as_json: Json = False
) -> None:
    """Create a model, or with a name such as 'lab/*' admit a provider's undeclared ones."""
    nouns.create(MODEL, {"name": name, **_fields(target, price, max_output)}, as_json)


@app.command(epilog="Example: penstock model update smart --max-output 4096")
def update(
    name: NameArgument,
    *,
    target: Targets = None,
    price: Price = None,
    max_output: MaxOutput = None,
    catalogue_price: Annotated[
        bool, typer.Option("--catalogue-price", help="Drop the price given here; the catalogue's counts.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Change a model's targets, price or cap. What is not named stays."""
    changes = _fields(target, price, max_output) | ({"price": None} if catalogue_price else {})
    nouns.update(MODEL, name, changes, as_json)
