"""Which catalogue this is, found out without loading it: what it said before is good for as long as it is the same."""

from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path

from penstock import __version__

LIST = "genai_prices"


def edition() -> bytes | None:
    """A digest of all that an answer comes from: the price list and its own code, our facts and our code. None where
    the price list is installed in another form than files of Python."""
    spec = find_spec(LIST)
    places = spec.submodule_search_locations if spec is not None else None
    listed = sorted(file for place in places or () for file in Path(place).glob("*.py"))
    if not listed:
        return None
    own = Path(__file__).parent
    ours = sorted([*own.glob("*.py"), *own.glob("data/*.toml"), *own.with_name("domain").glob("*.py")])
    digest = sha256(__version__.encode())
    for file in (*listed, *ours):
        content = file.read_bytes()
        digest.update(f"\n{file.name} {len(content)}\n".encode())
        digest.update(content)
    return digest.digest()
