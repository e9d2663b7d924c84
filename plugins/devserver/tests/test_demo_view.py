"""What the demo shows on a real terminal."""

import os
import pty
import threading
from contextlib import suppress
from dataclasses import replace

from pilot_devserver.cli.demo_view import PlainView, TerminalView, stdout_view, tables
from pilot_devserver.demo.jobs import demo_jobs
from pilot_devserver.demo.verify import FileResult, JobResult

CHANGE = {"id": 7, "name": "dimuon-mass", "status": "running", "history": [[10.0, "activated"], [10.5, "running"]]}
RESULT = JobResult(
    name="dimuon-mass",
    about="",
    id=7,
    status="finished",
    expected="finished",
    phases={"payload": 0.25},
    files=[FileResult("out.csv", "output", 3, "00000001", "/x", "")],
)


def on_terminal(show):
    """Return what a function writes to a terminal."""
    ours, theirs = pty.openpty()
    written = []

    def read():
        # a terminal's end is an error (EIO), and what was written comes in any number of pieces
        with suppress(OSError):
            while piece := os.read(ours, 65536):
                written.append(piece)

    reader = threading.Thread(target=read)
    reader.start()
    with os.fdopen(theirs, "w", encoding="utf-8") as stream:
        show(stream)
    reader.join()
    os.close(ours)
    return b"".join(written).decode()


def test_a_terminal_gets_a_table_that_is_kept_up_to_date(monkeypatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv("NO_COLOR", raising=False)

    def show(stream):
        view = stdout_view(demo_jobs(), stream)
        assert isinstance(view, TerminalView)
        with view:
            view.say("pilot-core [run]")
            view.update(CHANGE)
            view.update({**CHANGE, "status": "finished"})

    written = on_terminal(show)
    assert "pilot-core [run]" in written
    assert "masses of muon pairs in LHC collisions" in written
    assert "\x1b[33mrunning" in written
    assert "\x1b[32mfinished" in written


def test_a_terminal_that_cannot_move_its_cursor_gets_lines(monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    written = on_terminal(lambda stream: stdout_view(demo_jobs(), stream).update(CHANGE))
    assert written == "  0.000 s  job 7 dimuon-mass: activated\r\n  0.500 s  job 7 dimuon-mass: running\r\n"


def test_the_last_tables_fit_into_80_columns(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "dumb")
    result = replace(RESULT, status="failed", expected="failed")
    written = on_terminal(lambda stream: tables([result], stream))
    assert "failed (expected)" in written
    assert written.count("dimuon-mass") == 2
    assert "0.250" in written
    assert "00000001" in written


def test_a_file_gets_each_change_once(tmp_path):
    with (tmp_path / "out").open("w+") as stream:
        view = stdout_view(demo_jobs(), stream)
        assert isinstance(view, PlainView)
        with view:
            view.update({**CHANGE, "history": CHANGE["history"][:1]})
            view.update(CHANGE)
            view.update(CHANGE)
        stream.seek(0)
        lines = stream.read().splitlines()
    assert lines == ["  0.000 s  job 7 dimuon-mass: activated", "  0.500 s  job 7 dimuon-mass: running"]
