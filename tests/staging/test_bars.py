"""Bars on a terminal: what they show, that the log scrolls by above them, and that elsewhere there are none."""

from __future__ import annotations

import io
import re

import pytest

from pilot_core import StagingProgress, TransferProgress
from pilot_core.cli.bars import Bars, shown_progress
from pilot_core.logs import Redactor, set_up_logging
from pilot_core.testing.clock import FakeClock


class Terminal(io.StringIO):
    """A terminal, as far as a program can tell."""

    def isatty(self):
        return True

    def shown(self):
        """Return everything that was written, without colours and the cursor's movements, and forget it."""
        text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.getvalue())
        self.seek(0)
        self.truncate()
        return text


@pytest.fixture
def terminal(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    return Terminal()


def progress_of(*under_way, job_id=1, done=1, ended=False, size=5_000_000):
    return StagingProgress(
        job_id=job_id,
        activity="read",
        files=3,
        files_done=done,
        bytes=2_000_000,
        size=size,
        seconds=2.0,
        under_way=under_way,
        ended=ended,
    )


def transfer_of(lfn="data.root", moved=1_000_000, size=4_000_000):
    return TransferProgress(lfn=lfn, backend="http", rse="A", bytes=moved, size=size, seconds=0.5)


def test_bars_show_the_whole_and_each_file_under_way(terminal):
    bars = Bars(terminal, FakeClock())
    bars.hear(progress_of(transfer_of()))
    *_, whole, file = terminal.shown().splitlines()
    assert re.search(r"stage-in +.*2.0/5.0 MB +1 MB/s +1 of 3 files", whole)
    assert re.search(r"data.root +.*1.0/4.0 MB +2 MB/s +http", file)
    bars.hear(progress_of(transfer_of("other.root"), done=2))
    text = terminal.shown()
    assert "other.root" in text
    assert "data.root" not in text.rpartition("stage-in")[2]
    bars.stop()


def test_a_size_that_nobody_knows_is_no_number(terminal):
    bars = Bars(terminal, FakeClock())
    bars.hear(progress_of(transfer_of(size=None), size=None))
    *_, whole, file = terminal.shown().splitlines()
    assert "2.0/? MB" in whole
    assert "1.0/? MB" in file
    bars.hear(progress_of(transfer_of(), size=None))
    assert "1.0/4.0 MB" in terminal.shown().splitlines()[-1]
    bars.stop()


def test_the_log_scrolls_by_above_the_bars(terminal):
    clock = FakeClock()
    with shown_progress(terminal, clock) as (stream, hear):
        log = set_up_logging(stream, "info", clock, Redactor())
        log.info("before")
        hear(progress_of(transfer_of()))
        terminal.shown()
        log.info("in the midst of [it]")
        text = terminal.shown()
        assert text.index("in the midst of [it]") < text.index("stage-in")
        hear(progress_of(done=3, ended=True))
        terminal.shown()
        log.info("after")
        assert "stage-in" not in terminal.shown()


def test_what_is_over_at_once_is_not_shown(terminal):
    bars = Bars(terminal, FakeClock())
    bars.hear(progress_of(done=3, ended=True))
    assert terminal.shown() == ""


def test_the_bars_of_one_job_stay_when_another_has_ended(terminal):
    bars = Bars(terminal, FakeClock())
    for job_id in (1, 2):
        bars.hear(progress_of(transfer_of(f"job-{job_id}.root"), job_id=job_id))
    bars.hear(progress_of(done=3, ended=True, job_id=1))
    terminal.shown()
    bars.hear(progress_of(transfer_of("job-2.root"), job_id=2))
    text = terminal.shown()
    assert "job-2.root" in text
    assert "job-1.root" not in text
    bars.stop()


def test_a_name_moves_no_cursor_and_takes_no_more_room_than_there_is(terminal):
    bars = Bars(terminal, FakeClock())
    bars.hear(progress_of(transfer_of("\x1b[2J" + "x" * 100 + ".root", size=None), size=None))
    assert f"...{'x' * 24}.root" in terminal.shown()
    assert "[2J" not in terminal.getvalue()
    bars.stop()


def test_where_there_is_no_terminal_there_are_no_bars():
    stream = io.StringIO()
    with shown_progress(stream, FakeClock()) as (log, hear):
        assert log is stream
        assert hear is None
