"""The journal: lines in a file, some of them on disk before anything else happens."""

from __future__ import annotations

import errno
import json
import os
import stat
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilot_core import JobState
from pilot_core.journal import DURABLE, FileJournal, Journal, SteadyJournal
from pilot_core.testing.clock import FakeClock


def lines(file):
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


@pytest.fixture
def file(tmp_path):
    return tmp_path / "journal.jsonl"


def test_steps_are_lines_in_their_order_with_time_and_details(file):
    clock = FakeClock(wall=1_700_000_000.25)
    journal = FileJournal(file, clock)
    journal.record("acquired", panda_id=7, attempt=None)
    clock.advance(1.5)
    journal.record("state", old=JobState.ACQUIRED, new=JobState.STAGE_IN)
    journal.close()
    assert lines(file) == [
        {"at": 1_700_000_000.25, "step": "acquired", "panda_id": 7, "attempt": None},
        {"at": 1_700_000_001.75, "step": "state", "old": "acquired", "new": "stage-in"},
    ]


def test_the_file_is_for_its_owner_only_and_goes_on_where_it_ended(file):
    for number in range(2):
        journal = FileJournal(file, FakeClock())
        journal.record("state", number=number)
        journal.close()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [line["number"] for line in lines(file)] == [0, 1]


def test_a_line_is_in_the_file_when_record_returns(file):
    """Handed to the kernel: a pilot that is killed right after it leaves the line."""
    code = (
        "import os, sys, pathlib, signal\n"
        "from pilot_core.journal import FileJournal\n"
        "from pilot_core import SystemClock\n"
        "journal = FileJournal(pathlib.Path(sys.argv[1]), SystemClock())\n"
        "journal.record('state', new='start')\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    subprocess.run([sys.executable, "-c", code, file], check=False)
    assert [line["step"] for line in lines(file)] == ["state"]


@pytest.mark.parametrize("step", ["state", *sorted(DURABLE)])
def test_durable_steps_are_synced_and_others_are_not(tmp_path, step):
    """A pipe takes lines but cannot be synced (EINVAL): whether that is asked for shows in the error."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    journal = FileJournal(pipe, FakeClock())
    try:
        if step in DURABLE:
            with pytest.raises(OSError, match="Invalid argument") as caught:
                journal.record(step)
            assert caught.value.errno == errno.EINVAL
        else:
            journal.record(step)
        assert json.loads(os.read(reader, 1000))["step"] == step
    finally:
        journal.close()
        os.close(reader)


def test_the_children_of_the_pilot_do_not_get_the_file(file):
    journal = FileJournal(file, FakeClock())
    assert not os.get_inheritable(journal._descriptor)
    journal.close()


def test_a_link_in_the_journals_place_is_not_followed(file, tmp_path):
    file.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic links"):
        FileJournal(file, FakeClock())
    assert not (tmp_path / "elsewhere").exists()


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.lists(st.dictionaries(st.sampled_from(["a", "b", "lfn"]), json_values, max_size=3), max_size=4))
def test_whatever_is_recorded_is_read_back_one_line_each(tmp_path_factory, steps):
    file = tmp_path_factory.mktemp("journal") / "j"
    journal = FileJournal(file, FakeClock())
    for details in steps:
        journal.record("state", **details)
    journal.close()
    data = file.read_bytes()
    assert data.count(b"\n") == len(steps)
    read = [json.loads(line) for line in data.splitlines()]
    assert [{name: line[name] for name in line if name not in {"at", "step"}} for line in read] == steps


def test_a_closed_journal_takes_nothing_and_may_be_closed_again(file):
    journal = FileJournal(file, FakeClock())
    journal.close()
    journal.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        journal.record("state")


def test_a_full_disk_is_an_error_of_the_plain_journal():
    journal = FileJournal("/dev/full", FakeClock())
    with pytest.raises(OSError, match="No space left on device"):
        journal.record("state")
    journal.close()


def test_a_line_that_did_not_fit_leaves_those_before_it_whole(file):
    """The limit of a file's size lets half a line through, as a disk does that becomes full."""
    code = (
        "import pathlib, resource, sys\n"
        "from pilot_core.journal import FileJournal\n"
        "from pilot_core.testing.clock import FakeClock\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))\n"
        "journal = FileJournal(pathlib.Path(sys.argv[1]), FakeClock())\n"
        "journal.record('state', new='start')\n"
        "try: journal.record('state', new='x' * 1000)\n"
        "except OSError as error: print(error.strerror)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, file], capture_output=True, text=True, check=True)
    assert done.stdout == "File too large\n"
    first, torn = file.read_bytes().split(b"\n")
    assert json.loads(first)["new"] == "start"
    assert len(first) + 1 + len(torn) == 100


# -- the steady journal ------------------------------------------------------------------------------------------------


def test_a_steady_journal_records_once_it_has_begun(file):
    failures = []
    journal = SteadyJournal(failures.append)
    journal.record("lost")
    journal.begin(FileJournal(file, FakeClock()))
    journal.record("kept")
    journal.close()
    journal.record("too late")
    journal.close()
    assert [line["step"] for line in lines(file)] == ["kept"]
    assert failures == []


def test_a_steady_journal_tells_of_a_full_disk_once_and_goes_on():
    failures = []
    journal = SteadyJournal(failures.append)
    inner = FileJournal("/dev/full", FakeClock())
    journal.begin(inner)
    for _ in range(3):
        journal.record("state")
    assert [error.errno for error in failures] == [errno.ENOSPC]
    assert inner._descriptor == -1
    journal.close()


def test_what_reacts_to_the_failure_may_record_again():
    """The job's state changes because of it, which wants to be recorded too."""
    failures = []

    def failed(error):
        failures.append(error)
        journal.record("state")

    journal = SteadyJournal(failed)
    journal.begin(FileJournal("/dev/full", FakeClock()))
    journal.record("acquired")
    assert len(failures) == 1


def test_both_are_journals(file):
    def records(journal: Journal):
        journal.record("state")
        journal.close()

    records(FileJournal(file, FakeClock()))
    records(SteadyJournal(lambda _: None))
