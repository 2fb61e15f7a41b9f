"""A device written from docs/PROTOCOL.md alone, and what it does against a real server."""
