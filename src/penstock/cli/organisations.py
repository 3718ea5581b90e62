"""`penstock organisation`."""

from penstock.cli import nouns
from penstock.cli.options import Json, NameArgument

ORGANISATION = nouns.Noun("organisation", ("name", "origin"), "acme")

app = nouns.command_group(ORGANISATION, "Organisations: whose teams they are, where one gateway serves several.")


@app.command(epilog="Example: penstock organisation create acme")
def create(name: NameArgument, as_json: Json = False) -> None:
    """Create an organisation."""
    nouns.create(ORGANISATION, {"name": name}, as_json)
