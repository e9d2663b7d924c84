"""A pytest plugin for the tests of plugins: opt-outs are shown, verdicts written, and kits' assertions explained.

Load it with `-p pilot_core.testing.plugin`, best in the project's `addopts`. The verdicts are what `pilot-core check`
prints: `--kit-report FILE` writes one JSON object a clause, `--kit-only` leaves out whatever is no clause of a kit,
`--kit-whole` tells of clauses that something else deselects.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pilot_core.testing.outcomes import DOES_NOT_APPLY, OPTED_OUT

if TYPE_CHECKING:
    from _pytest.terminal import TerminalReporter

__all__ = ["PROPERTY", "Verdict"]

pytest.register_assert_rewrite("pilot_core.testing.kits")

PROPERTY = "pilot_core_clause"
"""The user property by which a kit tells of its clauses: kind, entry point and text."""
LONGEST_REASON = 400


@dataclass(frozen=True)
class Verdict:
    """What a kit says of one clause."""

    kit: str
    """The kind of plugin."""
    plugin: str
    """The entry point, as far as the author's fixture tells it."""
    clause: str
    """Name of the test, with its parameters."""
    text: str
    """What the clause asks for, in one sentence."""
    outcome: str
    """`passed`, `failed`, `error` (a fixture failed), `opted out` (by the plugin), `does not apply`, or `left out`."""
    reason: str
    """Why it failed or was not tried, in one line."""
    seconds: float
    test: str
    """pytest's name of the test."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    group = parser.getgroup("pilot-core")
    group.addoption("--kit-report", metavar="FILE", help="write each clause's verdict to FILE, one JSON object a line")
    group.addoption("--kit-only", action="store_true", help="run the clauses of conformance kits and nothing else")
    group.addoption("--kit-whole", action="store_true", help="a clause that is deselected is an error in the report")


def pytest_configure(config: pytest.Config) -> None:
    """Listen to the run, once; only where its reports come together."""
    name = "pilot-core-verdicts"
    if not hasattr(config, "workerinput") and not config.pluginmanager.has_plugin(name):
        config.pluginmanager.register(_Verdicts(config.getoption("kit_report", None)), name)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is no clause, if that is asked for."""
    if not config.getoption("kit_only", False):
        return
    from pilot_core.testing.kits.base import Kit  # noqa: PLC0415

    clauses = [item for item in items if issubclass(getattr(item, "cls", None) or object, Kit)]
    if len(clauses) < len(items):
        config.hook.pytest_deselected(items=[item for item in items if item not in clauses])
        items[:] = clauses


class _Verdicts:
    """Makes one verdict of the reports of each clause."""

    def __init__(self, file: str | None) -> None:
        self._file = Path(file) if file else None
        self._reports: dict[str, list[pytest.TestReport]] = {}
        self._opted_out: list[Verdict] = []
        self._found: dict[type, str] = {}
        if self._file:
            self._file.write_text("", encoding="utf-8")

    def pytest_itemcollected(self, item: pytest.Item) -> None:
        """Remember the class of a clause, before anything is deselected."""
        cls = getattr(item, "cls", None)
        if cls is not None and getattr(cls, "kind", None) and hasattr(cls, "does_not_apply"):
            self._found.setdefault(cls, item.nodeid.rpartition("::")[0])

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Tell of the clauses that will not be run, where all of them should be."""
        if not session.config.getoption("kit_whole", False):
            return
        chosen = {(getattr(item, "cls", None), getattr(item, "originalname", "")) for item in session.items}
        for cls, place in self._found.items():
            for name in sorted(name for name in dir(cls) if name.startswith("test_") and (cls, name) not in chosen):
                self._write(_not_run(cls, name, place))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep what was said of a test."""
        self._reports.setdefault(report.nodeid, []).append(report)

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        """Make the verdict."""
        verdict = _verdict(self._reports.pop(nodeid, []))
        if verdict is None:
            return
        if verdict.outcome == "opted out":
            self._opted_out.append(verdict)
        self._write(verdict)

    def _write(self, verdict: Verdict) -> None:
        if self._file:
            with self._file.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(asdict(verdict)) + "\n")

    def pytest_terminal_summary(self, terminalreporter: TerminalReporter) -> None:
        """Name every clause that a plugin opts out of, with its reason."""
        if self._opted_out:
            terminalreporter.section(f"opted out: {len(self._opted_out)} clauses")
            for verdict in self._opted_out:
                terminalreporter.line(f"{verdict.kit} {verdict.clause}: {verdict.reason}")


def _not_run(cls: type, name: str, place: str) -> Verdict:
    """Return the verdict on a clause that was deselected."""
    return Verdict(
        kit=cls.kind,  # type: ignore[attr-defined]
        plugin=f"{cls.kind}.?",  # type: ignore[attr-defined]
        clause=name,
        text=" ".join((getattr(cls, name).__doc__ or "").split("\n\n")[0].split()),
        outcome="error",
        reason="it was not run: pytest's options or a conftest.py of the project leave it out",
        seconds=0.0,
        test=f"{place}::{name}",
    )


def _verdict(reports: list[pytest.TestReport]) -> Verdict | None:
    """Return what the reports of one test come to, None for a test that is no clause."""
    told = [value for report in reports for name, value in report.user_properties if name == PROPERTY]
    if not told:
        return None
    clause: Any = told[0]
    outcome, reason = "passed", ""
    for report in reports:
        if report.failed:
            outcome, reason = "error" if report.when == "setup" else "failed", _failure(report)
            break
        if report.skipped and hasattr(report, "wasxfail"):
            outcome, reason = "failed", f"{_failure(report)} (hidden by an xfail; say so in KIT_OPT_OUTS instead)"
            break
        if report.skipped:
            outcome, reason = _left_out(report)
    return Verdict(
        kit=clause["kit"],
        plugin=clause["plugin"],
        clause=reports[0].nodeid.rpartition("::")[2],
        text=clause["text"],
        outcome=outcome,
        reason=reason,
        seconds=round(sum(report.duration for report in reports), 4),
        test=reports[0].nodeid,
    )


def _left_out(report: pytest.TestReport) -> tuple[str, str]:
    """Return how and why a clause was not tried."""
    text = str(report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr)
    text = text.removeprefix("Skipped: ")
    for prefix in (OPTED_OUT, DOES_NOT_APPLY):
        if text.startswith(prefix):
            return prefix.rstrip(": "), text.removeprefix(prefix)
    return "left out", text


def _failure(report: pytest.TestReport) -> str:
    """Return in one line why a test failed."""
    crash: Any = getattr(report.longrepr, "reprcrash", None)
    text = str(crash.message if crash else report.longrepr).removeprefix("Failed: ")
    text = " ".join(text.removeprefix("AssertionError: ").split())
    return text if len(text) <= LONGEST_REASON else text[: LONGEST_REASON - 4] + " ..."
