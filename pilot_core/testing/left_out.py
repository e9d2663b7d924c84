"""A pytest plugin: tests say what they need, and what is left out is said, or fails.

A test marked `@pytest.mark.needs("root", "bin:xrdcp")` is left out where one of these is missing:

- `root`: the superuser;
- `user`: not the superuser;
- `bin:NAME`: a program on the PATH;
- `module:NAME`: an importable module;
- `env:NAME`: an environment variable, which usually says where a test server is.

The report ends with a section that counts and names everything left out, ordinary skips included, with reasons. With
`--require-all` everything left out fails. Load it with `-p pilot_core.testing.left_out`.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections import defaultdict
from collections.abc import Callable, Generator, Mapping
from typing import TYPE_CHECKING, Any

import pytest

from pilot_core.testing.outcomes import DOES_NOT_APPLY, OPTED_OUT

if TYPE_CHECKING:
    from _pytest.terminal import TerminalReporter

__all__ = ["lacks"]

_CANNOT = "left out, which --require-all does not allow"
_BY_A_KIT = (OPTED_OUT, DOES_NOT_APPLY)
"""How the reasons begin of clauses of a conformance kit that are not this machine's to run: never a failure."""


def _root() -> str:
    return "" if os.geteuid() == 0 else "root: run by an ordinary user"


def _user() -> str:
    return "" if os.geteuid() != 0 else "an ordinary user: run by root"


def _binary(name: str) -> str:
    return "" if shutil.which(name) else f"the program {name}"


def _module(name: str) -> str:
    try:
        found = importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        found = False
    return "" if found else f"the module {name}"


def _variable(name: str) -> str:
    return "" if os.environ.get(name) else f"the environment variable {name}"


_PLAIN: Mapping[str, Callable[[], str]] = {"root": _root, "user": _user}
_NAMED: Mapping[str, Callable[[str], str]] = {"bin": _binary, "module": _module, "env": _variable}


def lacks(need: str) -> str:
    """Return what this machine lacks for `need`, or an empty string; raises `ValueError` for an unknown need."""
    sort, colon, name = need.partition(":")
    if not colon and sort in _PLAIN:
        return _PLAIN[sort]()
    if colon and name and sort in _NAMED:
        return _NAMED[sort](name)
    known = [*_PLAIN, *(f"{sort}:NAME" for sort in _NAMED)]
    raise ValueError(f"pytest.mark.needs({need!r}): not one of {', '.join(known)}")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--require-all`."""
    parser.addoption("--require-all", action="store_true", help="a test that is left out (skipped) fails")


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marker."""
    config.addinivalue_line("markers", "needs(*things): what the machine must have (pilot_core.testing.left_out)")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Leave a test out where something it needs is missing."""
    missing = [lack for mark in item.iter_markers("needs") for need in mark.args if (lack := lacks(need))]
    if missing:
        pytest.skip(f"needs {', '.join(dict.fromkeys(missing))}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn a skipped test into a failed one under `--require-all`."""
    report = yield
    skipped = report.skipped and not hasattr(report, "wasxfail")
    if skipped and item.config.getoption("require_all") and not _reason(report).startswith(_BY_A_KIT):
        _fail(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Turn a skipped module into an error under `--require-all`."""
    report = yield
    if report.skipped and collector.config.getoption("require_all"):
        _fail(report)
    return report


def _fail(report: Any) -> None:
    report.outcome = "failed"
    report.longrepr = f"{_CANNOT}: {_reason(report)}"


def _reason(report: Any) -> str:
    """Return why a report's test was skipped."""
    longrepr = report.longrepr
    text = longrepr[2] if isinstance(longrepr, tuple) else str(longrepr)
    return str(text).removeprefix("Skipped: ")


def pytest_terminal_summary(terminalreporter: TerminalReporter) -> None:
    """Print how many tests were left out, and why."""
    reasons: dict[str, list[str]] = defaultdict(list)
    for report in terminalreporter.getreports("skipped"):
        reasons[_reason(report)].append(report.nodeid)
    if not reasons:
        return
    terminalreporter.section(f"left out: {sum(map(len, reasons.values()))} tests")
    for reason, nodes in sorted(reasons.items()):
        terminalreporter.line(f"{len(nodes)} x {reason}")
        for node in nodes:
            terminalreporter.line(f"    {node}")
