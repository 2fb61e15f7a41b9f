"""The command line: `syncline serve`, `token`, `db ...`, `doc ...` and `version`.

Exit codes: 0 done; 1 a check found damage, or a server could not save everything; 2 it could not be done, and standard
error has one line that says why.
"""

from __future__ import annotations

from server.cli.app import main

__all__ = ["main"]
