"""Who else could change a plugin's code: what others may write is not imported.

A plugin runs with the pilot's credentials, and payloads of other people run on the same machine. So the directory that
holds a plugin's metadata, its module, and every directory above them must be out of other people's reach:

- owned by root, by the user that the pilot runs as, or by the owner of the running pilot or interpreter (whose code
  runs here already);
- not writable by others; nor by its group, unless that is the group of root, or the owner's private group (same
  name, no other members), which many systems give every user together with the umask 002;
- a directory *above* may be writable by all if it is sticky as `/tmp` is: nobody can put something else in the place
  of what belongs to another there;
- on a file system that is mounted read-only (CVMFS, a container's image) none of this matters.

Access control lists are seen as far as they show in the group's permission bits.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

__all__ = ["Trust"]


class Trust:
    """Answers for one discovery; what was looked at once is remembered. `owners` are users whose files are accepted."""

    def __init__(self, owners: frozenset[int]) -> None:
        self.owners = owners
        self._above: dict[str, str] = {}
        self._real: dict[str, str] = {}

    @classmethod
    def here(cls) -> Trust:
        """Make the one for this process."""
        if not hasattr(os, "geteuid"):
            return cls(frozenset())
        running = (Path(__file__), Path(os.__file__))
        return cls(frozenset({0, os.geteuid(), *(path.stat().st_uid for path in running)}))

    def objection(self, path: Path) -> str:
        """Return why the code at `path` (a file or directory) might be somebody else's; empty if it cannot be."""
        if not self.owners:
            return ""
        lexical = os.path.abspath(path)  # noqa: PTH100  (resolve would lose the links on the way)
        return self._on_the_way(lexical) or self._on_the_way(self.real(lexical))

    def real(self, path: str) -> str:
        """Return a path without links, like `os.path.realpath`."""
        folder, name = os.path.split(path)
        if folder not in self._real:
            self._real[folder] = os.path.realpath(folder)
        whole = os.path.join(self._real[folder], name)  # noqa: PTH118  (texts: this is asked for every plugin at start)
        return os.path.realpath(whole) if os.path.islink(whole) else whole  # noqa: PTH114

    def _on_the_way(self, path: str) -> str:
        """Return what is wrong with a path or with any directory above it."""
        folder = os.path.dirname(path)  # noqa: PTH120
        return self._fault(path, above=False) or ("" if folder == path else self._fault_above(folder))

    def _fault_above(self, folder: str) -> str:
        if folder not in self._above:
            higher = os.path.dirname(folder)  # noqa: PTH120
            fault = self._fault(folder, above=True)
            self._above[folder] = fault or ("" if higher == folder else self._fault_above(higher))
        return self._above[folder]

    def _fault(self, path: str, *, above: bool) -> str:
        """Return what is wrong with one step of the way."""
        try:
            info = os.stat(path)  # noqa: PTH116
            if (info.st_uid in self.owners and not info.st_mode & 0o022) or os.statvfs(path).f_flag & os.ST_RDONLY:
                return ""
        except OSError as error:
            return f"{path} cannot be examined ({error.strerror})"
        fault = ""
        if info.st_uid not in self.owners:
            fault = f"{path} belongs to user {_user(info.st_uid)}"
        elif above and info.st_mode & stat.S_ISVTX:
            pass  # as in /tmp: nobody can replace what belongs to another
        elif info.st_mode & stat.S_IWOTH:
            fault = f"everybody may write {path}"
        elif info.st_mode & stat.S_IWGRP and not _private_group(info):
            fault = f"the group {_group(info.st_gid)} may write {path}"
        return fault


def _private_group(info: os.stat_result) -> bool:
    """Whether the file's group is root's, or has its owner as the only member as far as its entry says."""
    import grp  # noqa: PLC0415  (absent where there are no such groups)
    import pwd  # noqa: PLC0415

    if info.st_gid == 0:
        return True
    try:
        group, owner = grp.getgrgid(info.st_gid), pwd.getpwuid(info.st_uid)
    except KeyError:
        return False
    return group.gr_name == owner.pw_name and set(group.gr_mem) <= {owner.pw_name}


def _user(number: int) -> str:
    import pwd  # noqa: PLC0415

    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


def _group(number: int) -> str:
    import grp  # noqa: PLC0415

    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return str(number)
