"""`pilot-core list-plugins`: show every plugin, also those out of order. None is imported in this process."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pilot_core.api.provider import KINDS
from pilot_core.errors import BadInput, PluginError
from pilot_core.plugins.discovery import discover, ignored_plugins
from pilot_core.plugins.listing import NOT_IN_ORDER, SCHEMA, cells, headings, requirements, row
from pilot_core.plugins.record import Record, Status
from pilot_core.plugins.settings import PluginSettings
from pilot_core.settings import Config

if TYPE_CHECKING:
    import argparse

__all__ = ["SUMMARY", "add_arguments", "run"]

SUMMARY = "Show every plugin that is installed: its state, what it provides, where it comes from."
EPILOG = (
    "States: found (known by its metadata, not imported), ok (imported and in order), error, blocked (by the site), "
    "incompatible (made for another plugin API), shadowed (the site prefers another distribution of that name). "
    "Plugins are looked for in this Python's site-packages and in what [plugins] paths names, never in the working "
    "directory, PYTHONPATH or the user site, nor where others may write."
)
FOLDING = {"provides", "distribution", "where", "capabilities", "requires"}
"""Columns that may take several lines on a narrow terminal."""
LEAST_WIDTH = 16
WAYS = (("stage-in", "pilot_stagein", "read"), ("stage-out", "pilot_stageout", "write"))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--kind", choices=sorted(KINDS), metavar="K", help=f"only this kind: {', '.join(KINDS)}")
    parser.add_argument(
        "--check",
        action="store_true",
        help="import each plugin, in a process of its own, and show what it provides and how long that took",
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument(
        "--json", action="store_true", help='print {"schema": 1, "plugins": [...]}; unknown values are null'
    )
    form.add_argument("--requirements", action="store_true", help="print name==version of their distributions, for pip")
    parser.add_argument(
        "--strict",
        action="store_true",
        help="exit with 3 if a plugin shown is in error (which --check finds), incompatible or shadowed",
    )
    parser.add_argument(
        "--why",
        metavar="URL",
        help="show which stagers would serve that URL, in which order, by what rule (imports stagers as --check does)",
    )
    parser.add_argument("--config", metavar="F", type=Path, help="the pilot's TOML file, for its table [plugins]")
    parser.add_argument(
        "--set", metavar="A.B=V", action="append", default=[], help="one setting, e.g. plugins.block=stager.http"
    )
    parser.epilog = EPILOG


def run(arguments: argparse.Namespace) -> int:
    """Show the plugins and return the exit code."""
    kind = _wanted_kind(arguments)
    settings = Config.read(arguments.config, arguments.set).section("plugins", PluginSettings)
    found = discover(settings)
    records = [record for record in found.records if kind in {None, record.kind}]
    if arguments.check or arguments.why:
        from pilot_core.api.clock import SystemClock
        from pilot_core.plugins.probe import probe_all

        records = probe_all(records, settings, SystemClock())
    for note in (*found.notes, *ignored_plugins(settings)):
        print(f"note: {note}", file=sys.stderr)
    if arguments.requirements:
        print(*requirements(records), sep="\n")
    elif arguments.json:
        _print_json(records, arguments.why)
    elif arguments.why:
        _print_why(records, arguments.why)
    else:
        _print_table(records, checked=arguments.check)
    wrong = any(record.status in NOT_IN_ORDER for record in records)
    return PluginError.exit_code if wrong and arguments.strict else 0


def _wanted_kind(arguments: argparse.Namespace) -> str | None:
    """Return the kind to show, None for all; raises `BadInput` for options that contradict each other."""
    from pilot_core.selection import scheme_of

    if arguments.requirements and (arguments.check or arguments.why is not None):
        raise BadInput("--requirements needs no import: leave --check and --why out")
    if arguments.why is None:
        return str(arguments.kind) if arguments.kind else None
    if arguments.kind not in {None, "stager"}:
        raise BadInput(f"--why is about stagers: leave --kind {arguments.kind} out")
    if not scheme_of(arguments.why):
        raise BadInput(f"--why {arguments.why!r}: not a URL with a scheme, e.g. root://host//path or file:///path")
    return "stager"


# -- why ---------------------------------------------------------------------------------------------------------------


class _Stager(NamedTuple):
    """One way of one stager, as the selection wants it."""

    name: str
    schemes: frozenset[str]
    priority: int
    capabilities: frozenset[str]
    record: Record


def _why(records: Sequence[Record], url: str) -> dict[str, list[dict[str, Any]]]:
    """Return for stage-in and stage-out what would serve a URL, in order, and what would not and why."""
    from pilot_core.api.staging import Replica
    from pilot_core.selection import explain

    answers = {}
    for way, hook, activity in WAYS:
        stagers = [
            _Stager(offer.name, frozenset(offer.schemes), offer.priority, frozenset(offer.capabilities), record)
            for record in records
            for offer in record.offers or ()
            if offer.hook == hook
        ]
        verdicts = explain(stagers, [Replica(url=url)], activity=activity, site_order={})
        rows = [_why_row(v.stager.record, v.place, v.rule, v.text) for v in verdicts]
        for record in records:
            if record.status is not Status.OK:
                rows.append(_why_row(record, None, str(record.status), record.reason))
            elif not any(stager.record is record for stager in stagers):
                rows.append(_why_row(record, None, "task", f"offers no {way}"))
        answers[way] = rows
    return answers


def _why_row(record: Record, place: int | None, rule: str, text: str) -> dict[str, Any]:
    return {
        "place": place,
        "name": record.name,
        "distribution": record.distribution,
        "version": record.version or None,
        "rule": rule,
        "text": text,
    }


def _print_why(records: Sequence[Record], url: str) -> None:
    for way, rows in _why(records, url).items():
        served = [entry for entry in rows if entry["place"]]
        print(f"{way} {url}: {'tried in this order' if served else 'no stager serves it'}")
        lines = [
            [str(entry["place"] or "-"), entry["name"], _owner(entry), f"{entry['rule']}: {entry['text']}"]
            for entry in rows
        ]
        print(*_aligned(lines), sep="\n")
    print("A queue's own order of stagers (`stagers`, and `stagers` of its storages) comes before these rules.")


def _owner(entry: dict[str, Any]) -> str:
    return f"{entry['distribution']} {entry['version'] or ''}".rstrip()


# -- forms -------------------------------------------------------------------------------------------------------------


def _print_json(records: Sequence[Record], url: str | None) -> None:
    import json

    document: dict[str, Any] = {"schema": SCHEMA, "plugins": [row(record) for record in records]}
    if url:
        document["why"] = {"url": url, **_why(records, url)}
    print(json.dumps(document, indent=2))


def _aligned(lines: Sequence[Sequence[str]]) -> list[str]:
    """Return rows of cells as lines of full width: nothing is cut, whatever reads them."""
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))] if lines else []
    return ["  " + "  ".join(map(str.ljust, line, widths)).rstrip() for line in lines]


def _details(record: Record) -> list[str]:
    """Return what stands under a row that is not in order."""
    lines = [f"deprecated: {text}" for text in record.warnings]
    lines += [f"opts out of {text}" for text in record.opt_outs]
    if record.reason:
        lines += [f"reason: {record.reason}", f"next step: {record.next_step}"]
    return lines


def _print_table(records: Sequence[Record], *, checked: bool) -> None:
    if not records:
        print("no plugins", file=sys.stderr)
        return
    if sys.stdout.isatty():
        with contextlib.suppress(ImportError):  # this command must work where others do not
            _print_on_terminal(records, checked=checked)
            return
    head, *lines = _aligned([headings(checked=checked), *(cells(record, checked=checked) for record in records)])
    print(head[2:])
    for record, line in zip(records, lines, strict=True):
        print(line[2:], *(f"    {detail}" for detail in _details(record)), sep="\n")


def _print_on_terminal(records: Sequence[Record], *, checked: bool) -> None:
    """Print the table in colour and as wide as the terminal; details stand between its rows."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    room = Console().width
    wide = _fitting(records, room, checked=checked)
    # what only an import can tell goes below each row where there is no room for it beside
    beside = checked and sum(wide) + 2 * len(wide) <= room
    widths = wide if beside or not checked else _fitting(records, room, checked=False)
    console = Console(highlight=False, width=max(room, sum(widths) + 2 * len(widths)))
    colours = {"ok": "green", "found": "green", "blocked": "yellow", "shadowed": "yellow"}

    def fresh(*, header: bool) -> Table:
        table = Table(box=None, pad_edge=False, show_header=header, padding=(0, 2, 0, 0), header_style="bold")
        for heading, width in zip(headings(checked=beside), widths, strict=True):
            table.add_column(heading, width=width, overflow="fold")
        return table

    table = fresh(header=True)
    for record in records:
        status, *rest = cells(record, checked=beside)
        table.add_row(Text(status, style=colours.get(status, "red")), *map(Text, rest))
        details = _details(record) if beside or not checked else [*_measured(record), *_details(record)]
        if details:
            console.print(table)
            for detail in details:
                console.print(Text(f"    {detail}", style="dim"), soft_wrap=True)
            table = fresh(header=False)
    if table.row_count:
        console.print(table)


def _measured(record: Record) -> list[str]:
    """Return what only an import can tell as a line of its own."""
    names = headings(checked=True)[len(headings(checked=False)) :]
    values = cells(record, checked=True)[-len(names) :]
    line = "; ".join(f"{name}: {value}" for name, value in zip(names, values, strict=True) if value)
    return [line] if line else []


def _fitting(records: Sequence[Record], room: int, *, checked: bool) -> list[int]:
    """Return the columns' widths; where the room does not do, those of long texts give way, the widest first."""
    names = headings(checked=checked)
    lines = [names, *(cells(record, checked=checked) for record in records)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(names))]
    folding = [names.index(name) for name in names if name in FOLDING]
    while sum(widths) + 2 * len(widths) > room:
        widest = max(folding, key=lambda column: widths[column])
        if widths[widest] <= LEAST_WIDTH:
            break
        widths[widest] -= 1
    return widths
