"""What Alembic runs for every command: migrations of the store over the connection it is handed."""

from __future__ import annotations

from alembic import context

from differnet.store.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    # SQLite changes a column by writing the table anew.
    render_as_batch=True,
    # Both engines undo half a migration.
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
