"""Which parts of a file are data and which are holes."""

from __future__ import annotations

import itertools
import os

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pilot_core.api.extents import LONGEST_HOLE, SMALLEST_HOLE, data_spans, plan

GB = 10**9
sizes = st.one_of(st.integers(0, 200 * GB), st.integers(0, 10 * SMALLEST_HOLE))


@st.composite
def extents(draw):
    """Return (start, end) of data in order, as a file system would tell them, and the file's size."""
    scale = draw(st.sampled_from([SMALLEST_HOLE // 3, SMALLEST_HOLE, LONGEST_HOLE, 20 * GB]))
    lengths = draw(st.lists(st.tuples(st.integers(0, scale), st.integers(1, scale)), max_size=8))
    found, end = [], 0
    for gap, length in lengths:
        found.append((end + gap, end + gap + length))
        end = found[-1][1]
    return found, end + draw(st.integers(-scale, scale)) if end else draw(sizes)


@given(extents())
@example(([], 0))
@example(([], 100 * GB))
@example(([(99 * GB, 100 * GB)], 100 * GB))
@example(([(0, 5), (100 * GB - 1, 100 * GB)], 100 * GB))
def test_the_plan_covers_the_file_once_and_no_data_lies_in_a_hole(made):
    data, size = made
    size = max(0, size)
    spans = list(plan(size, iter(data)))
    assert [span.start for span in spans] == [0, *(span.end for span in spans)][: len(spans)]
    assert (spans[-1].end if spans else 0) == size
    assert all(span.start < span.end for span in spans)
    holes = [span for span in spans if not span.data]
    for hole in holes:
        assert hole.end - hole.start <= LONGEST_HOLE
        assert not any(start < hole.end and hole.start < end for start, end in data)
    # nothing that is a hole of some length is read
    for (_, before), (start, _) in zip([(0, 0), *data], [*data, (size, size)], strict=True):
        after = min(start, size)
        if after - before >= SMALLEST_HOLE:
            assert sum(hole.end - hole.start for hole in holes if before <= hole.start < after) == after - before


@given(st.integers(1, 100 * GB), st.lists(st.tuples(st.integers(0, 90 * GB), st.integers(0, 90 * GB)), max_size=6))
def test_even_a_file_system_that_contradicts_itself_gets_a_plan_of_the_whole_file(size, pairs):
    spans = list(plan(size, sorted((min(pair), max(pair)) for pair in pairs)))
    assert sum(span.end - span.start for span in spans) == size
    assert all(before.end == after.start for before, after in itertools.pairwise(spans))


@pytest.mark.parametrize(
    ("islands", "size"),
    [([], 0), ([], 10 << 20), ([0], 10 << 20), ([5 << 20], 10 << 20), ([0, 3 << 20, 9 << 20], (9 << 20) + 4096)],
)
def test_islands_of_data_are_found_in_a_real_file(tmp_path, islands, size):
    path = tmp_path / "file"
    with path.open("wb") as file:
        file.truncate(size)
        for offset in islands:
            file.seek(offset)
            file.write(b"x" * 4096)
    descriptor = os.open(path, os.O_RDONLY)
    try:
        found = list(data_spans(descriptor, size))
    finally:
        os.close(descriptor)
    for offset in islands:
        assert any(start <= offset and offset + 4096 <= end for start, end in found)
    assert sum(end - start for start, end in found) <= len(islands) * (64 << 10)


def test_what_knows_no_holes_is_data(tmp_path):
    reading, writing = os.pipe()
    try:
        with pytest.raises(OSError, match="Illegal seek"):
            list(data_spans(reading, 5))
    finally:
        os.close(reading)
        os.close(writing)
    # /proc has files that can be read and not searched for holes
    descriptor = os.open("/proc/self/mem", os.O_RDONLY)
    try:
        assert list(data_spans(descriptor, 5)) == [(0, 5)]
    finally:
        os.close(descriptor)
