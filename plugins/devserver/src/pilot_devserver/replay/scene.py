"""What the server's database held before each recorded request, and how it is brought there.

Nothing here is seen by the protocols: the scene changes the store between the requests, by the store's own methods, and
the answers come from the protocols alone. What it knows comes from

* the requests and their titles: the queue and its status, the database stopped, secrets stored, ids of jobs;
* the descriptions of jobs in the answers to acquire, which are turned back into specifications (`answers`), and their
  `nSent`, the number of jobs that other pilots had just taken;
* the dates: time passes in the store as it did in the recordings, and PanDA's Adder, which ran there in a loop of its
  own, runs at the points of a fixed cycle.

A job that a request names, and that no answer shows, is made without files, in a queue of its own; if the title says
what became of it in an exchange that is not in the files, that is done first.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from pilot_core.api.server import JobFilter
from pilot_devserver.replay.answers import pilot_secrets, shown_jobs, specification
from pilot_devserver.store_jobs import JobSpec, user_name

if TYPE_CHECKING:
    from pilot_devserver.replay.recording import Exchange
    from pilot_devserver.store import SqliteStore

__all__ = ["Scene"]

ADDER_PERIOD = 5.43
"""Seconds between two runs of the Adder, counted from 1970: the widest fit to what the dates of the recordings tell.

It was found in `holding` at 14:01:13-15, 14:01:17-19 and archived at 14:01:16, 14:02:22, 14:02:32 and 14:03:10.
"""
NO_SUCH_JOB = 900_000
"""Ids from here on were made up by who recorded, to ask for jobs that do not exist."""
OTHER_QUEUE = "REPLAY_OTHER"
SENT_SECONDS = 60.0
LOOK_AHEAD = 8
"""How many numbers later a job is handed out that an earlier exchange did not match."""
_ID_KEYS = ("job_id", "job_ids", "jobId", "pandaID", "ids")


class Scene:
    """Prepares a store for one exchange after the other."""

    def __init__(self, store: SqliteStore, exchanges: Sequence[Exchange]) -> None:
        self._store = store
        self._exchanges = exchanges
        self._time: float | None = None
        self._submitted: set[int] = set()
        self._jobs = [shown_jobs(exchange) for exchange in exchanges]
        self._secrets = _secrets(exchanges)

    def prepare(self, index: int) -> None:
        """Bring the store to where it was before an exchange; exchanges are prepared in their order."""
        exchange, title = self._exchanges[index], self._exchanges[index].title
        self._store.available = True
        queue = _queue(exchange)
        self._pass_time(index, queue)
        if queue:
            # the only queue status that shows in a protocol
            self._store.set_queue(queue, status="test" if "test status" in title else "online")
        self._submit(self._next_with_jobs(index) if "no match" in title else index)
        self._add_unseen(exchange)
        self._add_secrets(index)
        self._store.available = "PostgreSQL stopped" not in title

    # -- time ----------------------------------------------------------------------------------------------------------

    def _pass_time(self, index: int, queue: str) -> None:
        """Let the time pass since the exchange before, and do what the Adder and other pilots did meanwhile."""
        time = self._exchanges[index].time
        if time is None:
            return
        before, self._time = self._time if self._time is not None else time, time
        passed = max(0.0, time - before)
        # other pilots took their jobs as early as may be, if that still counts now
        early = passed < SENT_SECONDS
        if early:
            self._take_as_other_pilots(index, queue, SENT_SECONDS - passed)
        self._store.pass_time(passed)
        if not early:
            self._take_as_other_pilots(index, queue, SENT_SECONDS)
        # a series that was recorded earlier than the one before does not see what that left undone
        if time < before or _cycle(time) > _cycle(before):
            self._store.settle()

    # -- jobs ----------------------------------------------------------------------------------------------------------

    def _next_with_jobs(self, index: int) -> int:
        """Return the next exchange that shows jobs, if it belongs to what the title tells: that they do not match."""
        here = self._exchanges[index]
        for later in range(index, len(self._jobs)):
            there = self._exchanges[later]
            if self._jobs[later] and there.series == here.series and there.number - here.number <= LOOK_AHEAD:
                return later
        return index

    def _submit(self, index: int) -> None:
        """Submit the jobs that an answer shows."""
        exchange = self._exchanges[index]
        packed = "(ej)" in exchange.title or "encoded job parameters" in exchange.title
        for job in self._jobs[index]:
            if job["PandaID"] not in self._submitted:
                spec = specification(job, _queue(exchange), packed_parameters=packed)
                self._store.submit([spec], first_id=job["PandaID"])
                self._submitted.add(job["PandaID"])

    def _add_unseen(self, exchange: Exchange) -> None:
        """Make the jobs that a request names and no answer before it has shown."""
        for job_id in _named_jobs(exchange):
            if job_id in self._submitted or not 0 < job_id < NO_SUCH_JOB:
                continue
            self._store.submit([JobSpec(queue=OTHER_QUEUE)], first_id=job_id)
            self._submitted.add(job_id)
        for job_id in _named_jobs(exchange):
            if job_id in self._submitted:
                self._bring_to(job_id, exchange.title)

    def _bring_to(self, job_id: int, title: str) -> None:
        """Do to a job what its title tells of before the request, unless it was done in another exchange."""
        job = self._store.get(job_id)
        if job is None or job.status in ("finished", "failed", "cancelled"):
            return
        if re.search("after kill|being killed", title) and job.command != "tobekilled":
            self._store.update(job_id, "running", attempt=job.attempt, values={})
            self._store.kill(job_id)
        elif re.search("archived|still holding|finished again", title) and job.status != "holding":
            self._store.update(job_id, "finished", attempt=job.attempt, values={})
        if "archived" in title:
            self._store.settle()

    def _take_as_other_pilots(self, index: int, queue: str, seconds: float) -> None:
        """Have other pilots take jobs, as many as an answer's `nSent` counts beyond what is in the recordings."""
        jobs = self._jobs[index]
        if not jobs or jobs[0].get("nSent") in (None, 0):
            return
        missing = jobs[0]["nSent"] - len(jobs) - self._store.sent_count(queue, seconds)
        if missing < 0:
            self._hear_of_pilots(queue, seconds, -missing)
        if missing > 0:
            first = NO_SUCH_JOB - 10 * (index + 1)
            ghosts = self._store.submit([JobSpec(queue=queue, priority=10**6)] * missing, first_id=first)
            self._store.dispatch(JobFilter(queue=queue, limit=len(ghosts)))

    def _hear_of_pilots(self, queue: str, seconds: float, count: int) -> None:
        """Have pilots report what the recordings do not show, so that fewer jobs are just sent."""
        sent = [job for job in self._store.jobs(queue=queue, status="sent") if job.label in ("managed", "test")]
        counted = [job for job in sent if job.history[-1][0] > self._store.now() - seconds]
        for job in counted[:count]:
            self._store.update(job.id, "running", attempt=job.attempt, values={})

    # -- secrets -------------------------------------------------------------------------------------------------------

    def _add_secrets(self, index: int) -> None:
        for owner, secrets in self._secrets.get(index, ()):
            for key, value in secrets.items():
                self._store.set_secret(owner, key, value)
        for job in self._jobs[index]:
            if "secrets" in job:
                for key, value in json.loads(job["secrets"]).items():
                    self._store.set_secret(user_name(job["prodUserID"]), key, value)


def _cycle(time: float) -> int:
    """Return the number of the Adder's last run before the end of a second."""
    return math.floor(time / ADDER_PERIOD)


def _secrets(exchanges: Sequence[Exchange]) -> dict[int, list[tuple[str, dict[str, Any]]]]:
    """Return the pilots' secrets with the exchange before which they are stored.

    That is the one whose title says so, or else the first that shows them.
    """
    shown = [(index, secrets) for index, exchange in enumerate(exchanges) if (secrets := pilot_secrets(exchange))]
    if not shown:
        return {}
    index, secrets = shown[0]
    told = [place for place, exchange in enumerate(exchanges) if re.search("pilot.* secrets stored", exchange.title)]
    return {min([index, *told]): [("", secrets)]}


def _queue(exchange: Exchange) -> str:
    params = exchange.parameters
    found = params.get("site_name", params.get("siteName", ""))
    return found if isinstance(found, str) else ""


def _named_jobs(exchange: Exchange) -> list[int]:
    """Return the ids of jobs that a request names."""
    params = exchange.parameters
    parts: list[Any] = [params]
    bulk = params.get("job_list", params.get("jobList"))
    if isinstance(bulk, str):
        try:
            bulk = json.loads(bulk)
        except ValueError:
            bulk = None
    parts += bulk if isinstance(bulk, list) else []
    named = [part[key] for part in parts if isinstance(part, dict) for key in _ID_KEYS if key in part]
    return [int(word) for value in named for word in _words(value)]


def _words(value: Any) -> Iterator[str]:
    """Yield the numbers in a value: a number, a list, or text with separators."""
    for item in value if isinstance(value, list) else [value]:
        if isinstance(item, (int, str)) and not isinstance(item, bool):
            yield from re.findall(r"\b\d{1,18}\b", str(item))
