"""Whether the kernel killed for lack of memory: the count that a control group keeps of that.

Payloads run in the pilot's control group. Version 2 counts in `memory.events`, version 1 in `memory.oom_control` (Linux
4.13): processes of the group that any out-of-memory killer ended, for the group's own limit or another's. See
Documentation/admin-guide/cgroup-v2.rst of the kernel.
"""

from __future__ import annotations

from pathlib import Path

__all__ = ["OomCount"]

_COUNT = b"oom_kill "


class OomCount:
    """Counts what was killed since it was made; 0 where nobody keeps count."""

    def __init__(self, proc: Path = Path("/proc/self")) -> None:
        self._file = _file_of(proc)
        self._before = self._read()

    def since(self) -> int:
        """Return how many processes of this control group the kernel has killed since, for lack of memory."""
        return max(0, self._read() - self._before)

    def _read(self) -> int:
        if self._file is None:
            return 0
        try:
            lines = self._file.read_bytes().splitlines()
            return next((int(line[len(_COUNT) :]) for line in lines if line.startswith(_COUNT)), 0)
        except (OSError, ValueError):
            return 0


def _file_of(proc: Path) -> Path | None:
    """Return the file in which this process's control group counts, if there is one."""
    try:
        groups = [line.split(":", 2) for line in (proc / "cgroup").read_text().splitlines()]
        mounts = [line.split() for line in (proc / "mountinfo").read_text().splitlines()]
    except (OSError, ValueError):
        return None
    for kind, name, own in (
        ("cgroup", "memory.oom_control", [path for _, kinds, path in groups if "memory" in kinds.split(",")]),
        ("cgroup2", "memory.events", [path for number, kinds, path in groups if number == "0" and not kinds]),
    ):
        for fields in mounts:
            after = fields[fields.index("-") + 1 :]
            if not own or after[0] != kind or (kind == "cgroup" and "memory" not in after[2].split(",")):
                continue
            root, where = fields[3].rstrip("/"), Path(fields[4])
            inner = own[0].removeprefix(root)
            # where a container sees less of the tree than the kernel tells, its own group is the top
            for path in (where / inner.lstrip("/") / name, where / name):
                if path.is_file():
                    return path
    return None
