"""The stagers of a pilot: found by scheme, made once."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from pilot_core.api.url import shown_url
from pilot_core.errors import BackendUnavailable, HandledError
from pilot_core.selection import scheme_of

if TYPE_CHECKING:
    from pilot_core.api.queue import Queue
    from pilot_core.api.staging import StageIn, StageOut
    from pilot_core.plugins import Loaded, Registry
    from pilot_core.selection import Candidate

__all__ = ["Backends"]

_log = logging.getLogger(__name__)


class Backends:
    """The stagers of this pilot: found by scheme, made once."""

    def __init__(self, registry: Registry, queue: Queue, make: Callable[[str, str, str], Any]) -> None:
        self._registry = registry
        self._made: dict[tuple[str, str], Any] = {}
        self._make = make
        self._by_scheme: dict[tuple[str, str], Sequence[Loaded[Any]]] = {}
        self._lock = threading.RLock()  # a stager may ask for another one while it is made
        named = [name for names in queue.stagers.values() for name in names]
        named += [name for storage in queue.storages.values() for name in storage.stagers]
        self._named = tuple(dict.fromkeys(named))
        self._storages = list(queue.storages.values())

    def load(self) -> None:
        """Make the stagers of all the queue's storages: before a job is taken, not in the middle of one.

        One that does not work is left to the others that reach the storage. Raises `HandledError` if there are no
        others, or for one that the queue names and that is missing or cannot be imported.
        """
        for hook, way in (("pilot_stagein", "read"), ("pilot_stageout", "write")):
            for storage in self._storages:
                urls = [url for domain in ("lan", "wan") for url in storage.prefixes(f"{way}_{domain}")]
                self._try(hook, self.stagers(hook, urls))

    def _try(self, hook: str, stagers: Sequence[Loaded[Any]]) -> None:
        """Make stagers; raises the last one's error if none of them can be made."""
        errors: list[HandledError] = []
        for stager in stagers:
            try:
                self.instance(hook, stager.name)
            except HandledError as error:
                _log.warning("%s", error)
                errors.append(error)
        if errors and len(errors) == len(stagers):
            raise errors[-1]

    def stagers(self, hook: str, urls: Sequence[str]) -> list[Loaded[Any]]:
        """Return the stagers that may serve `urls`, as the selection wants them."""
        schemes = dict.fromkeys(scheme_of(url) for url in urls)
        found: dict[str, Loaded[Any]] = {}
        for scheme in schemes:
            for loaded in self._serving_scheme(hook, scheme):
                found[loaded.name] = loaded
        return list(found.values())

    def _serving_scheme(self, hook: str, scheme: str) -> Sequence[Loaded[Any]]:
        """Return the stagers of a scheme; the registry is asked once, for there may be thousands of files."""
        key = (hook, scheme)
        if key not in self._by_scheme:
            with self._lock:
                self._by_scheme[key] = self._registry.stagers(hook, scheme, self._named)
        return self._by_scheme[key]

    def recorded(self, hook: str, candidate: Candidate[Loaded[Any]]) -> float | None:  # noqa: ARG002
        """Return None; in a replay, where the next call of a candidate stands, infinity = it is not tried (again)."""
        return None

    def instance(self, hook: str, name: str) -> Any:
        """Return the one instance of a stager for a hook; raises `HandledError`."""
        key = (hook, name)
        if key not in self._made:
            with self._lock:
                if key not in self._made:
                    self._made[key] = self._make("stager", name, hook)
        return self._made[key]

    def stage_in(self, url: str) -> StageIn:
        """Return the stager that reads from a URL, for one that stands before it; raises `BackendUnavailable`."""
        found: StageIn = self._serving("pilot_stagein", url)
        return found

    def stage_out(self, url: str) -> StageOut:
        """Return the stager that writes to a URL, for one that stands before it; raises `BackendUnavailable`."""
        found: StageOut = self._serving("pilot_stageout", url)
        return found

    def _serving(self, hook: str, url: str) -> Any:
        """Return the first stager, by priority and name, that serves a URL and can be made."""
        error: HandledError | None = None
        for stager in sorted(self.stagers(hook, [url]), key=lambda loaded: (loaded.priority, loaded.name)):
            try:
                return self.instance(hook, stager.name)
            except HandledError as failure:
                error = failure
        what = f"no stager here serves {scheme_of(url) or 'it'}" if error is None else str(error)
        raise BackendUnavailable(f"{shown_url(url)}: {what}")
