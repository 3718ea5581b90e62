"""ADMIT: may this call go on at all? The kill switch, the key's scope, the required tags; the cheapest check first.

Owns: the dimensions of a call (what limits and kills match on), the check of every live and new call against the
kills in force, which aliases a key may use, which one takes over when a limit denies it, the tags a caller may write,
and which Idempotency-Keys are in use.
Refuses: counting anything (that is the ledger's), knowing who a caller is (identity's), any I/O but that of `key_uses`,
which workers do not import and which works in the transactions that it is given.

A kill is checked at admission and again before every further attempt; live calls are found by their dimensions.
"""
