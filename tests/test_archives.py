"""Outputs in archives: which go into which, and what is in the archive is what the server is told."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import zipfile
import zlib

import pytest

from pilot_core import Cancelled, CancelToken, HandledError, Job, OutputFile, PilotErrorCode
from pilot_core.archives import look_at, make_archive, members_of

CONTENTS = {"a.root": b"first " * 1000, "empty": b"", "naïve name.txt": b"x" * 511, "big": bytes(range(256)) * 9000}


def adler(data):
    return f"adler32:{zlib.adler32(data):08x}"


@pytest.fixture
def files(tmp_path):
    for name, content in CONTENTS.items():
        (tmp_path / name).write_bytes(content)
    return [tmp_path / name for name in CONTENTS]


def read(archive):
    if tarfile.is_tarfile(archive):
        with tarfile.open(archive) as tar:
            return {member.name: tar.extractfile(member).read() for member in tar.getmembers()}
    with zipfile.ZipFile(archive) as made:
        assert made.testzip() is None
        return {name: made.read(name) for name in made.namelist()}


@pytest.mark.parametrize("name", ["out.zip", "out", "out.tar", "out.tgz", "OUT.tar.gz.3", "out.root.zip.1"])
def test_the_archive_has_the_files_and_each_is_told_as_it_went_in(tmp_path, files, name):
    told = make_archive(tmp_path / name, files, cancel=CancelToken())
    assert read(tmp_path / name) == CONTENTS
    assert [(one.lfn, one.size, one.checksum) for one in told] == [
        (name, len(content), adler(content)) for name, content in CONTENTS.items()
    ]
    assert tarfile.is_tarfile(tmp_path / name) == (".t" in name)


@pytest.mark.parametrize("name", ["out.zip", "out.tar", "out.tgz"])
def test_the_same_files_make_the_same_archive(tmp_path, files, name):
    make_archive(tmp_path / name, files, cancel=CancelToken())
    first = (tmp_path / name).read_bytes()
    (tmp_path / name).unlink()
    os.utime(files[0], (1, 1))
    make_archive(tmp_path / name, files, cancel=CancelToken())
    assert (tmp_path / name).read_bytes() == first


@pytest.mark.needs("bin:tar")
def test_tar_reads_the_archive(tmp_path, files):
    make_archive(tmp_path / "out.tgz", files, cancel=CancelToken())
    (tmp_path / "there").mkdir()
    command = ["tar", "-xzf", tmp_path / "out.tgz", "-C", tmp_path / "there"]
    assert subprocess.run(command, check=True, capture_output=True).stderr == b""
    assert {path.name: path.read_bytes() for path in (tmp_path / "there").iterdir()} == CONTENTS


def test_an_archive_is_not_compressed_unless_its_name_says_so(tmp_path, files):
    sizes = {}
    for name in ("out.zip", "out.tar", "out.tgz"):
        make_archive(tmp_path / name, files, cancel=CancelToken())
        sizes[name] = (tmp_path / name).stat().st_size
    total = sum(map(len, CONTENTS.values()))
    assert sizes["out.zip"] > total
    assert sizes["out.tar"] > total
    assert sizes["out.tgz"] < total / 2


def problem(error, *arguments):
    with pytest.raises(error) as caught:
        make_archive(*arguments, cancel=CancelToken())
    return caught.value


@pytest.mark.parametrize("name", ["out.zip", "out.tar"])
def test_a_file_that_is_gone_leaves_no_archive(tmp_path, files, name):
    problem(HandledError, tmp_path / name, [*files, tmp_path / "gone"])
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(CONTENTS)


def test_a_link_out_of_the_jobs_directory_is_not_packed(tmp_path, files):
    (tmp_path / "link").symlink_to("/etc/hostname")
    assert "leads out" in str(problem(HandledError, tmp_path / "out.zip", [tmp_path / "link"]))


def test_an_older_file_is_not_replaced(tmp_path, files):
    (tmp_path / "out.zip").write_bytes(b"the payload's")
    error = problem(HandledError, tmp_path / "out.zip", files)
    assert str(error) == "the archive out.zip of the job's outputs cannot be written: File exists"
    assert error.error_code is PilotErrorCode.FILEHANDLINGFAILURE
    assert (tmp_path / "out.zip").read_bytes() == b"the payload's"


def test_a_job_that_is_called_off_leaves_no_archive(tmp_path, files):
    cancel = CancelToken()
    cancel.cancel("called off")
    with pytest.raises(Cancelled):
        make_archive(tmp_path / "out.zip", files, cancel=cancel)
    assert not (tmp_path / "out.zip").exists()


PACK = """
import sys
from pathlib import Path
from pilot_core import CancelToken, NoSpace
from pilot_core.archives import make_archive
small = Path(sys.argv[1])
(small / "big").write_bytes(__import__("os").urandom(700_000))
for name in ("out.zip", "out.tar", "out.tgz"):
    try:
        make_archive(small / name, [small / "big"], cancel=CancelToken())
    except NoSpace as error:
        print(int(error.error_code), error, [path.name for path in small.iterdir()])
"""


def test_a_full_disk_is_told_with_its_code_and_leaves_no_archive(tmp_path, own_mounts):
    script = f"mount -t tmpfs -o size=1m none {tmp_path} && {sys.executable} -c '{PACK}' {tmp_path}"
    done = subprocess.run([*own_mounts, "sh", "-c", script], capture_output=True, text=True, check=True)
    why = "of the job's outputs; let the job ask for more (maxDiskCount) ['big']"
    assert done.stdout.splitlines() == [
        f"1098 no space left for the archive {name} {why}" for name in ("out.zip", "out.tar", "out.tgz")
    ]


def test_a_file_in_the_payloads_own_archive_is_only_looked_at(tmp_path, files):
    told = look_at(files[0], cancel=CancelToken())
    assert (told.lfn, told.size, told.checksum) == ("a.root", 6000, adler(CONTENTS["a.root"]))


def test_the_job_says_what_goes_into_which_archive():
    job = Job(
        id=1,
        transformation="x",
        outputs=tuple(OutputFile(lfn=lfn) for lfn in ("z.zip", "b.root", "a.root", "c.txt", "all.zip", "d")),
        archives={
            "z.zip": ("*.root", "all.zip", "input.root"),
            "nobody.zip": ("c.txt",),
            "all.zip": ("?.root", "c.txt", "missing"),
        },
    )
    assert members_of(job) == {"z.zip": ["b.root", "a.root"], "all.zip": ["c.txt"]}
    assert members_of(Job(id=1, transformation="x")) == {}
