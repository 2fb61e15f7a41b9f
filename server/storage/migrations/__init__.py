"""The steps that make and change the schema, in order; `server.storage.schema` runs them."""
