"""How clauses judge what they meet: errors, texts, files, and what a call leaves behind in the process."""

from __future__ import annotations

import ctypes
import gc
import os
import stat
import struct
import threading
import traceback
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pytest

from pilot_core.api.clock import SystemClock
from pilot_core.errors import HandledError
from pilot_core.testing.kits.canary import CANARY, shows_secret
from pilot_core.testing.kits.finding import finding
from pilot_core.testing.kits.within import within

__all__ = ["Footprint", "as_user", "children", "eventually", "full_text", "pids", "refused", "tree", "unlike"]

T = TypeVar("T")

CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH = 1, 2
"""The superuser's rights that make files' permissions meaningless (linux/capability.h)."""
CAPABILITY_VERSION_3 = 0x20080522
SETTLING = 2.0
"""Real seconds in which what a call used must be gone."""


def full_text(error: BaseException) -> str:
    """Return all that could be shown of an error: its text, its repr, and those of the errors behind it."""
    return repr(error) + "".join(traceback.format_exception(error))


def refused(
    call: Callable[[], object], *expected: type[HandledError], what: str, secrets: Collection[str] = ()
) -> HandledError:
    """Return the error that a call must raise: of an expected class, in one line, without a secret anywhere in it."""
    wanted = " or ".join(kind.__name__ for kind in expected)
    error = _raised(call, what, wanted)
    kind, text = type(error).__name__, str(error)
    assert isinstance(error, expected), f"{what}: {kind} was raised where {wanted} is due: {text}"
    assert text.strip(), f"{what}: the {kind} says nothing: say what is wrong, where, and what to do"
    assert text.isprintable(), f"{what}: the {kind}'s text is not one line of printable text: {text!r}"
    assert len(text) < 2000, f"{what}: the {kind}'s text has {len(text)} characters; one line is meant"
    shown = any(shows_secret(full_text(error), secret) for secret in (CANARY, *secrets))
    assert not shown, f"{what}: the {kind}, or an error behind it, shows a secret: raise it `from None`, without"
    return error


def _raised(call: Callable[[], object], what: str, wanted: str) -> HandledError:
    """Return the `HandledError` that a call raises; anything else fails the test."""
    try:
        result = within(call, what)
    except HandledError as error:
        return error
    except Exception as error:  # noqa: BLE001  (that is the finding)
        told = f"{what}: {type(error).__name__} ({error}) was raised where {wanted} is due"
        raise finding(told, error) from None
    pytest.fail(f"{what}: {wanted} is due, and it returned {result!r}", pytrace=False)


def eventually(seen: Callable[[], T], what: str, *, seconds: float) -> T:
    """Return the first true value of `seen`; fail the test if there is none within `seconds` (real).

    For things that make no event that could be waited for, like the states that a batch system tells.
    """
    clock = SystemClock()
    until, pause = clock.monotonic() + seconds, 0.005
    while True:
        value = within(seen, what)
        if value:
            return value
        if clock.monotonic() >= until:
            pytest.fail(f"{what}: not within {seconds:g} s", pytrace=False)
        clock.wait(until=min(until, clock.monotonic() + pause))
        pause = min(0.1, pause * 1.5)


def unlike(was: object, now: object) -> str:
    """Return how two values of one dataclass differ, field by field; empty if they do not."""
    told = []
    for name in getattr(was, "__dataclass_fields__", {}):
        first, second = getattr(was, name), getattr(now, name, None)
        if first != second:
            told.append(f"{name} is {second!r}, not {first!r}")
    return "; ".join(told)


def tree(folder: Path) -> dict[str, object]:
    """Return everything below a directory: kind, permissions, size, time and content."""
    found: dict[str, object] = {}
    for parent, folders, files in os.walk(os.fsencode(folder)):
        for name in (*folders, *files):
            path = os.path.join(parent, name)  # noqa: PTH118  (bytes: names need not be UTF-8)
            status = os.lstat(path)
            content = Path(os.fsdecode(path)).read_bytes() if stat.S_ISREG(status.st_mode) else b""
            mode = (status.st_mode, status.st_uid, status.st_mtime_ns if not stat.S_ISDIR(status.st_mode) else 0)
            found[os.fsdecode(path)] = (*mode, content)
    return found


def pids() -> list[int]:
    """Return the ids of all processes that can be seen."""
    return sorted(int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal())


def children(*, zombies: bool = False) -> list[int]:
    """Return the process ids of this process's children, or only of those that ended and were not waited for."""
    found = []
    for pid in pids():
        try:
            state, parent = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[:2]
        except OSError:
            continue  # it ended meanwhile
        if int(parent) == os.getpid() and (state == b"Z" or not zombies):
            found.append(pid)
    return found


@dataclass(frozen=True)
class Footprint:
    """What of a process's means is in use."""

    descriptors: int
    threads: frozenset[int]
    processes: frozenset[int]

    @classmethod
    def now(cls) -> Footprint:
        """Look."""
        gc.collect()
        threads = frozenset(thread.ident or 0 for thread in threading.enumerate() if thread.name != "kit")
        return cls(len(os.listdir("/proc/self/fd")), threads, frozenset(children()))  # noqa: PTH208

    def check(self, what: str, *, slack: int = 0) -> None:
        """Fail the test if more is in use than before, and stays so; `slack` is how many descriptors may be kept."""
        clock = SystemClock()
        until = clock.monotonic() + SETTLING
        while (left := self.more(slack)) and clock.monotonic() < until:
            clock.wait(until=clock.monotonic() + 0.02)
        assert not left, f"{what} leaves {left} in use"

    def more(self, slack: int = 0) -> str:
        """Return what is in use beyond what was."""
        now = Footprint.now()
        told = []
        if now.descriptors > self.descriptors + slack:
            told.append(f"{now.descriptors - self.descriptors} descriptors")
        if now.threads - self.threads:
            told.append(f"{len(now.threads - self.threads)} threads")
        if now.processes - self.processes:
            told.append(f"{len(now.processes - self.processes)} processes")
        return ", ".join(told)


def as_user(call: Callable[[], T]) -> T:
    """Return what a call returns for whom files' permissions count, as they do not for the superuser.

    The call gives up those rights for good, which are its thread's own in Linux: make it through `within`.
    """
    if threading.current_thread() is threading.main_thread():
        raise RuntimeError("as_user is for a thread that ends: call it through `within`")
    if os.geteuid() == 0:
        libc = ctypes.CDLL(None, use_errno=True)
        header = struct.pack("Ii", CAPABILITY_VERSION_3, 0)
        data = ctypes.create_string_buffer(24)
        if libc.capget(header, data):
            raise OSError(ctypes.get_errno(), "capget")
        words = list(struct.unpack("6I", data.raw))
        words[0] &= ~(1 << CAP_DAC_OVERRIDE | 1 << CAP_DAC_READ_SEARCH)
        if libc.capset(header, struct.pack("6I", *words)):
            raise OSError(ctypes.get_errno(), "capset")
    return call()
