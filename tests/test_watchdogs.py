"""The rules of the built-in watchdogs: whose limit counts, and what is told."""

from __future__ import annotations

import logging
import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilot_core import Context, Job, PayloadHandle, PilotErrorCode, Queue, Watched
from pilot_core.api.disk_use import DiskUse
from pilot_core.api.processes import ProcessInfo, ProcessTree
from pilot_core.api.queue import as_number
from pilot_core.builtin.watchdogs import activity, disk, memory_use, settings, times
from pilot_core.builtin.watchdogs.limits import MB, disk_share, grace, memory_share
from pilot_core.builtin.watchdogs.telling import MOST_JOBS, Trend, size, sizes, span
from pilot_core.testing import FakeClock

CONTEXT = Context(clock=FakeClock(), log=logging.getLogger("test"), work_dir=Path("/"))
HANDLE = PayloadHandle(executor="test", version=1, data={})


def watched(*, job=None, used_mb=0, cpu=0.0, files=None, now=0.0, pilot_started=None, processes=1, **queue):
    """Return what a watchdog is shown, with measurements as the test wants them."""
    made = Watched(
        job=Job(id=1, **(job or {})),
        handle=HANDLE,
        job_dir=Path("/nowhere"),
        started=1000.0,
        now=1000.0 + now,
        queue=Queue(name="Q", **queue),
        pilot_started=pilot_started,
    )
    each = ProcessInfo(1, 1, 0, "S", "sh", cpu / processes, 0.0, 1, used_mb * 1024 // processes)
    tree = ProcessTree(each._replace(cpu_seconds=0.0), (each,) * processes)
    made.__dict__["processes"] = SimpleNamespace(
        below=tree.below, cpu_seconds=tree.cpu_seconds, rss_kb=tree.rss_kb, pss_kb=lambda: tree.rss_kb
    )
    made.__dict__["disk_use"] = files or DiskUse(used_mb * MB, 1, 0.0)
    return made


def first(dog, *sights):
    """Return what a watchdog finds at the last of some looks."""
    return [dog.check(sight) for sight in sights][-1]


# -- memory ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("job", "queue", "limit_mb"),
    [
        ({}, {}, 2 * 4001),
        ({"core_count": 8}, {}, 2 * 8 * 4001),
        ({"memory_mb": 1500}, {}, 2 * 2000),
        ({"memory_mb": 2000}, {}, 2 * 2000),
        ({"memory_mb": 1500}, {"max_memory_mb": 3000}, 2 * 3000),
        ({"memory_mb": 1500}, {"max_memory_mb": 3000, "extra": {"params": {"pilot_rss_grace": 50}}}, 1.5 * 3000),
        ({"memory_mb": 1500}, {"max_memory_mb": 3000, "extra": {"params": {"pilot_rss_grace": "0"}}}, 3000),
        ({"core_count": 1}, {"max_memory_mb": 16000, "extra": {"corecount": 8}}, 2 * 2000),
        ({"core_count": 8}, {"max_memory_mb": 16000, "extra": {"corecount": 8}}, 2 * 16000),
        (
            {"core_count": 2},
            {"max_memory_mb": 2000, "extra": {"corecount": 8, "catchall": "x,per_core_attr"}},
            2 * 4000,
        ),
    ],
)
def test_whose_memory_limit_counts(job, queue, limit_mb):
    dog = memory_use.Memory(settings.MemorySettings(), CONTEXT)
    assert dog.check(watched(job=job, used_mb=int(limit_mb), **queue)) is None
    found = dog.check(watched(job=job, used_mb=int(limit_mb) + 1, **queue))
    assert found.error_code == PilotErrorCode.PAYLOADEXCEEDMAXMEM


def test_no_memory_limit_is_none():
    dog = memory_use.Memory(settings.MemorySettings(per_core_mb=0), CONTEXT)
    assert dog.check(watched(used_mb=10**6)) is None


def test_value_limit_and_trend_are_told():
    dog = memory_use.Memory(settings.MemorySettings(limit_mb=4096), CONTEXT)
    found = first(dog, watched(used_mb=4000), watched(used_mb=4120, now=60), watched(used_mb=4300, now=120))
    assert found.message == "memory 4.2 GB of 4.0 GB (limit_mb), growing 150 MB/min"


def test_shared_memory_is_looked_into_only_beyond_the_limit():
    dog = memory_use.Memory(settings.MemorySettings(limit_mb=100), CONTEXT)
    asked = []
    sight = watched(used_mb=99)
    sight.processes.pss_kb = lambda: asked.append(1) or 0
    assert dog.check(sight) is None
    assert not asked
    sight = watched(used_mb=300)
    sight.processes.pss_kb = lambda: asked.append(1) or 90 * 1024
    assert dog.check(sight) is None
    assert asked == [1]


# -- time --------------------------------------------------------------------------------------------------------------


def test_the_pilots_own_time_ends_before_the_slots():
    dog = times.WallTime(settings.WallTimeSettings(), CONTEXT)
    queue = {"extra": {"maxtime": 86400}}
    # the pilot began 10 000 s before this payload
    assert dog.check(watched(now=86400 - 180 - 10_000, pilot_started=-9000.0, **queue)) is None
    found = dog.check(watched(now=86400 - 180 - 9_999, pilot_started=-9000.0, **queue))
    assert found.error_code == PilotErrorCode.REACHEDMAXTIME
    assert found.message == "wall time 86221.0 s of 86220 s (the queue's maxtime, from the pilot's start)"
    # a payload that began when the time was over is not judged by it
    assert dog.check(watched(now=10**6, pilot_started=1000.0 - 86400, **queue)) is None


def test_where_nobody_says_it_is_ninety_hours():
    dog = times.WallTime(settings.WallTimeSettings(), CONTEXT)
    assert dog.check(watched(now=324_000 - 180)) is None
    assert "slot_seconds" in dog.check(watched(now=324_000 - 179)).message


def test_the_jobs_limit_may_be_set_aside():
    job = {"max_wall_seconds": 100}
    assert times.WallTime(settings.WallTimeSettings(), CONTEXT).check(watched(job=job, now=101))
    assert not times.WallTime(settings.WallTimeSettings(job_limit=False), CONTEXT).check(watched(job=job, now=101))
    graceful = times.WallTime(settings.WallTimeSettings(grace_percent=10.0), CONTEXT)
    assert not graceful.check(watched(job=job, now=110))
    assert graceful.check(watched(job=job, now=111))


def test_cpu_time_counts_each_core():
    dog = times.CpuTime(settings.CpuTimeSettings(), CONTEXT)
    job = {"max_cpu_seconds": 1000, "core_count": 4}
    assert dog.check(watched(job=job, cpu=8000.0)) is None
    found = dog.check(watched(job=job, cpu=8001.0))
    assert found.error_code == PilotErrorCode.SIGXCPU
    assert "CPU time 8001.00 s of 8000 s" in found.message
    assert dog.check(watched(cpu=1e9)) is None, "a job that says nothing has no limit"


# -- disk --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("job", "queue", "limit_mb"),
    [
        ({}, {}, None),
        ({"disk_mb": 1000}, {}, 1200),
        ({"disk_mb": 1000}, {"max_disk_mb": 2000}, 2400),
        ({"disk_mb": 1000}, {"max_disk_mb": 2000, "extra": {"params": {"pilot_maxwdir_grace": 50}}}, 3000),
        ({"core_count": 1}, {"max_disk_mb": 8000, "extra": {"corecount": 8}}, 1200),
        ({"core_count": 4}, {"max_disk_mb": 8000, "extra": {"corecount": 8}}, 9600),
    ],
)
def test_whose_limit_of_the_job_directory_counts(job, queue, limit_mb):
    dog = disk.WorkDir(settings.WorkDirSettings(), CONTEXT)
    if limit_mb is None:
        assert dog.check(watched(job=job, used_mb=10**7, **queue)) is None
        return
    assert dog.check(watched(job=job, used_mb=limit_mb, **queue)) is None
    assert dog.check(watched(job=job, used_mb=limit_mb + 1, **queue)).error_code == PilotErrorCode.USERDIRTOOLARGE


def test_a_pseudo_file_system_says_nothing_of_free_space():
    dog = disk.DiskSpace(settings.DiskSpaceSettings(), CONTEXT)
    assert dog.check(replace(watched(), job_dir=Path("/proc"))) is None


# -- activity ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def looping():
    return activity.Looping(settings.LoopingSettings(), CONTEXT)


def test_silence_is_counted_from_the_last_sign_of_life(looping):
    same = DiskUse(1, 1, 5.0)
    assert first(looping, watched(files=same), watched(files=DiskUse(1, 1, 6.0), now=900)) is None
    assert looping.check(watched(files=DiskUse(1, 1, 6.0), now=900 + 7200)) is None
    found = looping.check(watched(files=DiskUse(1, 1, 6.0), now=900 + 7201))
    assert found.error_code == PilotErrorCode.LOOPINGJOB
    assert "nothing done for 7201 s of 7200 s" in found.message


def test_a_payload_that_calculates_is_no_looping_job(looping):
    sights = [watched(cpu=hour * 40.0, now=hour * 3600.0) for hour in range(10)]
    assert [looping.check(sight) for sight in sights] == [None] * 10


def test_one_that_hardly_does_is(looping):
    sights = [watched(cpu=hour * 30.0, now=hour * 3600.0) for hour in range(4)]
    assert [looping.check(sight) is None for sight in sights] == [True, True, True, False]


def test_a_job_may_forbid_it(looping):
    sights = [watched(job={"looping_check": False}, now=hour * 3600.0) for hour in range(4)]
    assert [looping.check(sight) for sight in sights] == [None] * 4


# -- what queues say ---------------------------------------------------------------------------------------------------


@given(st.one_of(st.none(), st.text(), st.integers(), st.floats(), st.booleans(), st.lists(st.integers())))
def test_whatever_a_queue_says_is_a_number_or_none(value):
    found = as_number(value)
    assert 0 <= found < float("inf")


@given(st.dictionaries(st.sampled_from(["params", "corecount", "catchall", "maxtime"]), st.text() | st.integers()))
def test_whatever_a_queue_says_gives_a_limit(extra):
    queue, job = Queue(name="Q", max_memory_mb=10, max_disk_mb=10, extra=extra), Job(id=1)
    assert memory_share(queue, job) > 0
    assert disk_share(queue, job) > 0
    assert grace(queue, "pilot_rss_grace", 100.0) == 2.0


# -- words -------------------------------------------------------------------------------------------------------------


@given(st.floats(min_value=0, max_value=1e18), st.floats(min_value=1, max_value=1e18))
def test_value_and_limit_can_be_told_apart(value, limit):
    text = sizes(value, limit)
    first_number, second_number = text.split(" of ")
    if abs(value - limit) > limit * 1e-5 and abs(value - limit) > 1:
        assert first_number != second_number


@pytest.mark.parametrize(
    ("bytes_", "text"),
    [(0, "0 bytes"), (1023, "1023 bytes"), (1536, "1.5 kB"), (150 * MB, "150 MB"), (MB << 12, "4.0 GB")],
)
def test_sizes_are_short(bytes_, text):
    assert size(bytes_) == text


@pytest.mark.parametrize(("seconds", "text"), [(90, "90 s"), (1800, "30 min"), (9000, "2 h 30 min")])
def test_times_are_short(seconds, text):
    assert span(seconds) == text


def test_old_jobs_are_forgotten():
    trend = Trend()
    for number_ in range(3 * MOST_JOBS):
        trend.seen(replace(watched(), job=Job(id=number_)), 1.0)
    assert len(trend._samples._kept) == MOST_JOBS


# -- measuring ---------------------------------------------------------------------------------------------------------


def test_a_process_tree_knows_its_own(tmp_path):
    me = os.getpid()
    fields = Path(f"/proc/{me}/stat").read_text().rpartition(")")[2].split()
    tree = ProcessTree.of(me, int(fields[19]))
    assert tree.root.pid == me
    assert tree.root.name == Path(f"/proc/{me}/comm").read_text().rstrip("\n")
    assert ProcessTree.of(me, int(fields[19]) + 1) == ProcessTree(None), "another process's number"


def test_disk_use_is_what_the_disk_gives(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "file").write_bytes(b"x" * 100_000)
    os.link(tmp_path / "a" / "file", tmp_path / "again")
    (tmp_path / "link").symlink_to("/")
    found = DiskUse.of(tmp_path)
    assert 100_000 <= found.size < 120_000
    assert found.files == 2
    assert found.newest == (tmp_path / "again").stat().st_mtime
    assert DiskUse.of(tmp_path / "gone") == DiskUse()
