"""What an installation gets: typed packages, and the versions that were tested."""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from crdt.update import layout
from server.core import hub
from server.runtime import connection
from tests.architecture.sources import PACKAGES, ROOT

PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
CONSTRAINTS = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()

REQUIREMENT = re.compile(r"([A-Za-z0-9._-]+)(?:\[[a-z,]+\])?(.+)")
RANGE = re.compile(r">=[\d.]+,<[\d.]+")


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


@pytest.mark.parametrize("module", [layout, hub, connection])
def test_the_build_is_the_one_that_was_asked_for(module: ModuleType) -> None:
    is_compiled = os.environ.get("SYNCLINE_COMPILED") == "1"
    assert module.__file__ is not None
    assert Path(module.__file__).suffix == (".so" if is_compiled else ".py")
