"""The few things of Linux that Python's standard library has no function for."""

from __future__ import annotations

import os
import sys

from pilot_core.errors import ExecutorError

__all__ = [
    "become_subreaper",
    "close_inherited",
    "number_of_threads",
    "open_standard_descriptors",
    "require_linux",
    "set_process_name",
]

_PR_SET_NAME = 15
_PR_SET_CHILD_SUBREAPER = 36
"""Numbers from Linux's `include/uapi/linux/prctl.h`."""


def require_linux() -> None:
    """Raise `ExecutorError` where payloads cannot be supervised."""
    if sys.platform != "linux" or not hasattr(os, "pidfd_open"):
        raise ExecutorError(f"running payloads needs Linux 5.4 or newer; this is {sys.platform}")


def become_subreaper() -> None:
    """Make orphans below this process its children instead of init's. Not inherited by forked children."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def set_process_name(name: str) -> None:
    """Set what `ps -o comm` shows; at most 15 bytes."""
    import ctypes  # noqa: PLC0415  (3 ms, in processes that have the time)

    _prctl(_PR_SET_NAME, ctypes.c_char_p(name.encode()))


def _prctl(option: int, value: object) -> None:
    """Call prctl(2); raises `OSError`."""
    import ctypes  # noqa: PLC0415

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, value, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def number_of_threads() -> int:
    """Return the number of threads of this process, those of C libraries included."""
    with os.scandir("/proc/self/task") as tasks:
        return len(list(tasks))


def close_inherited(*keep: int) -> None:
    """Close every descriptor above standard error but those to keep."""
    with os.scandir("/proc/self/fd") as entries:
        numbers = [int(entry.name) for entry in entries]
    for number in numbers:
        if number > 2 and number not in keep:
            try:
                os.close(number)
            except OSError:
                continue  # the descriptor of the listing itself, closed by now


def open_standard_descriptors() -> None:
    """Have /dev/null where standard input, output or error is closed, so that no socket or record gets its number."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass  # the lowest free number was one of the three
    os.close(descriptor)
