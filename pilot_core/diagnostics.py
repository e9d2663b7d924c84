"""What a server may look at while a job runs: `tail`, `ls`, `ps` and `du`, without a shell, within the job's directory.

These are fixed verbs that this module answers itself: no program is run, so nothing among their arguments can be a
command. Paths are walked name by name from the job's directory, and no link is followed, so none leads out of it,
whatever the payload changes meanwhile. Answers are bounded in size, and in the number of files that are looked at.
"""

from __future__ import annotations

import os
import re
import shlex
import stat
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pilot_core.api.processes import ProcessTree
from pilot_core.errors import HandledError
from pilot_core.payload import SECRETS_FILE

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["LONGEST", "VERBS", "Refused", "answer", "last_lines", "verb_of"]

LONGEST = 2000
"""Characters of an answer: PanDA's server keeps 2048 of an update's `stdout`."""
LINES = 20
"""Lines that `tail` shows where it is not told how many."""
MOST_ENTRIES = 100_000
"""Names that one answer looks at."""
_SMALL = re.compile(r"-?[A-Za-z]{1,8}")
_COUNT = re.compile(r"[0-9]{1,6}")

Process = tuple[int, int]
"""Pid and start time of the process above the payload's own."""


class Refused(HandledError):
    """Something that a server may not ask for."""


def verb_of(command: str) -> str:
    """Return the verb that a command begins with, if it is one of ours; else an empty string."""
    word = command.split(None, 1)[0] if command.strip() else ""
    return word if word in VERBS else ""


def answer(command: str, job_dir: Path, process: Process | None) -> str:
    """Return what a command shows, at most `LONGEST` characters of printable lines.

    Raises `Refused` for what is no such command, and for arguments that lead out of the job's directory.
    """
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise Refused(f"{str(error).lower()}: check its quotes") from None
    if not words or words[0] not in VERBS:
        raise Refused(f"this pilot knows {', '.join(VERBS)}, debug, debugoff, softkill and tobekilled")
    try:
        return VERBS[words[0]](words[1:], job_dir, process)
    except OSError as error:
        raise Refused(f"{words[0]}: {error.strerror or error}") from None


def last_lines(file: Path, folder: Path, lines: int = LINES) -> str:
    """Return the end of a file of the job's directory; empty where there is none. Raises `OSError`, `Refused`."""
    return _tail([f"-{lines}", file.name], folder, None)


def _tail(words: Sequence[str], job_dir: Path, process: Process | None) -> str:  # noqa: ARG001  (every verb's arguments)
    lines, names, rest = LINES, list[str](), list(words)
    while rest:
        word = rest.pop(0)
        count = rest.pop(0) if word == "-n" and rest else word.removeprefix("-n").removeprefix("-")
        if not word.startswith("-"):
            names.append(word)
        elif _COUNT.fullmatch(count):
            lines = int(count)
        else:
            raise Refused(f"tail takes -n N and one file, not {word!r}")
    if len(names) > 1:
        raise Refused("tail takes one file at a time")
    with _opened(job_dir, names[0] if names else "payload.stdout", os.O_RDONLY | os.O_NONBLOCK) as descriptor:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
            raise Refused("tail shows plain files with one name only")
        os.lseek(descriptor, max(0, found.st_size - 4 * LONGEST), os.SEEK_SET)
        text = _text(os.read(descriptor, 4 * LONGEST))
    return "\n".join(text.rstrip("\n").split("\n")[-lines:] if lines else [])[-LONGEST:]


def _ls(words: Sequence[str], job_dir: Path, process: Process | None) -> str:  # noqa: ARG001
    path = _one_path("ls", words)
    with _opened(job_dir, path, os.O_PATH) as descriptor:
        found = os.fstat(descriptor)
        if not stat.S_ISDIR(found.st_mode):
            return _line(path, found)
    with _opened(job_dir, path, os.O_RDONLY | os.O_DIRECTORY) as descriptor:
        lines = []
        for name in _names(descriptor):
            try:
                lines.append(_line(name, os.lstat(name, dir_fd=descriptor)))
            except OSError:
                continue  # removed just now
    return _cut(lines)


def _du(words: Sequence[str], job_dir: Path, process: Process | None) -> str:  # noqa: ARG001
    path, left = _one_path("du", words), [MOST_ENTRIES]
    with _opened(job_dir, path, os.O_RDONLY | os.O_DIRECTORY) as descriptor:
        sizes = []
        for name in _names(descriptor):
            sizes.append((_size(descriptor, name, left, 0), name))
    lines = [f"{sum(size for size, _ in sizes) // 1024:>12} kB  {_shown(path)}"]
    lines += [f"{size // 1024:>12} kB  {_shown(name)}" for size, name in sorted(sizes, reverse=True)]
    if left[0] <= 0:
        lines.insert(0, f"more than {MOST_ENTRIES} files: the rest is not counted")
    return _cut(lines)


def _ps(words: Sequence[str], job_dir: Path, process: Process | None) -> str:  # noqa: ARG001
    for word in words:
        if not _SMALL.fullmatch(word):
            raise Refused(f"ps shows the job's processes and takes no {word!r}")
    if process is None:
        raise Refused("ps: no payload runs on this machine now")
    lines = [f"{'PID':>8} {'PPID':>8} S {'CPU s':>9} {'RSS MB':>8} {'THR':>4} COMMAND"]
    for each in ProcessTree.of(*process).below:
        lines.append(
            f"{each.pid:>8} {each.parent:>8} {each.state} {each.cpu_seconds:>9.1f} {each.rss_kb / 1024:>8.1f} "
            f"{each.threads:>4} {_command_line(each.pid) or _shown(each.name)}"
        )
    return _cut(lines)


VERBS: Mapping[str, Callable[[Sequence[str], Path, Process | None], str]] = {
    "tail": _tail,
    "ls": _ls,
    "ps": _ps,
    "du": _du,
}
"""What may be looked at, by the first word of the command."""


def _one_path(verb: str, words: Sequence[str]) -> str:
    """Return the path among a verb's arguments, `.` if there is none; flags change nothing."""
    paths = [word for word in words if not word.startswith("-")]
    for word in words:
        if word.startswith("-") and not _SMALL.fullmatch(word):
            raise Refused(f"{verb} takes small flags and one path, not {word!r}")
    if len(paths) > 1:
        raise Refused(f"{verb} takes one path at a time")
    return paths[0] if paths else "."


@contextmanager
def _opened(job_dir: Path, path: str, flags: int) -> Iterator[int]:
    """Open a path of the job's directory, from name to name; raises `Refused` for one that leads out of it."""
    if path == str(job_dir) or path.startswith(f"{job_dir}/"):
        path = path[len(str(job_dir)) :].lstrip("/") or "."
    names = [name for name in path.split("/") if name not in {"", "."}]
    if path.startswith("/") or ".." in names or "\0" in path or not _is_name(path):
        raise Refused(f"{_shown(path)} is not within the job's directory")
    if SECRETS_FILE in names:
        raise Refused("the user's secrets are shown to nobody")
    at = os.open(job_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        for name in names[:-1]:
            below = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=at)
            os.close(at)
            at = below
        found = os.open(names[-1] if names else ".", flags | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=at)
    except OSError as error:
        raise Refused(f"{_shown(path)}: {error.strerror}; links are not followed") from None
    finally:
        os.close(at)
    try:
        yield found
    finally:
        os.close(found)


def _is_name(path: str) -> bool:
    """Say whether a file can be called so: not with lone surrogates."""
    try:
        return bool(os.fsencode(path))
    except UnicodeEncodeError:
        return False


def _names(descriptor: int) -> list[str]:
    """Return the names in an open directory, as many as are looked at."""
    names = []
    with os.scandir(descriptor) as entries:
        for entry in entries:
            names.append(entry.name)
            if len(names) >= MOST_ENTRIES:
                break
    return sorted(names)


def _size(at: int, name: str, left: list[int], depth: int) -> int:
    """Return what a name takes on disk, in bytes, with all that is below it; `left` counts down the names."""
    left[0] -= 1
    try:
        found = os.lstat(name, dir_fd=at)
        size = found.st_blocks * 512
        if stat.S_ISDIR(found.st_mode) and left[0] > 0 and depth < 200:
            descriptor = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=at)
            try:
                for inner in _names(descriptor):
                    if left[0] <= 0:
                        break
                    size += _size(descriptor, inner, left, depth + 1)
            finally:
                os.close(descriptor)
    except OSError:
        return 0
    return size


def _line(name: str, found: os.stat_result) -> str:
    """Return a line of `ls`."""
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(max(0.0, min(found.st_mtime, 2.0**36))))
    return f"{stat.filemode(found.st_mode)} {found.st_size:>13} {when}Z {_shown(name)}"


def _command_line(pid: int) -> str:
    """Return a process's arguments, as far as they are of use."""
    try:
        descriptor = os.open(f"/proc/{pid}/cmdline", os.O_RDONLY | os.O_CLOEXEC)
        try:
            text = os.read(descriptor, 1024)
        finally:
            os.close(descriptor)
    except OSError:
        return ""
    return _text(text.rstrip(b"\0").replace(b"\0", b" ")).replace("\n", " ")[:160]


def _cut(lines: Sequence[str]) -> str:
    """Return lines as far as they have room, and how many are left out."""
    kept, used = [], 0
    for number, line in enumerate(lines):
        used += len(line) + 1
        if used > LONGEST - 40:
            kept.append(f"... and {len(lines) - number} more lines")
            break
        kept.append(line)
    return "\n".join(kept)


def _text(data: bytes) -> str:
    """Return bytes as printable lines: what would change a terminal, or a database, is not in them."""
    return _printable(data.decode("utf-8", "replace"))


def _printable(text: str) -> str:
    """Return a text without what is no printable character: lone surrogates, too."""
    return "".join(char if char.isprintable() or char in "\n\t" else "\ufffd" for char in text)


def _shown(name: str) -> str:
    """Return a name on one line."""
    return _printable(name).replace("\n", "\ufffd").replace("\t", "\ufffd")[:300]
