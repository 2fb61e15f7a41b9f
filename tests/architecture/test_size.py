"""Functions fit a screen, files fit a head."""

from __future__ import annotations

from pathlib import Path
from statistics import median

import pytest

from tests.architecture.sources import PACKAGES, functions, lines, name, sources

FUNCTION_LINES_MAX = 60
FILE_LINES_MAX = 500
MEDIAN_LINES_MAX = 10


@pytest.mark.parametrize("path", sources(*PACKAGES, "examples"), ids=name)
def test_functions_and_files_are_short(path: Path) -> None:
    long = {function.name: size for function in functions(path) if (size := lines(function)) > FUNCTION_LINES_MAX}
    assert long == {}
    assert len(path.read_text(encoding="utf-8").splitlines()) <= FILE_LINES_MAX


@pytest.mark.parametrize("package", PACKAGES)
def test_most_functions_are_very_short(package: str) -> None:
    sizes = [lines(function) for path in sources(package) for function in functions(path)]
    assert median(sizes or [0]) < MEDIAN_LINES_MAX
