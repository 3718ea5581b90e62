"""The one `MetaData` that every table hangs on.

What a table wants of SQLite alone it says as `info=WITHOUT_ROWID` or `info=AUTOINCREMENT`. As an option of the table it
would have SQLAlchemy load its SQLite dialect with this module, for a start on PostgreSQL as well.
"""

from typing import Any

from sqlalchemy import Connection, MetaData, event

WITHOUT_ROWID = {"sqlite_with_rowid": False}
AUTOINCREMENT = {"sqlite_autoincrement": True}

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(column_0_N_label)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)


@event.listens_for(metadata, "before_create")
def _want_of_sqlite(target: MetaData, connection: Connection, **_: Any) -> None:
    if connection.dialect.name == "sqlite":
        for table in target.tables.values():
            table.dialect_kwargs.update(table.info)
