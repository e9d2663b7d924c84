"""The job, neutral and typed: what every communicator translates its server's description into."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["BadJob", "InputFile", "Job", "OutputFile", "Step"]


@dataclass(frozen=True, kw_only=True)
class InputFile:
    """A file that the payload reads, as the server's catalogue knows it."""

    lfn: str
    """Logical file name, also its name in the job's directory."""
    scope: str = ""
    guid: str = ""
    size: int | None = None
    """Bytes, or None where the catalogue does not say."""
    checksum: str = ""
    """`adler32:<8 hex>` or `md5:<32 hex>`, lower case; empty = unknown."""
    dataset: str = ""
    rse: str = ""
    """The storage (RSE) that the server suggests to read from."""
    token: str = ""
    """PanDA's storage token (`prodDBlockToken`); `local` = never remote I/O."""


@dataclass(frozen=True, kw_only=True)
class OutputFile:
    """A file that the payload has to write, or the job's log."""

    lfn: str
    scope: str = ""
    guid: str = ""
    """Given for the log; made by the pilot for the outputs."""
    dataset: str = ""
    rse: str = ""
    """The storage (RSE) to store it on; empty = the queue's own choice."""
    may_be_missing: bool = False
    """The server accepts the job without it (`allowNoOutput`)."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """A command before, beside or after the payload (multi-step job)."""

    command: str
    arguments: str = ""


@dataclass(frozen=True, kw_only=True)
class Job:
    """Everything the pilot needs to know of one job. Names follow PanDA; units are in each field's text."""

    id: int
    """The PandaID."""
    attempt: int | None = None
    """Attempt number, sent back with every update; None where the server gave none."""
    name: str = ""
    label: str = ""
    """prodSourceLabel: managed, user, test ..."""
    transformation: str = ""
    """The program: a path, a name on PATH, or a URL."""
    parameters: str = ""
    """Its arguments as one string, decoded, directives taken out."""
    inputs: tuple[InputFile, ...] = ()
    outputs: tuple[OutputFile, ...] = ()
    """Without the log."""
    log: OutputFile | None = None
    task_id: int | None = None
    jobset_id: int | None = None
    core_count: int = 1
    memory_mb: int = 0
    """minRamCount, MB; 0 = not said."""
    disk_mb: int = 0
    """maxDiskCount, MB; 0 = not said."""
    max_cpu_seconds: int = 0
    """maxCpuCount; 0 = not said."""
    max_wall_seconds: int = 0
    """maxWalltime; 0 = not said."""
    resource_type: str = ""
    processing_type: str = ""
    priority: int = 0
    user: str = ""
    """prodUserID: a name or a DN."""
    release: str = ""
    home_package: str = ""
    platform: str = ""
    """cmtConfig."""
    transfer_type: str = ""
    """`direct` asks for remote I/O."""
    access_mode: str = ""
    """What the job's own parameters say of that: `direct` or `copy`; empty = nothing. Wins over the transfer type."""
    alt_stageout: str = ""
    """Whether outputs may go to another storage than theirs if that fails: `on` or `off`; empty = not said."""
    nucleus: str = ""
    """The site that gathers the task's outputs: no alternative for them."""
    archives: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Outputs that are archives of others: the archive's LFN -> its members' (`*` and `?` stand for any)."""
    looping_check: bool = True
    debug: bool = False
    container_image: str = ""
    preprocess: Step | None = None
    postprocess: Step | None = None
    coprocess: Step | None = None
    container_options: Mapping[str, Any] = field(default_factory=dict)
    input_lists: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Text files to write for the payload: file name -> LFNs (`writeToFile`)."""
    queue_overrides: Mapping[str, Any] = field(default_factory=dict)
    """`--overwriteQueueData` of the job parameters."""
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    """The user's secrets for the payload; never logged."""
    pilot_secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    extra: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """Fields of the description that have no place above, as received."""

    @property
    def files_out(self) -> tuple[OutputFile, ...]:
        """Return outputs and log, in this order."""
        return (*self.outputs, self.log) if self.log else self.outputs


@dataclass(frozen=True, kw_only=True)
class BadJob:
    """A job whose description cannot be used: it is reported as failed and nothing of it is run."""

    id: int
    attempt: int | None = None
    reason: str
    """One line: which field, what is wrong with it."""
    error_code: int
    """The PanDA pilot error code to report."""
    log: OutputFile | None = None
    """The log file that the server expects even of a failed job, where it could be read."""
    extra: Mapping[str, Any] = field(default_factory=dict, repr=False)
