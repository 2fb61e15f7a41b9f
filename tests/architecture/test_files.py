"""What is under version control speaks of the project alone, and holds no secrets."""

from __future__ import annotations

import re

import pytest

from tests.architecture.sources import name, tracked

MACHINE_PATH = re.compile(r"(?<![\w.\-/}])/(?:home|root|Users|work|mnt|media)/[\w.\-]+|\b[A-Z]:\\\\?Users\\")
SECRETS = {
    "a signed token": re.compile(r"\beyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]{8,}"),
    "a private key": re.compile(r"-----BEGIN (?:[A-Z]+ )?PRIVATE KEY-----\s*[A-Za-z0-9+/=]{20,}"),
    "an access key": re.compile(r"\b(?:AKIA[0-9A-Z]{16}|gh[pousr]_\w{20,}|github_pat_\w{20,}|xox[abp]-[\w-]{10,})"),
    "a password in an address": re.compile(r"\b[a-z][a-z0-9+]*://[^\s:/@{}<>\"']+:[^\s/@{}<>\"'$]+@[^\s]+"),
}
EXAMPLES = re.compile(r"://(?:user|syncline|postgres|proxy):[a-z]{1,12}@")
"""Addresses in documentation and tests, whose password is a word for one."""

FOREIGN = re.compile(r"\b(?:TODO|FIXME|XXX)\b")


def found(pattern: re.Pattern[str]) -> list[str]:
    """Where `pattern` stands in tracked files, but for the file that names the patterns."""
    return [
        f"{name(path)}:{number}: {match.group()[:60]}"
        for path in tracked()
        if name(path) != "tests/architecture/test_files.py"
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1)
        for match in pattern.finditer(line)
        if not EXAMPLES.search(match.group())
    ]


def test_no_path_of_one_machine() -> None:
    assert found(MACHINE_PATH) == []


@pytest.mark.parametrize("secret", SECRETS)
def test_no_secrets(secret: str) -> None:
    assert found(SECRETS[secret]) == []


def test_nothing_is_left_for_later() -> None:
    assert found(FOREIGN) == []


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhbGljZSJ9.c2lnbmF0dXJl", "a signed token"),
        ("AKIAABCDEFGHIJKLMNOP", "an access key"),
        ("postgresql://app:s3cr3t@db.example/app", "a password in an address"),
    ],
)
def test_secrets_are_recognised(text: str, secret: str) -> None:
    match = SECRETS[secret].search(text)
    assert match is not None
    assert not EXAMPLES.search(match.group())


def test_machine_paths_are_recognised() -> None:
    assert MACHINE_PATH.search("open('/home/someone/data')")
    assert not MACHINE_PATH.search("see docs/work/plan or {base}/home/x")
