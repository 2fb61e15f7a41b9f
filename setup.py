"""With SYNCLINE_COMPILE=1 the modules that every update passes through are compiled to C, from the same sources.

Why, and what is not: docs/decisions/0018-compiled-modules.md.
"""

from __future__ import annotations

import os
import sys
from glob import glob

from setuptools import Extension, setup

COMPILED = (
    "crdt/chain.py",
    "crdt/errors.py",
    "crdt/ids.py",
    "crdt/library.py",
    "crdt/protocol/codec.py",
    "crdt/replica.py",
    "crdt/update/*.py",
    "server/core/*.py",
    "server/runtime/connection.py",
    "server/runtime/transport.py",
    "server/runtime/wire.py",
    "server/runtime/yjs.py",
)
INTERPRETED = ("server/core/records.py",)
"""Worker processes are sent these, which can not be done with compiled ones."""
COMPILER = "mypy==2.4.1"
"""Of which mypyc is a part. What another one makes of the sources was not tried."""
IS_COMPILED = os.environ.get("SYNCLINE_COMPILE") == "1"
ASKS_WHAT_IT_NEEDS = sys.argv[1:] == ["egg_info"]
"""The installer runs this first to learn what to install for the build."""


def extensions() -> list[Extension]:
    if not IS_COMPILED or ASKS_WHAT_IT_NEEDS:
        return []
    from mypyc.build import mypycify

    found = [source for pattern in COMPILED for source in sorted(glob(pattern)) if not source.endswith("__init__.py")]
    sources = [source for source in found if source not in INTERPRETED]
    return mypycify(sources, opt_level="3", group_name="syncline")


setup(ext_modules=extensions(), setup_requires=[COMPILER] if IS_COMPILED else [])
