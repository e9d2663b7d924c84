"""The human log: one format (UTC, level, PandaID, component), secrets taken out, a job's part kept for its tarball."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, MutableMapping
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from pathlib import Path

    from pilot_core.api.clock import Clock

__all__ = ["JobLog", "Redactor", "job_logger", "set_up_logging"]

ROOT = "pilot_core"
HIDDEN = "<hidden>"


class Redactor:
    """Knows the secrets of this pilot and takes them out of texts."""

    def __init__(self) -> None:
        self._secrets: tuple[str, ...] = ()

    def add(self, secrets: Iterable[str]) -> None:
        """Learn secrets; very short ones are left out, they would hide half of every line."""
        new = {secret for secret in secrets if len(secret) >= 6} - set(self._secrets)
        if new:
            self._secrets = tuple(sorted({*self._secrets, *new}, key=len, reverse=True))

    def clean(self, text: str) -> str:
        """Return the text without the secrets."""
        for secret in self._secrets:
            if secret in text:
                text = text.replace(secret, HIDDEN)
        return text


class _Formatter(logging.Formatter):
    """`2026-11-23T10:00:00.123Z INFO  [6612345678] staging: text`, time from the injected clock."""

    def __init__(self, clock: Clock, redactor: Redactor) -> None:
        super().__init__()
        self._clock = clock
        self._redactor = redactor

    def format(self, record: logging.LogRecord) -> str:
        """Return one line; only a bug's traceback takes more."""
        now = self._clock.wall()
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now % 1 * 1000):03d}Z"
        job = getattr(record, "panda_id", None)
        where = record.name.removeprefix(ROOT + ".")
        message = record.getMessage().replace("\n", "\\n")
        line = f"{stamp} {record.levelname:<7} {f'[{job}] ' if job else ''}{where}: {message}"
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return self._redactor.clean(line)


def set_up_logging(stream: TextIO, level: str, clock: Clock, redactor: Redactor) -> logging.Logger:
    """Send everything below the logger `pilot_core` to `stream`, and return that logger."""
    root = logging.getLogger(ROOT)
    for handler in list(root.handlers):
        root.removeHandler(handler)
    handler = logging.StreamHandler(stream)
    handler.setFormatter(_Formatter(clock, redactor))
    root.addHandler(handler)
    root.setLevel(level.upper())
    root.propagate = False
    return root


if TYPE_CHECKING:
    _Adapter = logging.LoggerAdapter[logging.Logger]
else:  # not generic at run time before Python 3.11
    _Adapter = logging.LoggerAdapter


class _JobAdapter(_Adapter):
    """Puts the PandaID on every record."""

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        """Add what the adapter knows to the record."""
        kwargs["extra"] = {**(self.extra or {}), **kwargs.get("extra", {})}
        return msg, kwargs


def job_logger(panda_id: int, component: str) -> logging.LoggerAdapter[logging.Logger]:
    """Return the logger of one component for one job."""
    return _JobAdapter(logging.getLogger(f"{ROOT}.{component}"), {"panda_id": panda_id})


class _JobFileHandler(logging.FileHandler):
    """Gives up silently when the file cannot be written (disk full): the human log still has the lines."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: ARG002, N802
        """Stop writing instead of printing a traceback for each line."""
        self.setLevel(logging.CRITICAL + 1)


class JobLog:
    """Copies a job's part of the log into a file: its own lines, and those of no job while it lives."""

    def __init__(self, file: Path, panda_id: int, clock: Clock, redactor: Redactor) -> None:
        self._handler = _JobFileHandler(file, mode="x", encoding="utf-8", errors="backslashreplace")
        self._handler.setFormatter(_Formatter(clock, redactor))
        self._handler.addFilter(lambda record: getattr(record, "panda_id", panda_id) == panda_id)
        logging.getLogger(ROOT).addHandler(self._handler)

    def close(self) -> None:
        """Stop copying."""
        logging.getLogger(ROOT).removeHandler(self._handler)
        self._handler.close()
