"""Checksums of files: names, the neutral written form `name:value`, and computing them while bytes pass.

Protocols' own spellings (`ad:`, `md:`) are their communicators' business.

An adler32 is computed by the first of `LIBRARIES` that is installed (`pip install pilot-core[fast]`). Rates of one
core, over 1 MiB in its cache: zlib 3.0 GB/s, ISA-L 18 GB/s, zlib-ng 51 GB/s. A copy of a local file
that is in memory takes 2.1, 1.1 and 0.9 times the CPU time of `cp` (benchmarks/local_copies.py).
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hashlib import _Hash

    Block = bytes | bytearray | memoryview

__all__ = ["DIGITS", "LIBRARIES", "Checksum", "Digest", "adler32_library", "normalise", "parse"]

log = logging.getLogger(__name__)

DIGITS: Mapping[str, int] = {"adler32": 8, "md5": 32, "sha1": 40, "sha256": 64, "sha512": 128}
"""Every known checksum and the number of hexadecimal digits of its value."""

LIBRARIES: Mapping[str, str] = {"zlib-ng": "zlib_ng.zlib_ng", "isal": "isal.isal_zlib", "zlib": "zlib"}
"""Distributions with an `adler32(block, start)`, the fastest first: name -> module. The last is Python's own."""

_BASE = 65521
"""The prime of adler32 (RFC 1950)."""
_ZEROS = 1 << 20
"""Bytes of zeros that a hash takes at a time."""
_HEX = re.compile(r"[0-9a-f]+")


@dataclass(frozen=True)
class Checksum:
    """A checksum's name and value. Two are equal if they say the same, however they were written."""

    name: str
    value: str
    """Lower-case hexadecimal, of the length the name asks for."""

    def __str__(self) -> str:
        return f"{self.name}:{self.value}"


def parse(text: str) -> Checksum:
    """Read `name:value`; case does not matter, and an adler32 may lack its leading zeros.

    Raises `ValueError` for an unknown name or a value that the name cannot have.
    """
    name, colon, value = text.strip().partition(":")
    name, value = name.strip().lower(), value.strip().lower()
    if not colon:
        raise ValueError(f"checksum {text!r}: write it as name:value, such as adler32:1a2b3c4d")
    digits = _digits(name)
    if name == "adler32" and value:
        value = value.rjust(digits, "0")
    if len(value) != digits or not _HEX.fullmatch(value):
        raise ValueError(f"checksum {text!r}: the value of {name} is {digits} hexadecimal digits")
    return Checksum(name, value)


def normalise(text: str) -> str:
    """Return `name:value` in its one written form; raises `ValueError` as `parse`."""
    return str(parse(text))


class Digest:
    """Computes one checksum while blocks pass; raises `ValueError` for an unknown name."""

    __slots__ = ("_adler", "_adler32", "_hash", "name")

    def __init__(self, name: str) -> None:
        _digits(name)
        self.name = name
        self._adler = 1
        self._hash: _Hash | None = None
        if name == "adler32":
            self._adler32 = _fastest()[1]
        else:
            import hashlib  # noqa: PLC0415  (loads OpenSSL; most files have an adler32)

            self._hash = hashlib.new(name, usedforsecurity=False)

    def update(self, block: Block) -> None:
        """Take the next bytes; other threads run meanwhile."""
        if self._hash is None:
            self._adler = self._adler32(block, self._adler)
        else:
            self._hash.update(block)

    def zeros(self, count: int) -> None:
        """Take `count` zero bytes, as a hole of a file has them: an adler32 at once, others at their usual rate."""
        if self._hash is None:
            # every byte adds itself to the low sum, and that to the high one
            low, high = self._adler & 0xFFFF, self._adler >> 16
            self._adler = (high + count * low) % _BASE << 16 | low
            return
        block = memoryview(bytes(min(count, _ZEROS)))
        for done in range(0, count, _ZEROS):
            self._hash.update(block[: count - done])

    def hexdigest(self) -> str:
        """Return the value of what was taken so far: lower case, leading zeros kept."""
        return f"{self._adler:08x}" if self._hash is None else self._hash.hexdigest()

    def checksum(self) -> Checksum:
        """Return name and value of what was taken so far."""
        return Checksum(self.name, self.hexdigest())


def adler32_library() -> str:
    """Return the name in `LIBRARIES` of what computes an adler32 here; imports it."""
    return _fastest()[0]


@cache
def _fastest() -> tuple[str, Callable[[Block, int], int]]:
    """Return the first library that is here and computes, and its adler32; looked for once, when it is first needed."""
    import zlib  # noqa: PLC0415  (it judges the others, and stands in for them)

    for name, module in LIBRARIES.items():
        try:
            adler32: Callable[[Block, int], int] = import_module(module).adler32
        except (ImportError, AttributeError) as error:
            log.debug("adler32 is not computed by %s: %s", name, error)
            continue
        # enough for each way that a library has for short, long and unaligned blocks
        sample = memoryview(bytes(range(256)) * 64)
        if all(adler32(sample[start:], 7) == zlib.adler32(sample[start:], 7) for start in (0, 1, 16000)):
            log.debug("adler32 is computed by %s", name)
            return name, adler32
        log.warning("%s computes a wrong adler32 on this machine and is not used", name)
    return "zlib", zlib.adler32


def _digits(name: str) -> int:
    """Return the length of a checksum's value, in hexadecimal digits."""
    try:
        return DIGITS[name]
    except KeyError:
        raise ValueError(f"checksum {name!r}: not known; one of {', '.join(DIGITS)}") from None
