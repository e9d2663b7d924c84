"""The clauses for what a catalogue may do besides: seen from a queue, names places to write to, hears of transfers."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

from pilot_core.api.cancel import CancelToken, Deadline
from pilot_core.api.catalog import HearsTransfers, NamesDestinations, SeenFromQueue
from pilot_core.api.job import OutputFile
from pilot_core.api.queue import Queue
from pilot_core.api.staging import Replica, TransferAttempt
from pilot_core.errors import Cancelled, CommunicationError, RequestRefused, TransferTimeout
from pilot_core.testing.kits.catalog_base import SCOPE, CatalogBase, Find, file_of, job_of, replicas_of
from pilot_core.testing.kits.judging import refused
from pilot_core.testing.kits.within import within

if TYPE_CHECKING:
    from pilot_core.api.catalog import ReplicaCatalog
    from pilot_core.api.clock import SystemClock
    from pilot_core.testing.kits.catalog_server import CatalogServer

__all__ = ["CatalogMore"]

RSE = "KIT_DISK"
PREFIX = "davs://write.example.org:443/kit"
OUTPUTS = tuple(
    OutputFile(lfn=f"place.{number}.root", scope=("kit_out", "user.kit")[number % 2]) for number in range(30)
)


class CatalogMore(CatalogBase):
    """Each clause does not apply to a catalogue that does not do that."""

    # -- seen from a queue ---------------------------------------------------------------------------------------------

    def test_it_is_seen_from_a_queue(
        self, catalog: CatalogServer, client: ReplicaCatalog, cancel: CancelToken, deadline: Deadline
    ) -> None:
        """Seen from a queue it is the same catalogue, which does all that it does, and so it stays itself."""
        if not isinstance(client, SeenFromQueue):
            self.does_not_apply("this catalogue is the same from everywhere")
        wanted = replicas_of("a.root", 3)
        catalog.add(SCOPE, "a.root", wanted)
        seen: Any = within(lambda: client.seen_from(Queue(name="KIT", site="KIT_SITE")), "seen_from")
        for capability in (SeenFromQueue, NamesDestinations, HearsTransfers):
            had, has = isinstance(client, capability), isinstance(seen, capability)
            assert had == has, f"seen from a queue it {'loses' if had else 'gains'} {capability.__name__}"
        for each in (seen, client, within(lambda: seen.seen_from(Queue(name="OTHER")), "seen_from")):
            asked = each.replicas
            found = within(lambda asked=asked: asked([file_of("a.root")], cancel=cancel, deadline=deadline), "replicas")  # type: ignore[misc]
            self.check_sound(found, [file_of("a.root")])
            have, due = {(r.url, r.rse) for r in found["a.root"]}, {(r.url, r.rse) for r in wanted}
            assert have == due, f"seen from a queue, a.root has {have}; the catalogue's are {due}"

    # -- places to write to --------------------------------------------------------------------------------------------

    @pytest.fixture
    def writer(self, catalog: CatalogServer, client: ReplicaCatalog) -> NamesDestinations:
        """The catalogue, if it names places, with a storage to write to."""
        if not isinstance(client, NamesDestinations):
            self.does_not_apply("this catalogue names no places to write to")
        assert catalog.storage(RSE, PREFIX), (
            "the plugin names places to write to: have your CatalogServer.storage say so"
        )
        return client

    def test_places_to_write_to_are_named(
        self, writer: NamesDestinations, cancel: CancelToken, deadline: Deadline
    ) -> None:
        """Every file gets a place of its own on just that storage, the one to try first first."""
        found = within(lambda: writer.destinations(RSE, OUTPUTS, cancel=cancel, deadline=deadline), "destinations")
        names = {file.lfn for file in OUTPUTS}
        assert set(found) == names, f"places are named for {sorted(found)[:5]} ..., not for just the files asked about"
        for lfn, places in found.items():
            assert places, f"{lfn} has no place"
            assert {type(each) for each in places} == {Replica}, f"{lfn}: {places}"
            assert {each.rse for each in places} == {RSE}, f"{lfn} has places on another storage: {places}"
            assert all(each.url.startswith(f"{PREFIX}/") for each in places), f"{lfn} is not below {PREFIX}: {places}"
            orders = [each.order for each in places]
            assert orders == sorted(orders), f"{lfn!r}: Replica.order goes down along the sequence: {orders}"
        urls = [each.url for places in found.values() for each in places]
        assert len(set(urls)) == len(urls), "two files have one place"

    def test_a_storage_that_is_not_known_is_refused(
        self, writer: NamesDestinations, cancel: CancelToken, deadline: Deadline
    ) -> None:
        """No place is made up on a storage that the catalogue does not know; for no files there are none."""
        call = lambda: writer.destinations("NOBODYS_DISK", OUTPUTS, cancel=cancel, deadline=deadline)  # noqa: E731
        refused(call, RequestRefused, what="places on a storage that is not known")
        assert not within(lambda: writer.destinations(RSE, [], cancel=cancel, deadline=deadline), "destinations")

    def test_the_question_for_places_ends_as_any(
        self, writer: NamesDestinations, cancel: CancelToken, deadline: Deadline, clock: SystemClock
    ) -> None:
        """A cancelled token and a deadline that has passed end it."""
        off, late = CancelToken(), Deadline.after(clock, -1.0)
        off.cancel("the kit says so")
        cancelled = lambda: writer.destinations(RSE, OUTPUTS, cancel=off, deadline=deadline)  # noqa: E731
        refused(cancelled, Cancelled, what="a cancelled destinations")
        overdue = lambda: writer.destinations(RSE, OUTPUTS, cancel=cancel, deadline=late)  # noqa: E731
        refused(overdue, CommunicationError, TransferTimeout, what="destinations past its deadline")

    # -- hearing of transfers ------------------------------------------------------------------------------------------

    def test_no_job_waits_for_what_it_tells_of_transfers(
        self, catalog: CatalogServer, client: ReplicaCatalog, find: Find, cancel: CancelToken, clock: SystemClock
    ) -> None:
        """It hears of any attempt at once and without an error, also while the catalogue is down; and so it settles."""
        if not isinstance(client, HearsTransfers):
            self.does_not_apply("this catalogue does not care for transfers")
        catalog.add(SCOPE, "a.root", replicas_of("a.root", 1))
        find(file_of("a.root"))
        catalog.break_down()
        before, job = set(threading.enumerate()), job_of(1)[0]
        began = clock.monotonic()
        for number, (lfn, outcome) in enumerate((("out.0.root", "ok"), ("stranger", "SourceNotFound"), ("", ""))):
            attempt = attempt_of(lfn, outcome, number)
            within(lambda attempt=attempt: client.attempted(job, attempt), "attempted")  # type: ignore[misc]
        took = clock.monotonic() - began
        assert took < 1.0, f"a job waited {took:.1f} s for it to hear of three transfers"
        off = CancelToken()
        off.cancel("the kit says so")
        within(
            lambda: client.settle(cancel=off, deadline=Deadline.after(clock, 60.0)), "a cancelled settle", seconds=3.0
        )
        soon = Deadline.after(clock, 1.0)
        within(lambda: client.settle(cancel=cancel, deadline=soon), "settle, past its deadline", seconds=4.0)
        held = [thread.name for thread in set(threading.enumerate()) - before if not thread.daemon]
        assert not held, f"the pilot could not end, because of the threads {', '.join(held)}"


def attempt_of(lfn: str, outcome: str, number: int) -> TransferAttempt:
    """Return an attempt to move a file."""
    return TransferAttempt(
        activity=("write", "read", "log")[number % 3],
        lfn=lfn,
        url=f"davs://write.example.org:443/kit/{lfn}",
        rse=RSE,
        backend="stager.kit",
        backend_version="1",
        number=1 + number,
        started=1_700_000_000.0,
        seconds=0.5,
        bytes=10 * number,
        outcome=outcome,
    )
