"""The job's log archive: whatever a payload leaves behind, it is made, and `tar` can read it."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
import tarfile
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pilot_core import Cancelled, CancelToken, HandledError, PilotErrorCode
from pilot_core import joblog as module
from pilot_core.joblog import make_log_archive

FOLDER = "tarball_PandaJob_7_Q"


@pytest.fixture
def job(tmp_path):
    """A job's directory with the pilot's own files and an empty `payload`."""
    folder = tmp_path / "job"
    (folder / "payload").mkdir(parents=True)
    (folder / "pilot.log").write_text("the pilot's log\n")
    (folder / "journal.jsonl").write_text("{}\n")
    return folder


def archive(job, *leave_out, name="log.tgz", **more):
    made = job / name
    make_log_archive(
        made,
        folder=FOLDER,
        pilot_files=[job / "pilot.log", job / "journal.jsonl"],
        job_dir=job / "payload",
        leave_out=leave_out,
        **more,
    )
    return made


def members(made):
    """Return the archive's members by their names within the folder."""
    with tarfile.open(made, "r:gz") as tar:
        found = {}
        for member in tar:
            assert member.name.startswith(f"{FOLDER}/")
            assert member.name not in found
            name = member.name.removeprefix(f"{FOLDER}/")
            found[name] = tar.extractfile(member).read() if member.isreg() else member.linkname
        return found


def unpack(made, target):
    """Unpack with the program `tar`, as whoever looks at a job does; return the folder."""
    target.mkdir()
    done = subprocess.run(["tar", "-xzf", made, "-C", target], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return target / FOLDER


# -- what is in it -----------------------------------------------------------------------------------------------------


@pytest.mark.needs("bin:tar")
def test_the_archive_holds_the_pilots_files_and_the_payloads(job, tmp_path):
    payload = job / "payload"
    (payload / "payload.stdout").write_text("out")
    (payload / "sub/deeper").mkdir(parents=True)
    (payload / "sub/deeper/notes.txt").write_text("notes")
    (payload / "empty").write_text("")
    (payload / "input.root").write_text("x" * 1000)
    (payload / "output.root").write_text("y" * 1000)
    folder = unpack(archive(job, "input.root", "output.root"), tmp_path / "unpacked")
    found = {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}
    assert found == {
        "pilot.log": "the pilot's log\n",
        "journal.jsonl": "{}\n",
        "payload.stdout": "out",
        "sub/deeper/notes.txt": "notes",
        "empty": "",
    }


def test_names_are_left_out_at_the_top_only(job):
    (job / "payload/sub").mkdir()
    (job / "payload/sub/input.root").write_text("another")
    (job / "payload/input.root").write_text("the input")
    assert "sub/input.root" in members(archive(job, "input.root"))
    assert "input.root" not in members(archive(job, "input.root", name="second.tgz"))


def test_the_payloads_output_comes_first_after_the_pilots_files(job):
    for name in ("a", "payload.stderr", "payload.stdout", "z"):
        (job / "payload" / name).write_text(name)
    assert list(members(archive(job))) == [
        "pilot.log",
        "journal.jsonl",
        "payload.stderr",
        "payload.stdout",
        "a",
        "z",
    ]


def test_time_and_rights_are_kept_but_nothing_gets_rights(job):
    file = job / "payload/program"
    file.write_text("x")
    os.utime(file, (1, 1_600_000_000))
    file.chmod(0o6755)
    with tarfile.open(archive(job)) as tar:
        member = tar.getmember(f"{FOLDER}/program")
    assert (member.mtime, oct(member.mode), member.uid, member.uname) == (1_600_000_000, oct(0o755), 0, "")


def test_a_payload_cannot_take_the_place_of_the_pilots_files(job):
    payload = job / "payload"
    (payload / "pilot.log").write_text("forged")
    (payload / "left-out.txt").write_text("forged too")
    (payload / "journal.jsonl").mkdir()
    (payload / "journal.jsonl/x").write_text("and this")
    assert members(archive(job)) == {
        "pilot.log": b"the pilot's log\n",
        "journal.jsonl": b"{}\n",
        "pilot.log.payload": b"forged",
        "left-out.txt.payload": b"forged too",
        "journal.jsonl.payload/x": b"and this",
    }


# -- hostile trees -----------------------------------------------------------------------------------------------------


@pytest.mark.needs("bin:tar")
def test_links_are_kept_and_never_followed(job, tmp_path):
    payload = job / "payload"
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "key").write_text("canary")
    (payload / "file-link").symlink_to(secret / "key")
    (payload / "folder-link").symlink_to(secret)
    (payload / "dangling").symlink_to("nowhere")
    (payload / "loop").symlink_to("loop")
    (payload / "up").symlink_to("..")
    (payload / "long").symlink_to("x" * 2000)
    made = archive(job)
    assert b"canary" not in b"".join(value for value in members(made).values() if isinstance(value, bytes))
    assert members(made)["file-link"] == str(secret / "key")
    assert members(made)["folder-link"] == str(secret)
    assert members(made)["long"] == "x" * 2000
    folder = unpack(made, tmp_path / "unpacked")
    assert (folder / "loop").readlink() == Path("loop")
    assert (folder / "up").readlink() == Path("..")


def test_pipes_and_sockets_do_not_hold_it_up_and_stay_out(job):
    payload = job / "payload"
    os.mkfifo(payload / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        here = os.open(payload, os.O_RDONLY)
        try:
            listener.bind(f"/proc/self/fd/{here}/socket")
        finally:
            os.close(here)
        assert set(members(archive(job))) == {"pilot.log", "journal.jsonl"}


@pytest.mark.needs("root")
def test_devices_stay_out(job):
    os.mknod(job / "payload/zero", stat.S_IFCHR | 0o666, os.makedev(1, 5))
    assert set(members(archive(job))) == {"pilot.log", "journal.jsonl"}


@pytest.mark.needs("bin:tar")
def test_names_of_any_bytes_come_through(job, tmp_path):
    names = ["new\nline", "blank ", "-rf", "é☃𝄞", "x" * 255, "\x1b[2J", "a\\b", "*", os.fsdecode(b"\xff\xfe\x01")]
    for name in names:
        (job / "payload" / name).write_text("content")
    made = archive(job)
    folder = unpack(made, tmp_path / "unpacked")
    assert sorted(os.listdir(os.fsencode(folder))) == sorted(
        [os.fsencode(name) for name in names] + [b"pilot.log", b"journal.jsonl"]
    )


NAMES = st.binary(min_size=1, max_size=12).filter(
    lambda name: not set(name) & set(b"/\0") and name not in {b".", b".."}
)


@settings(max_examples=40)
@given(st.dictionaries(st.lists(NAMES, min_size=1, max_size=3).map(tuple), st.binary(max_size=50), max_size=6))
def test_any_tree_is_read_back_as_it_was(tmp_path_factory, tree):
    job = tmp_path_factory.mktemp("job")
    (job / "payload").mkdir()
    (job / "pilot.log").write_text("log")
    (job / "journal.jsonl").write_text("")
    written = {}
    for parts, content in tree.items():
        path = os.path.join(os.fsencode(job / "payload"), *parts)
        try:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "xb") as file:
                file.write(content)
        except OSError:  # one name is a file and a directory at once
            continue
        written["/".join(map(os.fsdecode, parts))] = content
    found = members(archive(job))
    del found["pilot.log"], found["journal.jsonl"]
    assert found == written


def test_a_tree_that_is_very_deep_is_named_where_it_becomes_too_deep(job):
    """Deeper than Python's recursion and than the kernel's longest path."""
    here = os.open(job / "payload", os.O_RDONLY)
    try:
        for level in range(1500):
            os.mkdir("dd", dir_fd=here)
            below = os.open("dd", os.O_RDONLY, dir_fd=here)
            os.close(here)
            here = below
            if level in {10, 1200, 1450}:
                os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=here))
    finally:
        os.close(here)
    found = members(archive(job))
    assert "dd/" * 11 + "file" in found
    assert "dd/" * 1201 + "file" in found
    assert "dd/" * 1451 + "file" not in found
    assert found["left-out.txt"].endswith(b": File name too long\n")
    # pytest's own removal of the tree is recursive
    subprocess.run(["rm", "-rf", job / "payload"], check=True)


IN_A_PROCESS = """
import pathlib, sys
from pilot_core.joblog import make_log_archive
job = pathlib.Path(sys.argv[1])
pilot_files = [job / "pilot.log", job / "gone"]
folder = "tarball_PandaJob_7_Q"
make_log_archive(job / "log.tgz", folder=folder, pilot_files=pilot_files, job_dir=job / "payload", leave_out=())
"""


def test_what_cannot_be_read_is_named(job, as_ordinary_user):
    payload = job / "payload"
    (payload / "closed").write_text("canary")
    (payload / "closed").chmod(0)
    (payload / "folder").mkdir()
    (payload / "folder/inside").write_text("canary")
    (payload / "folder").chmod(0o311)
    (payload / "open").write_text("open")
    as_ordinary_user(IN_A_PROCESS, job)
    (payload / "folder").chmod(0o700)
    found = members(job / "log.tgz")
    assert set(found) == {"pilot.log", "open", "left-out.txt"}
    assert found["left-out.txt"].decode().splitlines() == [
        "gone: No such file or directory",
        "closed: Permission denied",
        "folder: Permission denied",
    ]


def test_names_in_the_list_are_on_one_line_each(job, as_ordinary_user):
    file = job / "payload" / "a\nb"
    file.write_text("x")
    file.chmod(0)
    as_ordinary_user(IN_A_PROCESS, job)
    assert members(job / "log.tgz")["left-out.txt"].splitlines()[1:] == [b"a\\nb: Permission denied"]


def test_a_payload_directory_that_is_gone_is_named(job):
    (job / "payload").rmdir()
    assert members(archive(job))["left-out.txt"] == b".: No such file or directory\n"


def test_a_file_that_grows_meanwhile_is_taken_as_it_was(job):
    """A thread appends to it all the time: the archive stays readable."""
    file = job / "payload/growing"
    file.write_bytes(b"x" * 100_000)
    (job / "payload/last").write_text("still right")
    stop = threading.Event()

    def grow():
        with open(file, "ab") as stream:
            while not stop.is_set():
                stream.write(b"x" * 10_000)
                stream.flush()

    thread = threading.Thread(target=grow)
    thread.start()
    try:
        found = members(archive(job))
    finally:
        stop.set()
        thread.join()
    assert len(found["growing"]) >= 100_000
    assert found["last"] == b"still right"


def test_a_file_that_ends_early_is_filled_and_named(job):
    """As on a network file system that fails, or where somebody cuts the file short meanwhile."""
    file = job / "payload/file"
    file.write_bytes(b"x" * 3_000_000)
    with file.open("rb") as stream:
        reader = module._Exactly(stream)
        assert reader.read(1_000_000) == b"x" * 1_000_000
        assert not reader.short
        os.truncate(file, 1_500_000)
        assert reader.read(2_000_000).rstrip(b"\0") == b"x" * 500_000
        assert reader.short
        assert reader.read(10) == b"\0" * 10


@pytest.mark.parametrize("year", [-(10**9), 0, 10**11])
def test_times_far_away_come_through(job, year):
    file = job / "payload/old"
    file.write_text("x")
    os.utime(file, (year, year))
    if file.stat().st_mtime == year:  # not every file system keeps it
        with tarfile.open(archive(job)) as tar:
            assert tar.getmember(f"{FOLDER}/old").mtime == year


# -- limits ------------------------------------------------------------------------------------------------------------


def test_of_a_large_file_the_end_is_kept(job):
    file = job / "payload/payload.stdout"
    with file.open("wb") as stream:
        stream.truncate(5_000_000_000)
        stream.seek(0, os.SEEK_END)
        stream.write(b"the end")
    found = archive(job)
    with tarfile.open(found) as tar:
        member = tar.getmember(f"{FOLDER}/payload.stdout.tail")
        assert member.size == module.LARGEST_MEMBER
        stream = tar.extractfile(member)
        stream.seek(-7, os.SEEK_END)
        assert stream.read() == b"the end"


def test_the_archive_stays_within_its_limits(job, monkeypatch):
    """With small ones, so that it is quick; what is beyond them is named."""
    monkeypatch.setattr(module, "MOST_MEMBERS", 7)
    monkeypatch.setattr(module, "LARGEST_TOTAL", 1000)
    monkeypatch.setattr(module, "MOST_NAMES", 4)
    for number in range(20):
        (job / "payload" / f"{number:02d}").write_bytes(b"x" * (900 if number == 2 else 90))
    (job / "payload/folder").mkdir()
    for number in range(5):
        (job / "payload/folder" / f"{number:02d}").write_bytes(b"")
    found = members(archive(job))
    assert len(found) == 8
    assert sum(map(len, found.values())) < 1000 + len(found["left-out.txt"])
    lines = found["left-out.txt"].decode().splitlines()
    assert lines[0] == ".: has more than 7 names, and not all are here"
    assert any(line.endswith("which is enough") for line in lines)
    assert len(lines) <= 5


def test_a_cancellation_ends_it_and_leaves_nothing(job):
    (job / "payload/file").write_text("x")
    cancel = CancelToken()
    cancel.cancel("hurry")
    with pytest.raises(Cancelled, match="hurry"):
        archive(job, cancel=cancel)
    assert not (job / "log.tgz").exists()
    assert set(members(archive(job, cancel=CancelToken()))) == {"pilot.log", "journal.jsonl", "file"}


# -- an archive that cannot be written ---------------------------------------------------------------------------------


def test_an_older_file_of_that_name_is_an_error_and_stays(job):
    with pytest.raises(HandledError, match=r"the log archive .*pilot\.log cannot be written: File exists") as caught:
        archive(job, name="pilot.log")
    assert caught.value.error_code is PilotErrorCode.LOGFILECREATIONFAILURE
    assert (job / "pilot.log").read_text() == "the pilot's log\n"


def test_a_folder_that_is_not_there_is_an_error(job):
    with pytest.raises(HandledError, match="No such file or directory") as caught:
        archive(job, name="none/log.tgz")
    assert caught.value.error_code is PilotErrorCode.LOGFILECREATIONFAILURE


PROGRAM = """
import pathlib, resource, subprocess, sys
from pilot_core import HandledError
from pilot_core.joblog import make_log_archive
job, target, full = *map(pathlib.Path, sys.argv[1:3]), sys.argv[3]
if full == "disk":
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", target], check=True)
else:
    resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536))
try:
    make_log_archive(target / "log.tgz", folder="f", pilot_files=[], job_dir=job / "payload", leave_out=())
except HandledError as error:
    print(type(error).__name__, error.error_code.name, error)
print(list(target.iterdir()))
"""


def test_a_full_disk_is_told_as_such_and_nothing_is_left(job, tmp_path, own_mounts):
    """On a file system of 64 kB, mounted in a process of its own that sees it alone."""
    target = tmp_path / "small"
    target.mkdir()
    (job / "payload/noise").write_bytes(os.urandom(300_000))
    argv = [*own_mounts, sys.executable, "-c", PROGRAM, job, target, "disk"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    text = f"no space left for the log archive {target}/log.tgz; free some in the work directory"
    assert done.stdout == f"NoSpace NOLOCALSPACE {text}\n[]\n"


def test_any_other_failure_to_write_leaves_nothing(job, tmp_path):
    target = tmp_path / "small"
    target.mkdir()
    (job / "payload/noise").write_bytes(os.urandom(300_000))
    argv = [sys.executable, "-c", PROGRAM, job, target, "limit"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    text = f"the log archive {target}/log.tgz cannot be written: File too large"
    assert done.stdout == f"HandledError LOGFILECREATIONFAILURE {text}\n[]\n"
