"""Documents over plain HTTP, for backends that hold no socket. docs/HTTP.md is the reference."""
