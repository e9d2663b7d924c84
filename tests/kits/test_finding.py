"""A clause that meets an exception which is not due says so once, and where in the plugin it was raised."""

from __future__ import annotations

from pathlib import Path

import pytest

from pilot_core.errors import PluginError, SourceNotFound
from pilot_core.testing.kits.finding import place_of
from pilot_core.testing.kits.judging import refused


def line_of(mark: str) -> int:
    """Return the number of the one line of this file that ends with a mark."""
    lines = Path(__file__).read_text().splitlines()
    [number] = [number for number, line in enumerate(lines, 1) if line.endswith(f"# {mark}")]
    return number


def test_an_error_of_another_kind_is_told_once_and_with_its_line():
    def call():
        return "".index("x")  # wrong index

    with pytest.raises(pytest.fail.Exception) as failure:
        refused(call, SourceNotFound, what="fetching")
    told = str(failure.value)
    assert told.startswith("fetching: ValueError (substring not found) was raised where SourceNotFound is due")
    assert told.endswith(f"[test_finding.py:{line_of('wrong index')}]")
    assert failure.value.__suppress_context__, "pytest would show the ValueError's text, and then this one"


def test_the_line_is_the_callers_if_pythons_own_library_raises(tmp_path):
    with pytest.raises(FileNotFoundError) as failure:
        (tmp_path / "absent").read_text()  # no such file
    assert place_of(failure.value) == f"test_finding.py:{line_of('no such file')}"


def test_an_error_that_was_never_raised_comes_from_nowhere():
    assert place_of(PluginError("x")) == "nowhere"
