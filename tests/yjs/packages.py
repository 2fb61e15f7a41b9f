"""The npm packages that real Yjs clients are made of: pinned, and installed by name into a folder of their own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import pytest

INSTALL_WITHIN_S: Final = 300
PACKAGES: Final = {
    "yjs": "13.6.33",
    "y-websocket": "3.1.0",
    "y-protocols": "1.0.7",
    "@hocuspocus/provider": "4.8.0",
    "ws": "8.23.0",
}
SCRIPTS: Final = Path(__file__).parent


class NotInstalled(Exception):
    """Node or the packages are not there; the text says why."""


def node_folder(name: str = "yjs", packages: Mapping[str, str] = PACKAGES) -> Path:
    """A folder with the packages. Where they can not be had: skips the test, or fails it under SYNCLINE_CI."""
    try:
        return _installed(name, packages)
    except NotInstalled as exc:
        if os.environ.get("SYNCLINE_CI"):
            pytest.fail(str(exc))
        pytest.skip(str(exc))


def _installed(name: str, packages: Mapping[str, str]) -> Path:
    """Whole or not there: tests of several processes may want it at once."""
    if shutil.which("node") is None:
        raise NotInstalled("node is not there")
    manifest = json.dumps({"private": True, "type": "module", "dependencies": dict(packages)}, indent=1)
    folder = _cache() / f"{name}-{blake2b(manifest.encode(), digest_size=6).hexdigest()}"
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=folder.parent) as fresh:
            made = Path(fresh, "made")
            made.mkdir()
            (made / "package.json").write_text(manifest)
            _run(["npm", "install", "--no-package-lock", "--no-audit", "--no-fund"], made)
            with suppress(OSError):  # another process was first
                made.rename(folder)
    return folder


def _cache() -> Path:
    named = os.environ.get("SYNCLINE_NODE_CACHE")
    return Path(named) if named else Path.home() / ".cache" / "syncline-node"


def _run(command: list[str], folder: Path) -> None:
    try:
        subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True, timeout=INSTALL_WITHIN_S)
    except FileNotFoundError as exc:
        raise NotInstalled(f"{command[0]} is not there") from exc
    except subprocess.CalledProcessError as exc:
        raise NotInstalled(f"{command[0]}: {(exc.stderr or exc.stdout)[-400:]}") from exc
    except subprocess.TimeoutExpired as exc:
        raise NotInstalled(f"{command[0]} took over {INSTALL_WITHIN_S} s") from exc
