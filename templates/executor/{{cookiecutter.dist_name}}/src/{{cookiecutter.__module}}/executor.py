"""How a payload is run: its command is changed here, and its processes are left to pilot-core's own executor.

That one supervises them: all of them end with the payload, daemons too; the payload lives on when the pilot dies; the
next pilot finds it by its handle. A container, a sandbox or a wrapper needs no more than another command.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pilot_core import ExecutorError, PayloadHandle, process_executor

if TYPE_CHECKING:
    from pilot_core import CancelToken, Context, Deadline, Payload, PayloadSpec

    from {{ cookiecutter.__module }}.settings import Settings

NAME = "{{ cookiecutter.name }}"
VERSION = 1
"""Layout of a handle's data; a pilot of another version of this plugin may have written it."""


class {{ cookiecutter.__class }}:
    """The executor. It keeps nothing of a payload: whatever is needed to find it again is in the handle."""

    def __init__(self, settings: Settings, context: Context) -> None:
        self._command = settings.command
        self._log = context.log
        self._processes = process_executor(context)

    def start(self, spec: PayloadSpec, *, cancel: CancelToken, deadline: Deadline) -> PayloadHandle:
        """Start a payload and return its handle, at once."""
        started = self._processes.start(self._wrapped(spec), cancel=cancel, deadline=deadline)
        return PayloadHandle(executor=NAME, version=VERSION, data=started.to_json())

    def attach(self, handle: PayloadHandle, *, cancel: CancelToken, deadline: Deadline) -> Payload:
        """Find a payload again that this pilot, or one before it, has started."""
        if (handle.executor, handle.version) != (NAME, VERSION):
            raise ExecutorError(
                f"the handle is of executor {handle.executor!r}, layout {handle.version!r}; "
                f"this is {NAME!r}, layout {VERSION}: use the pilot that started it"
            )
        try:
            started = PayloadHandle.from_json(handle.data)
        except (KeyError, TypeError) as error:
            raise ExecutorError(f"the handle of a payload is damaged: {type(error).__name__}: {error}") from None
        return self._processes.attach(started, cancel=cancel, deadline=deadline)

    def close(self) -> None:
        """Free what watches payloads; those that run go on."""
        self._processes.close()

    def _wrapped(self, spec: PayloadSpec) -> PayloadSpec:
        """Return the payload as it is executed."""
        # YOUR CODE: the command, for example ("apptainer", "exec", "--bind", str(spec.cwd), image, *spec.argv).
        # The environment is the payload's own: nothing of the pilot's belongs into it, nor secrets into the command
        if not spec.argv:
            return spec
        return replace(spec, argv=(*self._command, *spec.argv))
