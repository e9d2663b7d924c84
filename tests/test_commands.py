"""What a server may ask to see of a job, and what it is told of what it may not."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pilot_core import CancelToken, SystemClock
from pilot_core.commands import PATIENCE, Commands, Whereabouts
from pilot_core.diagnostics import LONGEST, VERBS, Refused, answer, verb_of
from pilot_core.logs import job_logger
from pilot_core.testing import FakeClock

OUTSIDE = "the-file-outside"


@pytest.fixture
def job_dir(tmp_path):
    """A payload's directory with much to trip over, and something beside it that nobody may see."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / OUTSIDE).write_text(f"content of {OUTSIDE}\n")
    folder = tmp_path / "payload"
    (folder / "sub" / "deep").mkdir(parents=True)
    (folder / "payload.stdout").write_text("".join(f"line {number}\n" for number in range(100)))
    (folder / "sub" / "odd\n\x1b[31mname").write_bytes(b"\0\xff\x1b[2J")
    (folder / "sub" / "out").symlink_to(tmp_path / "outside")
    (folder / "out").symlink_to(tmp_path / "outside")
    (folder / "file-out").symlink_to(tmp_path / "outside" / OUTSIDE)
    (folder / "loop").symlink_to("loop")
    os.link(tmp_path / "outside" / OUTSIDE, folder / "hard")
    os.mkfifo(folder / "pipe")
    (folder / "panda_secrets.json").write_text(f'{{"secret": "{OUTSIDE}"}}')
    return folder


def shown(command, job_dir):
    """Return what a command shows, or why it is refused."""
    try:
        return answer(command, job_dir, None)
    except Refused as error:
        return str(error)


PIECES = st.sampled_from(
    [
        *("..", ".", "/", "//", "sub", "out", "file-out", "hard", "pipe", "loop", "deep", OUTSIDE, "outside", "*", "~"),
        *("$HOME", "`id`", "$(id)", ";", "|", "&&", "\0", "\n", "'", '"', "\\", "-n", "-R", "-9", "5", "/etc/passwd"),
        *("/proc/self/environ", "panda_secrets.json", "payload.stdout", " ", "\ud800", "é", "x" * 300),
    ]
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=400)
@given(st.sampled_from([*VERBS, "cat", "sh"]), st.lists(PIECES, max_size=6), st.sampled_from([" ", "/", ""]))
def test_whatever_is_asked_nothing_from_outside_is_shown(job_dir, verb, pieces, joint):
    text = shown(f"{verb} {joint.join(pieces)}", job_dir)
    assert f"content of {OUTSIDE}" not in text
    assert f'"secret": "{OUTSIDE}"' not in text
    assert "root:" not in text
    assert len(text) <= max(LONGEST, 400)


def test_tail_shows_the_last_lines(job_dir):
    assert answer("tail", job_dir, None).splitlines() == [f"line {number}" for number in range(80, 100)]
    assert answer("tail -n 2 payload.stdout", job_dir, None) == "line 98\nline 99"
    assert answer("tail -n2 ./payload.stdout", job_dir, None) == "line 98\nline 99"
    assert answer(f"tail -1 {job_dir}/payload.stdout", job_dir, None) == "line 99"
    assert answer("tail -0", job_dir, None) == ""


def test_what_changes_a_terminal_or_breaks_a_database_is_not_in_an_answer(job_dir):
    text = answer("ls -la sub", job_dir, None)
    assert "odd" in text
    (job_dir / "binary").write_bytes(b"\0\xff\x1b[2J\nend")
    text += answer("tail binary", job_dir, None)
    assert text.endswith("end")
    assert all(char.isprintable() or char == "\n" for char in text)


def test_a_long_list_is_cut_and_says_so(job_dir):
    for number in range(500):
        (job_dir / "sub" / "deep" / f"file-{number}").touch()
    for command in ("ls sub/deep", "du sub/deep"):
        text = answer(command, job_dir, None)
        assert len(text) <= LONGEST
        assert "more lines" in text.splitlines()[-1]


def test_du_counts_what_lies_below_and_follows_no_link(job_dir):
    (job_dir / "sub" / "deep" / "large").write_bytes(b"x" * 500_000)
    first, *rest = answer("du -s", job_dir, None).splitlines()
    assert 480 <= int(first.split()[0]) <= 600
    assert rest[0].endswith("sub")


@pytest.mark.parametrize("word", ["", "  ", "tailx", "rm", "/bin/ls", "ls;"])
def test_what_begins_with_no_verb_has_none(word):
    assert verb_of(word) == ""


# -- the commands ------------------------------------------------------------------------------------------------------


@pytest.fixture
def commands(job_dir, caplog):
    caplog.set_level("INFO")

    def make(*, debug=False, clock=None, clean=str, folder=job_dir):
        return Commands(
            clock=clock or SystemClock(),
            log=job_logger(7, "job"),
            clean=clean,
            where=Whereabouts(folder),
            soft=CancelToken(),
            debug=debug,
        )

    return make


def test_nothing_is_asked_nothing_is_shown(commands):
    one = commands()
    for words in ((), ("NULL",), ("",), ("tobekilled",), ("alreadydone",)):
        assert not one.heard(words)
        assert not one.watched
        assert one.text() == ""


def test_debug_lasts_as_long_as_the_server_says_so(commands):
    one = commands()
    assert one.heard(["debug"])
    assert not one.heard(["debug"]), "it was told before"
    assert one.watched
    assert one.text().endswith("line 99")
    assert not one.heard([])
    assert not one.watched
    one.heard(["debug", "debugoff"])
    assert not one.watched


def test_a_job_that_is_in_debug_mode_is_shown_from_the_start(commands, tmp_path):
    assert commands(debug=True).text().endswith("line 99")
    assert commands(debug=True, folder=None).text() == "the job has no directory yet"
    (tmp_path / "empty").mkdir()
    assert commands(debug=True, folder=tmp_path / "empty").text() == ""


def test_another_verb_is_news(commands):
    one = commands()
    assert one.heard(["debug", "tail -1"])
    assert one.text() == "line 99"
    assert not one.heard(["debug", "tail -1"])
    assert one.heard(["debug", "tail -2"])
    assert one.text() == "line 98\nline 99"


def test_what_is_refused_is_told_once(commands, caplog):
    one = commands()
    assert one.heard(["rm -rf ."])
    assert "pilot-core refuses 'rm -rf .'" in one.text()
    assert not one.heard(["rm -rf ."])
    assert one.text() == ""
    assert len([record for record in caplog.records if record.levelname == "WARNING"]) == 1


def test_softkill_is_passed_on(commands):
    one = commands()
    assert not one.heard(["softkill"])
    assert one._soft.reason == "the server wants the payload to come to its end (softkill)"


def test_secrets_are_taken_out(commands):
    one = commands(clean=lambda text: text.replace("line 99", "***"))
    one.heard(["debug"])
    assert one.text().endswith("***")


def test_a_directory_that_does_not_answer_keeps_no_heartbeat(commands, monkeypatch):
    """A file system that hangs, played by a look that waits: the next look is not even begun."""
    free, looks = threading.Event(), []

    class Stuck(Commands):
        def _shown(self, request, folder, process):
            looks.append(request)
            free.wait()
            return "at last"

    clock = FakeClock()
    one = commands(clock=clock)
    one.__class__ = Stuck
    one.heard(["debug"])
    before = clock.monotonic()
    assert "has not answered within 10 s" in one.text()
    assert clock.monotonic() - before == PATIENCE
    assert "still does not answer" in one.text()
    assert len(looks) == 1
    free.set()
    for thread in [thread for thread in threading.enumerate() if thread.name == "diagnostics"]:
        thread.join()
    one._clock = SystemClock()
    assert one.text() == "at last"


def test_a_job_without_a_directory_says_so(commands):
    one = commands(folder=Path("/nowhere/at/all"))
    one.heard(["ls"])
    assert "No such file or directory" in one.text()
