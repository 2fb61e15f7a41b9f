"""The server's logic as plain functions of events and time: no clock, no randomness, no I/O.

`Hub.handle(event, now)` answers every event with effects for a driver to execute. The real driver is `server.runtime`.
"""
