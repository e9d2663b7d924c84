"""`pilot-core demo`: watch the pilot run real jobs from a development server on this machine."""

from __future__ import annotations

import json
import shutil
import signal
import sys
import threading
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pilot_core.api.clock import SystemClock
from pilot_core.errors import BadInput, CommunicationError, HandledError
from pilot_devserver.cli.demo_view import stdout_view, tables
from pilot_devserver.demo.jobs import DemoJob, demo_jobs
from pilot_devserver.demo.processes import PilotProcess, Places, ServerProcess, tail
from pilot_devserver.files import write_file

if TYPE_CHECKING:
    import argparse

    from pilot_devserver.cli.demo_view import PlainView, TerminalView
    from pilot_devserver.client import AdminClient
    from pilot_devserver.demo.verify import JobResult

__all__ = ["SUMMARY", "add_arguments", "run"]

SUMMARY = (
    "Start a development server on loopback, give it jobs with real data, run the pilot as its own process against it, "
    "and verify every output."
)
QUEUE = "DEMO"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "--output-dir",
        type=Path,
        default=Path("demo-output"),
        metavar="D",
        help="directory for the outputs and logs; that of an earlier demo is emptied first [default: ./%(default)s]",
    )
    parser.add_argument(
        "--communicator",
        default="panda",
        metavar="NAME",
        help="protocol in which pilot and server talk: both its sides have to be installed [default: %(default)s]",
    )
    parser.add_argument("--keep", action="store_true", help="keep the server's and the pilot's own directories too")
    parser.add_argument("--json", action="store_true", help="print the result as JSON on standard output")


def run(arguments: argparse.Namespace) -> int:
    """Run the demo; returns 0 only if every job ended as it should and every output was verified."""
    if sys.platform != "linux":
        raise HandledError("'pilot-core demo' runs the pilot, which needs Linux 5.4 or newer")
    # an end from outside takes the same way as Ctrl-C, so that server and pilot are ended in order
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    clock = SystemClock()
    begun = clock.monotonic()
    places = _make_places(arguments.output_dir)
    shown = sys.stderr if arguments.json else sys.stdout
    jobs = demo_jobs()
    with stdout_view(jobs, shown) as view:
        view.say(f"output in {places.root}")
        server = ServerProcess(places, QUEUE, arguments.communicator)
        try:
            view.say(f"server: {server.facts['url']} (TLS, own authority), protocol {arguments.communicator}")
            code, results = _run_jobs(server, places, jobs, view, arguments.communicator)
        finally:
            server.end()
    return _finish(arguments, places, code, results, clock.monotonic() - begun)


def _run_jobs(
    server: ServerProcess, places: Places, jobs: list[DemoJob], view: PlainView | TerminalView, communicator: str
) -> tuple[int, list[JobResult]]:
    """Submit the jobs and run the pilot until the server has no more; returns its exit code and the verdicts."""
    from pilot_devserver.client import AdminClient
    from pilot_devserver.demo.verify import verify
    from pilot_devserver.statedir import StateDir

    state = StateDir(places.state, SystemClock())
    client = AdminClient(server.facts["url"], state.ca_file, state.admin_cert, state.admin_key)
    watcher = _watch(client, view)
    ids = _submit(client, state, jobs)
    pilot = PilotProcess(places, server.facts, communicator)
    try:
        view.say(pilot.command)
        code = pilot.wait()
    except BaseException:
        pilot.end()
        raise
    records = [client.get(f"jobs/{job_id}")["job"] for job_id in ids]
    # the stream ends with the server, after the last change was sent
    server.end()
    watcher.join()
    return code, [verify(job, record) for job, record in zip(jobs, records, strict=True)]


def _submit(client: AdminClient, state: Any, jobs: list[DemoJob]) -> list[int]:
    """Bring the inputs to the storage and the jobs to the server; returns their ids."""
    from pilot_devserver.jobfile import Preparation
    from pilot_devserver.site import SiteQueue

    queues = [SiteQueue(queue["name"], Path(queue["storage"])) for queue in client.get("site")["queues"]]
    preparation = Preparation(queues, state.transformations, client.url)
    specs = [asdict(spec) for job in jobs for spec in preparation.specs(job.template)]
    return list(client.post("jobs", {"jobs": specs})["ids"])


def _watch(client: AdminClient, view: PlainView | TerminalView) -> threading.Thread:
    """Show every change as the server tells of it, in a thread; return once the server is listening to us."""
    listed = threading.Event()

    def show() -> None:
        # a server that is ended in the middle of its stream: what became of the jobs is asked for in another way
        with suppress(CommunicationError):
            for change in client.changes():
                if "listed" in change:
                    listed.set()
                else:
                    view.update(change)
        listed.set()

    thread = threading.Thread(target=show, name="progress", daemon=True)
    thread.start()
    listed.wait()
    return thread


def _finish(arguments: argparse.Namespace, places: Places, code: int, results: list[JobResult], seconds: float) -> int:
    """Tell what came of it, tidy up, and return the exit code."""
    problems = [f"{result.name}: {problem}" for result in results for problem in result.problems]
    problems += [f"{r.name}: {file.lfn}: {file.problem}" for r in results for file in r.files if file.problem]
    if code:
        problems.append(f"the pilot's exit code was {code}")
    done = {
        "schema": 1,
        "ok": not problems,
        "seconds": round(seconds, 3),
        "storage": str(places.storage),
        "pilot_exit_code": code,
        "jobs": [result.to_json() for result in results],
        "problems": problems,
    }
    write_file(places.result, json.dumps(done, indent=2) + "\n")
    if not arguments.keep and not problems:
        for folder in (places.state, places.work):
            shutil.rmtree(folder)
    if arguments.json:
        print(json.dumps(done, indent=2))
    else:
        _tell(places, results, problems, seconds)
    return 1 if problems else 0


def _tell(places: Places, results: list[JobResult], problems: list[str], seconds: float) -> None:
    """Print the tables, what was found in the outputs, and how it went."""
    tables(results, sys.stdout)
    print()
    for result in results:
        print(f"{result.name}: {result.found or 'not verified'}")
    files = [file for result in results for file in result.files]
    good = sum(not file.problem for file in files)
    print(f"\noutputs: {places.storage}\nlogs:    {places.pilot_log}, {places.server_log}")
    print(
        f"{sum(result.ok for result in results)} of {len(results)} jobs as they should be, {good} of {len(files)} ",
        end="",
    )
    print(f"files verified, {seconds:.1f} s")
    if problems:
        sys.stdout.flush()
        print("\nthe end of the pilot's log:\n" + tail(places.pilot_log), file=sys.stderr)
        for problem in problems:
            print(f"pilot-core demo: {problem}", file=sys.stderr)


def _make_places(root: Path) -> Places:
    """Make the directories, empty; raises `BadInput` if there is something else than an earlier demo's output."""
    places = Places(root)
    try:
        if places.root.exists() and any(places.root.iterdir()) and not places.result.is_file():
            raise BadInput(f"{places.root} is not empty and not from an earlier demo; name another with --output-dir")
        for folder in (places.state, places.storage, places.work):
            if folder.exists():
                shutil.rmtree(folder)
            folder.mkdir(parents=True)
        write_file(places.result, json.dumps({"schema": 1, "ok": False}) + "\n")
    except OSError as error:
        raise BadInput(f"{error.filename or places.root}: {error.strerror}; name another with --output-dir") from None
    return places
