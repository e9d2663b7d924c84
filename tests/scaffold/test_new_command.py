"""`pilot-core new` as its users meet it."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys

import pytest

from pilot_core import KINDS, __version__
from pilot_core.scaffold.origin import CoreOrigin, core_origin

QUICK = 0.5
"""Seconds for the whole command, on a machine that does nothing else."""


def one_line(done, code=2):
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    return done.stderr.removeprefix("pilot-core: ").rstrip("\n")


@pytest.mark.parametrize("kind", KINDS)
def test_a_project_is_made_and_what_to_do_next_is_said(new, kind):
    done = new(kind, "unheard-of")
    assert (done.returncode, done.stderr) == (0, "")
    name = f"pilot-{kind}-unheard-of"
    assert (new.folder / name / "tests/test_kit.py").is_file()
    assert done.stdout.startswith(f"made {name}: ")
    assert f"{kind}.unheard-of" in done.stdout
    commands = [line.strip() for line in done.stdout.splitlines() if line.startswith("  ")]
    assert commands[0] == f"cd {name}"
    assert commands[-3:] == ["pytest", "pilot-core list-plugins --check", "pilot-core check ."]
    assert os.listdir(new.folder) == [name]


def test_the_answers_are_used(new):
    done = new("stager", "unheard-of", "--set", "dist_name=our-tapes", "--set", "description=Größe = 3", "--no-input")
    assert done.returncode == 0, done.stderr
    text = (new.folder / "our-tapes/pyproject.toml").read_text()
    assert 'name = "our-tapes"' in text
    assert 'description = "Größe = 3"' in text
    assert (new.folder / "our-tapes/src/our_tapes/__init__.py").is_file()


def test_the_directory_may_be_another_and_the_commands_are_quoted(new, tmp_path):
    other = tmp_path / "an other"
    other.mkdir()
    done = new("extension", "unheard-of", "--directory", other, "--json")
    told = json.loads(done.stdout)
    project = other / "pilot-extension-unheard-of"
    assert told["schema"] == 1
    assert told["project"] == str(project)
    assert told["entry_points"] == ["extension.unheard-of"]
    assert told["commands"][0] == f"cd '{project}'"
    found = {path.relative_to(project).as_posix() for path in project.rglob("*") if path.is_file()}
    assert set(told["files"]) == found


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["stagr", "tape"], "unknown kind 'stagr'; did you mean 'stager'? (see 'pilot-core new --help')"),
        (["nonsense", "tape"], "unknown kind 'nonsense'; known: catalog, "),
        (["stager", "My_Tape"], "letter first, for example 'my-tape'"),
        (["stager", "stager-tape"], "leave the kind out: pilot-core new stager tape"),
        (["stager", "file"], "the name is taken: stager.file is built into pilot-core; choose another"),
        (["credential", "x509"], "the name is taken: credential.x509 is built into pilot-core"),
        (["stager", "tape", "--set", "author"], "--set author: write it as QUESTION=ANSWER"),
        (["stager", "tape", "--set", "autor=me"], "--set autor: there is no such question; did you mean 'author'?"),
        (["stager", "tape", "--set", "name=disk"], "--set name: there is no such question"),
        (["stager", "tape", "--set", "dist_name=../x"], "dist_name '../x': use lower-case letters"),
        (["stager", "tape", "--set", "dist_name=pytest"], "a distribution pytest "),
        (["stager", "tape", "--set", 'description=say "x"'], "description: one line"),
        (["stager", "tape", "--directory", "nowhere"], "nowhere: is not a directory"),
        (["stager"], "the following arguments are required: NAME"),
        (["stager", "tape", "--nonsense"], "unrecognized arguments: --nonsense"),
    ],
)
def test_wrong_input_is_one_line_and_nothing_is_written(new, arguments, message):
    assert message in one_line(new(*arguments))
    assert not os.listdir(new.folder)


def test_a_target_that_exists_is_refused(new):
    (new.folder / "pilot-stager-unheard-of").mkdir()
    assert "pilot-stager-unheard-of: exists already; remove it" in one_line(new("stager", "unheard-of"))
    assert not os.listdir(new.folder / "pilot-stager-unheard-of")


def test_a_full_disk_is_one_line_and_nothing_is_left(new, own_mounts):
    script = 'mount -t tmpfs -o size=16k none "$1" && cd "$1" && shift && "$@"; code=$?; ls -A . >&2; exit $code'
    argv = [*own_mounts, "sh", "-c", script, "sh", str(new.folder)]
    argv += [sys.executable, "-m", "pilot_core", "new", "communicator", "unheard-of"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    assert done.returncode == 1, done.stderr
    assert done.stdout == ""
    assert done.stderr == (
        "pilot-core: pilot-communicator-unheard-of: cannot be written: No space left on device; make room there\n"
    )


def on_a_terminal(new, *arguments, typed):
    """Run the command on a terminal where somebody types; return exit code, output, and what the terminal showed."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "pilot_core", "new", *arguments],
        cwd=new.folder,
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    os.close(theirs)
    os.write(ours, typed.encode())
    output, shown = process.communicate()
    os.close(ours)
    return process.returncode, output, shown


def test_on_a_terminal_at_most_four_questions_are_asked(new):
    code, output, shown = on_a_terminal(new, "stager", "unheard-of", typed="\nOur own tapes\n\n")
    assert code == 0, shown
    assert shown.count("]: ") == 3
    assert shown.startswith("Name of the distribution [pilot-stager-unheard-of]: ")
    assert "What it is, in one line [Files of unheard-of:// URLs for pilot-core]: " in shown
    assert "[" not in output.splitlines()[0], "questions are no results"
    assert 'description = "Our own tapes"' in (new.folder / "pilot-stager-unheard-of/pyproject.toml").read_text()


def test_later_defaults_follow_earlier_answers(new):
    code, _, shown = on_a_terminal(new, "stager", "unheard-of", typed="our-tapes\n\n\n")
    assert code == 0, shown
    assert "Who makes it [The our-tapes authors]: " in shown


def test_what_is_set_is_not_asked_and_no_input_asks_nothing(new):
    given = ("--set", "dist_name=our-tapes", "--set", "author=We")
    _, _, shown = on_a_terminal(new, "stager", "unheard-of", *given, typed="\n")
    assert shown.count("]: ") == 1
    code, _, shown = on_a_terminal(new, "stager", "unheard-of", "--no-input", typed="")
    assert (code, shown) == (0, "")


def test_a_taken_name_is_said_before_anything_is_asked(new):
    code, _, shown = on_a_terminal(new, "stager", "file", typed="")
    assert code == 2
    assert shown == "pilot-core: the name is taken: stager.file is built into pilot-core; choose another\n"


def test_the_end_of_the_input_is_one_line(new):
    code, _, shown = on_a_terminal(new, "stager", "unheard-of", typed="\x04")
    assert code == 2
    assert shown.splitlines()[-1] == (
        "pilot-core: the input ended before the last question; --no-input takes the defaults"
    )
    assert not os.listdir(new.folder)


def test_it_imports_neither_plugins_nor_jinja(new):
    code = (
        "import sys; from pilot_core.cli import main\n"
        "assert main(['new', 'stager', 'unheard-of']) == 0\n"
        "heavy = {'jinja2', 'cookiecutter', 'pluggy', 'requests', 'rich', 'pytest', 'pilot_core.hookspecs'}\n"
        "print(sorted(heavy & set(sys.modules)), [m for m in sys.modules if m.startswith('pilot_core.builtin.')])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=new.folder,
        capture_output=True,
        text=True,
        check=True,
        stdin=subprocess.DEVNULL,
    )
    assert done.stdout.splitlines()[-1] == "[] []"


def test_it_is_quick(new):
    """Its time of CPU is measured: other tests may keep the machine busy."""
    seconds = []
    for number in range(3):
        before = os.times()
        assert new("communicator", f"unheard-of-{number}").returncode == 0
        after = os.times()
        seconds.append(after.children_user + after.children_system - before.children_user - before.children_system)
    assert min(seconds) < QUICK, seconds


# -- how to install this core ------------------------------------------------------------------------------------------


def test_a_checkout_is_installed_as_it_lies_there(tmp_path):
    for name in ("pilot_core", "templates"):
        (tmp_path / name).mkdir()
    (tmp_path / "pyproject.toml").touch()
    origin = core_origin(tmp_path / "pilot_core")
    assert origin.arguments("testing") == ["-e", f"{tmp_path}[testing]"]


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Have pilot-core's metadata say where it was installed from."""

    def make(direct_url):
        info = tmp_path / "site" / f"pilot_core-{__version__}.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: pilot-core\nVersion: {__version__}\n")
        if direct_url is not None:
            (info / "direct_url.json").write_text(direct_url)
        monkeypatch.syspath_prepend(tmp_path / "site")
        return core_origin(tmp_path / "site" / "pilot_core").arguments("testing")

    return make


def test_a_core_from_a_directory_is_installed_from_there_again(installed, tmp_path):
    (tmp_path / "a b").mkdir()
    assert installed(json.dumps({"url": (tmp_path / "a b").as_uri(), "dir_info": {}})) == [f"{tmp_path}/a b[testing]"]


def test_a_core_from_a_wheel_is_installed_from_it_again(installed, tmp_path):
    wheel = tmp_path / "core.whl"
    wheel.touch()
    found = installed(json.dumps({"url": wheel.as_uri(), "archive_info": {}}))
    assert found == [f"pilot-core[testing] @ {wheel.as_uri()}"]


@pytest.mark.parametrize("noted", [None, "", "no JSON", "{}", '{"url": "file:///gone/away"}', '{"url": "https://x/y"}'])
def test_any_other_core_is_installed_by_its_version(installed, noted):
    assert installed(noted) == [f"pilot-core[testing]=={__version__}"]


def test_without_metadata_there_is_still_an_answer():
    assert CoreOrigin(editable=False, where="").arguments("testing") == [f"pilot-core[testing]=={__version__}"]
