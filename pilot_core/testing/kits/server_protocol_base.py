"""What the clauses for server protocols share: the protocol over a store in memory, without a socket."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, cast

import pytest

from pilot_core.api.communicator import JobRequest
from pilot_core.api.server import Identity, ServerRequest, ServerResponse
from pilot_core.testing.kits.base import Kit
from pilot_core.testing.kits.canary import shows_secret
from pilot_core.testing.kits.protocol_server import PILOT, STRANGER
from pilot_core.testing.kits.within import within
from pilot_core.testing.memory_store import QUEUE, MemoryStore

if TYPE_CHECKING:
    from pilot_core.api.communicator import JobUpdate
    from pilot_core.api.provider import Context
    from pilot_core.api.server import ServerProtocol
    from pilot_core.testing.kits.dialect import Dialect
    from pilot_core.testing.kits.subject import Subject

__all__ = ["PILOT", "STRANGER", "Counter", "ServerProtocolBase"]


T = TypeVar("T")


class Counter:
    """A protocol, its store, and how it is spoken to: what a client does at the counter."""

    def __init__(self, protocol: ServerProtocol, store: MemoryStore, dialect: Dialect) -> None:
        self.protocol = protocol
        self.store = store
        self.dialect = dialect
        self.identity: Identity | None = PILOT
        self.denied = ""

    def respond(self, request: ServerRequest) -> ServerResponse:
        """Return the response to a request, which has to be one."""
        asked = replace(request, identity=self.identity, denied=self.denied)
        assert self.protocol.handles(asked), f"handles() says no to {asked.method} {asked.path}, which is its own"
        response = within(lambda: self._without_raising(asked), "respond")
        check_response(response)
        return response

    def _without_raising(self, request: ServerRequest) -> ServerResponse:
        try:
            with self.store.request():
                return self.protocol.respond(request, self.store)
        except Exception as error:  # noqa: BLE001  (any: it is told to the author)
            pytest.fail(
                f"respond() raised {type(error).__name__}: {error}; it has to answer {request.method} {request.path} "
                f"with the body {request.body[:200]!r}, with an error if need be"
            )

    def acquire(self, jobs: int = 1, **values: Any) -> Sequence[int] | None:
        """Ask for jobs; None = refused."""
        asked = JobRequest(**{"queue": QUEUE, "label": "managed", "node": "slot1@wn1", "jobs": jobs, **values})
        return self._read(self.dialect.acquired, self.respond(self.dialect.acquire(asked)))

    def update(self, update: JobUpdate) -> Sequence[str] | None:
        """Tell a job's state; None = not taken."""
        return self._read(self.dialect.commands, self.respond(self.dialect.update(update)))

    def status(self, *job_ids: int) -> Mapping[int, str] | None:
        """Ask for the states of jobs; None = refused."""
        return self._read(self.dialect.statuses, self.respond(self.dialect.status(job_ids)))

    @staticmethod
    def _read(reader: Callable[[ServerResponse], T], response: ServerResponse) -> T:
        try:
            return reader(response)
        except ValueError as error:
            pytest.fail(
                f"the dialect does not understand the answer {response.status} {response.body[:300]!r}: {error}"
            )


class ServerProtocolBase(Kit):
    """Fixtures and helpers of the server protocol kit."""

    kind = "server-protocol"
    dropped: ClassVar[Mapping[str, str]] = {}
    """Fields that the protocol cannot carry: `"JobUpdate.queue": "why"`; classes are JobUpdate and JobRequest."""

    @pytest.fixture
    def dialect(self) -> Dialect:
        """How the protocol is spoken to: a `Dialect`."""
        missing: Dialect = self.missing("dialect", "return an object with the methods of pilot_core.testing.Dialect")
        return missing

    @pytest.fixture
    def store(self) -> MemoryStore:
        """The store that the protocol is given."""
        return MemoryStore()

    @pytest.fixture
    def another(
        self, subject: Subject, settings: Mapping[str, Any], context: Context, store: MemoryStore, dialect: Dialect
    ) -> Callable[[], Counter]:
        """Make instances of the protocol over the same store."""

        def make() -> Counter:
            provider = subject.providers["pilot_server_protocols"]
            own = replace(context, log=logging.getLogger(f"pilot_core.{subject.entry_point}"))
            return Counter(cast("ServerProtocol", self.made(provider, settings, own)), store, dialect)

        return make

    @pytest.fixture
    def counter(self, another: Callable[[], Counter]) -> Counter:
        """The protocol under test."""
        return another()

    def carried(self, name: str) -> None:
        """Leave a clause out if the protocol cannot carry a field (`CLASS.field`)."""
        if name in self.dropped:
            self.does_not_apply(f"{name}: {self.dropped[name]}")


def check_response(response: object) -> None:
    """Fail a test whose response the server could not send."""
    assert isinstance(response, ServerResponse), f"respond() returns a ServerResponse, not {response!r}"
    values: dict[str, Any] = vars(response)
    status, body = values["status"], values["body"]
    assert isinstance(status, int) and not isinstance(status, bool), f"the status is an int, not {status!r}"
    assert 200 <= status <= 599, f"the status is one of HTTP's final ones, not {status}"
    assert isinstance(body, bytes), f"the body is bytes, not {type(body).__name__}"
    assert isinstance(values["content_type"], str) and values["content_type"], "the content type is a text"
    for name, value in values["headers"].items():
        assert isinstance(name, str) and isinstance(value, str), f"headers are texts, not {name!r}: {value!r}"
        assert not {"\r", "\n"} & set(name + value), f"a line break in the header {name!r}: who sent it could send more"
    assert not {"\r", "\n"} & set(values["content_type"])
    assert not shows_secret(repr(response)), "the response repeats the credential"
