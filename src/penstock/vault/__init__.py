"""VAULT: how secrets are kept at rest.

Owns: the envelope (AES-256-GCM under a data key, bound to what it is for), and the wrappers that keep data keys under a
key of somebody else's: the root secret, HashiCorp Vault or OpenBao (`transit`), AWS KMS (`kms`).
Refuses: a database, an event loop, and deciding what is kept or who may use it: that is `control`.

A new wrapper is a file here and a branch in `wrappers_of`. Those of other systems need an extra and fail with one
sentence where it is missing. What they do takes a network: never call them while others wait for the database.

Import from the modules (`penstock.vault.envelope`, ...); this file exports nothing.
"""
