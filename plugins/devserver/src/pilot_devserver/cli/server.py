"""`pilot-core server`: look at and steer a running development server."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from pilot_core.api.clock import SystemClock
from pilot_core.errors import BadInput
from pilot_devserver.cli import faults
from pilot_devserver.cli.common import add_state_dir, table
from pilot_devserver.statedir import StateDir

if TYPE_CHECKING:
    import argparse

    from pilot_devserver.client import AdminClient

__all__ = ["SUMMARY", "add_arguments", "run"]

SUMMARY = "Look at and steer a running development server."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the actions."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    for name, text in (
        ("jobs", "list the jobs"),
        ("job", "show all that the server knows of a job, as JSON"),
        ("kill", "have a job killed"),
        ("command", "have a job's pilot told something with its next update, e.g. tobekilled or softkill"),
        ("debug", "switch a job's debug mode on"),
        ("watch", "print every change of a job, as lines of JSON, until interrupted"),
    ):
        action = actions.add_parser(name, help=text, description=text.capitalize() + ".")
        add_state_dir(action)
        if name == "jobs":
            action.add_argument("--json", action="store_true", help="print JSON")
        if name in {"job", "kill", "command", "debug"}:
            action.add_argument("id", type=int, help="PandaID")
        if name == "command":
            action.add_argument("text", help="the command, at most 250 characters")
    faults.add_action(actions)


def run(arguments: argparse.Namespace) -> int:
    """Do one action."""
    from pilot_devserver.client import running_server

    if arguments.action == "fault" and arguments.way == "kinds":
        faults.print_kinds()
        return 0
    rule = faults.rule_of(arguments)
    client = running_server(StateDir(arguments.state_dir, SystemClock()))
    if arguments.action == "jobs":
        jobs = client.get("jobs")["jobs"]
        print(json.dumps({"jobs": jobs}) if arguments.json else _jobs_table(jobs))
    elif arguments.action == "job":
        print(json.dumps(client.get(f"jobs/{arguments.id}")["job"], indent=2))
    elif arguments.action == "fault":
        faults.run(client, arguments, rule)
    elif arguments.action == "watch":
        for change in client.changes():
            print(json.dumps(change), flush=True)
    else:
        _steer(client, arguments)
    return 0


def _steer(client: AdminClient, arguments: argparse.Namespace) -> None:
    """Kill a job, set its command or its debug mode; raises `BadInput` if the server did not do it."""
    body = {"command": arguments.text} if arguments.action == "command" else {}
    answer = client.post(f"jobs/{arguments.id}/{arguments.action}", body)
    if not answer["done"]:
        reason = answer["text"] or "it has ended already"
        raise BadInput(f"job {arguments.id}: the server did not accept that: {reason}")
    print(f"job {arguments.id}: done; a pilot that has the job hears of it with its next update", file=sys.stderr)


def _jobs_table(jobs: list[dict[str, Any]]) -> str:
    """Return the jobs as aligned columns."""
    rows = [("PandaID", "state", "queue", "label", "name", "node")]
    rows += [(str(j["id"]), j["status"], j["queue"], j["label"], j["name"], j["node"]) for j in jobs]
    return table(rows)
