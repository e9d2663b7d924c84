"""Sessions that people and scripts rely on: demo, tests, lint, core, plugin, together, killpoints, bench.

Everything is installed from this checkout, as built wheels and in one pip call, because a plugin's dependency on
`pilot-core` is met by no index.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nox

ROOT = Path(__file__).resolve().parent
PLUGINS = {path.parent.name: path.parent for path in sorted(ROOT.glob("plugins/*/pyproject.toml"))}
DEMO = ("devserver", "communicator-panda")
"""The plugins that the demo is made of, besides what they need themselves."""

BENCHMARKS: dict[str, tuple[str, ...]] = {
    "pilot": DEMO,
    "staging": (),
    "local_copies": (),
    "watchdogs": (),
    "journal": (),
    "webdav": ("stager-http",),
    "xrootd": ("stager-xrootd",),
    "s3": ("stager-s3",),
    "catalog_rucio": ("catalog-rucio",),
}
"""The scripts in `benchmarks`, and the plugins that each is about."""

ELSEWHERE = {"catalog-rucio": ("rucio-admin", "rucio==41.5.1", "rucio-clients==41.5.1", "gunicorn")}
"""Servers for a plugin's tests that pin other versions of libraries than a pilot has: a program, where it is from."""

TEST_EXTRAS = ("testing", "test")
"""Names of the extra that a plugin's tests need, where it has one."""

OWN_SESSIONS = ("e2e", "killpoints", "mutants", "templates")
"""Folders of tests that are not the core session's: together, killpoints, mutants and templates run them."""

OLDEST_PLUGGY = "1.6"
"""The oldest that the core's pyproject.toml allows."""

REQUIRE_ALL = "--require-all"
XDIST = "pytest-xdist>=3.6"
TWO_AT_A_TIME = ("-n", "2")
"""Half of what the tests do is waiting for processes that start."""
SUMMARY = re.compile(r"=+ (.*\b(?:passed|failed|errors?|skipped|no tests ran)\b.* in [\d.]+s.*?) =+")

nox.options.default_venv_backend = "virtualenv"
nox.options.sessions = ["tests"]
nox.options.error_on_external_run = True


def project(folder: Path) -> dict[str, Any]:
    """Return the `project` table of a folder's pyproject.toml."""
    table: dict[str, Any] = nox.project.load_toml(folder / "pyproject.toml")["project"]
    return table


def plain_name(requirement: str) -> str:
    """Return the distribution that a requirement names."""
    return re.split(r"[^A-Za-z0-9._-]", requirement.strip(), maxsplit=1)[0].lower().replace("_", "-")


def with_needed(*names: str, tests: bool) -> dict[str, str]:
    """Return plugin -> what pip is to install, for these plugins and the others of ours that they declare.

    With `tests` the extra for tests of the named plugins counts too.
    """
    folder_of = {project(folder)["name"]: name for name, folder in PLUGINS.items()}
    wanted: dict[str, str] = {}
    todo = list(names)
    while todo:
        name = todo.pop()
        table = project(PLUGINS[name])
        extras = table.get("optional-dependencies", {})
        extra = next((item for item in TEST_EXTRAS if item in extras), "") if tests and name in names else ""
        wanted[name] = f"./plugins/{name}" + (f"[{extra}]" if extra else "")
        needed = (folder_of.get(plain_name(item)) for item in [*table.get("dependencies", []), *extras.get(extra, [])])
        todo += [other for other in needed if other and other not in wanted]
    return wanted


def install(session: nox.Session, *what: str) -> None:
    """Install paths and requirements in one call, quietly."""
    session.install("--quiet", "--disable-pip-version-check", *what)


def pytest(session: nox.Session, *arguments: str, **environment: str) -> None:
    """Run pytest on what is installed: the checkout is not on the path."""
    slowest = ("--durations=5", "--durations-min=3")
    session.run("pytest", "-p", "no:cacheprovider", *slowest, *arguments, *session.posargs, env=environment)


def beside(session: nox.Session, name: str) -> dict[str, str]:
    """Install a plugin's server in an environment of its own, unless it is there; return the PATH that has it."""
    program, *what = ELSEWHERE.get(name, ("sh",))
    if shutil.which(program):
        return {}
    folder = Path(session.virtualenv.location, "elsewhere")
    session.run("python", "-m", "venv", str(folder))
    pip = (str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
    session.run(*pip, *what, external=True)
    return {"PATH": os.pathsep.join([session.bin, os.environ["PATH"], str(folder / "bin")])}


@nox.session(reuse_venv=True)
def demo(session: nox.Session) -> None:
    """Run the pilot against the development server, with jobs that read and write real files."""
    install(session, ".", *with_needed(*DEMO, tests=False).values())
    session.run("pilot-core", "demo", *session.posargs)


@nox.session
def core(session: nox.Session) -> None:
    """Test the core alone, as the wheel that is built from this checkout."""
    install(session, ".[testing]", XDIST, "cookiecutter>=2.6")
    # pluggy 1.6 and 1.7 differ, and we promise to behave alike on both
    oldest = Path(session.virtualenv.location, "oldest-pluggy")
    install(session, "--target", str(oldest), f"pluggy=={OLDEST_PLUGGY}.*")
    elsewhere = [f"--ignore=tests/{name}" for name in OWN_SESSIONS]
    pytest(session, "tests", *TWO_AT_A_TIME, *elsewhere, PILOT_CORE_OLDEST_PLUGGY=str(oldest))


@nox.session
@nox.parametrize("name", [nox.param(name, id=name) for name in PLUGINS])
def plugin(session: nox.Session, name: str) -> None:
    """Test one plugin where nothing is installed but the core and what the plugin declares."""
    wanted = with_needed(name, tests=True)
    install(session, ".[testing]", XDIST, *wanted.values())
    pytest(session, f"plugins/{name}/tests", *TWO_AT_A_TIME, **beside(session, name))
    check_plugins(session, list(wanted))


@nox.session
def together(session: nox.Session) -> None:
    """Test everything in one environment, end to end."""
    install(session, ".[testing]", XDIST, *with_needed(*PLUGINS, tests=True).values())
    check_plugins(session, list(PLUGINS))
    pytest(session, "tests/e2e", *TWO_AT_A_TIME)


@nox.session
def killpoints(session: nox.Session) -> None:
    """Kill the pilot at every point of its journal, and the server at every request; prints how many there are."""
    install(session, ".[testing]", XDIST, *with_needed(*DEMO, tests=True).values())
    # four at a time: starting processes and waiting for them is most of it
    pytest(session, "tests/killpoints", "-n", "4")


@nox.session
def mutants(session: nox.Session) -> None:
    """Plant faults in correct plugins of every kind, one at a time, and see that the kits notice; prints the score."""
    install(session, ".[testing]", XDIST)
    # four at a time: many wait, for a mutant that hangs or a grace that is too long
    pytest(session, "tests/mutants", "-n", "4")


@nox.session
def templates(session: nox.Session) -> None:
    """Make a project of each kind of plugin, install it, run its tests and linters, build and check its wheel."""
    tools = [
        line for line in (ROOT / "requirements-dev.txt").read_text().splitlines() if line.startswith(("mypy", "ruff"))
    ]
    install(session, ".[testing]", XDIST, "build", "editables", "hatchling", *tools)
    pytest(session, "tests/templates", "-n", "2")


@nox.session(reuse_venv=True)
def lint(session: nox.Session) -> None:
    """Check style and types, with the tools' versions of requirements-dev.txt."""
    install(session, "-r", "requirements-dev.txt")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("mypy", "pilot_core", *(f"plugins/{name}/src" for name in PLUGINS))


@nox.session(reuse_venv=True)
@nox.parametrize("name", [nox.param(name, id=name) for name in BENCHMARKS])
def bench(session: nox.Session, name: str) -> None:
    """Measure one thing beside its peer in the same run: the pilot, or the moving of files by one protocol."""
    install(session, ".[testing,fast]", *with_needed(*BENCHMARKS[name], tests=True).values())
    environment = {key: value for plugin in BENCHMARKS[name] for key, value in beside(session, plugin).items()}
    session.run("python", f"benchmarks/{name}.py", *session.posargs, env=environment)


def check_plugins(session: nox.Session, names: list[str]) -> None:
    """See that `list-plugins --check` finds the core's and these plugins' entry points in order, and no other's."""
    command = [str(Path(session.bin) / "pilot-core"), "list-plugins", "--check", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    if done.returncode:
        session.error(f"{' '.join(command)}: exit {done.returncode}: {done.stderr.strip() or done.stdout.strip()}")
    rows = json.loads(done.stdout)["plugins"]
    expected = {
        (table["name"], point)
        for table in (project(ROOT), *(project(PLUGINS[name]) for name in names))
        for point in table.get("entry-points", {}).get("pilot_core.plugins.v1", {})
    }
    seen = {(row["distribution"], f"{row['kind']}.{row['name']}") for row in rows}
    bad = [
        f"{row['kind']}.{row['name']}: {row['status']}: {row.get('reason')}" for row in rows if row["status"] != "ok"
    ]
    bad += [f"{point} of {name} is not listed" for name, point in sorted(expected - seen)]
    bad += [f"{point} of {name} should not be here" for name, point in sorted(seen - expected)]
    if bad:
        session.error("\n".join(["list-plugins --check:", *bad]))
    session.log(f"list-plugins --check: {len(rows)} entry points, all in order")


@dataclass
class Ran:
    """One session that `tests` ran."""

    name: str
    ok: bool = False
    seconds: float = 0.0
    summaries: list[str] = field(default_factory=list)
    """pytest's last lines."""
    left_out: list[str] = field(default_factory=list)
    """What `pilot_core.testing.left_out` said: reasons, each with its tests."""

    def read(self, line: str, *, in_left_out: bool) -> bool:
        """Keep what the table tells of a line of output; returns whether the section of what was left out goes on."""
        if match := SUMMARY.search(line):
            self.summaries.append(match[1])
        if line.startswith("="):
            return line.strip("= \n").startswith("left out: ")
        if in_left_out:
            self.left_out.append(line.rstrip())
        return in_left_out


@nox.session(venv_backend="none")
def tests(session: nox.Session) -> None:
    """Run every session of tests; `-- --require-all` makes whatever is left out a failure."""
    unknown = set(session.posargs) - {REQUIRE_ALL}
    if unknown:
        session.error(f"tests takes no argument but {REQUIRE_ALL}; give {' '.join(sorted(unknown))} to core or plugin")
    names = ["core", *(f"plugin({name})" for name in PLUGINS), "together"]
    ran = [run_session(name, session.posargs) for name in names]
    print_table(ran)
    failed = [item.name for item in ran if not item.ok]
    if failed:
        session.error(f"failed: {', '.join(failed)}")


def run_session(name: str, arguments: list[str]) -> Ran:
    """Run one session as its own nox, show its output as it comes, and keep pytest's summary lines."""
    started = time.monotonic()
    command = [sys.executable, "-m", "nox", "--noxfile", __file__, "--session", name, "--", *arguments]
    process = subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert process.stdout is not None
    ran, in_left_out = Ran(name), False
    for line in process.stdout:
        print(line, end="", flush=True)
        in_left_out = ran.read(line, in_left_out=in_left_out)
    ran.ok = process.wait() == 0
    ran.seconds = time.monotonic() - started
    return ran


def print_table(ran: list[Ran]) -> None:
    """Print what was left out and why; what ran, how it ended, how long it took, and pytest's summary lines."""
    for item in ran:
        if item.left_out:
            print(f"\nleft out of {item.name}:", *item.left_out, sep="\n  ")
    width = max(len(item.name) for item in ran)
    print(f"\n{'session':{width}}  result  seconds  pytest")
    for item in ran:
        summary = "; ".join(item.summaries) or "-"
        print(f"{item.name:{width}}  {'ok' if item.ok else 'FAILED':6}  {item.seconds:7.1f}  {summary}")
    print(f"{'all':{width}}  {'':6}  {sum(item.seconds for item in ran):7.1f}", flush=True)
