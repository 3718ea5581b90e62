"""PROVE: the proofs about money that an operator can rerun, with a table at the end.

Owns: the stage (a throwaway gateway in front of banks and fault proxies, a team, a key and a budget per scenario), the
scenarios (`overspend`, `crashes`, `disconnects`, `network`, `hostile`), and the report. Every scenario is judged by the
same oracles, and by a promise of its own. `python -m penstock.testing.prove --help` runs them, and so does
`penstock prove`.
Refuses: a running gateway of anybody's. What is proved is proved on a gateway that was started for it and is ended
after it. Exports nothing.
"""
