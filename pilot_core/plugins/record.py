"""What is known of one plugin, from its metadata and, once it was imported, from itself."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

__all__ = ["Offer", "Record", "Status", "canonical", "one_line"]

LONGEST_TEXT = 400
"""Characters of a foreign text (an exception's message) that are worth showing."""


class Status(str, Enum):
    """What state a plugin is in."""

    FOUND = "found"
    """Known by its metadata; not imported yet."""
    OK = "ok"
    """Imported, and everything it offers is in order."""
    ERROR = "error"
    """Cannot be used; the reason says why."""
    BLOCKED = "blocked"
    """The site's configuration keeps it out; never imported."""
    INCOMPATIBLE = "incompatible"
    """Made for another major version of the plugin API; never imported."""
    SHADOWED = "shadowed"
    """The site's configuration prefers another distribution of that name; never imported."""

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True, kw_only=True)
class Offer:
    """What one provider says of itself."""

    hook: str
    name: str
    schemes: tuple[str, ...] = ()
    priority: int = 50
    capabilities: tuple[str, ...] = ()
    requires: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Record:
    """One plugin: one entry point of one distribution."""

    status: Status = Status.FOUND
    entry_point: str
    """`<kind>.<name>`."""
    value: str
    """What the entry point points to: `module` or `module:object`."""
    api: int | None
    """Major version of the plugin API, from the group's name; None where that cannot be told."""
    distribution: str
    version: str
    """Version of the distribution; empty if its metadata has none."""
    where: str
    """`site-packages`, or the directory that the plugin lives in."""
    directory: str
    """The directory that holds the distribution's metadata."""
    safe: bool = True
    """Whether nobody else can change its metadata or its code."""
    reason: str = ""
    """Why it is not in order, in one line."""
    next_step: str = ""
    """What to do about that, in one line."""
    import_ms: float | None = None
    """How long the import and the registration took; None = not imported."""
    hooks: tuple[str, ...] | None = None
    """Every hook that it implements; None = not imported."""
    offers: tuple[Offer, ...] | None = None
    """What its providers say; None = not imported."""
    warnings: tuple[str, ...] = ()
    """Deprecations that the import brought to light."""
    opt_outs: tuple[str, ...] = ()
    """Clauses of its kind's conformance kit that it does not keep, each as `clause: reason`."""

    @property
    def kind(self) -> str:
        """The kind, as the entry point's name says."""
        return self.entry_point.partition(".")[0]

    @property
    def name(self) -> str:
        """The name within the kind."""
        return self.entry_point.partition(".")[2]

    @property
    def label(self) -> str:
        """How messages name the plugin: `stager.http (pilot-stager-http 1.2)`."""
        return f"{self.entry_point} ({self.owner})"

    @property
    def owner(self) -> str:
        """The distribution and its version."""
        return f"{self.distribution} {self.version}".rstrip()

    def order(self) -> tuple[str, str, int]:
        """Return what records are sorted by: name, then distribution, then API."""
        return (self.entry_point, canonical(self.distribution), self.api or 0)


def canonical(distribution: str) -> str:
    """Return a distribution's name as it is compared: lower case, runs of `-`, `_` and `.` as one dash (PEP 503)."""
    return re.sub(r"[-_.]+", "-", distribution).lower()


def one_line(text: str) -> str:
    """Return a foreign text on one line, without control characters, cut where it becomes a story."""
    text = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    return text if len(text) <= LONGEST_TEXT else text[: LONGEST_TEXT - 4] + " ..."
