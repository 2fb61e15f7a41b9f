"""The npm packages that real Yjs clients are made of: pinned, and installed by name into a folder of their own."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import pytest

from benchmarks.peers.packages import NotInstalled, installed

PACKAGES: Final = {
    "yjs": "13.6.33",
    "y-websocket": "3.1.0",
    "y-protocols": "1.0.7",
    "@hocuspocus/provider": "4.8.0",
    "ws": "8.23.0",
}
SCRIPTS: Final = Path(__file__).parent


def node_folder(name: str = "yjs", packages: Mapping[str, str] = PACKAGES) -> Path:
    """A folder with the packages. Where they can not be had: skips the test, or fails it under SYNCLINE_CI."""
    try:
        return installed(name, packages)
    except NotInstalled as exc:
        if os.environ.get("SYNCLINE_CI"):
            pytest.fail(str(exc))
        pytest.skip(str(exc))
