"""PROVE STOP: how long after a stop the last call is admitted, measured on two boxes that share a PostgreSQL.

Owns: the stage (two throwaway boxes, each with a store proxy between it and the database, in front of a scripted
provider), the probes (callers who never stop calling), the scenarios and their table. What counts as admitted is what
reaches the provider. `python -m penstock.testing.prove.stops --help` runs it, and so does `penstock prove stop`.
Refuses: a running gateway of anybody's. Exports nothing.
"""
