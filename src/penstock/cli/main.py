"""The console entry `penstock`. A start is not kept waiting; all else is for the parser of commands."""

import sys
from importlib import import_module


def main() -> None:
    """Loads what the words on the command line need, and no more."""
    words = sys.argv[1:]
    if words[:1] == ["serve"]:
        import_module("penstock.cli.start").start_if_plain(words[1:])
    import_module("penstock.cli.commands").main()


if __name__ == "__main__":
    main()
