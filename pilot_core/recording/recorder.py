"""The recorder: what it is told, scrubbed, goes into the recording's files at once.

Nothing that goes wrong here may hurt a job: a recording that cannot be written any more (its disk is full, its
directory is gone) is given up with one line in the log.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pilot_core._version import __version__
from pilot_core.errors import BadInput, HandledError
from pilot_core.logs import HIDDEN
from pilot_core.plugins.discovery import API
from pilot_core.recording.har import HarFile, har_entry
from pilot_core.recording.manifest import EVENTS, HAR, Manifest, UsedPlugin
from pilot_core.recording.scrub import LearningRedactor, Scrubber
from pilot_core.values import encode

if TYPE_CHECKING:
    from pilot_core.api.clock import Clock
    from pilot_core.api.traffic import Exchange
    from pilot_core.plugins import Loaded

__all__ = ["Recorder", "plain_settings"]

logger = logging.getLogger(__name__)


class Recorder:
    """Writes one recording. Safe in several threads; `exchanged` makes it a `TrafficListener`."""

    def __init__(self, folder: Path, clock: Clock) -> None:
        self._clock = clock
        self._folder = folder
        self._scrubber = Scrubber()
        self._lock = threading.Lock()
        self._calls = 0
        self._events = 0
        self._thread = threading.local()
        self._sources: list[Callable[[], Iterable[str]]] = []
        self._manifest = Manifest(
            plugin_api=API,
            pilot_core=__version__,
            python=sys.version.split()[0],
            started=clock.wall(),
            host=socket.gethostname(),
        )
        self._open = True
        _make_empty(folder)
        try:
            self._har = HarFile(folder / HAR)
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            self._lines = os.open(folder / EVENTS, flags, 0o600)
            self._manifest.write(folder, encode(self._manifest))
        except OSError as error:
            raise HandledError(f"--record {folder}: cannot be written ({error.strerror}); name another place") from None

    # -- secrets -----------------------------------------------------------------------------------------------------

    def redactor(self) -> LearningRedactor:
        """Return a redactor for the log; what it learns is kept out of the recording too."""
        return LearningRedactor(self._scrubber)

    def learn(self, secrets: Iterable[str]) -> None:
        """Learn secrets that must not get into the recording."""
        self._scrubber.learn(secrets)

    def learn_from(self, source: Callable[[], Iterable[str]]) -> None:
        """Have a credential source asked for its secrets before anything is written: tokens are renewed."""
        self._sources.append(source)

    # -- what is told ------------------------------------------------------------------------------------------------

    def describe(self, **values: Any) -> None:
        """Put values into the manifest."""
        with self._lock:
            self._manifest = replace(self._manifest, **values)
            self._write(self._write_manifest)

    def uses(self, loaded: Loaded[Any], settings: Any) -> None:
        """Note a plugin that takes part, with its settings."""
        shown = plain_settings(settings, self._scrubber.learn)
        used = UsedPlugin(distribution=loaded.distribution, version=loaded.version, settings=shown)
        self.describe(plugins={**self._manifest.plugins, loaded.record.entry_point: used})

    def begin_call(self, method: str, request: Any) -> int:
        """Note that a communicator is called, in this thread, and return the call's number."""
        with self._lock:
            self._calls += 1
            number = self._calls
        self._thread.call, self._thread.waiting = number, []
        self.event("call", call=number, method=method, request=encode(request))
        return number

    def end_call(self, number: int, **outcome: Any) -> None:
        """Note how a call ended; the secrets of its answer have to be known by now."""
        waiting, self._thread.waiting, self._thread.call = self._thread.waiting, [], 0
        for exchange in waiting:
            self._add(exchange, number)
        self.event("answer", call=number, **outcome)

    def exchanged(self, exchange: Exchange) -> None:
        """Take notice of an exchange; an answer is kept until the call has ended and its secrets are known."""
        number = getattr(self._thread, "call", 0)
        if number and exchange.status == 200:
            self._thread.waiting.append(exchange)
        else:
            self._add(exchange, number)

    def event(self, what: str, **details: Any) -> None:
        """Write one event, as one line of JSON."""
        moment = self._clock.wall()
        with self._lock:
            self._events += 1
            number = self._events

            def write() -> None:
                self._ask_sources()
                line = {"n": number, "at": round(moment, 6), "what": what, **self._scrubber.value(details)}
                data = json.dumps(line).encode() + b"\n"
                while data:
                    data = data[os.write(self._lines, data) :]

            self._write(write)

    def close(self, exit_code: int | None) -> None:
        """Finish the recording of a pilot that has ended by itself."""
        self.describe(exit_code=exit_code)
        with self._lock:
            if self._open:
                self._give_up()

    # -- writing -----------------------------------------------------------------------------------------------------

    def _add(self, exchange: Exchange, call: int) -> None:
        """Write one exchange."""
        with self._lock:

            def write() -> None:
                self._ask_sources()
                entry = har_entry(exchange, self._scrubber)
                self._har.add({**entry, "_started": round(exchange.started, 6), "_call": call})

            self._write(write)

    def _write_manifest(self) -> None:
        self._manifest.write(self._folder, self._scrubber.value(encode(self._manifest)))

    def _ask_sources(self) -> None:
        for source in self._sources:
            self._scrubber.learn(source())

    def _write(self, write: Callable[[], None]) -> None:
        """Write something, and give the recording up if that fails; the lock is held."""
        if not self._open:
            return
        try:
            write()
        except OSError as error:
            logger.warning("the recording in %s ends here (%s); the jobs go on", self._folder, error.strerror or error)
            self._give_up()
        except Exception:  # a bug of the recorder must not take a job with it
            logger.exception("the recording in %s ends here by a bug, please report it", self._folder)
            self._give_up()

    def _give_up(self) -> None:
        self._open = False
        for close in (self._har.close, lambda: os.close(self._lines)):
            try:
                close()
            except OSError as error:
                logger.debug("closing the recording: %s", error)


def plain_settings(settings: Any, learn: Callable[[Iterable[str]], None]) -> Mapping[str, Any]:
    """Return a settings dataclass as plain data; values of secret fields are hidden, and told to `learn`."""
    found: dict[str, Any] = {}
    for item in fields(settings):
        value = encode(getattr(settings, item.name))
        if item.metadata.get("secret") and value:
            texts = [str(part) for part in (value if isinstance(value, list) else [value])]
            # a URL with a password in it: each part is a secret of its own
            learn([*texts, *(part for text in texts for part in _user_parts(text))])
            value = HIDDEN
        found[item.name] = value
    return found


def _user_parts(url: str) -> Iterable[str]:
    """Return the password of a URL, if it has one, as it stands and decoded, and `user:password`."""
    from urllib.parse import unquote, urlsplit  # noqa: PLC0415

    try:
        parts = urlsplit(url)
    except ValueError:
        return
    if parts.password:
        user = parts.netloc.rpartition("@")[0]
        yield from (parts.password, unquote(parts.password), user, unquote(user))


def _make_empty(folder: Path) -> None:
    """Make the recording's directory, or make sure that it is empty; raises `BadInput`."""
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        if any(folder.iterdir()):
            raise BadInput(
                f"--record {folder}: the directory is not empty; name one that is, or one that does not exist"
            )
    except FileNotFoundError:
        raise BadInput(f"--record {folder}: its parent directory does not exist; create it first") from None
    except (FileExistsError, NotADirectoryError):
        raise BadInput(f"--record {folder}: is not a directory; name another place") from None
    except OSError as error:
        raise BadInput(f"--record {folder}: cannot be written ({error.strerror}); name another place") from None
