"""No log tells a token or what people wrote. The servers of all tests are watched, at the level that tells most."""

from __future__ import annotations

import io
import logging
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import structlog

from server.runtime.telemetry import configure_logging

TEXT_CHARS_MIN = 8
"""Shorter ones may be in a log for other reasons."""
_LOGGERS = ("", "syncline", "uvicorn", "alembic")
_A_TOKENS_BEGINNING = re.compile(r"eyJ[A-Za-z0-9_-]+")
"""Of whatever JSON begins with `{"`, in base64: the first two parts of any token."""
_WORD = re.compile(r"[A-Za-z0-9_-]{40,}")

_signatures: dict[str, None] = {}
_texts: dict[str, None] = {}


def remember_token(token: str) -> str:
    """No log may have it, nor its signature alone."""
    _signatures[token.rpartition(".")[2]] = None
    return token


def remember_text(text: str) -> None:
    """No log may have it."""
    if len(text) >= TEXT_CHARS_MIN:
        _texts[text] = None


def told(log: str) -> list[str]:
    """The secrets of this process's tests that are in a log."""
    tokens = [*_A_TOKENS_BEGINNING.findall(log), *(word for word in _WORD.findall(log) if word in _signatures)]
    return tokens + [text for text in _texts if text in log or text.encode().hex() in log]


@contextmanager
def watched_logs() -> Iterator[io.StringIO]:
    """What a server of this process logs, as if it were a process of its own; checked at the end."""
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    levels, handlers, configuration = [logger.level for logger in loggers], loggers[0].handlers, structlog.get_config()
    configure_logging("json", "debug")
    log = io.StringIO()
    for handler in loggers[0].handlers:
        assert isinstance(handler, logging.StreamHandler)
        handler.setStream(log)
    try:
        yield log
    finally:
        structlog.configure(**configuration)
        loggers[0].handlers = handlers
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        sys.stderr.write(log.getvalue())
    assert not told(log.getvalue()), told(log.getvalue())
