"""CONFIG: what the operator wrote, read once and checked whole.

Owns: the configuration file (`loading.load`: YAML -> `settings.Config`, every fault with its line), the environment
(`environment`, the only place that reads it) and the references in it (`env:NAME`, `file:PATH` -> `Secret`).
Refuses: guessing. An unknown field, a setting that this release does not have, a name that refers to nothing and a
rule that can match nothing are faults; nothing is ignored.

The control process and the command line import this room. Workers never do: they live from their snapshot.
Import from the modules; this file exports nothing, so that a short command does not pay for the file's models.
"""
