"""Wrong bytes, and wrong words about good ones; always the same ones for the same file."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from pilot_core import FileStat, TransferResult
    from pilot_stager_fault.grammar import StorageFault

__all__ = ["checksum_of", "damage", "damaged_copy", "is_damage", "misreport"]

_BLOCK = 1 << 20
T = TypeVar("T", "FileStat", "TransferResult")


def is_damage(fault: StorageFault) -> bool:
    """Say whether a fault changes the file's bytes."""
    return fault.kind.name in {"corrupt", "truncate", "partial"}


def damage(path: Path, faults: Sequence[StorageFault]) -> None:
    """Change a file as the faults want it: the byte in the middle, or what is beyond the place where it ends."""
    for fault in faults:
        size = path.stat().st_size
        if fault.kind.name == "corrupt":
            _flip(path, size // 2)
        elif is_damage(fault):
            wanted = fault.values["bytes"]
            os.truncate(path, min(size, size // 2 if wanted is None else wanted))


def _flip(path: Path, at: int) -> None:
    """Turn all bits of one byte; an empty file gets one instead."""
    with path.open("r+b") as file:
        file.seek(at)
        old = file.read(1)
        file.seek(at)
        file.write(bytes([old[0] ^ 0xFF]) if old else b"\0")


@contextlib.contextmanager
def damaged_copy(source: Path, faults: Sequence[StorageFault], folder: Path) -> Iterator[Path]:
    """While it lasts, there is a damaged copy of a file in a folder of its own below `folder`."""
    with tempfile.TemporaryDirectory(dir=folder, prefix="fault-") as place:
        copy = Path(place, source.name)
        with source.open("rb") as reader, copy.open("wb") as writer:
            while block := reader.read(_BLOCK):
                writer.write(block)
        damage(copy, faults)
        yield copy


def checksum_of(path: Path, name: str) -> str:
    """Return `name:value` of a file; `name` is adler32 or md5."""
    adler, md5 = 1, hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            if name == "md5":
                md5.update(block)
            else:
                adler = zlib.adler32(block, adler)
    return f"md5:{md5.hexdigest()}" if name == "md5" else f"adler32:{adler:08x}"


def misreport(told: T, faults: Sequence[StorageFault]) -> T:
    """Return what a stager told, with what the faults want to be wrong."""
    from dataclasses import replace  # noqa: PLC0415

    names = {fault.kind.name for fault in faults}
    if "wrong-size" in names:
        told = replace(told, size=told.size + 1)
    if "wrong-checksum" in names and told.checksum:
        last = told.checksum[-1]
        told = replace(told, checksum=told.checksum[:-1] + ("1" if last == "0" else "0"))
    return told
