"""Clauses for whoever does not keep to the protocol: other paths, other methods, requests of every sort of nonsense."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pilot_core.api.communicator import JobRequest
from pilot_core.api.server import ExplainsRequests, FieldProblem, ServerRequest
from pilot_core.testing.kits.canary import CANARY, shows_secret
from pilot_core.testing.kits.communicator_samples import UPDATE, plain_job, plain_update
from pilot_core.testing.kits.server_protocol_base import PILOT, ServerProtocolBase, check_response
from pilot_core.testing.memory_store import QUEUE

if TYPE_CHECKING:
    from pilot_core.testing.kits.dialect import Dialect
    from pilot_core.testing.kits.server_protocol_base import Counter
    from pilot_core.testing.memory_store import MemoryStore

__all__ = ["HostileClauses"]

OTHERS = ("", "/", "//", "/favicon.ico", "/devserver", "/devserver/api/jobs", "/elsewhere/acquire", "/..", "/%00", "*")
"""Paths that are the development server's own, or nobody's."""
NESTED = b"[" * 100_000
FEW = settings(max_examples=60, deadline=None, database=None, suppress_health_check=list(HealthCheck))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=10,
)
BODIES = st.one_of(
    st.binary(max_size=200),
    JSON.map(lambda value: json.dumps(value).encode()),
    st.sampled_from(
        [b"", b"null", b"[]", b"{}", b"\x1f\x8b", b"\xff\xfe", NESTED, b'{"a":', b'"\\ud800"', b"1e999", b"NaN"]
    ),
)
HEADER_VALUES = st.sampled_from(
    [
        "",
        "application/json",
        "text/plain",
        "gzip",
        "multipart/form-data",
        "application/x-www-form-urlencoded",
        "x" * 5000,
        "é",
    ]
)
HEADERS = st.dictionaries(
    st.sampled_from(["content-type", "content-encoding", "accept", "authorization", "origin"]),
    HEADER_VALUES,
    max_size=4,
)
QUERIES = st.text(alphabet=st.characters(min_codepoint=33, max_codepoint=126), max_size=60)
METHODS = st.sampled_from(["GET", "POST", "PUT", "DELETE", "HEAD", "PATCH", "OPTIONS", "", "NONSENSE"])


class HostileClauses(ServerProtocolBase):
    """Requests that are none of the protocol's, or that make no sense."""

    def _requests(self, dialect: Dialect) -> dict[str, ServerRequest]:
        """Return a good request of each sort."""
        update = replace(UPDATE, job_id=plain_job().id, attempt=plain_job().attempt)
        return {
            "acquire": replace(dialect.acquire(JobRequest(queue=QUEUE, label="managed", node="wn1")), identity=PILOT),
            "update": replace(dialect.update(update), identity=PILOT),
            "status": replace(dialect.status([update.job_id]), identity=PILOT),
        }

    @pytest.mark.parametrize("method", ["GET", "POST"])
    @pytest.mark.parametrize("path", OTHERS)
    def test_only_its_own_paths_are_its_own(self, path: str, method: str, counter: Counter) -> None:
        """`handles` says no to paths of the development server and to those that are nobody's."""
        assert not counter.protocol.handles(ServerRequest(method=method, path=path, identity=PILOT)), (
            f"handles() claims {path!r}: other protocols and the server's own pages could not be reached"
        )

    def test_handles_says_yes_or_no(self, counter: Counter) -> None:
        """`handles` returns True or False, and takes its decision by the path, whoever asks."""
        for request in self._requests(counter.dialect).values():
            assert counter.protocol.handles(request) is True
            assert counter.protocol.handles(replace(request, identity=None, denied="expired", secure=False)) is True
        assert counter.protocol.handles(ServerRequest(method="GET", path="/")) is False

    @pytest.mark.parametrize("sort", ["acquire", "update", "status"])
    @pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "NONSENSE"])
    def test_another_method_does_nothing(self, method: str, sort: str, counter: Counter, store: MemoryStore) -> None:
        """A request with another HTTP method than the protocol's changes nothing."""
        store.offer(plain_job())
        request = self._requests(counter.dialect)[sort]
        if request.method == method:
            self.does_not_apply(f"{method} is the method of {sort}")
        request = replace(request, method=method)
        if counter.protocol.handles(request):
            counter.respond(request)
        if request.method in {"HEAD", "OPTIONS", "GET"}:
            assert not store.dispatched, f"{method} took a job out of the store: a link checker could"
            assert not store.understood(plain_job().id)

    @pytest.mark.parametrize("sort", ["acquire", "update", "status"])
    def test_any_body_is_answered(self, sort: str, counter: Counter) -> None:
        """Whatever comes as a body, with whatever headers, is answered; nothing is raised."""
        request = self._requests(counter.dialect)[sort]

        @FEW
        @given(body=BODIES, headers=HEADERS, keep=st.booleans())
        def ask(body: bytes, headers: Mapping[str, str], keep: bool) -> None:
            self._answered(
                counter, replace(request, body=body, headers={**(request.headers if keep else {}), **headers})
            )

        ask()

    @pytest.mark.parametrize("sort", ["acquire", "update", "status"])
    def test_any_value_is_answered(self, sort: str, counter: Counter) -> None:
        """Whatever values come in the place of the right ones are answered; nothing is raised."""
        request = self._requests(counter.dialect)[sort]
        try:
            values: Any = json.loads(request.body)
        except ValueError:
            values = None
        if not isinstance(values, dict):
            self.does_not_apply(f"{sort} is no JSON object")

        @FEW
        @given(changed=st.dictionaries(st.sampled_from(sorted(values)), JSON, min_size=1, max_size=3))
        def ask(changed: Mapping[str, Any]) -> None:
            self._answered(counter, replace(request, body=json.dumps({**values, **changed}).encode()))

        ask()

    @pytest.mark.parametrize("sort", ["acquire", "update", "status"])
    def test_any_path_and_query_is_answered(self, sort: str, counter: Counter) -> None:
        """Whatever is put behind a path of the protocol's, with any method, is answered, or is not its own."""
        request = self._requests(counter.dialect)[sort]

        @FEW
        @given(more=QUERIES, query=QUERIES, method=METHODS)
        def ask(more: str, query: str, method: str) -> None:
            asked = replace(request, path=request.path + more.replace("?", ""), query=query, method=method)
            if counter.protocol.handles(asked):
                self._answered(counter, asked)

        ask()

    @pytest.mark.parametrize("sort", ["acquire", "update", "status"])
    def test_half_a_request_is_refused(self, sort: str, counter: Counter, store: MemoryStore) -> None:
        """A request that was cut in its middle does nothing, and is told so."""
        store.offer(plain_job())
        request = self._requests(counter.dialect)[sort]
        if not request.body.startswith(b"{"):
            self.does_not_apply(f"{sort} is no JSON object: of another body nobody can tell whether it is whole")
        response = counter.respond(replace(request, body=request.body[: len(request.body) // 2]))
        readers: dict[str, Any] = {
            "acquire": counter.dialect.acquired,
            "update": counter.dialect.commands,
            "status": counter.dialect.statuses,
        }
        try:
            answer = readers[sort](response)
        except ValueError:
            answer = None
        assert not answer, f"half a request was answered as if it were whole: {answer!r}"
        if sort == "update":
            assert answer is None, "half an update was said to be taken"
        assert not store.understood(plain_job().id)
        assert sort != "acquire" or not store.dispatched, "half a request took a job out of the store"

    def test_secrets_do_not_show(self, counter: Counter, caplog: pytest.LogCaptureFixture) -> None:
        """A credential among the headers is in no answer, no log and no repr."""
        for request in self._requests(counter.dialect).values():
            sent = replace(
                request, headers={**request.headers, "authorization": f"Bearer {CANARY}", "origin": "kit.pilot"}
            )
            for changed in (sent, replace(sent, body=b"nonsense"), replace(sent, method="GET", body=b"")):
                response = counter.respond(changed)
                assert not shows_secret(response.body.decode("latin-1")), "the answer repeats the credential"
        assert not shows_secret(caplog.text)
        assert not shows_secret(repr(counter.protocol))

    def test_problems_are_explained_without_raising(self, counter: Counter) -> None:
        """A protocol that explains requests (`problems`) does so for every one, and finds good ones good."""
        protocol: object = counter.protocol
        if not isinstance(protocol, ExplainsRequests):
            self.does_not_apply("it explains no requests")
        update = plain_update()
        good = replace(counter.dialect.update(update), identity=PILOT)
        found = protocol.problems(good)
        assert not found, f"a good request has problems: {found}"
        for request in self._requests(counter.dialect).values():
            self._explained(protocol, request)

    def _explained(self, protocol: ExplainsRequests, request: ServerRequest) -> None:
        @FEW
        @given(body=BODIES, headers=HEADERS, query=QUERIES)
        def explain(body: bytes, headers: Mapping[str, str], query: str) -> None:
            changed = replace(request, body=body, headers=headers, query=query)
            problems = protocol.problems(changed)
            assert all(isinstance(problem, FieldProblem) for problem in problems)
            assert all("\n" not in problem.message for problem in problems), "a problem is told in one line"

        explain()

    def _answered(self, counter: Counter, request: ServerRequest) -> None:
        """Fail the test unless a request is answered. In this thread: there are many."""
        with counter.store.request():
            try:
                response = counter.protocol.respond(request, counter.store)
            except Exception as error:  # noqa: BLE001  (any: it is told to the author)
                pytest.fail(f"respond() raised {type(error).__name__}: {error}; the request was {str(request)[:500]}")
        check_response(response)
