"""What an installation gets: typed packages, and the versions that were tested."""

from __future__ import annotations

import ast
import importlib
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from tests.architecture.sources import PACKAGES, ROOT, tree

PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
CONSTRAINTS = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()

REQUIREMENT = re.compile(r"([A-Za-z0-9._-]+)(?:\[[a-z,]+\])?(.+)")
RANGE = re.compile(r">=[\d.]+,<[\d.]+")
SUFFIX = ".so" if os.environ.get("SYNCLINE_COMPILED") == "1" else ".py"


def requirements() -> dict[str, str]:
    """Every direct dependency, those of extras included, with the versions it may have."""
    declared = [*PROJECT["project"]["dependencies"]]
    for extra in PROJECT["project"]["optional-dependencies"].values():
        declared += extra
    matches = [REQUIREMENT.fullmatch(requirement) for requirement in declared]
    return {match[1]: match[2] for match in matches if match}


def normal(project: str) -> str:
    return re.sub(r"[-_.]+", "-", project).lower()


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_are_typed(package: str) -> None:
    assert (ROOT / package / "py.typed").is_file()
    assert "py.typed" in PROJECT["tool"]["setuptools"]["package-data"][package]


def test_every_folder_of_code_is_a_package() -> None:
    packages = (*PACKAGES, "tests", "benchmarks", "examples")
    folders = {path.parent for package in packages for path in (ROOT / package).rglob("*.py")}
    assert [folder.name for folder in sorted(folders) if not (folder / "__init__.py").is_file()] == []


@pytest.mark.parametrize(("project", "versions"), sorted(requirements().items()))
def test_direct_dependencies_have_a_range(project: str, versions: str) -> None:
    if project == "pycrdt":
        assert re.fullmatch(r"==\d+\.\d+\.\d+", versions), "the library whose faults the design knows by version"
    else:
        assert RANGE.fullmatch(versions)


def test_constraints_are_exact_versions_without_addresses() -> None:
    assert [line for line in CONSTRAINTS if not re.fullmatch(r"[A-Za-z0-9._-]+==[\w.]+", line)] == []


def test_constraints_hold_every_direct_dependency() -> None:
    held = {normal(line.partition("==")[0]) for line in CONSTRAINTS}
    assert sorted({normal(project) for project in requirements()} - held) == []


def of_setup(name: str) -> Any:
    """A constant of setup.py, which can not be imported: it builds."""
    for node in tree(ROOT / "setup.py").body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == name:
            return ast.literal_eval(node.value)
    raise AssertionError(name)


def compiled_modules() -> list[str]:
    """The modules that a compiled build has compiled."""
    sources = {path for pattern in of_setup("COMPILED") for path in ROOT.glob(pattern)}
    sources -= {ROOT / name for name in of_setup("INTERPRETED")}
    found = sorted(path.relative_to(ROOT).with_suffix("") for path in sources if path.stem != "__init__")
    return [".".join(path.parts) for path in found]


def test_there_is_something_to_compile() -> None:
    assert {"crdt.update.reader", "server.core.room", "server.runtime.connection"} <= {*compiled_modules()}


@pytest.mark.parametrize("module", compiled_modules())
def test_what_runs_is_the_build_that_was_asked_for(module: str) -> None:
    file = importlib.import_module(module).__file__
    assert file is not None
    assert Path(file).suffix == SUFFIX


def test_so_it_is_in_processes_that_tests_start() -> None:
    script = "from server.core import room; print(room.__file__)"
    file = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout
    assert Path(file.strip()).suffix == SUFFIX


def test_the_compiler_is_the_one_that_was_tried() -> None:
    assert [of_setup("COMPILER")] == [line for line in CONSTRAINTS if line.startswith("mypy==")]
