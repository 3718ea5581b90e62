"""LIMIT and SETTLE: what calls may cost, what they do cost, and where that is written down.

Owns: limits and their windows, holds and their settlement, leases between workers, the journal, the committer that
moves journals into the database, and the verification of what lies there. It is the only accounting path: whatever
costs, costs here.
Refuses: knowing providers, prices, surfaces or HTTP. It is told the worst case of a call and what the call used.

Workers use `ledger`, `machine`, `books`, `slices`, `lessee`, `matching`, `windows`, `denials`, `journal` and `frames`,
which import no database; the control process uses `committer`, `grantor` and `verify` as well.
Import from the modules (`penstock.ledger.ledger`, ...); this file exports nothing.
"""
