"""The sync server: `core` decides, `runtime` talks to sockets and clocks, `storage` keeps."""
