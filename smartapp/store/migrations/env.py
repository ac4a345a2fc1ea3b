"""Alembic's entry: migrates over the connection it is handed (`Database.migrate`)."""

from alembic import context

from smartapp.store.tables import METADATA

context.configure(connection=context.config.attributes["connection"], target_metadata=METADATA)
with context.begin_transaction():
    context.run_migrations()
