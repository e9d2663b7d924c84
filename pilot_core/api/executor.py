"""The task "run the payload": what an executor is given and what it answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from pilot_core.api.cancel import CancelToken, Deadline

__all__ = ["Executor", "FindsPayloads", "OnThisMachine", "Payload", "PayloadHandle", "PayloadResult", "PayloadSpec"]


@dataclass(frozen=True, kw_only=True)
class PayloadSpec:
    """One payload to run, complete: an executor adds nothing of the pilot's own environment to it.

    Nor anything else of the pilot's: standard input is empty, no other descriptor is open, every signal has its default
    effect, and the payload is in no process group of the pilot's. The spec itself is not changed.
    """

    job_id: int
    """The PandaID, for log lines and names. It may come again, with another `control_dir`: that is another payload."""
    argv: tuple[str, ...]
    """Program and arguments; no shell is involved unless the job's queue asked for one.

    A program without a slash is looked for on the PATH of `environment`; a relative path is relative to `cwd`.
    """
    cwd: Path
    """The job's directory, where the payload starts; exists."""
    environment: Mapping[str, str]
    """The payload's whole environment."""
    stdout: Path
    """Where its standard output goes, as it is written; does not exist yet. A link that is there is not followed."""
    stderr: Path
    """Where its standard error goes, likewise."""
    control_dir: Path
    """A directory of the pilot's, beside and not below `cwd`, for the executor's own records; exists."""
    kill_grace: float = 10.0
    """Seconds between asking the payload's processes to end (SIGTERM) and ending them (SIGKILL).

    Also for processes that still live after the payload's own end.
    """


@dataclass(frozen=True, kw_only=True)
class PayloadHandle:
    """What is needed to find a started payload again, from another pilot process too. Plain JSON."""

    executor: str
    """Name of the executor that made it."""
    version: int
    """Version of the layout of `data`; an executor refuses one that it does not know."""
    data: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        """Return the handle as plain JSON data."""
        return {"executor": self.executor, "version": self.version, "data": dict(self.data)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> PayloadHandle:
        """Make the handle from what `to_json` returned."""
        return cls(executor=value["executor"], version=value["version"], data=value["data"])


@dataclass(frozen=True, kw_only=True)
class PayloadResult:
    """How a payload ended and what it used. Exit code and signal exclude each other."""

    exit_code: int | None
    """0 to 255, or None when a signal ended it or it never started."""
    signal: int | None
    """Number of the signal that ended it, or None."""
    started: float
    """Wall time, seconds since 1970."""
    ended: float
    """Wall time, seconds since 1970."""
    user_seconds: float = 0.0
    """CPU time in user mode of the payload and all its processes that were waited for."""
    system_seconds: float = 0.0
    """CPU time in the kernel, likewise."""
    max_rss_kb: int = 0
    """Largest resident set of any of its processes, kB."""
    read_blocks: int = 0
    """Blocks of 512 bytes read from storage devices."""
    written_blocks: int = 0
    """Blocks of 512 bytes written to storage devices."""
    leftovers: int = 0
    """Processes that still lived after the payload's own end and were ended."""
    error: str = ""
    """Why the payload could not be started (no such file, not executable ...); empty if it was.

    An executor that starts it through another program (a wrapper, a container) may learn of that by exit code 126 or
    127 only, as shells have it: it claims the capability `shell-exit-codes` then, and tells that exit code instead.
    """
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Whatever else the executor measured: plain JSON, for the journal."""

    @property
    def ok(self) -> bool:
        """Whether it exited with 0."""
        return self.exit_code == 0 and self.signal is None and not self.error


class Payload(Protocol):
    """A payload that was started, by this pilot or by one before it."""

    def fileno(self) -> int:
        """Return a descriptor that is readable once the payload and all its processes have ended."""
        ...

    def end(self, reason: str) -> None:
        """Ask for its end, SIGTERM first and SIGKILL after the spec's grace; returns at once.

        All its processes are asked, and no others, and each once. Asking again, or after the end, changes nothing:
        no second SIGTERM, no longer grace.
        """
        ...

    def result(self) -> PayloadResult:
        """Return how it ended; call it after the descriptor became readable. It is the same for whoever asks.

        Raises `ExecutorError` if it still runs, or if the record of its end is missing.
        """
        ...

    def close(self) -> None:
        """Free what watching it needs; the payload itself is not touched. May be called again."""
        ...


@runtime_checkable
class OnThisMachine(Protocol):
    """What a payload may be besides: one whose processes run on this machine, so that watchdogs can look at them."""

    @property
    def process(self) -> tuple[int, int]:
        """Pid and start time (clock ticks after the boot) of a process below which all of its processes live."""
        ...


class Executor(Protocol):
    """Runs payloads. `start` and `attach` are two steps so that the way after a restart is the everyday way.

    It changes nothing of the pilot's own process (signal handlers, limits, priority, who is the parent of orphans),
    waits for no child of the pilot's that is not its own, and waits without looking again and again. The pilot may exit
    while payloads run: no thread holds it, and they go on.
    """

    def start(self, spec: PayloadSpec, *, cancel: CancelToken, deadline: Deadline) -> PayloadHandle:
        """Start the payload and return its handle, at once.

        Raises `ExecutorError` when the executor itself cannot work. A program that cannot be executed is the
        payload's result, not an exception. A cancelled `cancel` or a deadline that has passed starts nothing.
        """
        ...

    def attach(self, handle: PayloadHandle, *, cancel: CancelToken, deadline: Deadline) -> Payload:
        """Find a started payload again; also one that has ended meanwhile. More than one may watch it.

        Raises `ExecutorError`, for a handle that is another executor's, of another version or damaged, too.
        """
        ...

    def close(self) -> None:
        """Free the executor's resources; running payloads go on. May be called again."""
        ...


@runtime_checkable
class FindsPayloads(Protocol):
    """What an executor may do besides: find a payload whose handle was lost, since the pilot died as it started it."""

    def find(self, control_dir: Path, *, cancel: CancelToken, deadline: Deadline) -> PayloadHandle | None:
        """Return the handle of the payload that was started from a control directory.

        None = none was, and from now on none will be. Raises `ExecutorError` where that cannot be known.
        """
        ...
