"""Who may lean on whom, and what the cores may never touch."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.architecture.sources import CORES, ROOT, imports, name, sources, tree

IMPURE = frozenset(
    {
        "asyncio", "concurrent", "datetime", "io", "logging", "multiprocessing", "os", "pathlib", "queue", "random",
        "secrets", "select", "selectors", "shutil", "signal", "socket", "sqlite3", "ssl", "subprocess", "tempfile",
        "threading", "time", "uuid",
        "aiosqlite", "alembic", "asyncpg", "pebble", "prometheus_client", "pydantic_settings", "rich", "sqlalchemy",
        "starlette", "structlog", "typer", "uvicorn", "uvloop", "websockets",
    }
)  # fmt: skip
"""Modules that read a clock, draw randomness, wait, or reach outside the process."""

IN_MEMORY = ("server.storage.memory", "server.storage.compaction")
"""What of storage touches no disk: simulated worlds are built on it."""

IMPURE_CALLS = frozenset({"open", "print", "input", "breakpoint", "__import__", "exec", "eval"})


def impurities(module: ast.Module) -> list[str]:
    """What a module does that a core must not."""
    found = [imported for imported in imports(module) if imported.partition(".")[0] in IMPURE]
    for node in ast.walk(module):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in IMPURE_CALLS:
            found.append(f"{node.func.id}()")
        if isinstance(node, ast.Await | ast.AsyncFor | ast.AsyncWith):
            found.append(f"await in line {node.lineno}")
        if isinstance(node, ast.For | ast.comprehension) and is_set(node.iter):
            found.append(f"the order of a set in line {node.iter.lineno}")
    return found


def is_set(node: ast.expr) -> bool:
    """True where an expression is seen to be a set."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        return node.func.id in ("set", "frozenset")
    return isinstance(node, ast.Set | ast.SetComp)


def makes_documents(module: ast.Module) -> bool:
    """True if a module makes a document of the library, under any name."""
    names = {
        alias.asname or alias.name
        for node in ast.walk(module)
        if isinstance(node, ast.ImportFrom) and node.module == "pycrdt"
        for alias in node.names
        if alias.name in ("Doc", "TypedDoc")
    }
    calls = [ast.unparse(node.func).partition("[")[0] for node in ast.walk(module) if isinstance(node, ast.Call)]
    return any(call in names or call.startswith("pycrdt.") for call in calls)


def test_the_layers_hold() -> None:
    linter = Path(sys.executable).parent / "lint-imports"
    ran = subprocess.run([linter, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_the_contracts_name_every_core() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (forbidden,) = (contract for contract in contracts if contract["type"] == "forbidden")
    assert sorted(forbidden["source_modules"]) == sorted(core.replace("/", ".") for core in CORES)


@pytest.mark.parametrize("path", sources(*CORES), ids=name)
def test_the_cores_are_functions_of_events_and_time(path: Path) -> None:
    assert impurities(tree(path)) == []


@pytest.mark.parametrize("path", sources("client_sim/core", "client_sim/sim"), ids=name)
def test_the_simulator_and_the_device_know_nothing_of_the_servers_drivers(path: Path) -> None:
    drivers = ("server.runtime", "server.storage", "server.cli")
    found = [imported for imported in imports(tree(path)) if imported.startswith(drivers)]
    assert [imported for imported in found if imported not in IN_MEMORY] == []


def test_only_a_replica_its_values_and_its_undo_own_a_document_of_the_library() -> None:
    owners = [name(path) for path in sources("crdt", "server", "client_sim") if makes_documents(tree(path))]
    assert owners == ["crdt/excise.py", "crdt/replica.py", "crdt/values.py"]


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("def f():\n    import time", ["time"]),
        ("from asyncio import sleep", ["asyncio"]),
        ("import os.path", ["os"]),
        ("def f():\n    print(1)", ["print()"]),
        ("async def port(self) -> None: ...", []),
        ("async def f():\n    await g()", ["await in line 2"]),
        ("for x in {1, 2}: ...", ["the order of a set in line 1"]),
        ("[x for x in sorted({1, 2})]", []),
        ("import json\nfrom crdt.update import Id", []),
    ],
)
def test_impurities_are_found(source: str, found: list[str]) -> None:
    assert [impurity.replace("os.path", "os") for impurity in impurities(ast.parse(source))] == found
