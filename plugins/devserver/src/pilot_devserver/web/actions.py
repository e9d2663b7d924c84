"""What the buttons and forms do: kill, command, debug, faults, submit. Each says in one line what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pilot_core.errors import BadInput
from pilot_devserver.admin import KILL_CODE
from pilot_devserver.jobfile import Preparation
from pilot_devserver.web.fault_pages import rule_of
from pilot_devserver.web.layout import Notice
from pilot_devserver.web.submit_page import template_of

if TYPE_CHECKING:
    from pilot_devserver.faults import Faults
    from pilot_devserver.site import Site
    from pilot_devserver.store import SqliteStore
    from pilot_devserver.web.exchanges import ExchangeLog

__all__ = ["Actions"]

_NEXT = "a pilot that has the job hears of it with its next update"


class Actions:
    """Changes the server's state on behalf of a page.

    Its methods block; they raise `HandledError` for what the user can mend, and `StoreUnavailable`.
    """

    def __init__(
        self, store: SqliteStore, site: Site, transformations: Path, *, exchanges: ExchangeLog, faults: Faults
    ) -> None:
        self._store = store
        self._site = site
        self._transformations = transformations
        self._exchanges = exchanges
        self._faults = faults

    def to_job(self, job_id: int, what: str, values: Mapping[str, str]) -> Notice:
        """Kill a job, command its pilot or switch its debug mode: `what` is the last part of the form's address."""
        if what == "kill":
            done = self._store.kill(job_id, user="admin", production=True, code=KILL_CODE)
            return Notice(
                f"Job {job_id} is being killed: {_NEXT}." if done else f"Job {job_id} has ended already.", done
            )
        if what == "command":
            command = values.get("command", "").strip()
            if not command:
                raise BadInput("give a command")
            done, text = self._store.set_command(job_id, command)
            return Notice(
                f"Job {job_id} will be told {command!r}: {_NEXT}." if done else f"Job {job_id}: {text}.", done
            )
        if what in ("debug-on", "debug-off"):
            text = self._store.set_debug(job_id, what == "debug-on")
            done = text == "Succeeded"
            return Notice(f"Debug mode of job {job_id} is {what[6:]}." if done else f"Job {job_id}: {text}.", done)
        raise BadInput(f"there is no {what} of a job")

    def add_fault(self, values: Mapping[str, str]) -> Notice:
        """Put a fault in force."""
        fault = self._faults.add(rule_of(values))
        return Notice(f"Fault {fault.number} is in force: {fault.rule}.")

    def remove_fault(self, values: Mapping[str, str]) -> Notice:
        """Take a fault away."""
        text = values.get("number", "")
        done = text.isascii() and text.isdigit() and len(text) < 20 and self._faults.remove(int(text))
        return Notice(f"Fault {text} is removed." if done else "There is no such fault any more.", done)

    def clear_faults(self) -> Notice:
        """Take all faults away."""
        return Notice(f"{self._faults.clear()} faults are removed.")

    def clear_exchanges(self) -> Notice:
        """Forget the exchanges."""
        self._exchanges.clear()
        return Notice("All exchanges are forgotten.")

    def submit(self, values: Mapping[str, str], server_url: str) -> tuple[list[int], Notice]:
        """Submit the copies of a job; return their ids."""
        template = template_of(values)
        preparation = Preparation(self._site.queues.values(), self._transformations, server_url)
        ids = self._store.submit(preparation.specs(template))
        text = f"Job {ids[0]} is submitted." if len(ids) == 1 else f"Jobs {ids[0]} to {ids[-1]} are submitted."
        return ids, Notice(text)
