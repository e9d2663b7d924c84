"""What the clauses for communicators share: the other side, a communicator that talks to it, a clock that hurries."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import pytest

from pilot_core.api.cancel import CancelToken, Deadline
from pilot_core.api.communicator import JobRequest
from pilot_core.api.provider import Context
from pilot_core.errors import CommunicationError, HandledError, TransferTimeout
from pilot_core.testing.clock import FakeClock
from pilot_core.testing.kits.base import Kit
from pilot_core.testing.kits.canary import CanaryCredential, shows_secret
from pilot_core.testing.kits.communicator_samples import plain_job, plain_update
from pilot_core.testing.kits.within import PATIENCE, within
from pilot_core.testing.memory_store import QUEUE

if TYPE_CHECKING:
    from pilot_core.api.clock import Clock, Waitable
    from pilot_core.api.communicator import (
        Acquired,
        Communicator,
        JobStatus,
        JobUpdate,
        ServerAnswer,
        WorkerNode,
        WorkerStatus,
    )
    from pilot_core.api.job import Job
    from pilot_core.testing.kits.otherside import OtherSide
    from pilot_core.testing.kits.subject import Subject

__all__ = ["GIVEN_UP", "LIMIT", "CommunicatorBase", "HurriedClock", "Link"]

T = TypeVar("T")
LIMIT = 3600.0
"""Seconds of the clock that a call is given unless the clause says otherwise."""
GIVEN_UP = (CommunicationError, TransferTimeout)
"""What may be raised once the time is used up: `Deadline.raise_if_passed` raises the second."""


class HurriedClock(FakeClock):
    """Pauses are over at once, whatever their length; a wait for the world (a socket, another thread) is a real one."""

    def outside(self, thing: Waitable) -> bool:
        """Say so of everything but a cancellation: events are set by the communicator's own threads."""
        return not isinstance(thing, CancelToken)


class Link:
    """A communicator and what it is called with; every call has to return."""

    def __init__(self, communicator: Communicator, clock: Clock) -> None:
        self.communicator = communicator
        self.clock = clock
        self.cancel = CancelToken()
        self.seconds = LIMIT
        """How far away the deadline of each call is."""
        self.patience = PATIENCE
        """Real seconds within which a call has to return."""

    def acquire(self, request: JobRequest | None = None) -> Sequence[Acquired]:
        """Ask for jobs."""
        asked = request or JobRequest(queue=QUEUE, label="managed")
        return self._call(lambda limits: self.communicator.acquire(asked, **limits), "acquire")

    def update(self, update: JobUpdate | None = None) -> ServerAnswer:
        """Tell a job's state."""
        told = update or plain_update()
        return self._call(lambda limits: self.communicator.update(told, **limits), "update")

    def job_status(self, *job_ids: int) -> Sequence[JobStatus]:
        """Ask for the states of jobs."""
        return self._call(lambda limits: self.communicator.job_status(job_ids, **limits), "job_status")

    def is_alive(self) -> bool:
        """Ask whether the server answers."""
        return self._call(lambda limits: self.communicator.is_alive(**limits), "is_alive")

    def worker_status(self, status: WorkerStatus) -> None:
        """Tell of the pilot."""
        self._call(lambda limits: self.communicator.worker_status(status, **limits), "worker_status")

    def worker_node(self, node: WorkerNode) -> None:
        """Tell of the machine."""
        self._call(lambda limits: self.communicator.worker_node(node, **limits), "worker_node")

    def close(self) -> None:
        """Close it."""
        within(self.communicator.close, "close", seconds=self.patience)

    def _call(self, call: Callable[[Mapping[str, Any]], T], what: str) -> T:
        limits = {"cancel": self.cancel, "deadline": Deadline.after(self.clock, self.seconds)}
        return within(lambda: call(limits), what, seconds=self.patience)


class CommunicatorBase(Kit):
    """Fixtures and helpers of the communicator kit."""

    kind = "communicator"
    dropped: ClassVar[Mapping[str, str]] = {}
    """Fields that the protocol cannot carry, or that the server cannot tell: `"JobUpdate.queue": "why"`.

    Classes are JobUpdate, JobRequest, Job, WorkerStatus and WorkerNode; `CLASS.*` stands for all fields of one.
    """

    @pytest.fixture
    def server(self) -> OtherSide:
        """The other side of the protocol: an `OtherSide`, such as a `ProtocolServer`."""
        missing: OtherSide = self.missing(
            "server", 'yield the other side, e.g. of `with ProtocolServer("server-protocol.NAME", tmp_path) as server`'
        )
        return missing

    @pytest.fixture
    def clock(self) -> HurriedClock:
        """The clock that the communicator is given."""
        return HurriedClock()

    @pytest.fixture
    def context(self, tmp_path: Path, clock: HurriedClock, subject: Subject, server: OtherSide) -> Context:
        """The context that the communicator is given; its credential is a canary, over TLS only."""
        work = tmp_path / "work"
        work.mkdir()
        return Context(
            clock=clock,
            log=logging.getLogger(f"pilot_core.{subject.entry_point}"),
            work_dir=work,
            server_url=server.url,
            ca_file=server.ca_file,
            credential=CanaryCredential() if server.ca_file else None,
        )

    @pytest.fixture
    def connect(self, subject: Subject, settings: Mapping[str, Any], context: Context) -> Iterator[Callable[..., Link]]:
        """Make communicators, with the context changed as told; they are closed in the end."""
        links: list[Link] = []

        def make(**changed: Any) -> Link:
            changed_context = replace(context, **changed)
            made = self.made(subject.providers["pilot_communicators"], settings, changed_context)
            links.append(Link(made, changed_context.clock))
            return links[-1]

        yield make
        for link in links:
            link.close()

    @pytest.fixture
    def link(self, connect: Callable[..., Link]) -> Link:
        """The communicator under test."""
        return connect()

    @pytest.fixture
    def busy(self, link: Link, server: OtherSide) -> Job:
        """A job that was handed out and is running: the plain one."""
        job = plain_job()
        server.offer(job)
        assert [found.id for found in link.acquire()] == [job.id], "acquire did not bring the one job that there was"
        return job

    @pytest.fixture
    def running(self, link: Link, busy: Job) -> Link:
        """The communicator under test, for whose calls the plain job is running."""
        assert busy.id
        return link

    def need(self, server: OtherSide, *faults: str) -> None:
        """Leave a clause out if the other side cannot do these faults."""
        missing = set(faults) - server.faults
        if missing:
            self.does_not_apply(f"the other side cannot do {', '.join(sorted(missing))}")

    def carried(self, name: str) -> None:
        """Leave a clause out if the protocol cannot carry a field (`CLASS.field`)."""
        reason = self.reason(name)
        if reason:
            self.does_not_apply(f"{name}: {reason}")

    def reason(self, name: str) -> str:
        """Return why the protocol cannot carry a field; empty if it can."""
        return self.dropped.get(name, "") or self.dropped.get(f"{name.partition('.')[0]}.*", "")

    def refused(self, call: Callable[[], object], *kinds: type[BaseException], what: str) -> HandledError:
        """Return the error of a call that has to fail with one of these classes, in one line and without secrets."""
        try:
            result = call()
        except HandledError as error:
            wanted = " or ".join(kind.__name__ for kind in kinds)
            assert isinstance(error, kinds), f"{what}: {wanted} is due, not {type(error).__name__}: {error}"
            check_text(error, what)
            return error
        except Exception as error:  # noqa: BLE001  (any: it is told to the author)
            pytest.fail(f"{what}: {type(error).__name__} came through, which the pilot takes for a bug: {error}")
        pytest.fail(f"{what}: it went well, and returned {result!r}; it has to fail")


def check_text(error: BaseException, what: str) -> None:
    """Fail a test whose error is not one line, or shows a secret anywhere along its chain."""
    text = str(error)
    assert text.strip(), f"{what}: the error says nothing"
    assert "\n" not in text and "\r" not in text, f"{what}: the error is not one line: {text!r}"
    seen: BaseException | None = error
    while seen is not None:
        assert not shows_secret(f"{seen} {seen!r}"), f"{what}: the credential shows in {type(seen).__name__}"
        seen = seen.__cause__ or seen.__context__
