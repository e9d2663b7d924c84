"""Comparing what a file holds: a difference is told in one line, however large the file is."""

from __future__ import annotations

import pytest

__all__ = ["same_bytes"]

SHOWN = 24
"""Bytes shown of each side, from the first that differs."""


def same_bytes(found: bytes | None, wanted: bytes, what: str = "the bytes are not those that were expected") -> None:
    """Fail the test unless `found` is `wanted`; None = there is no file.

    Not an assertion on the bytes themselves: of two that differ pytest makes a line-by-line comparison where it
    believes itself in a CI system, which takes hours for a megabyte.
    """
    if found == wanted:
        return
    if found is None:
        pytest.fail(f"{what}: there is no file", pytrace=False)
    first = next(
        (i for i, (a, b) in enumerate(zip(found, wanted, strict=False)) if a != b), min(len(found), len(wanted))
    )
    here, there = found[first : first + SHOWN], wanted[first : first + SHOWN]
    pytest.fail(
        f"{what}: {len(found)} bytes, {len(wanted)} were expected; from byte {first} on {here!r} instead of {there!r}",
        pytrace=False,
    )
