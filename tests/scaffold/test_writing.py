"""A project is there whole, or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pilot_core import BadInput, HandledError
from pilot_core.scaffold import write_project
from pilot_core.scaffold import writing as writing_module
from pilot_core.scaffold.templates import File

FILES = [File("README.md", b"read me\n", 0o644), File("src/module/__init__.py", b"", 0o600)]


def test_files_have_their_content_and_mode(tmp_path):
    project = write_project(tmp_path, "tape", FILES)
    assert project == tmp_path / "tape"
    assert (project / "README.md").read_bytes() == b"read me\n"
    assert (project / "src/module/__init__.py").stat().st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path) == ["tape"]


def test_the_directorys_mode_is_that_of_any_new_directory(tmp_path):
    (tmp_path / "plain").mkdir()
    project = write_project(tmp_path, "tape", FILES)
    assert project.stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize("sort", ["directory", "full directory", "file", "dangling link"])
def test_nothing_that_is_there_is_touched(sort, tmp_path):
    target = tmp_path / "tape"
    if sort == "file":
        target.write_text("mine")
    elif sort == "dangling link":
        target.symlink_to("nowhere")
    else:
        target.mkdir()
        if sort == "full directory":
            (target / "mine").touch()
    before = {path: path.lstat() for path in tmp_path.rglob("*")}
    with pytest.raises(BadInput, match="tape: exists already; remove it, or give another --directory"):
        write_project(tmp_path, "tape", FILES)
    after = {path: path.lstat() for path in tmp_path.rglob("*")}
    assert {path: (s.st_ino, s.st_mtime_ns) for path, s in after.items()} == {
        path: (s.st_ino, s.st_mtime_ns) for path, s in before.items()
    }


def test_a_directory_that_somebody_makes_meanwhile_is_not_taken(tmp_path, monkeypatch):
    def too_late(path, mode):
        (tmp_path / "tape").mkdir(exist_ok=True)
        os.chmod(path, mode)

    monkeypatch.setattr(writing_module.Path, "chmod", too_late)
    with pytest.raises(BadInput, match="exists already"):
        write_project(tmp_path, "tape", FILES)
    assert os.listdir(tmp_path) == ["tape"]
    assert not os.listdir(tmp_path / "tape")


@pytest.mark.parametrize("parent", ["absent", "file"])
def test_a_parent_that_is_no_directory_is_refused(parent, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(BadInput, match=f"{parent}: is not a directory; make it"):
        write_project(tmp_path / parent, "tape", FILES)


def test_a_parent_that_no_file_system_can_have_is_refused(tmp_path):
    with pytest.raises(BadInput, match="is not a directory; make it"):
        write_project(tmp_path / ("x" * 300), "tape", FILES)


def test_a_directory_that_may_not_be_written_is_told(tmp_path, as_ordinary_user):
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    code = (
        "import sys; from pathlib import Path\n"
        "from pilot_core import HandledError\n"
        "from pilot_core.scaffold import write_project\n"
        "try: write_project(Path(sys.argv[1]), 'tape', [])\n"
        "except HandledError as error: print(error)\n"
    )
    assert (
        "tape: cannot be written: Permission denied; give another --directory" in as_ordinary_user(code, locked).stdout
    )
    assert not os.listdir(locked)


def test_a_failure_leaves_nothing(tmp_path):
    impossible = [*FILES, File("x" * 300, b"", 0o644)]
    with pytest.raises(HandledError, match="tape: cannot be written: File name too long"):
        write_project(tmp_path, "tape", impossible)
    assert not os.listdir(tmp_path)


def test_an_interruption_leaves_nothing(tmp_path, monkeypatch):
    def interrupted(path, content):
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "write_bytes", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_project(tmp_path, "tape", FILES)
    assert not os.listdir(tmp_path)
