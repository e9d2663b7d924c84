"""What is read from /proc and from records, whatever it holds."""

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilot_core import ExecutorError, PayloadSpec, SystemClock
from pilot_core.supervision.procfs import ProcessId, ProcessStat, children, descendants, parse_stat, read_stat
from pilot_core.supervision.records import (
    ControlDirectory,
    Ended,
    Started,
    read_ended,
    read_started,
)
from pilot_core.supervision.wire import Order

ANY = Path("/x")
ENDED = Ended(
    complete=True,
    exit_code=3,
    signal=None,
    started=1.5,
    ended=2.5,
    user_seconds=0.1,
    system_seconds=0.2,
    max_rss_kb=5,
    read_blocks=6,
    written_blocks=7,
    leftovers=8,
    error="",
    extra={"errno": 2},
)


@given(st.binary(min_size=1, max_size=15), st.integers(1, 2**22), st.integers(0, 2**22), st.integers(0, 2**63))
def test_a_programs_name_does_not_confuse_the_reading_of_stat(name, pid, parent, start):
    fields = [b"S", b"%d" % parent, *([b"7"] * 17), b"%d" % start, *([b"9"] * 30)]
    text = b"%d (%s) %s\n" % (pid, name, b" ".join(fields))
    assert parse_stat(text) == ProcessStat(pid, "S", parent, start)


@given(st.binary(max_size=300))
def test_what_is_no_stat_file_is_a_value_error(text):
    try:
        parse_stat(text)
    except ValueError:
        return
    assert text.count(b" ") >= 20


def test_a_process_knows_its_children_and_all_that_descends_from_it():
    own = read_stat(os.getpid())
    assert own.parent == os.getppid()
    assert own.lives
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(writing)
        os.read(reading, 1)
        os._exit(0)
    assert child in children()
    assert child in [process.pid for process in descendants(os.getpid())]
    assert child in [process.pid for process in descendants(os.getppid())]
    os.close(writing)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    assert not read_stat(child).lives
    os.waitpid(child, 0)
    assert read_stat(child) is None
    os.close(reading)


def test_records_come_back_as_they_were_written(tmp_path):

    directory = ControlDirectory(tmp_path)
    assert read_started(tmp_path) is None
    assert read_ended(tmp_path) is None
    directory.claim()
    started = Started(job_id=1, payload=ProcessId(2, 3), supervisor=ProcessId(4, 5), boot_id="b", wall=6.5)
    directory.write_started(started)
    assert read_started(tmp_path) == started
    first = Ended(**{**vars(ENDED), "complete": False})
    directory.write_ended(first)
    assert read_ended(tmp_path) == first
    directory.write_ended(ENDED)
    assert read_ended(tmp_path) == ENDED
    assert read_ended(tmp_path).result().leftovers == 8


@pytest.mark.parametrize(
    "text", [b"", b"{", b"[]", b"null", b"\xff", b'{"version": 1}', b'{"version": 2}', b"\0" * 4096]
)
def test_a_damaged_record_is_one_clear_error(tmp_path, text):
    for name, read in (("started.json", read_started), ("ended.json", read_ended)):
        (tmp_path / name).write_bytes(text)
        with pytest.raises(ExecutorError, match=rf"{name}: [^\n]+$"):
            read(tmp_path)


def test_a_record_of_a_later_layout_is_refused(tmp_path):
    (tmp_path / "ended.json").write_text(json.dumps({**vars(ENDED), "version": 2}))
    with pytest.raises(ExecutorError, match="not a record of layout 1"):
        read_ended(tmp_path)


# what Python makes of the bytes of a file name, an argument or a variable
TEXT = st.binary(max_size=50).map(os.fsdecode)


@given(st.lists(TEXT, max_size=5), st.dictionaries(TEXT, TEXT, max_size=5), st.floats(0, 1e6))
def test_orders_carry_any_bytes(argv, environment, grace):

    here = Path("/x")
    spec = PayloadSpec(
        job_id=1,
        argv=tuple(argv),
        cwd=here,
        environment=environment,
        stdout=here,
        stderr=here,
        control_dir=here,
        kill_grace=grace,
    )
    text = Order(spec, SystemClock()).to_bytes()
    assert b"\n" not in text
    assert Order.from_bytes(text).spec == spec


def test_a_clock_goes_on_in_another_process():
    clock = SystemClock(scale=1000.0, wall_step=-5.0)
    other = Order.from_bytes(
        Order(
            PayloadSpec(job_id=1, argv=(), cwd=ANY, environment={}, stdout=ANY, stderr=ANY, control_dir=ANY), clock
        ).to_bytes()
    ).clock
    assert other.state() == clock.state()
    assert clock.monotonic() <= other.monotonic() <= clock.monotonic()
    assert clock.wall() <= other.wall() <= clock.wall()
