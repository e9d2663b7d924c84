"""What a queue says of limits beyond its own fields: those of CRIC's queuedata, as PanDA Pilot 3 reads them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilot_core.api.queue import as_number

if TYPE_CHECKING:
    from pilot_core import Job, Queue

__all__ = ["MB", "disk_share", "grace", "memory_share"]

MB = 1024 * 1024
"""Bytes in a MB of PanDA's, which are MiB."""


def grace(queue: Queue, name: str, percent: float) -> float:
    """Return the factor by which a limit may be passed: the queue's own parameter (per cent), or what is set."""
    parameters = queue.extra.get("params")
    own = parameters.get(name) if isinstance(parameters, dict) else None
    return 1.0 + (percent if own in {None, ""} else as_number(own)) / 100.0


def memory_share(queue: Queue, job: Job) -> float:
    """Return a job's share of a queue's memory (maxrss), MB: by its cores; 0 where the queue does not say."""
    cores, whole = _cores(queue), float(queue.max_memory_mb)
    own = max(1, job.core_count)
    if _each_core(queue):
        return whole * own
    if job.resource_type == "MCORE_VHIMEM" or own >= cores:
        return whole
    return whole / cores * own


def disk_share(queue: Queue, job: Job) -> float:
    """Return a job's share of a queue's work directory (maxwdir), MB; 0 where the queue does not say.

    A job of one core has one core's part of it, any other has all of it.
    """
    whole = float(queue.max_disk_mb)
    if _each_core(queue):
        return whole * (1 if job.core_count <= 1 else _cores(queue))
    return whole / _cores(queue) if job.core_count <= 1 else whole


def _cores(queue: Queue) -> float:
    """Return the cores of a queue's slot."""
    return max(1.0, queue.number("corecount"))


def _each_core(queue: Queue) -> bool:
    """Say whether the queue's limits are those of each core (`per_core_attr` in CRIC's catchall)."""
    words = [word.strip() for word in str(queue.extra.get("catchall") or "").split(",")]
    return any(
        word == "per_core_attr"
        or (word.startswith("per_core_attr=") and word.partition("=")[2].strip().lower() in {"true", "yes", "1"})
        for word in words
    )
