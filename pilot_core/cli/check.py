"""`pilot-core check`: run a plugin's conformance kits and print a verdict for each clause."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pilot_core.errors import HandledError, PluginError

if TYPE_CHECKING:
    import argparse

    from pilot_core.checking.run import Checked
    from pilot_core.checking.target import Target

__all__ = ["SUMMARY", "add_arguments", "run"]

SUMMARY = "Run a plugin's conformance kits and print a verdict for each clause."
EPILOG = (
    "Kits are the classes in tests/test_kit.py of a project, or in the test_kit.py that an installed distribution "
    "ships. Outcomes: kept; FAILED; ERROR (a fixture failed); opted out (the plugin says why it does not keep the "
    "clause); does not apply; left out (this machine lacks something). Exit code 0: no clause failed; 3: one did, or "
    "there is no kit."
)
SCHEMA = 1
WORDS = {"passed": "kept", "failed": "FAILED", "error": "ERROR"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("target", metavar="DIST-or-PATH", help="an installed distribution, or a project's directory")
    parser.add_argument(
        "--isolated",
        action="store_true",
        help="in a fresh virtual environment with nothing but the core and this plugin, instead of this one",
    )
    parser.add_argument(
        "--with",
        dest="beside",
        metavar="D",
        type=Path,
        action="append",
        default=[],
        help="with --isolated: install this project too, e.g. one that the plugin depends on; may be repeated",
    )
    parser.add_argument("--failed", action="store_true", help="print only the clauses that were not kept")
    parser.add_argument("--json", action="store_true", help='print {"schema": 1, "clauses": [...], ...}')
    parser.epilog = EPILOG


def run(arguments: argparse.Namespace) -> int:
    """Run the kits; returns the exit code."""
    from pilot_core.checking.target import target_of
    from pilot_core.signals import tidy_end

    target = target_of(arguments.target)
    if target.note and not arguments.isolated:
        print(f"note: {target.note}", file=sys.stderr)
    with tidy_end():
        checked = _checked(arguments, target)
    if arguments.json:
        _print_json(target, checked)
    else:
        _print_sum(target, checked)
    return 0 if checked.ok else PluginError.exit_code


def _checked(arguments: argparse.Namespace, target: Target) -> Checked:
    """Run the kits in the Python that is asked for; verdicts are printed as they come."""
    from pilot_core.checking.run import require_pytest, run_kits
    from pilot_core.places import scratch_directory

    printer = _Printer(quiet=arguments.json, failed_only=arguments.failed)
    if arguments.isolated:
        from pilot_core.checking.isolated import fresh_environment

        with scratch_directory("pilot-core-check-") as folder:
            print(f"making a fresh environment for {target.name} ...", file=sys.stderr)
            python = fresh_environment(folder, target, arguments.beside)
            return run_kits(python, target, printer.tell)
    if not target.installed:
        raise PluginError(
            f"{target.name} is not installed in this Python; install it (pip install -e {target.project}), "
            "or check it with --isolated"
        )
    require_pytest()
    return run_kits(sys.executable, target, printer.tell)


class _Printer:
    """Prints verdicts as they come, plugin by plugin."""

    def __init__(self, *, quiet: bool, failed_only: bool) -> None:
        self._quiet = quiet
        self._failed_only = failed_only
        self._plugin = ""

    def tell(self, verdict: Mapping[str, Any]) -> None:
        """Print one verdict."""
        broken = verdict["outcome"] in {"failed", "error"}
        if self._quiet or (self._failed_only and not broken):
            return
        if verdict["plugin"] != self._plugin:
            self._plugin = verdict["plugin"]
            print(self._plugin)
        outcome = WORDS.get(verdict["outcome"], verdict["outcome"])
        name, bracket, parameters = verdict["clause"].partition("[")
        clause = f"{name.removeprefix('test_').replace('_', ' ')} {bracket}{parameters}".rstrip()
        print(f"  {outcome:14} {verdict['seconds']:6.2f} s  {clause}", flush=True)
        if verdict["reason"] and verdict["outcome"] != "passed":
            print(f"{'':27}{verdict['reason']}", flush=True)
        if broken and verdict["text"]:
            print(f"{'':27}asked for: {verdict['text']}", flush=True)


def _print_sum(target: Target, checked: Checked) -> None:
    """Print how many clauses had which outcome."""
    counts = checked.count()
    words = WORDS if counts.get("does not apply") == 1 else {**WORDS, "does not apply": "do not apply"}
    parts = [f"{counts[name]} {words.get(name, name)}" for name in sorted(counts)]
    seconds = sum(verdict["seconds"] for verdict in checked.verdicts)
    name = f"{target.name} {target.version}".rstrip()
    print(f"{name}: {len(checked.verdicts)} clauses in {seconds:.1f} s: {', '.join(parts)}")
    if checked.code not in {0, 1}:
        from pilot_core.checking.run import how_ended

        raise HandledError(f"the run of {target.name}'s kits broke off: {how_ended(checked.output, checked.code)}")
    if "passed" not in counts:
        raise PluginError(f"{target.name} keeps no clause at all: what is opted out or left out is not tried")


def _print_json(target: Target, checked: Checked) -> None:
    import json

    document = {
        "schema": SCHEMA,
        "distribution": target.name,
        "version": target.version or None,
        "project": str(target.project) if target.project else None,
        "ok": checked.ok,
        "counts": checked.count(),
        "clauses": list(checked.verdicts),
    }
    print(json.dumps(document, indent=2))
