"""The task "know the queue": what a site tells its pilots, from whatever source."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import quote

if TYPE_CHECKING:
    from pilot_core.api.cancel import CancelToken, Deadline

__all__ = ["Queue", "QueueSource", "Storage", "deterministic_path"]


def deterministic_path(scope: str, lfn: str) -> str:
    """Return the path that Rucio gives a file below a deterministic storage's prefix.

    `md5(scope:lfn)`, its first two bytes in hexadecimal as folders; the dots of a scope that begins with `user` or
    `group`, and only of those, become folders. Fact: Rucio's `hash` algorithm (`rucio/rse/translation.py`), which PanDA
    Pilot 3 follows but for other dotted scopes.
    """
    digest = hashlib.md5(f"{scope}:{lfn}".encode(), usedforsecurity=False).hexdigest()
    folder = scope.replace(".", "/") if scope.startswith(("user", "group")) else scope
    return f"{folder}/{digest[0:2]}/{digest[2:4]}/{lfn}"


@dataclass(frozen=True, kw_only=True)
class Storage:
    """One storage endpoint (RSE) as this queue reaches it."""

    rse: str
    url: str
    """Prefix of every file's URL, without a trailing slash."""
    layout: str = "flat"
    """`flat` = prefix/LFN, `rucio` = prefix/deterministic path."""
    stagers: tuple[str, ...] = ()
    """Names of the stagers to try here, in order; empty = by scheme and priority."""

    def url_of(self, scope: str, lfn: str) -> str:
        """Return the URL of a file here, its path percent-encoded."""
        path = deterministic_path(scope, lfn) if self.layout == "rucio" else lfn
        return f"{self.url.rstrip('/')}/{quote(path, safe='/')}"


@dataclass(frozen=True, kw_only=True)
class Queue:
    """A PanDA queue."""

    name: str
    site: str = ""
    """The Rucio site name; empty = the queue's name."""
    status: str = "online"
    """online, test, brokeroff or offline."""
    storages: Mapping[str, Storage] = field(default_factory=dict)
    read: tuple[str, ...] = ()
    """RSEs to read from, in order of preference, where a job names none."""
    write: tuple[str, ...] = ()
    """RSEs to write outputs to, in order of preference, where a job names none that is known here."""
    log: tuple[str, ...] = ()
    """RSEs to write the log to; empty = as `write`."""
    stagers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Order of stagers by activity (`read`, `write`, `log`)."""
    executor: str = "process"
    heartbeat_seconds: float = 1800.0
    shell: bool = False
    """Run the payload through `/bin/sh -c` instead of splitting its parameters."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Variables added to the payload's environment."""
    pass_environment: tuple[str, ...] = ()
    """Names (or prefixes ending in `*`) of the pilot's own variables that payloads may see."""
    transformation_urls: tuple[str, ...] = ()
    """Base URLs from which a transformation may be fetched."""
    allow_http: bool = False
    """Also fetch transformations over plain http."""
    max_memory_mb: int = 0
    max_disk_mb: int = 0
    """Largest work directory a job may ask for, MB; 0 = not limited here."""
    kill_grace_seconds: float = 10.0
    source: str = ""
    """Where this was read: for messages."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """What the source said beyond that."""


class QueueSource(Protocol):
    """Knows queues. Its method may be called from several threads at once."""

    def queue(self, name: str, *, cancel: CancelToken, deadline: Deadline) -> Queue | None:
        """Return the queue as it is described now, or None if this source does not know it.

        The name is the user's: any text, compared as it is, case included. What can be no queue's name is not known
        (None), or a `ConfigError`. The answer's `name` is the name asked for, its `source` says where it was read; RSEs
        that it names for use are among its storages, as far as the source knows these.

        Raises `ConfigError`, with the place, if what it knows cannot be used: there is no half queue.
        `CommunicationError` if a server does not answer or the deadline passes (`TransferTimeout` is understood, too),
        `AuthError`, `Cancelled`.
        """
        ...
