"""The task "know the queue": what a site tells its pilots, from whatever source."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import quote

if TYPE_CHECKING:
    from pilot_core.api.cancel import CancelToken, Deadline

__all__ = [
    "STORAGE_ACTIVITIES",
    "Queue",
    "QueueSource",
    "Storage",
    "StorageProtocol",
    "as_number",
    "deterministic_path",
]

STORAGE_ACTIVITIES = ("read_lan", "read_wan", "write_lan", "write_wan", "delete")
"""What a protocol of a storage may be for, as CRIC has it (`arprotocols`): reading and writing from near and from
afar, and deleting."""
_INSTEAD: Mapping[str, tuple[str, ...]] = {
    "read_lan": ("read_wan",),
    "write_lan": ("write_wan",),
    "delete": ("write_wan", "write_lan"),
}
"""Whose protocols are used where a storage has none for an activity: who is near can do as who is far away."""


def deterministic_path(scope: str, lfn: str) -> str:
    """Return the path that Rucio gives a file below a deterministic storage's prefix.

    `md5(scope:lfn)`, its first two bytes in hexadecimal as folders; the dots of a scope that begins with `user` or
    `group`, and only of those, become folders. Fact: Rucio's `hash` algorithm (`rucio/rse/translation.py`), which PanDA
    Pilot 3 follows but for other dotted scopes.
    """
    digest = hashlib.md5(f"{scope}:{lfn}".encode(), usedforsecurity=False).hexdigest()
    folder = scope.replace(".", "/") if scope.startswith(("user", "group")) else scope
    return f"{folder}/{digest[0:2]}/{digest[2:4]}/{lfn}"


def as_number(value: Any) -> float:
    """Return a number as CRIC gives it, perhaps as text; 0 for what is none, is not finite, or is below 0."""
    try:
        found = float(value)
    except (TypeError, ValueError, OverflowError):
        return 0.0
    return found if math.isfinite(found) and found > 0 else 0.0


@dataclass(frozen=True, kw_only=True)
class StorageProtocol:
    """One of the ways to reach a storage (CRIC: a protocol)."""

    url: str
    """Prefix of every file's URL, without a trailing slash."""
    activities: tuple[str, ...] = ()
    """What it is for, of `STORAGE_ACTIVITIES`; empty = for all of them."""


@dataclass(frozen=True, kw_only=True)
class Storage:
    """One storage endpoint (RSE) as this queue reaches it."""

    rse: str
    url: str
    """Prefix of every file's URL, without a trailing slash: for activities that no protocol is for."""
    layout: str = "flat"
    """`flat` = prefix/LFN, `rucio` = prefix/deterministic path."""
    stagers: tuple[str, ...] = ()
    """Names of the stagers to try here, in order; empty = by scheme and priority."""
    protocols: tuple[StorageProtocol, ...] = ()
    """The ways to reach it, the one to try first first; empty = `url` only."""
    made: bool = False
    """Its own folder is made where it is missing; a site's storage is there, or it is not mounted."""

    def root_of(self, url: str) -> str:
        """Return the prefix of a file's URL, for a stager that must not make it; empty for one that it may make."""
        prefixes = [prefix.rstrip("/") for prefix in (self.url, *(each.url for each in self.protocols))]
        found = [prefix for prefix in prefixes if url.startswith(prefix + "/")]
        return "" if self.made else max(found, key=len, default="")

    def url_of(self, scope: str, lfn: str) -> str:
        """Return the URL of a file here by the general prefix, its path percent-encoded."""
        return self._below(self.url, scope, lfn)

    def prefixes(self, activity: str) -> tuple[str, ...]:
        """Return the prefixes by which an activity (of `STORAGE_ACTIVITIES`) reaches this storage, in order."""
        for name in (activity, *_INSTEAD.get(activity, ())):
            found = [each.url for each in self.protocols if not each.activities or name in each.activities]
            if found:
                return tuple(dict.fromkeys(found))
        return (self.url,)

    def urls_of(self, scope: str, lfn: str, activity: str) -> tuple[str, ...]:
        """Return the URLs of a file here for an activity (of `STORAGE_ACTIVITIES`), the one to try first first."""
        return tuple(self._below(prefix, scope, lfn) for prefix in self.prefixes(activity))

    def path_of(self, scope: str, lfn: str) -> str:
        """Return the path of a file below any of the prefixes, percent-encoded, without a slash before it."""
        return quote(deterministic_path(scope, lfn) if self.layout == "rucio" else lfn, safe="/")

    def _below(self, prefix: str, scope: str, lfn: str) -> str:
        """Return the URL of a file below a prefix."""
        return f"{prefix.rstrip('/')}/{self.path_of(scope, lfn)}"


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
    """RSEs nearby (LAN) to read from, in order of preference, where a job names none."""
    read_wan: tuple[str, ...] = ()
    """RSEs elsewhere to read from, after those of `read`."""
    write: tuple[str, ...] = ()
    """RSEs nearby to write outputs to, in order of preference, where a job names none that is known here."""
    write_wan: tuple[str, ...] = ()
    """RSEs elsewhere to write outputs to, as alternatives only (`alt_stageout`)."""
    log: tuple[str, ...] = ()
    """RSEs to write the log to; empty = as `write`."""
    stagers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Order of stagers by activity (`read`, `write`, `log`)."""
    schemes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """URL schemes by activity (`read`, `write`, `log`; log falls back to write), in order: others are not used."""
    catalog: str = ""
    """Name of the replica catalogue that is asked where a job's inputs lie; empty = none, `storages` say it."""
    register_outputs: bool = False
    """Enter stored outputs into the catalogue: as a rule PanDA's server does that, by the final report."""
    allow_lan: bool = True
    """Inputs may be had from nearby storages (those of `read`)."""
    allow_wan: bool = False
    """Inputs may be had from storages elsewhere that a catalogue names."""
    direct_access_lan: bool = False
    """Payloads that ask for it read inputs where they lie nearby, instead of a copy."""
    direct_access_wan: bool = False
    """The same with inputs elsewhere, where none lies nearby."""
    alt_stageout: str = "job"
    """Whether an output that cannot be stored where it belongs goes elsewhere: `on`, `off`, or `job` = as the job says
    (`altStageOut`); where that says nothing either, it goes where `write` says, in its order."""
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
    watchdogs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Settings of watchdogs for this queue, by the watchdog's name; `enabled` = whether it watches."""
    source: str = ""
    """Where this was read: for messages."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """What the source said beyond that."""

    def number(self, name: str) -> float:
        """Return a number among what the source said beyond that; 0 for what is none, not finite, or below 0."""
        return as_number(self.extra.get(name))


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
