"""Packages of others, pinned and installed by name into a cache folder that is no part of the repository."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from tempfile import TemporaryDirectory

HERE = Path(__file__).parent
INSTALL_WITHIN_S = 1200
"""better-sqlite3 may be compiled, which takes minutes."""

Y_WEBSOCKET = {"@y/websocket-server": "0.1.1", "y-leveldb": "0.1.2", "yjs": "13.6.33", "ws": "6.2.7"}
"""0.1.1 is the newest that installs with its LevelDB persistence: 0.1.5 has none of its own and needs a Yjs 14 of which
there are candidates only."""
Y_WEBSOCKET_APP = {"y-websocket": "3.1.0", "yjs": "13.6.33", "ws": "8.23.0"}
"""What an app has that talks to that server; with ws, since Node's own WebSocket does not say how much it carried."""
HOCUSPOCUS = {
    "@hocuspocus/server": "4.7.0",
    "@hocuspocus/extension-sqlite": "4.7.0",
    "yjs": "13.6.33",
    "y-protocols": "1.0.7",
}
PYCRDT_WEBSOCKET = {
    "pycrdt-websocket": "0.16.5",
    "pycrdt-store": "0.1.5",
    "pycrdt": "0.14.13",
    "uvicorn": "0.54.0",
    "uvloop": "0.23.0",
    "httptools": "0.9.0",
    "websockets": "17.4",
}


class NotInstalled(Exception):
    """Packages could not be installed; the text says why, or is the end of what the installer said."""


def node_folder(name: str, packages: Mapping[str, str]) -> Path:
    """A folder with these npm packages, and our server scripts beside them. Raises NotInstalled."""
    folder = installed(name, packages)
    for script in HERE.glob("*.mjs"):  # a module finds its imports from where it is
        shutil.copy(script, folder)
    return folder


def installed(name: str, packages: Mapping[str, str]) -> Path:
    """A folder with these npm packages, installed on first use: whole or not there, for several processes may want it.

    Raises NotInstalled.
    """
    if shutil.which("node") is None:
        raise NotInstalled("node is not there")
    manifest = json.dumps({"private": True, "type": "module", "dependencies": dict(packages)}, indent=1)
    folder = _cache() / "syncline-node" / f"{name}-{blake2b(manifest.encode(), digest_size=6).hexdigest()}"
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


def python_of(name: str, packages: Mapping[str, str]) -> Path:
    """The interpreter of an environment with these packages, made on first use. Raises NotInstalled."""
    folder = _cache() / "syncline-bench" / "peers" / name
    if not _has(folder, packages):
        _run([sys.executable, "-m", "venv", "--clear", str(folder)], HERE)
        pins = [f"{package}=={version}" for package, version in packages.items()]
        _run([str(folder / "bin" / "pip"), "install", "--quiet", *pins], HERE)
        (folder / "installed.json").write_text(json.dumps(packages))
    return folder / "bin" / "python"


def _cache() -> Path:
    named = os.environ.get("SYNCLINE_PACKAGES_CACHE")
    return Path(named) if named else Path.home() / ".cache"


def _has(folder: Path, wanted: Mapping[str, str]) -> bool:
    mark = folder / "installed.json"
    return mark.exists() and json.loads(mark.read_text()) == wanted


def _headers() -> dict[str, str]:
    """Packages that are compiled take Node's headers from where it is installed, if it has them, not from its site."""
    node = shutil.which("node")
    prefix = Path(node).resolve().parents[1] if node else None
    has_headers = prefix is not None and (prefix / "include" / "node" / "node.h").exists()
    return {"npm_config_nodedir": str(prefix)} if has_headers else {}


def _run(command: list[str], folder: Path) -> None:
    try:
        subprocess.run(
            command,
            cwd=folder,
            env={**os.environ, **_headers()},
            check=True,
            capture_output=True,
            text=True,
            timeout=INSTALL_WITHIN_S,
        )
    except FileNotFoundError as exc:
        raise NotInstalled(f"{command[0]} is not there") from exc
    except subprocess.CalledProcessError as exc:
        raise NotInstalled(f"{command[0]}: {(exc.stderr or exc.stdout)[-400:]}") from exc
    except subprocess.TimeoutExpired as exc:
        raise NotInstalled(f"{command[0]} took over {INSTALL_WITHIN_S} s") from exc
