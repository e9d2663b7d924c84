"""On which kind of file system a directory is: over a network SQLite's shared memory is none."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["NETWORK", "network_file_system"]

NETWORK = frozenset(
    {
        *("nfs", "nfs4", "lustre", "gpfs", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "beegfs", "panfs", "pvfs2"),
        *("glusterfs", "virtiofs", "fuse", "fuseblk", "orangefs", "ocfs2", "gfs2"),
    }
)
"""Types of file systems, as /proc/self/mountinfo names them, that other machines may write too. With `fuse` all of its
kinds are meant (`fuse.sshfs`): what is behind them nobody knows."""


def network_file_system(folder: Path) -> str:
    """Return the type of a directory's file system if it is one over a network; else an empty text."""
    try:
        device = folder.stat().st_dev
        lines = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    return _network_type(lines, f"{os.major(device)}:{os.minor(device)}")


def _network_type(lines: list[str], device: str) -> str:
    """Find a device in the lines of proc_pid_mountinfo(5); return its type if that is one over a network."""
    for line in lines:
        mount, _, rest = line.partition(" - ")
        fields, kind = mount.split(), rest.split(" ", 1)[0]
        if len(fields) > 2 and fields[2] == device and kind.partition(".")[0] in NETWORK:
            return kind
    return ""
