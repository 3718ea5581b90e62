"""Run by Alembic for `store.migrate`, which hands in the connection with its transaction."""

from alembic import context

context.configure(connection=context.config.attributes["connection"])
with context.begin_transaction():
    context.run_migrations()
