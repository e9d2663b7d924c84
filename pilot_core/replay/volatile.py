"""What differs between any two runs, and so is compared by its kind and not by its value: the whole list.

`pilot-core replay --list-volatile` prints it. Names are compared in lower case and without `_`, so that `start_time`
stands for `startTime` too; a name with dots stands for a path's end, and `*` for one name of any kind.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

__all__ = ["VOLATILE", "VOLATILE_HEADERS", "VOLATILE_WHEN_REAL", "Volatile", "is_volatile"]


@dataclass(frozen=True)
class Volatile:
    """Fields of one sort."""

    fields: str
    """Their names, with blanks between them."""
    why: str
    where: str = ""
    """The end of the endpoint, or the communicator's method, that it is for; empty = everywhere."""
    may_be_missing: bool = False
    """Whether it may be there in one run and not in the other."""


VOLATILE: Sequence[Volatile] = (
    Volatile("start_time end_time started ended creation_time timestamp", "a time of day"),
    Volatile("pilot_timing timing seconds phases.*", "a duration"),
    Volatile("cpu_consumption_time cpu_seconds user_seconds system_seconds", "CPU time"),
    Volatile("max_rss max_rss_kb read_blocks written_blocks", "what the system measured"),
    Volatile("node node_id host_name", "the name of a machine"),
    Volatile("pilot_id batch_id", "names this pilot or its batch job"),
    Volatile("stdout", "what a payload had printed by then", may_be_missing=True),
    Volatile("guid", "made anew for every output"),
    Volatile(
        "cpu_model n_logical_cpus logical_cpus n_sockets sockets cores_per_socket threads_per_core cpu_architecture "
        "cpu_architecture_level clock_speed clock_mhz total_memory memory_mb total_local_disk disk_gb",
        "describes the machine",
        where="worker_node",
        may_be_missing=True,
    ),
)
"""Everywhere."""

VOLATILE_WHEN_REAL: Sequence[Volatile] = (
    Volatile("fsize adler32 md5sum size checksum bytes", "files that were really made"),
    Volatile("leftovers extra", "processes that really ran", may_be_missing=True),
)
"""Besides, with `--real`."""

VOLATILE_HEADERS = frozenset(
    {
        "authorization",
        "connection",
        "content-encoding",
        "content-length",
        "cookie",
        "date",
        "host",
        "origin",
        "proxy-authorization",
        "user-agent",
    }
)
"""Headers of requests that are not compared: of the connection, the compression, the credential or the version."""


def is_volatile(path: str, endpoint: str, *, real: bool = False) -> Volatile | None:
    """Return what makes the field at `path` (`body.meta_data.phases.payload`) volatile, or None."""
    names = tuple(_plain(name) for name in re.sub(r"\[\d+\]", "", path).split("."))
    for item in (*VOLATILE, *VOLATILE_WHEN_REAL) if real else VOLATILE:
        if item.where and not _plain(endpoint).endswith(_plain(item.where)):
            continue
        for pattern in _patterns(item.fields):
            end = names[-len(pattern) :]
            if len(end) == len(pattern) and all(want in {"*", name} for want, name in zip(pattern, end, strict=True)):
                return item
    return None


@cache
def _patterns(fields: str) -> tuple[tuple[str, ...], ...]:
    """Return the paths' ends that a line of the table names."""
    return tuple(tuple(_plain(name) for name in field.split(".")) for field in fields.split())


def _plain(name: str) -> str:
    return name.replace("_", "").lower()
