"""The executor `process`: the payload as a plain process tree of this machine, under a supervisor of its own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pilot_core import ExecutorError, NoSettings, PayloadHandle, Provider, hookimpl

if TYPE_CHECKING:
    from pilot_core import CancelToken, Clock, Context, Deadline, Executor, Payload, PayloadSpec
    from pilot_core.supervision import Spawner

__all__ = ["ProcessExecutor", "process_executor"]

NAME = "process"
VERSION = 1
"""Layout of a handle's data: control_dir, pid and start_time of the supervisor, boot_id."""
PID_MAX = 2**22
"""The largest pid that Linux can be told to give (PID_MAX_LIMIT, include/linux/threads.h)."""


class ProcessExecutor:
    """Runs payloads through the pilot's `Spawner`, or one of its own where the pilot gave none."""

    def __init__(self, spawner: Spawner, clock: Clock, *, own: bool) -> None:
        self._spawner = spawner
        self._clock = clock
        self._own = own

    def start(self, spec: PayloadSpec, *, cancel: CancelToken, deadline: Deadline) -> PayloadHandle:
        """Start the payload; see `Executor.start`. It waits for one small record on disk."""
        from pilot_core.supervision.procfs import boot_id  # noqa: PLC0415  (the interface's import stays light)

        cancel.raise_if_cancelled()
        deadline.raise_if_passed(f"job {spec.job_id}: starting the payload")
        supervisor = self._spawner.launch(spec)
        return PayloadHandle(
            executor=NAME,
            version=VERSION,
            data={"control_dir": str(spec.control_dir.absolute()), "boot_id": boot_id(), **supervisor._asdict()},
        )

    def attach(self, handle: PayloadHandle, *, cancel: CancelToken, deadline: Deadline) -> Payload:
        """Find a started payload again; see `Executor.attach`.

        Refuses handles of another executor, layout or boot: what ran before a reboot has ended, and files that it
        wrote may lack what had not reached the disk.
        """
        from pilot_core.supervision import ProcessId, SupervisedPayload  # noqa: PLC0415
        from pilot_core.supervision.procfs import boot_id  # noqa: PLC0415

        cancel.raise_if_cancelled()
        deadline.raise_if_passed("finding a payload again")
        if (handle.executor, handle.version) != (NAME, VERSION):
            raise ExecutorError(
                f"this payload was started by executor {handle.executor!r}, layout {handle.version}; "
                f"this is {NAME!r}, layout {VERSION}: use the pilot that started it"
            )
        try:
            directory = Path(handle.data["control_dir"])
            supervisor = ProcessId(int(handle.data["pid"]), int(handle.data["start_time"]))
            boot = str(handle.data["boot_id"])
            if not 0 < supervisor.pid <= PID_MAX:
                raise ValueError(f"no process has the pid {supervisor.pid}")  # noqa: TRY301
        except (KeyError, TypeError, ValueError) as error:
            raise ExecutorError(f"the handle of a payload is damaged: {type(error).__name__}: {error}") from None
        if boot != boot_id():
            raise ExecutorError(f"{directory}: the machine was restarted since, which ended the payload; run it again")
        return SupervisedPayload(directory, supervisor)

    def find(self, control_dir: Path, *, cancel: CancelToken, deadline: Deadline) -> PayloadHandle | None:
        """Find a payload whose handle was lost; see `FindsPayloads.find`."""
        from pilot_core.supervision.lost import started_from  # noqa: PLC0415

        found = started_from(control_dir, clock=self._clock, cancel=cancel, deadline=deadline)
        if found is None:
            return None
        data = {"control_dir": str(control_dir.absolute()), "boot_id": found.boot_id, **found.supervisor._asdict()}
        return PayloadHandle(executor=NAME, version=VERSION, data=data)

    def close(self) -> None:
        """Free what this executor made for itself; running payloads go on."""
        if self._own:
            self._spawner.close()


def process_executor(context: Context) -> Executor:
    """Make the executor `process`, for executors that change a payload's command and leave its processes to this one.

    Containers, sandboxes and wrappers do just that: `start` a spec with another `argv`, put the handle into one of
    their own, `attach` what they take out of it.
    """
    from pilot_core.supervision import Spawner  # noqa: PLC0415

    given = context.extra.get("spawner")
    if isinstance(given, Spawner):
        return ProcessExecutor(given, context.clock, own=False)
    return ProcessExecutor(Spawner.start(context.clock), context.clock, own=True)


def _make(settings: NoSettings, context: Context) -> Executor:  # noqa: ARG001  (every factory's signature)
    return process_executor(context)


@hookimpl
def pilot_executors() -> list[Provider[Executor]]:
    """Offer the executor."""
    return [Provider(name=NAME, factory=_make)]
