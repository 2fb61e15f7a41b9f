"""The command line: `syncline serve`, `token`, `import`, `db ...`, `doc ...`, `device ...` and `version`.

Exit codes: 0 done; 1 a check found damage, or a server could not save everything; 2 it could not be done, and standard
error has one line that says why.
"""

from __future__ import annotations

from collections.abc import Sequence

INTERRUPTED = 130
"""The exit code after Ctrl-C, as shells have it."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; the exit code. Most of the first second is spent on imports, which Ctrl-C may end as well."""
    try:
        from server.cli.app import main as run

        return run(arguments)
    except KeyboardInterrupt:
        return INTERRUPTED


__all__ = ["main"]
