"""Checksums as storages tell them in header fields.

`Digest` (RFC 3230, of which WLCG's storages have `adler32` in hexadecimal and the others, as it says, in base64; some
have everything in hexadecimal), `Repr-Digest` (RFC 9530), `Content-MD5` (RFC 1864).
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from types import MappingProxyType

from pilot_core import Checksum
from pilot_core.api.checksums import DIGITS, parse

__all__ = ["WIRE_NAMES", "digests"]

WIRE_NAMES: Mapping[str, str] = MappingProxyType(
    {"adler32": "adler32", "md5": "md5", "sha1": "sha", "sha256": "sha-256", "sha512": "sha-512"}
)
"""Our names of checksums, and those of `Want-Digest`."""

_OURS = {
    **{theirs: ours for ours, theirs in WIRE_NAMES.items()},
    "adler": "adler32",
    "sha1": "sha1",
    "sha256": "sha256",
    "sha512": "sha512",
}
_PAIR = re.compile(r"\s*([A-Za-z0-9-]+)\s*=\s*([^,;\s]+)")


def digests(headers: Mapping[str, str]) -> dict[str, Checksum]:
    """Return the checksums of the whole file that an answer's headers tell, by name; what is none is passed over."""
    found: dict[str, Checksum] = {}
    for name, value in _pairs(headers):
        checksum = _read(_OURS.get(name.lower(), ""), value)
        if checksum is not None:
            found.setdefault(checksum.name, checksum)
    return found


def _pairs(headers: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield name and value of every checksum told."""
    for field in ("repr-digest", "digest"):
        for match in _PAIR.finditer(headers.get(field, "")):
            yield match[1], match[2].strip(":")
    if "content-md5" in headers and "content-range" not in headers:
        yield "md5", headers["content-md5"].strip()


def _read(name: str, value: str) -> Checksum | None:
    """Read a value, in hexadecimal or in base64; None for what is neither, and for names that are not ours."""
    if not name:
        return None
    with suppress(ValueError):
        return parse(f"{name}:{value}")
    with suppress(ValueError, binascii.Error):
        raw = base64.b64decode(value, validate=True)
        return Checksum(name, raw.hex()) if len(raw) * 2 == DIGITS[name] else None
    return None
