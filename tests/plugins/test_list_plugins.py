"""`pilot-core list-plugins` as a user runs it: a process of its own, over real metadata and modules."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import sys

import pytest

from pilot_core.plugins.probe import AT_ONCE

HEAD = "from pilot_core import Provider, hookimpl\nmake = print\n"
GOOD = (
    "@hookimpl\ndef pilot_executors():\n    yield Provider(name={!r}, factory=make, capabilities=frozenset(['fast']))\n"
)
NEVER = "raise SystemExit('this must not be imported')"


@pytest.fixture
def listed(shelf, list_plugins):
    """Run `list-plugins` over the shelf."""
    return lambda *arguments, **options: list_plugins(*arguments, paths=[shelf.path], **options)


def lines_of(done, text):
    """Return the line that mentions a text and those below it that belong to it."""
    lines = done.out.splitlines()
    start = next(number for number, line in enumerate(lines) if text in line)
    details = []
    for line in lines[start + 1 :]:
        if not line.startswith("    "):
            break
        details.append(line.strip())
    return lines[start], details


def test_the_table_shows_every_plugin_by_metadata_alone(shelf, listed):
    shelf.add("pilot-tape", "stager.tape", NEVER, version="3.1")
    done = listed()
    assert done.code == 0
    assert done.out.splitlines()[0].split() == [
        "status", "kind", "name", "provides", "distribution", "version", "API", "where",
    ]  # fmt: skip
    line, details = lines_of(done, "pilot-tape")
    assert line.split() == ["found", "stager", "tape", "pilot-tape", "3.1", "v1", str(shelf.path)]
    assert details == []
    rows = [line.split()[:4] for line in done.out.splitlines()]
    assert ["found", "executor", "process", "pilot-core"] in rows


def test_what_is_not_in_order_has_a_reason_and_a_next_step_below_it(shelf, listed):
    shelf.add("pilot-new", "stager.new", NEVER, group="pilot_core.plugins.v2")
    shelf.add("pilot-odd", "stagr.odd", NEVER)
    done = listed()
    line, details = lines_of(done, "pilot-new")
    assert line.startswith("incompatible")
    assert details[0].startswith("reason: made for plugin API v2; pilot-core ")
    assert details[1] == "next step: install a version of pilot-new for plugin API v1"
    line, details = lines_of(done, "pilot-odd")
    assert line.startswith("error")
    assert details[0] == "reason: unknown kind 'stagr'; did you mean 'stager'?"


def test_lines_are_not_cut_where_nobody_watches(shelf, listed):
    name = "a" * 150
    shelf.add("pilot-long", f"stager.{name}", NEVER)
    done = listed(environment={"COLUMNS": "40"})
    assert f"{name}  " in lines_of(done, "pilot-long")[0]
    assert "\x1b" not in done.out


def on_a_terminal(arguments, columns):
    """Run a command with a terminal as its standard output and return what it shows."""
    import fcntl
    import struct
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    environment = {"PATH": os.environ["PATH"], "TERM": "xterm-256color"}
    command = [sys.executable, "-m", "pilot_core", "list-plugins", *arguments]
    with subprocess.Popen(command, stdout=theirs, stderr=theirs, stdin=theirs, env=environment) as process:
        os.close(theirs)
        shown = b""
        while True:
            try:
                data = os.read(ours, 65536)
            except OSError:  # the other side is closed
                break
            if not data:
                break
            shown += data
    os.close(ours)
    assert process.returncode == 0
    return shown.decode().replace("\r\n", "\n")


def test_on_a_terminal_the_table_is_in_colour_and_fits(shelf):
    shelf.add("pilot-odd", "stagr.odd", NEVER)
    text = on_a_terminal(["--set", f"plugins.paths={shelf.path}"], 110)
    assert "\x1b[31m" in text
    assert "reason: unknown kind 'stagr'" in text
    plain = [line for line in text.splitlines() if "pilot-core" in line]
    assert plain
    narrow = on_a_terminal(["--set", f"plugins.paths={shelf.path}"], 60)
    assert "distribution" in text
    assert "reason: unknown kind 'stagr'" in narrow


def test_json_has_every_field_and_null_for_what_is_not_known(shelf, listed):
    shelf.add("pilot-tape", "stager.tape", NEVER)
    row = listed("--json").rows["stager.tape", "pilot-tape"]
    assert row == {
        "status": "found",
        "kind": "stager",
        "name": "tape",
        "provides": None,
        "schemes": None,
        "capabilities": None,
        "requires": None,
        "priority": None,
        "providers": None,
        "hooks": None,
        "distribution": "pilot-tape",
        "version": "1.0",
        "api": 1,
        "entry_point": "stager.tape",
        "object": "pilot_tape",
        "where": str(shelf.path),
        "directory": str(shelf.path),
        "import_ms": None,
        "reason": None,
        "next_step": None,
        "warnings": [],
        "opt_outs": [],
    }


def test_check_fills_in_what_only_the_plugin_knows(shelf, listed):
    code = """
    from pilot_core import Provider, hookimpl

    @hookimpl
    def pilot_stagein():
        yield Provider(name="tape", factory=print, schemes=frozenset(["tape", "hsm"]), priority=7,
                       capabilities=frozenset(["resume"]), requires=("bin:mt",))

    @hookimpl
    def pilot_heartbeat(update):
        pass
    """
    shelf.add("pilot-tape", "stager.tape", code)
    row = listed("--check", "--json").rows["stager.tape", "pilot-tape"]
    assert (row["status"], row["provides"], row["schemes"]) == ("ok", ["stage-in"], ["hsm", "tape"])
    assert (row["priority"], row["capabilities"], row["requires"]) == (7, ["resume"], ["bin:mt"])
    assert row["hooks"] == ["pilot_heartbeat", "pilot_stagein"]
    assert row["import_ms"] > 0
    assert [provider["hook"] for provider in row["providers"]] == ["pilot_stagein"]
    done = listed("--check", "--kind", "stager")
    line, _ = lines_of(done, "pilot-tape")
    assert line.split()[:6] == ["ok", "stager", "tape", "stage-in", "(hsm,", "tape)"]
    assert line.split()[-3:] == ["7", "resume", "bin:mt"]


def test_an_extension_shows_its_hooks(shelf, listed):
    shelf.add("pilot-ext", "extension.ext", HEAD + "@hookimpl\ndef pilot_wrap_command(command): return command")
    row = listed("--check", "--json").rows["extension.ext", "pilot-ext"]
    assert (row["status"], row["provides"], row["priority"]) == ("ok", ["pilot_wrap_command"], None)


# -- whatever a plugin does --------------------------------------------------------------------------------------------

SOON = "its import took longer than 2 s ([plugins] import_timeout)"
PRINTS = r"""
import os, sys
print('{"schema": 1, "plugins": []}')
print("garbage", file=sys.stderr)
for fd in range(3, 64):
    try:
        os.write(fd, b'{"status": "ok"}\n\xff 0 begin\n')
    except OSError:
        pass
"""
FORGES = r"""
import json, os
fields = dict(entry_point="executor.forges", value="m", api=1, distribution="pilot-forges", version="1.0", where="",
              directory="", status="ok", import_ms=1.0, hooks=[], offers=[])
for fd in range(3, 64):
    try:
        os.write(fd, b"\n" + b"0" * 32 + b" " + json.dumps(fields).encode() + b"\n")
    except OSError:
        pass
raise ValueError("caught")
"""
NASTY = {
    "forges": (FORGES, "error", "ValueError: caught"),
    "splits": ("import os, time\nif os.fork():\n  time.sleep(60)\n" + GOOD.format("splits"), "error", SOON),
    "raises": ("raise ValueError('no')", "error", "ValueError: no ("),
    "exits": ("import sys\nsys.exit(0)", "error", "its import called sys.exit(0)"),
    "exits-hard": ("import os\nos._exit(0)", "error", "its import ended the process without an answer (exit code 0)"),
    "exits-seven": ("import os\nos._exit(7)", "error", "its import ended the process without an answer (exit code 7)"),
    "killed": ("import os\nos.kill(os.getpid(), 9)", "error", "its import ended the process by SIGKILL"),
    "crashes": ("import ctypes\nctypes.string_at(0)", "error", "its import ended the process by SIGSEGV"),
    "group": ("import os\nos.killpg(0, 15)", "error", "its import ended the process by SIGTERM"),
    "real-time": ("import os\nos.kill(os.getpid(), 40)", "error", "its import ended the process by "),
    "hangs": ("import time\ntime.sleep(60)", "error", SOON),
    "stops": ("import os\nos.kill(os.getpid(), 19)", "error", SOON),
    "swallows": ("import time\nwhile True:\n  try: time.sleep(60)\n  except BaseException: pass", "error", SOON),
    "floods": ("import os\nwhile True: os.write(1, b'x' * 65536)", "error", SOON),
    "syntax": ("def broken(:", "error", "SyntaxError: invalid syntax (pilot_syntax.py, line 3)"),
    "interrupts": ("raise KeyboardInterrupt", "error", "its import raised KeyboardInterrupt"),
    "closes": ("import os\nos.closerange(0, 1000)\n" + GOOD.format("closes"), "error", "its import ended the process"),
    "prints": (PRINTS + GOOD.format("prints"), "ok", None),
    "forks": (
        "import os, time\nif os.fork() == 0:\n  time.sleep(60)\n  os._exit(0)\n" + GOOD.format("forks"),
        "ok",
        None,
    ),
    "forks-and-dies": (
        "import os, time\nif os.fork() == 0:\n  time.sleep(60)\nos._exit(5)",
        "error",
        "its import ended the process without an answer (exit code 5)",
    ),
    "two-of-it": ("import os\nos.fork()\n" + GOOD.format("two-of-it"), "ok", None),
    "reads": ("import sys\nassert sys.stdin.read() == ''\n" + GOOD.format("reads"), "ok", None),
    "no-streams": ("import sys\nsys.stdout = sys.stderr = None\n" + GOOD.format("no-streams"), "ok", None),
    "at-exit": ("import atexit, time\natexit.register(time.sleep, 60)\n" + GOOD.format("at-exit"), "ok", None),
    "thread": (
        "import threading, time\nthreading.Thread(target=time.sleep, args=(60,)).start()\n" + GOOD.format("thread"),
        "ok",
        None,
    ),
    "breaks-os": ("import os\nos.write = None\n" + GOOD.format("breaks-os"), "error", "its import ended the process"),
    "blocked": ("import os\nos._exit(9)", "blocked", "blocked by [plugins] block"),
}


@pytest.fixture
def nasty(shelf):
    for name, (code, _, _) in NASTY.items():
        shelf.add(f"pilot-{name}", f"executor.{name}", HEAD + code)
    return shelf


def test_nothing_that_a_plugin_does_at_import_breaks_the_list(nasty, listed):
    done = listed(
        "--check", "--json", "--kind", "executor", "--set", "plugins.import_timeout=2", "--set",
        "plugins.block=executor.blocked", environment={"MARK": str(nasty.path)},
    )  # fmt: skip
    assert done.code == 0
    rows = done.rows
    assert rows["executor.process", "pilot-core"]["status"] == "ok"
    for name, (_, status, reason) in NASTY.items():
        row = rows[f"executor.{name}", f"pilot-{name}"]
        assert (name, row["status"], row["reason"]) == (name, status, row["reason"])
        assert (row["reason"] or "").startswith(reason or ""), name
        assert bool(row["next_step"]) == bool(reason), name
        assert bool(row["import_ms"]) == (status == "ok" or row["import_ms"] is not None), name
    assert done.err == ""
    assert leftovers(str(nasty.path)) == []


def leftovers(mark):
    """Return processes that have a mark in their environment and do not end."""
    found = []
    for number in map(int, filter(str.isdigit, os.listdir("/proc"))):
        try:
            with open(f"/proc/{number}/environ", "rb") as file:
                marked = mark.encode() in file.read()
            if marked:
                end = os.pidfd_open(number)
                found += [number] * (not select.select([end], [], [], 10)[0])  # killed a moment ago, perhaps
                os.close(end)
        except OSError:
            continue
    return found


def test_without_check_no_plugin_is_imported_in_any_process(shelf, listed):
    mark = shelf.path / "imported"
    shelf.add("pilot-mark", "executor.mark", f"open({str(mark)!r}, 'w').close()")
    for option in ((), ("--json",), ("--requirements",), ("--strict",)):
        listed(*option)
    assert not mark.exists()
    listed("--check")
    assert mark.exists()


def test_one_plugins_import_does_not_show_in_anothers(shelf, listed):
    shelf.add("pilot-a", "executor.a", HEAD + "import sys, json\njson.dumps = json.loads = None\n" + GOOD.format("a"))
    shelf.add("pilot-b", "executor.b", HEAD + "import sys\nassert 'pilot_a' not in sys.modules\n" + GOOD.format("b"))
    rows = listed("--check", "--json", "--kind", "executor").rows
    assert rows["executor.b", "pilot-b"]["status"] == "ok"


# -- options -----------------------------------------------------------------------------------------------------------


def test_requirements_are_for_pip_sorted_and_unique(shelf, listed):
    shelf.add("pilot-b", {"stager.b": "pilot_b", "stager.c": "pilot_b"}, NEVER, version="2.0")
    shelf.add("pilot-a", "stager.a", NEVER, version="1.5")
    done = listed("--requirements", "--kind", "stager")
    lines = done.out.splitlines()
    assert [line for line in lines if line[:7] in {"pilot-a", "pilot-b"}] == ["pilot-a==1.5", "pilot-b==2.0"]
    assert lines == sorted(set(lines))
    assert any(line.startswith("pilot-core==") for line in lines)
    shelf.path.chmod(0o777)
    assert "pilot-a" not in listed("--requirements").out


def test_strict_ends_with_3_if_something_shown_is_out_of_order(shelf, listed):
    shelf.stager("a")
    assert listed("--strict", "--kind", "stager").code == 0
    shelf.add("pilot-new", "executor.new", NEVER, group="pilot_core.plugins.v2")
    assert listed("--strict", "--kind", "stager").code == 0
    assert listed("--strict").code == 3
    assert listed("--strict", "--set", "plugins.block=pilot-new").code == 0
    assert listed().code == 0


def test_strict_with_check_finds_what_only_an_import_shows(shelf, listed):
    shelf.add("pilot-bad", "executor.bad", "1/0")
    assert listed("--strict").code == 0
    assert listed("--strict", "--check", "--kind", "executor").code == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--requirements", "--json"], "argument --json: not allowed with argument --requirements"),
        (["--requirements", "--check"], "--requirements needs no import: leave --check and --why out"),
        (["--requirements", "--why", "file:///x"], "--requirements needs no import: leave --check and --why out"),
        (["--why", "file:///x", "--kind", "executor"], "--why is about stagers: leave --kind executor out"),
        (["--why", "/x"], "--why '/x': not a URL with a scheme, e.g. root://host//path or file:///path"),
        (["--why", ""], "--why '': not a URL with a scheme"),
        (["--kind", "stagers"], "argument --kind: invalid choice: 'stagers'"),
        (["--set", "plugins.blok=x"], "--set plugins.blok: unknown key 'blok'; did you mean 'block'?"),
        (["--set", "plugins.import_timeout=0"], "--set plugins.import_timeout: 0.0 is below 0.1"),
        (["--set", "plugins.paths=here"], "plugins.paths: 'here' is not an absolute path"),
        (["--config", "/nonexistent.toml"], "/nonexistent.toml: the configuration file does not exist"),
    ],
)
def test_options_that_make_no_sense_are_one_line_and_exit_code_2(list_plugins, arguments, message):
    done = list_plugins(*arguments)
    assert done.code == 2
    assert done.out == ""
    assert len(done.err.splitlines()) == 1
    assert message in done.err


def test_the_sites_configuration_file_counts(shelf, list_plugins, tmp_path):
    shelf.add("pilot-a", "stager.heron", NEVER)
    shelf.add("pilot-b", "stager.heron", NEVER)
    config = tmp_path / "pilot.toml"
    config.write_text(
        f'[plugins]\npaths = ["{shelf.path}"]\nprefer = ["stager.heron=pilot-b"]\nblock = ["executor.process"]\n'
        '[pilot]\nserver = "https://x"\n'
    )
    rows = list_plugins("--config", str(config), "--json").rows
    assert rows["stager.heron", "pilot-a"]["status"] == "shadowed"
    assert rows["stager.heron", "pilot-b"]["status"] == "found"
    assert rows["executor.process", "pilot-core"]["status"] == "blocked"


# -- why ---------------------------------------------------------------------------------------------------------------


def test_why_shows_who_would_serve_a_url_in_which_order_and_who_not(shelf, listed):
    shelf.stager("heron", "heron", "herons")
    shelf.stager("gfal", "herons", "srm", priority=60)
    code = "@hookimpl\ndef pilot_stagein():\n    yield Provider(name='ro', factory=make, schemes=frozenset(['herons']))"
    shelf.add("pilot-ro", "stager.ro", HEAD + code)
    shelf.add("pilot-bad", "stager.bad", "import nothere")
    shelf.add("pilot-new", "stager.new", NEVER, group="pilot_core.plugins.v2")
    shelf.add("pilot-never", "executor.never", f"open({str(shelf.path / 'imported')!r}, 'w').close()")
    done = listed("--why", "herons://x/y")
    assert done.code == 0
    assert not (shelf.path / "imported").exists()
    blocks = done.out.split("stage-out herons://x/y")
    assert [line.split() for line in blocks[0].splitlines()][:4] == [
        ["stage-in", "herons://x/y:", "tried", "in", "this", "order"],
        ["1", "heron", "pilot-stager-heron", "1.0", "name:", "all", "else", "equal:", "by", "name", "(heron)"],
        ["2", "ro", "pilot-ro", "1.0", "name:", "all", "else", "equal:", "by", "name", "(ro)"],
        ["3", "gfal", "pilot-stager-gfal", "1.0", "priority:", "its", "priority", "is", "60"],
    ]
    assert "scheme: serves file, not herons" in blocks[0]
    assert "error: ModuleNotFoundError: No module named 'nothere'" in blocks[0]
    assert "incompatible: made for plugin API v2" in blocks[0]
    assert "task: offers no stage-out" in blocks[1]


def test_why_as_json(shelf, listed):
    shelf.stager("heron", "heron")
    done = listed("--why", "heron://x/y", "--json", "--set", "plugins.block=stager.file")
    document = json.loads(done.out)
    assert {row["kind"] for row in document["plugins"]} == {"stager"}
    why = document["why"]
    assert why["url"] == "heron://x/y"
    first = why["stage-in"][0]
    assert (first["place"], first["name"], first["distribution"], first["rule"]) == (
        1,
        "heron",
        "pilot-stager-heron",
        "only",
    )
    blocked = next(row for row in why["stage-out"] if row["name"] == "file")
    assert (blocked["place"], blocked["rule"]) == (None, "blocked")
    assert 'blocked by [plugins] block = ["stager.file"]' in blocked["text"]


def test_why_says_that_nobody_serves_a_url(listed):
    assert "stage-in gopher://x/y: no stager serves it" in listed("--why", "gopher://x/y").out


# -- cost --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "unwanted"),
    [
        ([], {"requests", "pluggy", "subprocess", "rich", "asyncio", "ssl"}),
        (["--json"], {"requests", "pluggy", "subprocess", "rich", "asyncio", "ssl"}),
        (["--check", "--json"], {"requests", "pluggy", "rich", "asyncio", "ssl"}),
    ],
)
def test_the_list_imports_no_more_than_it_needs(shelf, arguments, unwanted):
    command = [sys.executable, "-X", "importtime", "-m", "pilot_core", "list-plugins", *arguments]
    environment = {"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=shelf.path, env=environment)
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}
    assert "pilot_core.plugins" in imported
    assert not unwanted & imported


def test_help_and_version_look_at_no_plugin(shelf):
    shelf.add("pilot-odd", "stagr.odd", NEVER)
    for arguments in (["--help"], ["--version"], ["list-plugins", "--help"]):
        command = [sys.executable, "-m", "pilot_core", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=shelf.path)
        assert "stagr" not in done.stdout + done.stderr


def test_at_most_a_few_processes_run_at_once(shelf, listed):
    """Each plugin counts who else is at work by lock files; never more than the limit."""
    code = """
    import os, time
    from pathlib import Path
    place = Path({place!r})
    (place / str(os.getpid())).touch()
    seen = len(list(place.iterdir()))
    time.sleep(0.05)
    (place / str(os.getpid())).unlink()
    assert seen <= {limit}, seen
    """
    place = shelf.path / "at-work"
    place.mkdir()
    for number in range(8):
        text = code.format(place=str(place), limit=AT_ONCE).replace("\n    ", "\n")
        shelf.add(f"pilot-n{number}", f"executor.n{number}", HEAD + text + GOOD.format(f"n{number}"))
    rows = listed("--check", "--json", "--kind", "executor").rows
    assert {row["status"] for row in rows.values()} == {"ok"}


def test_an_interrupt_ends_the_command(shelf):
    ready = shelf.path / "ready"
    os.mkfifo(ready)
    shelf.add("pilot-slow", "executor.slow", f"import time\nopen({str(ready)!r}, 'w').close()\ntime.sleep(60)")
    command = [sys.executable, "-m", "pilot_core", "list-plugins", "--check", "--kind", "executor"]
    command += ["--set", f"plugins.paths={shelf.path}", "--set", "plugins.import_timeout=1"]
    # a shell starts what it runs in the background with SIGINT ignored, and the tests may be that
    command = ["/usr/bin/env", "--default-signal=INT", *command]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        ready.read_bytes()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err == "pilot-core: interrupted\n"


OPTS_OUT = (
    HEAD
    + """
@hookimpl
def pilot_stagein():
    yield Provider(name="tape", factory=make, schemes=frozenset({"tape"}))

KIT_OPT_OUTS = """
)


def test_what_a_plugin_opts_out_of_is_shown_with_its_reason(shelf, listed):
    shelf.add("pilot-stager-tape", "stager.tape", OPTS_OUT + '{"test_a_stored_file_is_flushed": "tapes have no fsync"}')
    assert "    opts out of test_a_stored_file_is_flushed: tapes have no fsync\n" in listed("--check").out
    (row,) = [row for key, row in listed("--check", "--json").rows.items() if key[0] == "stager.tape"]
    assert row["opt_outs"] == ["test_a_stored_file_is_flushed: tapes have no fsync"]
    assert row["status"] == "ok"
    assert "opts out" not in listed().out


@pytest.mark.parametrize("value", ['{"test_x": ""}', '{"x": "why"}', '"test_x"', '{"test_x": None}'])
def test_an_opt_out_without_reason_is_an_error_row(shelf, listed, value):
    shelf.add("pilot-stager-tape", "stager.tape", OPTS_OUT + value)
    (row,) = [row for key, row in listed("--check", "--json").rows.items() if key[0] == "stager.tape"]
    assert row["status"] == "error"
    assert "KIT_OPT_OUTS" in row["reason"]
