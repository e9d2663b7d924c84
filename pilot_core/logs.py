"""The human log: one format (UTC, level, PandaID, component), secrets taken out, a job's part kept for its tarball."""

from __future__ import annotations

import contextlib
import json
import logging
import threading
import time
from collections.abc import Iterable, MutableMapping
from typing import TYPE_CHECKING, Any, TextIO
from urllib.parse import quote

if TYPE_CHECKING:
    from pathlib import Path

    from pilot_core.api.clock import Clock

__all__ = ["JobLog", "Redactor", "job_logger", "set_up_logging"]

ROOT = "pilot_core"
HIDDEN = "<hidden>"
SHORTEST_SECRET = 6
"""Characters."""


if TYPE_CHECKING:
    _Adapter = logging.LoggerAdapter[logging.Logger]
    _StreamHandler = logging.StreamHandler[TextIO]
else:  # not generic at run time before Python 3.11
    _Adapter = logging.LoggerAdapter
    _StreamHandler = logging.StreamHandler


class Redactor:
    """Knows the secrets of this pilot and takes them out of texts. Safe in several threads."""

    def __init__(self) -> None:
        self._secrets: tuple[str, ...] = ()
        self._lock = threading.Lock()

    def add(self, secrets: Iterable[str]) -> None:
        """Learn secrets; very short ones are left out, they would hide half of every line."""
        new = {form for secret in secrets for form in _forms(secret) if len(form) >= SHORTEST_SECRET}
        with self._lock:
            if new - set(self._secrets):
                self._secrets = tuple(sorted({*self._secrets, *new}, key=len, reverse=True))

    def clean(self, text: str) -> str:
        """Return the text without the secrets."""
        for secret in self._secrets:
            if secret in text:
                text = text.replace(secret, HIDDEN)
        return text


def _forms(secret: str) -> Iterable[str]:
    """Return a secret as texts may show it: plain, line by line, quoted by `repr`, JSON or a URL."""
    return (secret, *secret.splitlines(), repr(secret)[1:-1], json.dumps(secret)[1:-1], quote(secret, safe=""))


class _Formatter(logging.Formatter):
    """`2026-11-23T10:00:00.123Z INFO  [6612345678] staging: text`, time from the injected clock."""

    def __init__(self, clock: Clock, redactor: Redactor) -> None:
        super().__init__()
        self._clock = clock
        self._redactor = redactor

    def format(self, record: logging.LogRecord) -> str:
        """Return one line; only a bug's traceback takes more, which are indented."""
        now = self._clock.wall()
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now % 1 * 1000):03d}Z"
        job = getattr(record, "panda_id", None)
        where = record.name.removeprefix(ROOT + ".")
        # first the secrets, which may have several lines themselves
        message = _on_one_line(self._redactor.clean(_message(record)))
        line = f"{stamp} {record.levelname:<7} {f'[{job}] ' if job else ''}{where}: {message}"
        if record.exc_info:
            trace = self._redactor.clean(self.formatException(record.exc_info))
            line += "".join(f"\n    {_on_one_line(part)}" for part in trace.splitlines())
        return line


def _message(record: logging.LogRecord) -> str:
    """Return a record's text; a call whose arguments do not fit its format is a line like any other."""
    try:
        return record.getMessage()
    except Exception as error:  # noqa: BLE001  (whatever the arguments' own methods raise)
        text = record.msg if isinstance(record.msg, str) else type(record.msg).__name__
        return f"{text} (its arguments do not fit: {type(error).__name__}, {record.pathname}:{record.lineno})"


def _on_one_line(text: str) -> str:
    """Return the text with line ends and control characters spelled out: nothing in it can look like another line."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


class _HumanHandler(_StreamHandler):
    """The handler of the human log, told apart from those that others may have added."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """Go on without a log that cannot be written (its reader has gone, its disk is full)."""


def set_up_logging(stream: TextIO, level: str, clock: Clock, redactor: Redactor) -> logging.Logger:
    """Send everything below the logger `pilot_core` to `stream`, and return that logger.

    Of other loggers (libraries, plugins that use their own) warnings and worse go there too, in the same form.
    """
    top = logging.getLogger()
    for old in [handler for handler in top.handlers if isinstance(handler, _HumanHandler)]:
        top.removeHandler(old)
    handler = _HumanHandler(stream)
    handler.setFormatter(_Formatter(clock, redactor))
    handler.setLevel(level.upper())
    top.addHandler(handler)
    root = logging.getLogger(ROOT)
    root.setLevel(level.upper())
    return root


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

    def __init__(self, file: Path, panda_id: int, clock: Clock, redactor: Redactor, *, append: bool = False) -> None:
        self._handler = _JobFileHandler(file, mode="a" if append else "x", encoding="utf-8", errors="backslashreplace")
        self._handler.setFormatter(_Formatter(clock, redactor))
        self._handler.addFilter(lambda record: getattr(record, "panda_id", panda_id) == panda_id)
        logging.getLogger().addHandler(self._handler)

    def close(self) -> None:
        """Stop copying."""
        logging.getLogger().removeHandler(self._handler)
        with contextlib.suppress(OSError):  # the last lines, on a full disk
            self._handler.close()
