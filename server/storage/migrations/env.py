"""How alembic runs the steps: on the connection that `server.storage.schema` hands it, inside its transaction."""

from __future__ import annotations

from alembic import context

from server.storage.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
