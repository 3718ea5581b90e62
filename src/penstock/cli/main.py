"""The console entry `penstock`. A start is not kept waiting; all else is for the parser of commands."""

import os
import sys
from importlib import import_module


def main() -> None:
    """Loads what the words on the command line need, and no more."""
    words = sys.argv[1:]
    if words[:1] == ["serve"]:
        import_module("penstock.cli.start").start_if_plain(words[1:])
    # pydantic, which reads the words, would look through everything that is installed for plugins.
    os.environ["PYDANTIC_DISABLE_PLUGINS"] = "__all__"
    import_module("penstock.cli.commands").main()


if __name__ == "__main__":
    main()
