"""What would be run for a job, and why: plain values, to be printed for people or as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

__all__ = ["Choice", "Environment", "Explanation", "FilePlan", "Limit", "Payload", "Plugin"]


@dataclass(frozen=True, kw_only=True)
class Choice:
    """A stager and a replica, and what became of the pair."""

    place: int | None
    """1 for what is tried first; None = not tried."""
    stager: str
    url: str
    rse: str
    rule: str
    why: str


@dataclass(frozen=True, kw_only=True)
class FilePlan:
    """One file on its way."""

    activity: str
    """read, write or log."""
    lfn: str
    local: str
    """Where it goes to, or comes from, in the job's directory."""
    size: int | None = None
    checksum: str = ""
    seconds_allowed: float | None = None
    """For one attempt; None = depends on the size that the file will have."""
    choices: tuple[Choice, ...] = ()
    remote: str = ""
    """The URL at which the payload reads an input that is not copied; empty = it is copied."""
    archive: str = ""
    """The output that an output goes out in; empty = it goes out by itself."""
    members: tuple[str, ...] = ()
    """The outputs that go out in this one."""


@dataclass(frozen=True, kw_only=True)
class Environment:
    """The payload's environment against the pilot's own; what may be a secret is hidden."""

    added: Mapping[str, str] = field(default_factory=dict)
    changed: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """Name -> the pilot's value, the payload's."""
    dropped: tuple[str, ...] = ()
    same: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Payload:
    """What would be executed."""

    argv: tuple[str, ...]
    shell: bool
    cwd: str
    fetched_from: str = ""
    """The URL of a program that is fetched first."""
    secrets: int = 0
    """Number of the user's secrets in the file for them."""
    secrets_file: str = ""
    environment: Environment = field(default_factory=Environment)


@dataclass(frozen=True, kw_only=True)
class Limit:
    """A limit, or what a job says that it needs."""

    name: str
    value: float
    unit: str
    source: str
    """job, queue or pilot."""
    enforced: bool
    """Whether this pilot ends what goes beyond it; else it is only told to server and payload."""


@dataclass(frozen=True, kw_only=True)
class Plugin:
    """A plugin that would take part."""

    name: str
    distribution: str
    version: str


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """What would be run."""

    job_id: int
    queue: str
    queue_source: str
    job_dir: str
    phases: tuple[str, ...]
    executor: str
    files: tuple[FilePlan, ...]
    payload: Payload | None
    limits: tuple[Limit, ...]
    plugins: tuple[Plugin, ...]
    problems: tuple[str, ...]
    """Why it would fail, as far as that can be known."""

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON data."""
        return {"schema": 1, **asdict(self)}
