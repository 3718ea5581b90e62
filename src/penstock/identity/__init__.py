"""IDENTITY: AUTHENTICATE. Who is calling.

Owns: the shape of a virtual key, its checksum, its digest, and the keys derived from the root secret.
Refuses: deciding what a caller may do (that is `admission`), keeping a secret anywhere, and asking a store:
a caller is looked up by digest in the snapshot, so a store outage never turns a valid key into a 401.

Workers import this room on every call, so nothing here is heavy, and nothing blocks.
Import from the modules (`penstock.identity.virtual_keys`, ...); this file exports nothing.
"""
