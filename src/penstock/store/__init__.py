"""STORE: the database.

Owns: engines (`engine`), the tables (`tables/`, one file per room that owns them), the migrations that make them, and
dumps of all of them (`dump`).
Refuses: rules. What a row means is the business of the room that owns its table; nothing here looks into one.

SQLite in WAL mode is the embedded default; PostgreSQL takes its place when it is outgrown.
Only the control process imports this room: workers never touch the database.
Import from the modules (`penstock.store.engine`, `penstock.store.tables.ledger`, ...); this file exports nothing.
"""
