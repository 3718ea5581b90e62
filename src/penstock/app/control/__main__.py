"""`python -m penstock.app.control --config FILE --data DIR`: what the supervisor runs.

Exit codes: 0 told to stop, 1 failed (starting again may help), 2 configuration, 3 the data directory, the store or the
address is in use by another.
"""

import argparse
import gc
import os
import sys
from pathlib import Path

# Starting makes a great many objects that stay: looking for garbage among them is a tenth of the way to being ready.
# The process turns it on again when it is.
gc.disable()
# pydantic would look through everything that is installed for plugins, which have no business here.
os.environ["PYDANTIC_DISABLE_PLUGINS"] = "__all__"

from penstock.app.control.spared import spared  # noqa: E402

with spared():
    import uvloop
    from sqlalchemy.exc import SQLAlchemyError

    from penstock.app.control.bootstrap import DataInUse, Options
    from penstock.app.control.listener import AddressInUse
    from penstock.app.control.process import serve
    from penstock.errors import (
        ConfigError,
        ConfigFaults,
        ControlError,
        PenstockError,
        StoreInUse,
        StoreTooNew,
    )
    from penstock.store.claim import reason

EXIT_FAILED = 1
EXIT_CONFIG = 2
EXIT_IN_USE = 3


def main() -> int:
    parser = argparse.ArgumentParser(prog="penstock.app.control")
    parser.add_argument("--config", required=True, type=Path)
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--parent-fd", type=int)
    parser.add_argument("--word-fd", type=int)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--log-level", choices=["debug", "info", "warning", "error"], default="info")
    arguments = parser.parse_args()
    # Whatever is made from here on (the database, above all) is the owner's alone.
    os.umask(0o077)
    options = Options(
        arguments.config,
        arguments.data,
        arguments.parent_fd,
        arguments.log_level,
        arguments.workers,
        arguments.word_fd,
    )
    try:
        uvloop.run(serve(options))
    except ConfigFaults as error:
        _say(*error.faults)
        return EXIT_CONFIG
    except (ConfigError, ControlError, StoreTooNew) as error:
        _say(f"penstock: {error}")
        return EXIT_CONFIG
    except (DataInUse, StoreInUse, AddressInUse) as error:
        _say(f"penstock: {error}")
        return EXIT_IN_USE
    except PenstockError as error:
        _say(f"penstock: {error}")
        return EXIT_FAILED
    except SQLAlchemyError as error:
        _say(f"penstock: the store refuses: {reason(error)}")
        return EXIT_FAILED
    return 0


def _say(*lines: str) -> None:
    sys.stderr.write("".join(f"{line}\n" for line in lines))


if __name__ == "__main__":
    sys.exit(main())
