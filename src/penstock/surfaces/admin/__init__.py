"""ADMIN: the HTTP edge of the control plane, on a listener of its own so that load on the data plane cannot block it.

Owns: the paths under `/admin/v1`, who may use them (`edge`), how refusals read (`problems`) and the OpenAPI document at
`/admin/openapi.json`. `objects` holds the nouns that are created, read, updated and deleted; `stops` the kills;
`reports` what is only looked at: usage, receipts, audit, ledger, configuration, status.
Refuses: rules. Each handler parses, calls `control` or `records`, and encodes.

Import from the modules (`penstock.surfaces.admin.application`, ...); this file exports nothing.
"""
