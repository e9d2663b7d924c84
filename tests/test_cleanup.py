"""A job's directory is taken away whole, whatever is in it, and nothing else is."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilot_core.cleanup import remove_tree


@pytest.fixture
def tree(tmp_path):
    made = tmp_path / "job"
    (made / "payload/sub/deeper").mkdir(parents=True)
    for name in ("pilot.log", "payload/file", "payload/sub/x", "payload/sub/deeper/y"):
        (made / name).write_text("x")
    return made


def test_a_tree_is_removed(tree):
    assert remove_tree(tree) == ""
    assert not tree.exists()


def test_what_is_not_there_is_removed_already(tmp_path):
    assert remove_tree(tmp_path / "none") == ""


def test_links_are_removed_and_not_followed(tree, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_text("kept")
    outside.chmod(0o500)
    (tree / "payload/folder").symlink_to(outside)
    (tree / "payload/file-link").symlink_to(outside / "kept")
    (tree / "payload/dangling").symlink_to("nowhere")
    (tree / "payload/self").symlink_to(".")
    assert remove_tree(tree) == ""
    assert (outside / "kept").read_text() == "kept"
    assert outside.stat().st_mode & 0o777 == 0o500
    outside.chmod(0o700)


def test_a_link_in_the_directorys_place_is_left_alone(tree, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(tree)
    assert remove_tree(link) == f"{link}: Not a directory"
    assert (tree / "pilot.log").exists()


def test_pipes_sockets_and_odd_names_are_removed(tree):
    os.mkfifo(tree / "pipe")
    here = os.open(tree, os.O_RDONLY)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"/proc/self/fd/{here}/socket")
    os.close(here)
    for name in ("a\nb", "-rf", " ", "é", os.fsdecode(b"\xff")):
        (tree / name).mkdir()
        (tree / name / name).write_text("x")
    assert remove_tree(tree) == ""
    assert not tree.exists()


def test_a_tree_deeper_than_any_path_is_removed(tree):
    here = os.open(tree, os.O_RDONLY)
    for _ in range(1500):
        os.mkdir("deep", dir_fd=here)
        os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=here))
        below = os.open("deep", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    assert remove_tree(tree) == ""
    assert not tree.exists()


def test_directories_without_rights_are_removed(tree, as_ordinary_user):
    """As some package managers leave them, read-only."""
    (tree / "payload/sub/deeper").chmod(0)
    (tree / "payload/sub").chmod(0o555)
    (tree / "payload/file").chmod(0)
    (tree / "payload").chmod(0o555)
    tree.chmod(0o500)
    code = (
        "import pathlib, sys\n"
        "from pilot_core.cleanup import remove_tree\n"
        "print(repr(remove_tree(pathlib.Path(sys.argv[1]))))\n"
    )
    assert as_ordinary_user(code, tree).stdout == "''\n"
    assert not tree.exists()


def test_few_descriptors_are_enough(tmp_path):
    top = tmp_path / "job"
    for number in range(300):
        (top / f"{number:03d}" / "below").mkdir(parents=True)
    code = (
        "import pathlib, resource, sys\n"
        "from pilot_core.cleanup import remove_tree\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (16, 16))\n"
        "print(repr(remove_tree(pathlib.Path(sys.argv[1]))))\n"
    )
    done = subprocess.run([sys.executable, "-c", code, top], capture_output=True, text=True, check=True)
    assert done.stdout == "''\n"
    assert not top.exists()


def test_what_is_left_is_named(tree, as_ordinary_user):
    """A directory above that gives no right: the tree is emptied, its own name stays."""
    parent = tree.parent / "parent"
    parent.mkdir()
    tree.rename(parent / "job")
    parent.chmod(0o500)
    code = (
        "import pathlib, sys\n"
        "from pilot_core.cleanup import remove_tree\n"
        "print(remove_tree(pathlib.Path(sys.argv[1])))\n"
    )
    found = as_ordinary_user(code, parent / "job").stdout
    parent.chmod(0o700)
    assert found == f"{parent / 'job'}: Permission denied\n"
    assert list((parent / "job").iterdir()) == []


def test_what_is_mounted_in_it_stays_and_is_named(tree, own_mounts):
    code = (
        "import pathlib, subprocess, sys\n"
        "from pilot_core.cleanup import remove_tree\n"
        "top = pathlib.Path(sys.argv[1])\n"
        "subprocess.run(['mount', '-t', 'tmpfs', 'none', top / 'payload/sub'], check=True)\n"
        "print(remove_tree(top))\n"
    )
    argv = [*own_mounts, sys.executable, "-c", code, tree]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    assert "sub: Device or resource busy" in done.stdout


TREES = st.recursive(
    st.sampled_from(["file", "link", "pipe"]),
    lambda inner: st.dictionaries(st.text("ab.-", min_size=3, max_size=4), inner, max_size=4),
    max_leaves=15,
)


def build(path, tree):
    if isinstance(tree, dict):
        path.mkdir()
        for name, inner in tree.items():
            build(path / name, inner)
    elif tree == "link":
        path.symlink_to("..")
    elif tree == "pipe":
        os.mkfifo(path)
    else:
        path.write_text("x")


@given(st.dictionaries(st.text("ab.-", min_size=3, max_size=4), TREES, max_size=4))
def test_any_tree_is_removed_and_its_neighbour_stays(tmp_path_factory, tree):
    folder = tmp_path_factory.mktemp("trees")
    build(folder / "job", tree)
    build(folder / "neighbour", tree)
    before = sorted(path.relative_to(folder) for path in (folder / "neighbour").rglob("*"))
    assert remove_tree(folder / "job") == ""
    assert [path.name for path in folder.iterdir()] == ["neighbour"]
    assert sorted(path.relative_to(folder) for path in (folder / "neighbour").rglob("*")) == before
