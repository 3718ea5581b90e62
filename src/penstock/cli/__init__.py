"""CLI: the `penstock` command. One file per command group; `main.main` is the console entry, `commands` the
parser, `start` what a start does without it.

Owns: how a person at a terminal reads and asks. `serve` and `check` read the configuration file; everything else goes
to the admin API of a running gateway (`admin_client`), as any other client would.
Refuses: rules and state of its own. What is refused is said in one sentence on stderr: exit 1 when it failed, 2 when it
was asked wrongly; never a traceback.

Import from the modules; this file exports nothing.
"""
