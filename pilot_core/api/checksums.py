"""Checksums of files: names, the neutral written form `name:value`, and computing them while bytes pass.

Protocols' own spellings (`ad:`, `md:`) are their communicators' business.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hashlib import _Hash

    Block = bytes | bytearray | memoryview

__all__ = ["DIGITS", "Checksum", "Digest", "normalise", "parse"]

DIGITS: Mapping[str, int] = {"adler32": 8, "md5": 32, "sha1": 40, "sha256": 64, "sha512": 128}
"""Every known checksum and the number of hexadecimal digits of its value."""

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

    __slots__ = ("_adler", "_hash", "name")

    def __init__(self, name: str) -> None:
        _digits(name)
        self.name = name
        self._adler = 1
        self._hash: _Hash | None = None
        if name != "adler32":
            import hashlib  # noqa: PLC0415  (loads OpenSSL; most files have an adler32)

            self._hash = hashlib.new(name, usedforsecurity=False)

    def update(self, block: Block) -> None:
        """Take the next bytes; other threads run meanwhile."""
        if self._hash is None:
            self._adler = zlib.adler32(block, self._adler)
        else:
            self._hash.update(block)

    def hexdigest(self) -> str:
        """Return the value of what was taken so far: lower case, leading zeros kept."""
        return f"{self._adler:08x}" if self._hash is None else self._hash.hexdigest()

    def checksum(self) -> Checksum:
        """Return name and value of what was taken so far."""
        return Checksum(self.name, self.hexdigest())


def _digits(name: str) -> int:
    """Return the length of a checksum's value, in hexadecimal digits."""
    try:
        return DIGITS[name]
    except KeyError:
        raise ValueError(f"checksum {name!r}: not known; one of {', '.join(DIGITS)}") from None
