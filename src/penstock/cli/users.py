"""`penstock user`."""

from penstock.cli import nouns
from penstock.cli.options import Json, NameArgument

USER = nouns.Noun("user", ("name", "origin", "created_at"), "ana@example.com")

app = nouns.command_group(USER, "Users: the people that keys are given to.")


@app.command(epilog="Example: penstock user create ana@example.com")
def create(name: NameArgument, as_json: Json = False) -> None:
    """Create a user."""
    nouns.create(USER, {"name": name}, as_json)
