"""Where a file has data and where it has holes: what is read of a sparse file, in which order."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

__all__ = ["LONGEST_HOLE", "SMALLEST_HOLE", "Hole", "Span", "data_spans", "plan"]

SMALLEST_HOLE = 64 << 10
"""Bytes below which a gap is read with the data around it: less work than looking for the next one."""
LONGEST_HOLE = 64 << 20
"""Bytes of a hole that are passed over at once: between two holes cancellation is looked at."""


@dataclass(frozen=True)
class Hole:
    """Zero bytes of a file that take no room."""

    length: int


@dataclass(frozen=True)
class Span:
    """A part of a file: offsets in bytes, `end` excluded."""

    start: int
    end: int
    data: bool
    """False for a hole."""


def plan(size: int, data: Iterable[tuple[int, int]]) -> Iterator[Span]:
    """Yield the spans of a file of `size` bytes, from the first byte to the last, without gaps.

    `data` are the parts (start, end) that have data, in order; they may overlap, or lie beyond the end. Gaps that are
    shorter than `SMALLEST_HOLE` become data, longer ones holes of at most `LONGEST_HOLE`.
    """
    begun = done = 0
    for start, end in data:
        if start >= size:
            break
        if start - done >= SMALLEST_HOLE:
            yield from _span(begun, done, data=True)
            yield from _holes(done, start)
            begun = start
        done = max(done, min(end, size))
    if size - done >= SMALLEST_HOLE:
        yield from _span(begun, done, data=True)
        yield from _holes(done, size)
    else:
        yield from _span(begun, size, data=True)


def data_spans(descriptor: int, size: int) -> Iterator[tuple[int, int]]:
    """Yield the parts of a file that have data, as its file system tells; the whole where it cannot. Raises `OSError`.

    The file system is believed: one that calls data a hole loses it (OpenZFS before 2.1.14 and 2.2.2 did, for a moment
    after the data was written; a checksum that the catalogue knows brings it to light).
    """
    end = 0
    while end < size:
        try:
            start = os.lseek(descriptor, end, os.SEEK_DATA)
            end = os.lseek(descriptor, start, os.SEEK_HOLE)
        except OSError as error:
            if error.errno == errno.ENXIO:  # no data up to the end
                return
            if error.errno not in {errno.EINVAL, errno.ENOTSUP, errno.ENOSYS}:
                raise
            start, end = end, size
        yield start, end


def _span(start: int, end: int, *, data: bool) -> Iterator[Span]:
    """Yield a span unless it is empty."""
    if start < end:
        yield Span(start, end, data)


def _holes(start: int, end: int) -> Iterator[Span]:
    """Yield a hole, in parts if it is a long one."""
    for offset in range(start, end, LONGEST_HOLE):
        yield Span(offset, min(offset + LONGEST_HOLE, end), data=False)
