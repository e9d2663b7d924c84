"""The command line as its users meet it: real processes, their output and their exit codes."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from pilot_core import BadInput, HandledError, __version__
from pilot_core.cli import guarded, parser_of
from pilot_core.cli import run as run_command

CHECKOUT = Path(__file__).resolve().parent.parent
OPTIONS = [
    *("--server", "--queue", "--label", "--ca-file", "--cert", "--key", "--token-file", "--token-origin"),
    *("--jobs", "--work-dir", "--config", "--set", "--log-level", "--report-budget", "--keep-job-dirs"),
]


@pytest.fixture
def pilot(tmp_path):
    """Run `python -m pilot_core` in an empty directory, without the tests' own PILOT_CORE_ variables."""
    base = {name: value for name, value in os.environ.items() if not name.startswith(("PILOT_CORE_", "PYTHON"))}

    def run(*arguments, environment=None, python=(sys.executable,), **more):
        more = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "cwd": tmp_path, **more}
        variables = {**base, **(environment or {})}
        argv = [*python, "-m", "pilot_core", *map(str, arguments)]
        return subprocess.run(argv, text=True, env=variables, check=False, stdin=subprocess.DEVNULL, **more)

    return run


def one_line(done, code):
    """Check that a process ended with one line on standard error and nothing else; return the line."""
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    assert done.stderr.startswith("pilot-core: ")
    assert done.stderr.count("\n") == 1
    assert done.stderr.endswith("\n")
    return done.stderr.removeprefix("pilot-core: ").rstrip("\n")


# -- help --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("argument", ["--help", "-h", "help"])
def test_the_overview_names_every_command(pilot, argument):
    done = pilot(argument)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"pilot-core {__version__}: a grid pilot")
    for command in ("run", "list-plugins", "serve", "submit", "demo", "--version"):
        assert f"\n  {command} " in done.stdout
    assert "Exit codes: 0 done" in done.stdout


def test_without_a_command_the_overview_is_shown_and_the_exit_code_says_so(pilot):
    done = pilot()
    assert done.returncode == 2
    assert done.stdout == pilot("--help").stdout


@pytest.mark.parametrize("argument", ["--version", "-V"])
def test_the_version_is_one_line(pilot, argument):
    assert pilot(argument).stdout == f"pilot-core {__version__}\n"


def test_help_of_run_names_every_option_its_variable_and_its_default(pilot):
    done = pilot("run", "--help", environment={"COLUMNS": "200"})
    assert (done.returncode, done.stderr) == (0, "")
    for option in OPTIONS:
        assert f"  {option}" in done.stdout
    assert "[environment: PILOT_CORE_SERVER]" in done.stdout
    assert "plugins that know queues, asked in this order" in done.stdout
    assert "[default: toml,cric]" in done.stdout
    assert "--keep-job-dirs, --no-keep-job-dirs" in done.stdout
    assert "defaults < file < environment < command line" in done.stdout


def test_help_needs_no_plugin_and_no_library():
    code = (
        "import sys; from pilot_core.cli import main\n"
        "main(['--help'])\n"
        "try: main(['run', '--help'])\n"
        "except SystemExit as end: assert end.code == 0\n"
        "heavy = {'pluggy', 'requests', 'rich', 'tomli', 'ssl'} & set(sys.modules)\n"
        "print(heavy, file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "set()\n"


# -- wrong input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["rnu"], "unknown command 'rnu'; did you mean 'run'?"),
        (["zzzzzz"], "unknown command 'zzzzzz'; known: "),
        (["--server", "x"], "--server: put the command first: pilot-core COMMAND --server (see 'pilot-core --help')"),
        (["run", "--jbos", "3"], "arguments: --jbos 3; did you mean '--jobs'? (see 'pilot-core run --help')"),
        (["run", "--serv", "x"], "arguments: --serv x; did you mean '--server'? (see 'pilot-core run --help')"),
        (["run", "--jobs"], "argument --jobs: expected one argument (see 'pilot-core run --help')"),
        (["run", "--jobs", "many"], "--jobs: 'many' is not a whole number"),
        (["run", "--jobs", "-1"], "--jobs: -1 is below 0, the least that makes sense"),
        (["run", "--report-budget", "nan"], "--report-budget: nan is not a finite number"),
        (["run", "--log-level", "inof"], "'inof' is not one of debug, info, warning, error; did you mean 'info'?"),
        (["run", "--set", "stager.http"], "--set stager.http: write it as a.b.c=value"),
        (["run", "--set", "pilot.jbos=3"], "--set pilot.jbos: unknown key 'jbos'; did you mean 'jobs'?"),
        (["run", "--config", "none.toml"], "none.toml: the configuration file does not exist; check --config"),
        (["run", "--work-dir", ""], "--work-dir: is empty; give a path"),
        (["run", "extra"], "unrecognized arguments: extra"),
        (["run", "--server", "a\nb\x1b[2J"], "no queue: give --queue"),
    ],
)
def test_wrong_input_is_one_line_and_exit_code_2(pilot, arguments, message):
    assert message in one_line(pilot(*arguments), 2)


def test_run_without_a_server_says_the_ways_to_name_one(pilot):
    assert one_line(pilot("run"), 2) == (
        "no server: give --server, set pilot.server in the --config file, or PILOT_CORE_SERVER"
    )


def test_run_without_a_queue_says_the_ways_to_name_one(pilot):
    done = pilot("run", environment={"PILOT_CORE_SERVER": "https://localhost:1"})
    assert one_line(done, 2) == "no queue: give --queue, set pilot.queue in the --config file, or PILOT_CORE_QUEUE"


def test_the_layers_of_settings_end_in_one_process(pilot, tmp_path):
    """Each layer's own wrong server tells which one was taken."""
    (tmp_path / "pilot.toml").write_text("[pilot]\nserver = 'file:1'\nqueue = 'Q'\n")
    file = ["--config", "pilot.toml"]
    variable = {"PILOT_CORE_SERVER": "environment:1"}
    both = ["--set", "pilot.server=set:1"]
    assert "'file:1'" in one_line(pilot("run", *file), 2)
    assert "'environment:1'" in one_line(pilot("run", *file, environment=variable), 2)
    assert "'set:1'" in one_line(pilot("run", *file, *both, environment=variable), 2)
    assert "'line:1'" in one_line(pilot("run", *file, *both, "--server", "line:1", environment=variable), 2)


def test_an_unknown_key_is_named_with_its_file_and_path(pilot, tmp_path):
    (tmp_path / "pilot.toml").write_text("[pilot]\nserver = 'https://h'\n[pilot.sub]\nx = 1\n")
    assert one_line(pilot("run", "--config", "pilot.toml"), 2) == (
        "pilot.toml: pilot.sub: unknown key; known: " + ", ".join(sorted(field_names()))
    )


def field_names():
    return run_command.PilotSettings.__dataclass_fields__


def test_a_message_cannot_move_the_cursor(pilot, tmp_path):
    (tmp_path / "pilot.toml").write_text('"\\u001b[2Ja\\nb" = 1\n')
    line = one_line(pilot("run", "--config", "pilot.toml"), 2)
    assert "\x1b" not in line
    assert "[2Ja b: unknown key" in line


def test_commands_of_the_development_server_say_what_to_install(pilot, tmp_path):
    """In an environment that has the core only."""
    done = pilot("serve", python=core_only(tmp_path), environment={"PYTHONPATH": str(CHECKOUT)})
    assert one_line(done, 2) == (
        "'serve' comes with pilot-devserver, which is not installed here; install it beside pilot-core"
    )
    done = pilot("--help", python=core_only(tmp_path), environment={"PYTHONPATH": str(CHECKOUT)})
    assert "serve          start a development server" in done.stdout
    assert "(not installed: pilot-devserver)" in done.stdout


# -- commands of other distributions -----------------------------------------------------------------------------------


def core_only(tmp_path):
    """Return the interpreter of a bare environment, which the tests fill by hand; made once a test."""
    folder = tmp_path / "environment"
    if not folder.exists():
        venv.create(folder, with_pip=False, symlinks=True)
    return (str(folder / "bin/python"),)


def install(tmp_path, name, entry_points, **modules):
    """Put a distribution into the bare environment as an installer would."""
    core_only(tmp_path)
    [site] = (tmp_path / "environment").glob("lib/python*/site-packages")
    info = site / f"{name.replace('-', '_')}-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text(entry_points)
    for module, text in modules.items():
        (site / f"{module}.py").write_text(text)


COMMAND = """
SUMMARY = "Wave."
def add_arguments(parser): parser.add_argument("--hand")
def run(arguments):
    print("waves", arguments.hand)
    return 7
"""


@pytest.fixture
def other(pilot, tmp_path):
    """Run `pilot-core` in the bare environment."""

    def run(*arguments, **more):
        environment = {"PYTHONPATH": str(CHECKOUT), **more.pop("environment", {})}
        return pilot(*arguments, python=core_only(tmp_path), environment=environment, **more)

    return run


def test_other_distributions_bring_commands(other, tmp_path):
    install(tmp_path, "pilot-wave", "[pilot_core.commands.v1]\nwave = wave_command\n", wave_command=COMMAND)
    assert "  wave           (from pilot-wave 1.2)" in other("--help").stdout
    done = other("wave", "--hand", "left")
    assert (done.returncode, done.stdout, done.stderr) == (7, "waves left\n", "")
    assert "usage: pilot-core wave [-h] [--hand HAND]" in other("wave", "--help").stdout
    assert "did you mean 'wave'?" in one_line(other("wawe"), 2)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("raise ValueError('two\\nlines')", "ValueError: two lines; install that distribution again"),
        ("import sys; sys.exit(3)", "SystemExit: 3"),
        ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("def (", "SyntaxError: "),
    ],
)
def test_a_command_that_cannot_be_loaded_is_one_line(other, tmp_path, text, message):
    install(tmp_path, "pilot-wave", "[pilot_core.commands.v1]\nwave = wave_command\n", wave_command=text)
    line = one_line(other("wave"), 1)
    assert line.startswith("command 'wave' of pilot-wave 1.2 cannot be loaded: ")
    assert message in line


def test_a_command_that_two_distributions_offer_is_nobodys(other, tmp_path):
    for name in ("pilot-a", "pilot-b"):
        install(tmp_path, name, "[pilot_core.commands.v1]\nwave = wave_command\n", wave_command=COMMAND)
    assert one_line(other("wave"), 1) == (
        "command 'wave' is offered by pilot-a 1.2 and by pilot-b 1.2; uninstall all but one"
    )


def test_no_distribution_can_take_a_built_in_command(other, tmp_path):
    install(tmp_path, "pilot-wave", "[pilot_core.commands.v1]\nrun = wave_command\n", wave_command=COMMAND)
    assert one_line(other("run"), 2).startswith("no server: ")


def test_a_damaged_distribution_does_not_stop_the_others(other, tmp_path):
    install(tmp_path, "broken", "[pilot_core.commands.v1]\nthis is no entry point\n")
    install(tmp_path, "pilot-wave", "[pilot_core.commands.v1]\nwave = wave_command\n", wave_command=COMMAND)
    assert other("--help").returncode == 0
    assert other("wave").returncode == 7


def test_the_working_directory_and_pythonpath_bring_no_command(other, tmp_path):
    """A payload could leave one there for the next pilot."""
    for folder in (tmp_path, tmp_path / "path"):
        info = folder / "planted-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: planted\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text("[pilot_core.commands.v1]\nplanted = planted\n")
        (folder / "planted.py").write_text("print('planted was imported')")
    done = other("planted", environment={"PYTHONPATH": f"{CHECKOUT}{os.pathsep}{tmp_path / 'path'}"})
    assert "unknown command 'planted'" in one_line(done, 2)


# -- output ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["--version"]])
def test_a_reader_that_has_gone_is_no_error(pilot, arguments, unbuffered):
    read, write = os.pipe()
    os.close(read)
    try:
        done = pilot(*arguments, stdout=write, environment={"PYTHONUNBUFFERED": unbuffered})
    finally:
        os.close(write)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["--version"]])
def test_output_that_cannot_be_written_is_one_line(pilot, arguments, unbuffered):
    with open("/dev/full", "w") as full:
        done = pilot(*arguments, stdout=full, environment={"PYTHONUNBUFFERED": unbuffered})
    assert done.returncode == 1
    assert done.stderr == "pilot-core: standard output cannot be written: No space left on device\n"


def test_nothing_to_write_to_is_no_error(tmp_path):
    script = f'exec "{sys.executable}" -m pilot_core --version >&- 2>&-'
    assert subprocess.run(["/bin/sh", "-c", script], cwd=CHECKOUT, check=False).returncode == 0
    script = f'exec "{sys.executable}" -m pilot_core nonsense 2>&-'
    done = subprocess.run(["/bin/sh", "-c", script], cwd=CHECKOUT, check=False, stdout=subprocess.PIPE)
    assert (done.returncode, done.stdout) == (2, b"")


# -- the guard ---------------------------------------------------------------------------------------------------------


def raising(error):
    def command():
        raise error

    return command


def test_an_error_for_the_user_becomes_one_line_and_its_exit_code(capsys):
    assert guarded(raising(BadInput("first\n\tsecond\x07"))) == 2
    assert guarded(raising(HandledError("x"))) == 1
    captured = capsys.readouterr()
    assert captured.err == "pilot-core: first second\npilot-core: x\n"
    assert captured.out == ""


def test_an_interruption_has_the_shells_exit_code(capsys):
    assert guarded(raising(KeyboardInterrupt())) == 130
    assert capsys.readouterr().err == "pilot-core: interrupted\n"


@pytest.mark.parametrize("error", [ValueError("bug"), BrokenPipeError(), ConnectionResetError(), OSError(28, "full")])
def test_any_other_error_is_a_bug_and_not_hidden(error):
    """A broken pipe to the network, too: only that of standard output means that the reader has gone."""
    with pytest.raises(type(error)):
        guarded(raising(error))


def test_the_commands_exit_code_is_the_processes():
    assert guarded(lambda: 5) == 5


def test_interrupting_a_command_is_one_line(tmp_path):
    """While it connects to a server that never answers."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        code = (
            "import sys, signal, socket\n"
            "signal.signal(signal.SIGINT, signal.default_int_handler)  # whatever it was inherited as\n"
            "from pilot_core.cli import guarded\n"
            f"sys.exit(guarded(lambda: len(socket.create_connection({silent.getsockname()!r}).recv(1))))\n"
        )
        process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True)
        with silent.accept()[0]:
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate()
    assert (process.returncode, errors) == (130, "pilot-core: interrupted\n")


def test_every_settings_field_is_an_option_of_run():
    parser = parser_of("run", run_command)
    known = {action.dest for action in parser._actions}
    assert set(field_names()) <= known
