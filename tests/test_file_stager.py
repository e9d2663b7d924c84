"""The stager `file`, over real files."""

import errno
import hashlib
import logging
import os
import resource
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import traceback
import zlib
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilot_core import (
    BackendUnavailable,
    Cancelled,
    CancelToken,
    ChecksumMismatch,
    ConfigError,
    Context,
    Deadline,
    FetchRequest,
    HandledError,
    SizeMismatch,
    SourceNotFound,
    StoreRequest,
    SystemClock,
    TransferError,
    TransferTimeout,
    TransientError,
)
from pilot_core.api.local_files import BLOCK, INPUT, LOCAL_INPUT, LOCAL_OUTPUT, OUTPUT, path_of, translated
from pilot_core.builtin import file_stager
from pilot_core.builtin.file_stager import FileStager, FileStagerSettings

DATA = b"some bytes\n" * 100


def limits(seconds=3600.0):
    return {"cancel": CancelToken(), "deadline": Deadline.after(SystemClock(), seconds)}


def url_of(path):
    return "file://" + quote(os.fsencode(path))


def adler(data):
    return f"adler32:{zlib.adler32(data):08x}"


def fetch(source, destination, **options):
    control = {key: options.pop(key) for key in ("cancel", "deadline") if key in options}
    request = FetchRequest(url=url_of(source), destination=destination, **options)
    return FileStager().fetch(request, **{**limits(), **control})


def store(source, target, **options):
    control = {key: options.pop(key) for key in ("cancel", "deadline") if key in options}
    request = StoreRequest(source=source, url=url_of(target), **options)
    return FileStager().store(request, **{**limits(), **control})


def as_nobody(subject):
    """Run `subject` in a child process that is no superuser; return the text it returned."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            if os.getuid() == 0:
                os.setgroups([])
                os.setgid(65534)
                os.setuid(65534)
            text = str(subject())
        except BaseException:
            text = traceback.format_exc()
        os.write(writing, text.encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as stream:
        text = stream.read()
    os.waitpid(child, 0)
    return text


def raised(call):
    """Return the name and pilot error code of what the call raises."""
    with pytest.raises(HandledError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return f"{caught.type.__name__} {caught.value.error_code:d}"


@pytest.fixture
def folder():
    """A directory that every user may enter and write."""
    path = Path(tempfile.mkdtemp(prefix="stager-"))
    path.chmod(0o777)
    yield path
    for entry in path.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            entry.chmod(0o700)
    shutil.rmtree(path)


@pytest.fixture
def source(folder):
    path = folder / "source"
    path.write_bytes(DATA)
    return path


@pytest.fixture
def target(folder):
    (folder / "in").mkdir()
    (folder / "in").chmod(0o777)
    return folder / "in" / "target"


def left_in(path):
    return sorted(entry.name for entry in path.iterdir())


# -- the way it should go -------------------------------------------------------------------------------------------


def test_the_plugin_offers_one_stager_for_both_ways():
    (reading,) = file_stager.pilot_stagein()
    (writing,) = file_stager.pilot_stageout()
    context = Context(clock=SystemClock(), log=logging.getLogger("test"), work_dir=Path())
    assert isinstance(reading.factory(FileStagerSettings(), context), FileStager)
    for provider in (reading, writing):
        assert provider.settings is FileStagerSettings
        assert (provider.name, provider.schemes) == ("file", frozenset({"file"}))
        assert provider.capabilities == {"checksum:adler32", "checksum:md5"}


@pytest.mark.parametrize("size", [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 17])
def test_bytes_size_and_checksum_are_those_of_the_file(folder, target, size):
    data = os.urandom(size)
    source = folder / "source"
    source.write_bytes(data)
    result = fetch(source, target, size=size, checksum=adler(data))
    assert target.read_bytes() == data
    assert (result.size, result.checksum, result.url) == (size, adler(data), url_of(source))
    stored = folder / "out" / "x"
    assert store(target, stored, checksum="md5").checksum == f"md5:{hashlib.md5(data).hexdigest()}"
    assert stored.read_bytes() == data
    assert left_in(target.parent) == ["target"]
    assert left_in(stored.parent) == ["x"]


def islands(path, size, *pieces):
    """Make a sparse file with pieces of data at offsets; return its adler32 by definition (RFC 1950)."""
    low, high = 1, size
    with path.open("wb") as file:
        for offset, data in pieces:
            file.seek(offset)
            file.write(data)
            low += sum(data)
            high += sum((size - offset - number) * byte for number, byte in enumerate(data))
        file.truncate(size)
    return f"adler32:{high % 65521:04x}{low % 65521:04x}"


def on_disk(path):
    """Return the bytes that a file takes on disk."""
    return path.stat().st_blocks * 512


@pytest.mark.parametrize("copy", [fetch, store])
def test_a_sparse_file_keeps_its_bytes_and_its_holes(folder, target, copy):
    source, size = folder / "source", 40 * BLOCK
    edges = (0, b"first"), (8 * BLOCK - 3, b"across"), (30 * BLOCK, os.urandom(BLOCK + 5))
    for pieces, length in ((edges, size), ((*edges, (size - 4, b"last")), size), ([], size), (edges[1:2], size + 1)):
        checksum = islands(source, length, *pieces)
        assert copy(source, target, checksum=checksum).size == length
        assert target.read_bytes() == source.read_bytes()
        assert on_disk(target) <= on_disk(source) + 128 * 1024


@pytest.mark.parametrize("copy", [fetch, store])
def test_a_sparse_file_has_its_md5(folder, target, copy):
    islands(folder / "source", 9 * BLOCK + 7, (5 * BLOCK, b"island"))
    md5 = hashlib.md5((folder / "source").read_bytes()).hexdigest()
    assert copy(folder / "source", target, checksum=f"md5:{md5}").checksum == f"md5:{md5}"


@pytest.mark.parametrize("copy", [fetch, store])
@pytest.mark.parametrize("size", [5 * 2**30 + 1, 100 * 10**9])
def test_a_huge_sparse_file_is_moved_by_its_data(folder, target, size, copy):
    source = folder / "source"
    checksum = islands(source, size, (0, b"head"), (2**32 - 2, b"over the edge"), (size - 9, b"tail"))
    seen = []
    result = copy(source, target, checksum=checksum, progress=seen.append)
    assert (result.size, result.checksum, target.stat().st_size) == (size, checksum, size)
    assert seen == sorted(seen)
    assert seen[-1] == size
    assert on_disk(target) < 1 << 20
    with target.open("rb") as file:
        assert os.pread(file.fileno(), 13, 2**32 - 2) == b"over the edge"
        assert os.pread(file.fileno(), 9, size - 9) == b"tail" + bytes(5)


def test_a_hole_beyond_what_the_catalogue_knows_is_refused(folder, target):
    islands(folder / "source", 10 * BLOCK)

    def grow(_):
        os.truncate(folder / "source", 20 * BLOCK)

    assert raised(lambda: fetch(folder / "source", target, size=9 * BLOCK)).startswith("SizeMismatch")
    assert raised(lambda: fetch(folder / "source", target, size=10 * BLOCK, progress=grow)) == "TransientError 1099"
    assert left_in(target.parent) == []


@pytest.mark.parametrize("copy", [fetch, store])
def test_a_long_hole_can_be_cancelled(folder, target, copy):
    islands(folder / "source", 10**12)
    cancel, seen = CancelToken(), []

    def stop(done):
        seen.append(done)
        cancel.cancel("enough")

    assert raised(lambda: copy(folder / "source", target, cancel=cancel, progress=stop)) == "Cancelled 1200"
    assert len(seen) == 1
    assert left_in(target.parent) == []


def test_progress_counts_up_to_the_size(folder, target):
    source = folder / "source"
    source.write_bytes(bytes(3 * BLOCK + 5))
    seen = []
    fetch(source, target, progress=seen.append)
    assert seen == [BLOCK, 2 * BLOCK, 3 * BLOCK, 3 * BLOCK + 5]


def test_copies_can_be_read_by_everybody_whatever_the_sources_mode(folder, source, target):
    source.chmod(0o600)
    fetch(source, target)
    store(source, folder / "stored")
    for copy in (target, folder / "stored"):
        assert stat.S_IMODE(copy.stat().st_mode) == 0o644


def test_store_makes_directories_and_leaves_existing_ones_alone(folder, source):
    (folder / "a").mkdir(mode=0o750)
    store(source, folder / "a" / "b" / "c" / "x")
    assert (folder / "a/b/c/x").read_bytes() == DATA
    assert stat.S_IMODE((folder / "a").stat().st_mode) == 0o750


def test_fetch_does_not_make_directories(folder, source):
    assert raised(lambda: fetch(source, folder / "none" / "x")) == "TransferError 1099"
    assert left_in(folder) == ["source"]


def test_an_older_file_is_replaced_unless_it_must_not_be(folder, source):
    old = folder / "old"
    old.write_bytes(b"old")
    assert raised(lambda: store(source, old, overwrite=False)) == "TargetExists 1137"
    assert old.read_bytes() == b"old"
    store(source, old)
    assert old.read_bytes() == DATA
    store(source, folder / "new", overwrite=False)
    assert left_in(folder) == ["new", "old", "source"]


def test_a_file_that_appears_meanwhile_is_not_replaced(folder, source):
    target = folder / "x"
    request_progress = lambda _: target.write_bytes(b"first")  # noqa: E731
    assert raised(lambda: store(source, target, overwrite=False, progress=request_progress)) == "TargetExists 1137"
    assert target.read_bytes() == b"first"
    assert left_in(folder) == ["source", "x"]


def test_a_name_of_the_longest_length_works_and_a_longer_one_is_refused(folder, source, target):
    fetch(source, target.with_name("é" * 127))
    assert left_in(target.parent) == ["é" * 127]
    assert raised(lambda: fetch(source, target.with_name("x" * 256))) == "TransferError 1099"
    assert raised(lambda: store(source, folder / ("x" * 256))) == "TransferError 1137"
    assert raised(lambda: fetch(folder / ("x" * 256), target)) == "SourceNotFound 1331"
    assert left_in(folder) == ["in", "source"]


def test_stat_and_remove(source):
    stager = FileStager()
    url = url_of(source)
    assert stager.stat(url, **limits()).size == len(DATA)
    stager.remove(url, **limits())
    assert not source.exists()
    for call in (stager.stat, stager.remove):
        with pytest.raises(SourceNotFound):
            call(url, **limits())


def test_a_directory_is_neither_a_file_nor_removed(folder):
    stager = FileStager()
    with pytest.raises(SourceNotFound, match="not a regular file"):
        stager.stat(url_of(folder), **limits())
    with pytest.raises(TransferError, match="a directory"):
        stager.remove(url_of(folder), **limits())
    assert folder.is_dir()


# -- what is made safe on disk --------------------------------------------------------------------------------------


def system_calls(call, *wanted):
    """Run `call` and return which of the interpreter's own functions it called, of those with the wanted names."""
    seen = []

    def note(frame, event, function):
        if event == "c_call" and getattr(function, "__name__", "") in wanted:
            seen.append(function.__name__)

    sys.setprofile(note)
    try:
        call()
    finally:
        sys.setprofile(None)
    return seen


def test_a_stored_file_is_flushed_before_it_has_its_name_and_the_name_after(folder, source):
    (folder / "out").mkdir()
    calls = system_calls(lambda: store(source, folder / "out" / "x"), "fsync", "rename", "link")
    # a file system that knows no files without a name has only the other way
    assert calls in (["fsync", "link", "fsync"], ["fsync", "rename", "fsync"])
    calls = system_calls(lambda: store(source, folder / "out" / "y", overwrite=False), "fsync", "rename", "link")
    assert calls == ["fsync", "link", "fsync"]


def test_the_names_of_new_folders_are_flushed_too(folder, source):
    calls = system_calls(lambda: store(source, folder / "a" / "b" / "x"), "fsync", "mkdir", "rename", "link")
    named = ["rename" if call == "link" else call for call in calls]
    assert named == ["mkdir", "fsync", "mkdir", "fsync", "fsync", "rename", "fsync"]


KILLED = """
import os, signal, sys
from pathlib import Path
from pilot_core.api.local_files import OUTPUT, Partial
with Partial(Path(sys.argv[1]), OUTPUT, "x", durable=True) as partial:
    partial.write(b"half of it")
    partial.flush()
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("there", [False, True])
def test_nothing_is_left_on_a_storage_by_a_pilot_that_was_killed_as_it_stored(tmp_path, there):
    """Where the file system knows files without a name, as ext4, XFS, Btrfs, tmpfs and overlays of them do."""
    target = tmp_path / "x"
    if there:
        target.write_bytes(b"of another time")
    killed = subprocess.run([sys.executable, "-c", KILLED, target], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert [path.name for path in tmp_path.iterdir()] == (["x"] if there else [])
    assert not there or target.read_bytes() == b"of another time"


def test_a_stored_file_takes_the_place_of_another_in_one_step(folder, source):
    (folder / "x").write_bytes(b"of another time")
    store(source, folder / "x")
    assert (folder / "x").read_bytes() == source.read_bytes()
    assert sorted(path.name for path in folder.iterdir()) == ["source", "x"]


def test_a_long_file_is_flushed_on_its_way(folder):
    source = folder / "source"
    source.write_bytes(b"x" * (file_stager.SYNC_EVERY + 1))
    assert system_calls(lambda: store(source, folder / "x"), "fsync") == ["fsync"] * 3


def test_a_fetched_file_is_not_flushed(source, target):
    assert system_calls(lambda: fetch(source, target), "fsync", "fdatasync", "sync", "rename") == ["rename"]


def test_no_file_costs_a_process(source, target):
    spawning = ("fork", "vfork", "forkpty", "posix_spawn", "posix_spawnp", "fork_exec", "system")
    assert system_calls(lambda: (fetch(source, target), store(source, target)), *spawning) == []


# -- wrong bytes ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("checksum", "codes"), [("adler32:00000001", (1171, 1172)), ("md5:" + "0" * 32, (1145, 1141))])
def test_a_wrong_checksum_has_the_code_of_its_kind_and_leaves_nothing(folder, source, target, checksum, codes):
    assert raised(lambda: fetch(source, target, checksum=checksum)) == f"ChecksumMismatch {codes[0]}"
    assert raised(lambda: store(source, folder / "out", checksum=checksum)) == f"ChecksumMismatch {codes[1]}"
    assert left_in(target.parent) == []
    assert left_in(folder) == ["in", "source"]


def test_a_mismatch_names_both_checksums(source, target):
    with pytest.raises(ChecksumMismatch, match=f"{adler(DATA)}, but adler32:00000001 was expected"):
        fetch(source, target, checksum="adler32:1")


def test_a_wrong_size_is_seen_before_anything_is_copied(source, target):
    seen = []
    with pytest.raises(SizeMismatch, match="1100 bytes, but the catalogue says 7"):
        fetch(source, target, size=7, progress=seen.append)
    assert seen == []
    assert left_in(target.parent) == []


def test_a_known_checksum_is_verified_however_it_is_written(folder, source, target):
    md5 = hashlib.md5(DATA).hexdigest()
    assert fetch(source, target, checksum=f"MD5:{md5.upper()}").checksum == f"md5:{md5}"
    assert store(source, folder / "out", checksum=adler(DATA)).checksum == adler(DATA)


def test_an_unknown_checksum_is_refused_with_its_own_code(folder, source, target):
    assert raised(lambda: fetch(source, target, checksum="crc32:12345678")) == "TransferError 1242"
    assert raised(lambda: store(source, folder / "out", checksum="crc32")) == "TransferError 1242"


@pytest.mark.parametrize("change", ["grows", "shrinks", "is rewritten"])
def test_a_source_that_changes_while_it_is_read_is_an_error(folder, target, change):
    source = folder / "source"
    source.write_bytes(bytes(3 * BLOCK))
    os.utime(source, ns=(1, 1))

    def disturb(_):
        if change == "grows":
            with source.open("ab") as file:
                file.write(bytes(BLOCK))
        elif change == "shrinks":
            os.truncate(source, BLOCK)
        else:
            with source.open("r+b") as file:
                file.write(b"new")

    with pytest.raises(TransientError, match="changed while it was read"):
        fetch(source, target, progress=disturb)
    assert left_in(target.parent) == []


# -- cancellation and time ------------------------------------------------------------------------------------------


def test_cancellation_between_blocks_leaves_nothing(folder, target):
    source = folder / "source"
    source.write_bytes(bytes(5 * BLOCK))
    cancel = CancelToken()
    seen = []

    def progress(done):
        seen.append(done)
        cancel.cancel("the server wants it")

    with pytest.raises(Cancelled, match="the server wants it"):
        fetch(source, target, cancel=cancel, progress=progress)
    assert seen == [BLOCK]
    assert left_in(target.parent) == []


def test_a_deadline_that_has_passed_ends_the_copy(folder, source, target):
    late = Deadline.after(SystemClock(), -1)
    assert raised(lambda: fetch(source, target, deadline=late)) == "TransferTimeout 1151"
    assert raised(lambda: store(source, folder / "out", deadline=late)) == "TransferTimeout 1152"
    with pytest.raises(TransferTimeout):
        FileStager().stat(url_of(source), cancel=CancelToken(), deadline=late)
    assert left_in(target.parent) == []
    assert left_in(folder) == ["in", "source"]


def test_an_unexpected_error_of_the_listener_leaves_nothing(source, target):
    def progress(_):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fetch(source, target, progress=progress)
    assert left_in(target.parent) == []


def test_several_threads_may_use_one_stager(folder, target):
    stager = FileStager()
    blocks = [os.urandom(BLOCK + n) for n in range(6)]
    for number, data in enumerate(blocks):
        (folder / f"s{number}").write_bytes(data)

    def one(number):
        url = url_of(folder / f"s{number}")
        stager.fetch(FetchRequest(url=url, destination=target.with_name(str(number))), **limits())

    threads = [threading.Thread(target=one, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [target.with_name(str(n)).read_bytes() for n in range(6)] == blocks


# -- links and things that are no files -----------------------------------------------------------------------------


def test_a_link_at_the_destination_is_replaced_not_followed(folder, source, target):
    victim = folder / "victim"
    victim.write_bytes(b"precious")
    for copy in (fetch, store):
        target.symlink_to(victim)
        copy(source, target)
        assert not target.is_symlink()
        assert target.read_bytes() == DATA
        assert victim.read_bytes() == b"precious"
        target.unlink()


def test_a_dangling_link_counts_as_something_that_is_there(source, target):
    target.symlink_to("nowhere")
    assert raised(lambda: store(source, target, overwrite=False)) == "TargetExists 1137"
    assert target.is_symlink()


def test_an_output_that_links_out_of_the_jobs_directory_is_not_published(folder, target):
    secret = folder / "proxy"
    secret.write_bytes(b"key")
    inside = target.parent
    (inside / "out").symlink_to(secret)
    (inside / "up").symlink_to("../proxy")
    for name in ("out", "up"):
        with pytest.raises(SourceNotFound, match="leads out of its directory"):
            store(inside / name, folder / "stored")
    assert not (folder / "stored").exists()


def test_an_output_that_links_within_the_jobs_directory_is_stored(folder, target):
    (target.parent / "sub").mkdir()
    (target.parent / "sub" / "real").write_bytes(DATA)
    target.symlink_to("sub/real")
    store(target, folder / "stored")
    assert (folder / "stored").read_bytes() == DATA
    assert not (folder / "stored").is_symlink()


def test_a_link_on_the_storage_is_the_storages_business(folder, source, target):
    (folder / "link").symlink_to(source)
    fetch(folder / "link", target)
    assert target.read_bytes() == DATA


@pytest.mark.parametrize("what", ["directory", "fifo", "socket", "device", "loop", "dangling"])
def test_what_is_no_file_is_refused_at_once(folder, target, what):
    path = folder / "thing"
    if what == "directory":
        path.mkdir()
    elif what == "fifo":
        os.mkfifo(path)
    elif what == "socket":
        with socket.socket(socket.AF_UNIX) as sock:
            sock.bind(str(path))
    elif what == "device":
        path = Path("/dev/null")
    else:
        path.symlink_to("thing" if what == "loop" else "nowhere")
    assert raised(lambda: fetch(path, target)) == "SourceNotFound 1331"
    assert raised(lambda: store(path, folder / "out")) == "SourceNotFound 1165"
    assert left_in(target.parent) == []


def test_a_directory_at_the_destination_is_an_error_and_stays(source, target):
    target.mkdir()
    assert raised(lambda: fetch(source, target)) == "TransferError 1099"
    assert raised(lambda: store(source, target)) == "TransferError 1137"
    assert left_in(target.parent) == ["target"]


# -- a storage that is not mounted ----------------------------------------------------------------------------------


def test_the_folder_of_a_storage_that_is_not_mounted_is_not_made(folder, source):
    root = folder / "mnt" / "storage"
    with pytest.raises(
        BackendUnavailable, match=r"mnt/storage'?: the storage's folder is not there; mount it"
    ) as caught:
        store(source, root / "a" / "b" / "x", root=url_of(root))
    assert caught.value.error_code == 1324
    assert left_in(folder) == ["source"]
    root.mkdir(parents=True)
    store(source, root / "a" / "b" / "x", root=url_of(root))
    assert (root / "a/b/x").read_bytes() == DATA


def test_an_input_of_a_storage_that_is_not_mounted_is_not_said_to_be_lost(folder, target):
    root = folder / "mnt"
    assert raised(lambda: fetch(root / "x", target, root=url_of(root))) == "BackendUnavailable 1324"
    root.mkdir()
    assert raised(lambda: fetch(root / "x", target, root=url_of(root))) == "SourceNotFound 1331"


def test_what_lies_below_a_mount_point_is_left_alone_while_nothing_is_mounted(folder, source, target):
    (folder / "mnt").mkdir()
    stager = FileStager(FileStagerSettings(mount_points=(f"{folder}/other", f"{folder}/./mnt/", "/")))
    request = StoreRequest(source=source, url=url_of(folder / "mnt" / "a" / "x"), root=url_of(folder / "mnt"))
    with pytest.raises(
        BackendUnavailable, match=r"nothing is mounted on .*/mnt \(stager.file.mount_points\); mount it"
    ):
        stager.store(request, **limits())
    (folder / "mnt" / "x").touch()
    with pytest.raises(BackendUnavailable, match="nothing is mounted on"):
        stager.fetch(FetchRequest(url=url_of(folder / "mnt" / "x"), destination=target), **limits())
    assert left_in(folder / "mnt") == ["x"]
    beside = StoreRequest(source=source, url=url_of(folder / "mnt2" / "x"))
    assert stager.store(beside, **limits()).size == len(DATA)


@pytest.mark.parametrize("name", ["mnt", "", "./mnt", "/a\nb"])
def test_a_mount_point_that_is_no_absolute_path_is_refused_in_one_line(name):
    with pytest.raises(ConfigError, match=r"^stager.file.mount_points: [^\n]+ is not an absolute path$"):
        FileStager(FileStagerSettings(mount_points=(name,)))


# -- URLs and names -------------------------------------------------------------------------------------------------


def test_paths_are_percent_decoded_byte_by_byte(folder, target):
    name = os.fsdecode("a b%c?#é".encode() + b"\xff")
    (folder / name).write_bytes(DATA)
    fetch(folder / name, target)
    assert target.read_bytes() == DATA


def test_localhost_and_upper_case_schemes_are_this_machine(source, target):
    for url in (f"file://localhost{source}", f"FILE://{source}", f"file:{source}", f"file://LOCALHOST{source}"):
        FileStager().fetch(FetchRequest(url=url, destination=target), **limits())
        target.unlink()


@pytest.mark.parametrize("url", ["file://other.example/x", "file://user@localhost/x", "http://localhost/x", "/x", ""])
def test_what_this_stager_does_not_serve_is_left_to_other_backends(url):
    with pytest.raises(BackendUnavailable, match=r"file:///path and file://localhost/path only"):
        path_of(url, INPUT)


@pytest.mark.parametrize(
    "url",
    [
        "file:///a%00b",
        "file:///a%0Ab",
        "file:///a\nb",
        "file:///a/../../etc/passwd",
        "file:///a/%2e%2e/b",
        "file:///a/",
        "file:///a/.",
        "file:///",
        "file://",
        "file:a",
        "file:///a?b",
        "file:///a#b",
        "file://[x/a",
    ],
)
def test_a_url_that_names_no_file_is_refused_in_one_line(url):
    assert raised(lambda: path_of(url, INPUT)) == "SourceNotFound 1331"
    assert raised(lambda: path_of(url, OUTPUT)) == "TransferError 1371"


@given(st.text())
def test_any_url_is_a_path_or_a_handled_error(text):
    for url in (text, "file://" + text, "file:///" + text):
        try:
            path = path_of(url, INPUT)
        except (SourceNotFound, BackendUnavailable):
            continue
        assert path.is_absolute()
        assert ".." not in path.parts


@given(st.one_of(st.text(), st.text("aé/%.25?#;[]@\t", max_size=12)))
def test_a_url_with_and_without_localhost_names_the_same_file(text):
    def meaning(url):
        try:
            return path_of(url, INPUT)
        except HandledError as error:
            return type(error)

    assert meaning(f"file:///{text}") == meaning(f"file://localhost/{text}")


@given(st.lists(st.binary(min_size=1, max_size=20), min_size=1, max_size=4))
def test_every_plain_path_comes_back_from_its_url(parts):
    path = b"/" + b"/".join(parts)
    plain = not any(byte < 0x20 or byte == 0x7F for byte in path)
    if plain and not path.endswith(b"/") and not {b"..", b"."} & set(path.split(b"/")):
        assert os.fsencode(path_of("file://" + quote(path), INPUT)).strip(b"/") == b"/".join(
            part for part in path.split(b"/") if part
        )


@pytest.mark.parametrize("name", ["a\nb", "a\0b", ".."])
def test_a_local_name_that_is_none_is_refused_in_one_line(folder, source, target, name):
    assert raised(lambda: fetch(source, target.parent / name)) == "TransferError 1099"
    if name != "..":
        assert raised(lambda: store(target.parent / name, folder / "x")) == "SourceNotFound 1165"


# -- what the system says -------------------------------------------------------------------------------------------


def test_every_kind_of_system_error_has_its_class_and_code():
    def kind(number, place):
        def fail():
            with translated("x", place):
                raise OSError(number, os.strerror(number))

        return raised(fail)

    assert kind(errno.ENOENT, INPUT) == "SourceNotFound 1331"
    assert kind(errno.ENOENT, LOCAL_OUTPUT) == "SourceNotFound 1165"
    assert kind(errno.ENOSPC, LOCAL_INPUT) == "NoSpace 1098"
    assert kind(errno.EDQUOT, OUTPUT) == "NoSpace 1333"
    assert kind(errno.EACCES, INPUT) == "AuthError 1338"
    assert kind(errno.EPERM, OUTPUT) == "AuthError 1383"
    assert kind(errno.EACCES, LOCAL_INPUT) == "TransferError 1099"
    assert kind(errno.EACCES, LOCAL_OUTPUT) == "TransferError 1137"
    assert kind(errno.EROFS, OUTPUT) == "BackendUnavailable 1324"
    assert kind(errno.EROFS, LOCAL_INPUT) == "TransferError 1099"
    for place in (INPUT, LOCAL_INPUT, LOCAL_OUTPUT, OUTPUT):
        assert kind(errno.EIO, place).startswith("TransientError")
        assert kind(errno.ESTALE, place).startswith("TransientError")


def test_what_the_account_may_not_read_or_write_is_an_authentication_error(folder, source, target):
    source.chmod(0)
    closed = folder / "closed"
    closed.mkdir(mode=0o700)
    readable = folder / "readable"
    readable.write_bytes(DATA)
    if os.getuid() != 0:
        closed.chmod(0o500)
    assert as_nobody(lambda: raised(lambda: fetch(source, target))) == "AuthError 1338"
    assert as_nobody(lambda: raised(lambda: store(readable, closed / "x"))) == "AuthError 1383"
    assert as_nobody(lambda: raised(lambda: fetch(readable, closed / "x"))) == "TransferError 1099"
    assert as_nobody(lambda: raised(lambda: store(source, folder / "x"))) == "TransferError 1137"
    assert left_in(target.parent) == []


def test_a_file_beyond_the_accounts_limit_is_no_space(folder, target):
    source = folder / "source"
    source.write_bytes(bytes(2 * BLOCK))

    def limited():
        resource.setrlimit(resource.RLIMIT_FSIZE, (BLOCK, BLOCK))
        return raised(lambda: fetch(source, target)) + ", " + raised(lambda: store(source, folder / "x"))

    assert as_nobody(limited) == "NoSpace 1098, NoSpace 1333"
    assert left_in(target.parent) == []
