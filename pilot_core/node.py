"""The machine as PanDA's worker node table wants it described."""

from __future__ import annotations

import os
import platform
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from pilot_core.api.communicator import WorkerNode

if TYPE_CHECKING:
    from pilot_core.api.queue import Queue

__all__ = ["describe_node", "parse_cpuinfo"]


def describe_node(queue: Queue, host: str) -> WorkerNode:
    """Read /proc/cpuinfo and /proc/meminfo; what they do not say is left out. MB and GB are powers of 1024."""
    cpus = parse_cpuinfo(_read("/proc/cpuinfo"))
    memory_kb = re.search(r"^MemTotal:\s+([0-9]+) kB$", _read("/proc/meminfo"), re.MULTILINE)
    sockets = len({cpu.get("physical id", "0") for cpu in cpus}) or None
    cores = _number(cpus[0].get("cpu cores", "")) if cpus else None
    siblings = _number(cpus[0].get("siblings", "")) if cpus else None
    mhz = re.fullmatch(r"[0-9]+(\.[0-9]+)?", cpus[0].get("cpu MHz", "") if cpus else "")
    return WorkerNode(
        site=queue.site or queue.name,
        queue=queue.name,
        host_name=host,
        cpu_model=(cpus[0].get("model name") if cpus else None) or platform.machine(),
        logical_cpus=os.cpu_count(),
        sockets=sockets,
        cores_per_socket=cores,
        threads_per_core=siblings // cores if siblings and cores else None,
        cpu_architecture=platform.machine(),
        clock_mhz=float(mhz.group()) if mhz else None,
        memory_mb=int(memory_kb.group(1)) // 1024 if memory_kb else None,
        disk_gb=shutil.disk_usage("/").total // 1024**3,
    )


def parse_cpuinfo(text: str) -> list[dict[str, str]]:
    """Take /proc/cpuinfo apart: one mapping of names to values for each logical CPU."""
    cpus = []
    for block in text.split("\n\n"):
        pairs = (line.partition(":") for line in block.splitlines() if ":" in line)
        entry = {name.strip(): value.strip() for name, _, value in pairs}
        if "processor" in entry:
            cpus.append(entry)
    return cpus


def _number(text: str) -> int | None:
    return int(text) if text.isdecimal() else None


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
