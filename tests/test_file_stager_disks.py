"""The stager `file` and disks that are full, read-only, or less able than others; and what memory it takes."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from pilot_core.api.allocation import allocate
from pilot_core.api.local_files import AHEAD, LOCAL_INPUT, OUTPUT, Partial

MB = 1 << 20

MOVE = """
import sys
from pathlib import Path
from pilot_core import CancelToken, Deadline, FetchRequest, HandledError, StoreRequest, SystemClock
from pilot_core.builtin.file_stager import FileStager
way, source, folder, size, told = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4], []
limits = {"cancel": CancelToken(), "deadline": Deadline.after(SystemClock(), 60)}
try:
    if way == "fetch":
        request = FetchRequest(
            url=source.as_uri(), destination=folder / "x", size=int(size) if size else None, progress=told.append
        )
        FileStager().fetch(request, **limits)
    else:
        request = StoreRequest(source=source, url=f"{folder.as_uri()}/x", progress=told.append)
        FileStager().store(request, **limits)
    outcome = "same" if (folder / "x").read_bytes() == source.read_bytes() else "different"
except HandledError as error:
    outcome = f"{type(error).__name__} {error.error_code.value}"
print(f"{outcome}; told {told[-1] if told else 0}; left {sorted(path.name for path in folder.iterdir())}")
"""


@pytest.fixture
def moved(tmp_path, own_mounts):
    """Move 3 MiB to a file system that is mounted for that; return what came of it."""
    source, folder = tmp_path / "source", tmp_path / "disk"
    source.write_bytes(os.urandom(3 * MB))
    folder.mkdir()

    def move(way, mount, size=""):
        shell = f'mount {mount} none "$4" && exec "$0" -c "$1" "$2" "$3" "$4" "$5"'
        command = [*own_mounts, "sh", "-c", shell, sys.executable, MOVE, way, source, folder, str(size)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode == 32:  # mount(8)
            pytest.skip(f"needs a file system that is not here: {done.stderr.strip()}")
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    return move


def test_a_full_disk_is_known_before_the_first_byte(moved):
    for size in ("", 3 * MB):
        assert moved("fetch", "-t tmpfs -o size=1m", size=size) == "NoSpace 1098; told 0; left []"
    assert moved("store", "-t tmpfs -o size=1m") == "NoSpace 1333; told 0; left []"


def test_a_disk_that_may_not_be_written_is_left_to_other_backends_and_an_error_here(moved):
    assert moved("store", "-t tmpfs -o ro") == "BackendUnavailable 1324; told 0; left []"
    assert moved("fetch", "-t tmpfs -o ro", size=3 * MB) == "TransferError 1099; told 0; left []"


@pytest.mark.parametrize("way", ["fetch", "store"])
def test_a_file_system_that_takes_no_room_ahead_is_written_all_the_same(moved, way):
    assert moved(way, "-t ramfs", size=3 * MB) == f"same; told {3 * MB}; left ['x']"


# -- room that is taken ahead ---------------------------------------------------------------------------------------


def test_a_file_that_ends_early_takes_no_more_room_than_its_bytes(tmp_path):
    with Partial(tmp_path / "x", LOCAL_INPUT, "x", durable=False) as partial:
        partial.expect(10 * MB)
        partial.write(b"x" * 100)
        assert os.fstat(partial.descriptor).st_size == 10 * MB
        partial.publish(replace=True)
    assert (tmp_path / "x").read_bytes() == b"x" * 100
    assert (tmp_path / "x").stat().st_blocks * 512 < MB


def test_a_hole_takes_back_the_room_that_was_taken_for_it(tmp_path):
    with Partial(tmp_path / "x", OUTPUT, "x", durable=True) as partial:
        partial.expect(10 * MB)
        partial.write(b"x" * 100)
        partial.skip(9 * MB)
        partial.write(b"y" * 100)
        partial.publish(replace=True)
    assert (tmp_path / "x").read_bytes() == b"x" * 100 + bytes(9 * MB) + b"y" * 100
    assert (tmp_path / "x").stat().st_blocks * 512 < MB


def test_a_file_that_begins_afresh_has_only_its_new_bytes(tmp_path):
    with Partial(tmp_path / "x", LOCAL_INPUT, "x", durable=False) as partial:
        partial.expect(10 * MB)
        partial.write(b"x" * 100)
        partial.skip(5 * MB)
        partial.empty()
        partial.write(b"y" * 10)
        partial.publish(replace=True)
    assert (tmp_path / "x").read_bytes() == b"y" * 10


def test_room_is_taken_some_way_ahead_and_never_beyond_the_end(tmp_path):
    size = 2 * AHEAD + 5 * MB
    with Partial(tmp_path / "x", LOCAL_INPUT, "x", durable=False) as partial:
        partial.expect(size)
        seen = set()
        for _ in range(size // MB):
            partial.write(bytes(MB))
            seen.add(os.fstat(partial.descriptor).st_size)
        partial.publish(replace=True)
    assert seen == {AHEAD, 2 * AHEAD, size}
    assert (tmp_path / "x").stat().st_size == size


def test_what_is_no_file_on_a_disk_has_no_room_to_take_and_a_bad_descriptor_is_an_error(tmp_path):
    reading, writing = os.pipe()
    try:
        assert not allocate(writing, 0, 10)
    finally:
        os.close(reading)
        os.close(writing)
    (tmp_path / "x").touch()
    descriptor = os.open(tmp_path / "x", os.O_RDONLY)
    try:
        with pytest.raises(OSError, match="Bad file descriptor"):
            allocate(descriptor, 0, 10)
    finally:
        os.close(descriptor)


# -- memory -----------------------------------------------------------------------------------------------------------

GROWS = """
import sys
from pathlib import Path
from pilot_core import CancelToken, Deadline, FetchRequest, StoreRequest, SystemClock
from pilot_core.builtin.file_stager import FileStager
def peak():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
def move(source, times):
    for number in range(times):
        limits = {"cancel": CancelToken(), "deadline": Deadline.after(SystemClock(), 600)}
        FileStager().fetch(FetchRequest(url=source.as_uri(), destination=folder / "in"), **limits)
        FileStager().store(StoreRequest(source=folder / "in", url=f"{folder.as_uri()}/out"), **limits)
folder = Path(sys.argv[1])
move(folder / "small", 1)
before = peak()
move(folder / "large", 1)
move(folder / "small", 100)
print(peak() - before)
"""


def test_memory_grows_neither_with_the_size_of_a_file_nor_with_their_number(tmp_path):
    (tmp_path / "small").write_bytes(bytes(64 << 10))
    with (tmp_path / "large").open("wb") as file:
        for _ in range(150):
            file.write(bytes(MB))
        file.truncate(10 * 10**9)
    done = subprocess.run([sys.executable, "-c", GROWS, tmp_path], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 16_000, f"the peak grew by {done.stdout} kB"
