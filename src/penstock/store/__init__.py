"""STORE: the database.

Owns: engines (`engine`), the tables (`tables/`, one file per room that owns them) and the migrations that make them.
Refuses: rules. What a row means is the business of the room that owns its table; nothing here reads or writes one.

SQLite in WAL mode is the embedded default; PostgreSQL takes its place when it is outgrown.
Only the control process imports this room: workers never touch the database.
Import from the modules (`penstock.store.engine`, `penstock.store.tables.ledger`, ...); this file exports nothing.
"""
