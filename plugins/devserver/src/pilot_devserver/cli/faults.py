"""`pilot-core server fault`: have the running server do faults to its clients, see how often each struck, end them."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from pilot_core.errors import BadInput
from pilot_devserver.cli.common import add_state_dir, table

if TYPE_CHECKING:
    import argparse

    from pilot_devserver.client import AdminClient
    from pilot_devserver.faults.rules import Rule

__all__ = ["add_action", "print_kinds", "rule_of", "run"]


def add_action(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the action `fault` with its own actions."""
    text = "have the server do faults to its clients, and see how often they struck"
    fault = actions.add_parser("fault", help=text, description=f"{text.capitalize()}.")
    ways = fault.add_subparsers(dest="way", metavar="ACTION", required=True)
    for name, what in (
        ("add", "add a fault"),
        ("list", "list the faults, with how often each struck"),
        ("clear", "take a fault away, or all of them, and back what they did to the server"),
        ("kinds", "print what faults there are, with their options"),
    ):
        way = ways.add_parser(name, help=what, description=f"{what.capitalize()}.")
        if name != "kinds":
            add_state_dir(way)
        if name == "add":
            way.add_argument("fault", help="what to do, for example reset-after ('kinds' prints them all)")
            way.add_argument(
                "words", nargs="*", metavar="KEY=VALUE", help="when, and how: endpoint=update_job count=2 ..."
            )
        if name == "list":
            way.add_argument("--json", action="store_true", help="print JSON")
        if name == "clear":
            way.add_argument("number", nargs="?", type=int, help="the fault's number [default: all]")


def rule_of(arguments: argparse.Namespace) -> Rule | None:
    """Return the rule that the words of `fault add` make, None for other actions; raises `BadInput`."""
    if arguments.action != "fault" or arguments.way != "add":
        return None
    from pilot_devserver.faults.rules import Rule

    return Rule.from_words(arguments.fault, arguments.words)


def run(client: AdminClient, arguments: argparse.Namespace, rule: Rule | None) -> None:
    """Do one action."""
    if rule is not None:
        added = client.post("faults", rule.to_json())
        print(added["number"])
        print(f"fault {added['number']}: {added['text']}", file=sys.stderr)
    elif arguments.way == "list":
        faults = client.get("faults")["faults"]
        print(json.dumps({"faults": faults}) if arguments.json else _table(faults))
    elif arguments.way == "clear":
        if arguments.number is not None and arguments.number < 1:
            raise BadInput(f"fault {arguments.number}: numbers start at 1; 'pilot-core server fault list' shows them")
        path = "faults/clear" if arguments.number is None else f"faults/{arguments.number}/clear"
        removed = client.post(path)["removed"]
        print(f"{removed} fault{'' if removed == 1 else 's'} removed", file=sys.stderr)


def print_kinds() -> None:
    """Print the table of faults."""
    from pilot_devserver.faults.kinds import CONDITIONS, KINDS

    rows = [("fault", "option", "default", "what it does")]
    for kind in KINDS.values():
        rows.append((kind.name, "", "", kind.help))
        rows += [("", option.name, _default(option.default), option.help) for option in kind.options]
    rows += [("any", option.name, _default(option.default), option.help) for option in CONDITIONS]
    print(table(rows))


def _default(value: Any) -> str:
    return "" if value in (None, "") else str(value).lower() if isinstance(value, bool) else str(value)


def _table(faults: list[dict[str, Any]]) -> str:
    """Return the faults as aligned columns."""
    rows = [("number", "struck", "of", "seen", "fault")]
    for fault in faults:
        count = fault["rule"].get("count", 1)
        of = str(count) if count else "ever"
        rows.append((str(fault["number"]), str(fault["fired"]), of, str(fault["seen"]), fault["text"]))
    return table(rows)
