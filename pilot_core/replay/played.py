"""Parts of a pilot that do nothing themselves: they return what is recorded.

With them a recording replays on a machine that has neither the files nor the software of its jobs.
"""

from __future__ import annotations

import contextlib
import math
from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pilot_core import errors
from pilot_core.api.clock import Event
from pilot_core.api.events import Diagnosis, PayloadCommand
from pilot_core.api.executor import PayloadHandle, PayloadResult
from pilot_core.api.provider import Provider
from pilot_core.api.staging import FileStat, TransferResult
from pilot_core.api.watchdog import Violation
from pilot_core.errors import BadInput, Cancelled, HandledError, PilotErrorCode, SourceNotFound
from pilot_core.payload import plain_name
from pilot_core.plugins import Hooks, Loaded, Record, Status
from pilot_core.staging import Backends
from pilot_core.values import decode
from pilot_core.watching import Watch

if TYPE_CHECKING:
    from pathlib import Path

    from pilot_core.api.events import FinishedPayload
    from pilot_core.api.executor import Payload, PayloadSpec
    from pilot_core.api.job import Job
    from pilot_core.api.queue import Queue
    from pilot_core.api.staging import FetchRequest, StoreRequest
    from pilot_core.recording.reading import Recording
    from pilot_core.replay.clock import ReplayClock
    from pilot_core.replay.cues import Cues
    from pilot_core.selection import Candidate

__all__ = [
    "PlayedBackends",
    "PlayedExecutor",
    "PlayedHooks",
    "PlayedProgram",
    "PlayedWatch",
    "Results",
    "recorded_error",
]


def recorded_error(value: Mapping[str, Any]) -> BaseException:
    """Return an exception like the recorded one."""
    kind = getattr(errors, str(value.get("type")), None)
    text = str(value.get("text", ""))
    if not (isinstance(kind, type) and issubclass(kind, HandledError)):
        # another module's: only its name and its words count
        name = str(value.get("type"))
        unknown: BaseException = type(name if name.isidentifier() else "Exception", (Exception,), {})(text)
        return unknown
    error: HandledError = kind(text)
    with contextlib.suppress(ValueError, KeyError, TypeError):
        error.error_code = PilotErrorCode(value["code"])
    if "retry_after" in value and isinstance(error, errors.TransientError):
        error.retry_after = value["retry_after"]
    return error


class Results:
    """The recorded results of one kind, each to be had once, in their order."""

    def __init__(self, recording: Recording, *what: str, key: Sequence[str] = ("job",)) -> None:
        self._found: defaultdict[tuple[Any, ...], deque[Mapping[str, Any]]] = defaultdict(deque)
        for event in recording.of(*what):
            self._found[tuple(event.get(name) for name in key)].append(event)

    def place(self, *key: Any) -> float:
        """Return where the next result of a key stands in the recording; infinity = there is none."""
        found = self._found.get(key)
        return found[0]["n"] if found else math.inf

    def next(self, *key: Any) -> Mapping[str, Any] | None:
        """Return the next result of a key; None = there is none."""
        found = self._found[key]
        return found.popleft() if found else None


class PlayedExecutor:
    """An executor under which every payload has ended already, as it is recorded."""

    def __init__(self, recording: Recording, cues: Cues) -> None:
        self._cues = cues
        self._whole = recording.whole
        self._results = Results(recording, "payload-end", "payload-error")
        self._outputs = Results(recording, "outputs")

    def start(self, spec: PayloadSpec, **_: Any) -> PayloadHandle:
        """Make the recorded outputs, in their size and empty; see `Executor.start`."""
        found = self._outputs.next(spec.job_id)
        for file in found["files"] if found else ():
            with contextlib.suppress(OSError, HandledError):
                _make(spec.cwd / plain_name(file["lfn"]), file)
        for path in (spec.stdout, spec.stderr):
            path.touch()
        return PayloadHandle(executor="replay", version=1, data={"job": spec.job_id})

    def attach(self, handle: PayloadHandle, **_: Any) -> Payload:
        """Return the payload; see `Executor.attach`."""
        broken_off = None if self._whole else self._cues.end_here
        return _PlayedPayload(self._results.next(handle.data["job"]), broken_off)

    def close(self) -> None:
        """Do nothing."""


class _PlayedPayload:
    """A payload that has ended."""

    def __init__(self, found: Mapping[str, Any] | None, broken_off: Callable[[], None] | None) -> None:
        self._found = found
        self._broken_off = broken_off
        self._ended = Event()
        self._ended.set()

    def fileno(self) -> int:
        return self._ended.fileno()

    def end(self, reason: str) -> None:
        """Do nothing: the recorded result is that of its end."""

    def result(self) -> PayloadResult:
        if self._found is None:
            if self._broken_off:
                self._broken_off()
            raise errors.ExecutorError("the recording has no result for a payload of this job")
        if "error" in self._found:
            raise recorded_error(self._found["error"])
        return decode(PayloadResult, self._found["result"])

    def close(self) -> None:
        """Do nothing."""


def _make(path: Path, file: Mapping[str, Any]) -> None:
    """Make what was in the place of an output; a file has its size, and takes no room."""
    if file["kind"] == "file":
        with path.open("xb") as stream:
            stream.truncate(int(file["size"]))
    elif file["kind"] == "link":
        path.symlink_to("nowhere")
    elif file["kind"] == "other":
        path.mkdir()


class PlayedBackends(Backends):
    """The stagers that took part, and what they did."""

    def __init__(self, recording: Recording, cues: Cues, clock: ReplayClock) -> None:
        # no call of super().__init__: there are no plugins here
        try:
            self._known = [_stager(event) for event in recording.of("stager")]
        except (TypeError, ValueError) as error:
            raise BadInput(f"{recording.folder}: a stager cannot be played: {error}") from None
        self._results = Results(recording, "stager-call", key=("stager", "method", "url"))
        self._unmade = {(event["hook"], event["name"]): event["error"] for event in recording.of("stager-error")}
        self._cues = cues
        self._clock = clock
        self._whole = recording.whole

    def load(self) -> None:
        """Do nothing."""

    def stagers(self, hook: str, urls: Sequence[str]) -> list[Loaded[Any]]:
        """Return the recorded stagers that serve one of the URLs."""
        schemes = {url.partition(":")[0].lower() for url in urls}
        return [loaded for loaded in self._known if loaded.hook == hook and loaded.schemes & schemes]

    def recorded(self, hook: str, candidate: Candidate[Loaded[Any]]) -> float | None:
        """Return where the next call of a candidate stands in the recording; infinity = it was not tried."""
        name, method = candidate.stager.name, "fetch" if hook == "pilot_stagein" else "store"
        return -1 if (hook, name) in self._unmade else self._results.place(name, method, candidate.replica.url)

    def instance(self, hook: str, name: str) -> Any:
        """Return a stager; raises what was raised when it could not be made."""
        if (hook, name) in self._unmade:
            raise recorded_error(self._unmade[hook, name])
        return _PlayedStager(name, self)

    def play(self, name: str, method: str, url: str) -> Any:
        """Return what a stager answered, or raise what it raised."""
        found = self._results.next(name, method, url)
        if found is None:
            if not self._whole:
                self._cues.end_here()
            raise SourceNotFound(f"{url}: the recording has no {method} of it by {name}")
        if "error" not in found:
            return found["answer"]
        error = recorded_error(found["error"])
        if isinstance(error, Cancelled):
            # what called it off came before
            self._clock.gate()
        raise error


class _PlayedStager:
    """One stager."""

    def __init__(self, name: str, backends: PlayedBackends) -> None:
        self._name = name
        self._backends = backends

    def fetch(self, request: FetchRequest, **_: Any) -> TransferResult:
        result = decode(TransferResult, self._backends.play(self._name, "fetch", request.url))
        with request.destination.open("xb") as stream:
            stream.truncate(result.size)
        return result

    def store(self, request: StoreRequest, **_: Any) -> TransferResult:
        return decode(TransferResult, self._backends.play(self._name, "store", request.url))

    def stat(self, url: str, **_: Any) -> FileStat:
        return decode(FileStat, self._backends.play(self._name, "stat", url))

    def remove(self, url: str, **_: Any) -> None:
        self._backends.play(self._name, "remove", url)


def _stager(event: Mapping[str, Any]) -> Loaded[Any]:
    """Return a recorded stager as the selection wants to see it."""
    provider: Provider[Any] = Provider(
        name=event["name"],
        factory=lambda *_: None,
        schemes=frozenset(event["schemes"]),
        priority=event["priority"],
        capabilities=frozenset(event["capabilities"]),
    )
    record = Record(
        entry_point=f"stager.{event['name']}",
        value="",
        api=1,
        status=Status.OK,
        distribution=event["distribution"],
        version=event["version"],
        where="recording",
        directory="",
    )
    return Loaded(event["hook"], provider, record)


class PlayedHooks(Hooks):
    """No plugin's hooks, but what they answered."""

    def __init__(self, recording: Recording) -> None:
        # no call of super().__init__: there are no plugins here
        self._answers = Results(recording, "command", "diagnosis", "metadata", "hook-error", key=("hook", "job"))

    def prepare_environment(self, job: Job, queue: Queue, environment: Mapping[str, str]) -> dict[str, str]:  # noqa: ARG002
        """Return the environment as it is: nobody looks at it."""
        self._answer("prepare_environment", job)
        return dict(environment)

    def wrap_command(self, job: Job, queue: Queue, command: PayloadCommand) -> PayloadCommand:  # noqa: ARG002
        """Return the command as it was wrapped."""
        found = self._answer("wrap_command", job)
        if found and found["before"] == list(command.argv):
            return PayloadCommand(argv=tuple(found["after"]), environment=command.environment)
        return command

    def diagnose_failure(self, payload: FinishedPayload) -> Diagnosis | None:
        """Return the recorded reading."""
        found = self._answer("diagnose_failure", payload.job)
        return decode(Diagnosis, found["answer"]) if found and found["answer"] else None

    def collect_metadata(self, payload: FinishedPayload) -> dict[str, Any]:
        """Return the recorded metadata."""
        found = self._answer("collect_metadata", payload.job)
        return dict(found["answer"]) if found else {}

    def hears_progress(self) -> bool:
        """Say that nobody does."""
        return False

    def _answer(self, hook: str, job: Job) -> Mapping[str, Any] | None:
        """Return what was recorded for a hook; raises what it raised."""
        found = self._answers.next(hook, job.id)
        if found and "error" in found:
            raise recorded_error(found["error"])
        return found

    def _tell(self, hook: str, **given: Any) -> None:
        """Tell nobody."""


class PlayedWatch(Watch):
    """A watch in which nobody looks: it finds at once what was found when it was recorded."""

    def __init__(self, limits: Results, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self._limits = limits

    def start(self) -> None:
        """Take the recorded limit for passed, if one was."""
        found = self._limits.next(self.look().job.id)
        if found:
            self.passed(Violation(error_code=found["code"], message=found["message"]))


class PlayedProgram:
    """Stands for the fetching of a transformation."""

    def __init__(self, recording: Recording, cues: Cues) -> None:
        self._results = Results(recording, "program")
        self._cues = cues

    def __call__(self, job: Job, *_: Any, **__: Any) -> str:
        """Return the program that the payload began with; nothing is fetched."""
        found = self._results.next(job.id)
        if found is None or "://" not in job.transformation:
            return job.transformation
        if "error" in found:
            raise recorded_error(found["error"])
        return str(found["answer"])
