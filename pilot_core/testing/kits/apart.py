"""Parts of a clause that run in a process of their own: one that is killed, or that has a full or read-only disk."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pilot_core.api.clock import SystemClock

__all__ = ["Disk", "adopt_orphans", "apart", "children", "running_children"]

CLONE_NEWNS, CLONE_NEWUSER = 0x20000, 0x10000000
MS_RDONLY, MS_REMOUNT, MS_REC, MS_PRIVATE = 1, 32, 0x4000, 0x40000
"""Flags of unshare(2) and mount(2) (linux/sched.h, linux/mount.h)."""
PATIENCE = 30.0
"""Real seconds for one such part."""
PR_SET_CHILD_SUBREAPER = 36
"""prctl(2), linux/prctl.h."""
CANNOT = "needs the right to mount a file system, or user namespaces"


class Disk:
    """A small file system that only the part's own process sees in the place of a folder."""

    def __init__(self, folder: Path, kilobytes: int, *, read_only: bool = False) -> None:
        self.folder = folder
        self._size = kilobytes
        self._read_only = read_only

    def mount(self) -> None:
        """Mount it; called in the part's process. Raises `OSError` where that is not allowed."""
        libc = ctypes.CDLL(None, use_errno=True)
        uid, gid = os.getuid(), os.getgid()
        if uid == 0 and libc.unshare(CLONE_NEWNS) == 0:
            pass
        elif libc.unshare(CLONE_NEWUSER | CLONE_NEWNS) == 0:
            Path("/proc/self/setgroups").write_text("deny")
            Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1")
            Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1")
        else:
            raise OSError(ctypes.get_errno(), CANNOT)
        self._call(libc, None, "/", None, MS_REC | MS_PRIVATE, None)
        size = f"size={self._size}k,mode=0777"
        self._call(libc, "none", str(self.folder), "tmpfs", 0, size)
        if self._read_only:
            self._call(libc, "none", str(self.folder), "tmpfs", MS_REMOUNT | MS_RDONLY, size)

    @staticmethod
    def _call(libc: Any, source: str | None, target: str, kind: str | None, flags: int, data: str | None) -> None:
        words = [None if word is None else os.fsencode(word) for word in (source, target, kind)]
        if libc.mount(*words, ctypes.c_ulong(flags), None if data is None else data.encode()):
            raise OSError(ctypes.get_errno(), CANNOT)


def apart(part: Callable[[], Any], disk: Disk | None = None, *, permissions: bool = False) -> Any:
    """Run `part` in a forked process and return what it returned (plain JSON), or None if that process was killed.

    With a disk, that is mounted first; the test is left out where nobody may. With `permissions`, those of files count
    there even for the superuser. An exception fails the test.
    """
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        # the child makes no use of what other threads of the parent may hold
        warnings.simplefilter("ignore")
        child = os.fork()
    if child == 0:
        _run(part, disk, writing, permissions=permissions)
    os.close(writing)
    try:
        told = _listen(child, reading)
    finally:
        os.close(reading)
    if told is None:
        return None
    kind, value = json.loads(told)
    if kind == "cannot":
        pytest.skip(value)
    if kind == "error":
        pytest.fail(value, pytrace=False)
    return value


def adopt_orphans() -> None:
    """Have processes whose parent ends become children of this one (prctl(2)); for a part's own process."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def children() -> list[int]:
    """Return the children of this process, ended ones that nobody has waited for included."""
    lists = [path.read_text() for path in Path("/proc/self/task").glob("*/children")]
    return [int(pid) for text in lists for pid in text.split()]


def running_children(seconds: float) -> int:
    """Return how many children of this process still run after so many seconds, and end them."""
    clock, left = SystemClock(), 0
    until = clock.monotonic() + seconds
    for pid in children():
        descriptor = os.pidfd_open(pid)
        with os.fdopen(descriptor) as process:
            if not clock.wait(process, until=until):
                left += 1
                signal.pidfd_send_signal(descriptor, signal.SIGKILL)
    return left


def _run(part: Callable[[], Any], disk: Disk | None, pipe: int, *, permissions: bool) -> None:
    """Run the part and say what came of it; does not return."""
    code = 1
    try:
        try:
            if disk:
                disk.mount()
            if permissions:
                _let_permissions_count()
            answer = ["value", part()]
        except OSError as error:
            answer = ["cannot" if error.strerror == CANNOT else "error", f"{type(error).__name__}: {error.strerror}"]
        except BaseException as error:  # noqa: BLE001  (told to the parent)
            answer = ["error", f"{type(error).__name__}: {error}"]
        with os.fdopen(pipe, "w") as stream:
            json.dump(answer, stream)
        code = 0
    finally:
        os._exit(code)


def _let_permissions_count() -> None:
    """Give up the superuser's right to pass over permissions: CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH (capset(2))."""
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    data = (ctypes.c_uint32 * 6)()
    if libc.capget(header, data):
        raise OSError(ctypes.get_errno(), "capget")
    data[0] &= ~0b110
    if libc.capset(header, data):
        raise OSError(ctypes.get_errno(), "capset")


def _listen(child: int, reading: int) -> str | None:
    """Return what the child says until it ends, None if it said nothing; ends a child that takes too long."""
    clock, parts = SystemClock(), []
    until = clock.monotonic() + PATIENCE
    os.set_blocking(reading, False)

    class Pipe:
        def fileno(self) -> int:
            return reading

    open_ = True
    while open_ and clock.wait(Pipe(), until=until):
        with contextlib.suppress(BlockingIOError):
            data = os.read(reading, 65536)
            parts.append(data)
            open_ = bool(data)
    if open_:
        os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    if open_:
        pytest.fail(f"it did not return within {PATIENCE:g} s", pytrace=False)
    return b"".join(parts).decode() or None
