"""The conformance kit of replica catalogues: all the replicas of just these files, and each output entered once."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from pilot_core.api.cancel import CancelToken, Deadline
from pilot_core.api.communicator import FileReport
from pilot_core.api.job import InputFile
from pilot_core.api.staging import Replica
from pilot_core.errors import Cancelled, CommunicationError, RequestRefused, TransferTimeout
from pilot_core.testing.kits.judging import Footprint, refused, tree
from pilot_core.testing.kits.within import at_once, within

if TYPE_CHECKING:
    from pilot_core.api.catalog import ReplicaCatalog
    from pilot_core.api.clock import SystemClock
    from pilot_core.api.provider import Context
    from pilot_core.testing.kits.catalog_server import CatalogServer

from pilot_core.testing.kits.catalog_base import (
    MANY,
    NAMES,
    ODD_NAMES,
    SCOPE,
    TROUBLE,
    Find,
    Register,
    file_of,
    job_of,
    replicas_of,
    scope_of,
)
from pilot_core.testing.kits.catalog_more import CatalogMore

__all__ = ["CatalogKit"]


class CatalogKit(CatalogMore):
    """What the plugin of a replica catalogue has to do.

    Override `plugin` and `catalog`. The other side is a real one, made by the test::

        class TestRucio(CatalogKit):
            @pytest.fixture
            def plugin(self):
                return "catalog.rucio"

            @pytest.fixture
            def catalog(self, tmp_path):
                return SmallRucio(tmp_path)  # a pilot_core.testing.CatalogServer
    """

    # -- replicas ------------------------------------------------------------------------------------------------

    def test_replicas_are_found_by_name(self, catalog: CatalogServer, find: Find) -> None:
        """Every replica of a file is found, each with the URL and the storage that the catalogue has."""
        wanted = replicas_of("a.root", 3)
        catalog.add(SCOPE, "a.root", wanted)
        catalog.add(SCOPE, "b.root", replicas_of("b.root", 1))
        self.same(find(file_of("a.root")), "a.root", wanted)

    def test_replicas_come_in_the_catalogues_order(self, catalog: CatalogServer, find: Find) -> None:
        """The order is the catalogue's preference, not that of names or URLs."""
        replicas = replicas_of("a.root", 5)
        for number, order in enumerate(((4, 0, 3, 1, 2), (0, 1, 2, 3, 4), (2, 4, 1, 3, 0))):
            wanted = [replicas[each] for each in order]
            catalog.add(SCOPE, f"{number}.root", wanted)
            self.same(find(file_of(f"{number}.root")), f"{number}.root", wanted)

    def test_an_unknown_file_is_no_error(self, catalog: CatalogServer, find: Find) -> None:
        """A file that the catalogue does not know has no replicas; those of the others are found all the same."""
        assert not find(file_of("nobody.root")).get("nobody.root"), "replicas were made up for an unknown file"
        wanted = replicas_of("a.root", 2)
        catalog.add(SCOPE, "a.root", wanted)
        found = find(file_of("nobody.root"), file_of("a.root"), file_of("nothing.root"))
        self.same(found, "a.root", wanted)

    def test_a_file_without_replicas_is_no_error(self, catalog: CatalogServer, find: Find) -> None:
        """A file that the catalogue knows and that lies nowhere has no replicas."""
        catalog.add(SCOPE, "lost.root", ())
        assert not find(file_of("lost.root")).get("lost.root"), "replicas were made up for a file that lies nowhere"

    def test_no_files_are_no_question(self, catalog: CatalogServer, find: Find) -> None:
        """Asked for no files, it finds none: not everything that there is."""
        catalog.add(SCOPE, "a.root", replicas_of("a.root", 1))
        assert not find(), "asked for no files, it returned some"

    def test_scopes_are_kept_apart(self, catalog: CatalogServer, find: Find) -> None:
        """Files of one LFN in two scopes are two files; so is one in a scope that has none."""
        for number, scope in enumerate(("kit_scope", "user.kit", "kit_scope2")):
            catalog.add(scope, "a.root", [Replica(url=f"https://host{number}/a.root", rse=f"RSE{number}")])
        for number, scope in enumerate(("kit_scope", "user.kit", "kit_scope2")):
            found = find(InputFile(lfn="a.root", scope=scope))
            self.same(found, "a.root", [Replica(url=f"https://host{number}/a.root", rse=f"RSE{number}")])
        for scope in ("nobody", "KIT_SCOPE", "kit_", "kit_scop_"):
            other = find(InputFile(lfn="a.root", scope=scope)).get("a.root")
            assert not other, f"asked for a file in the scope {scope!r}, it found that of another scope"

    def test_names_are_compared_exactly(self, catalog: CatalogServer, find: Find) -> None:
        """An LFN that differs in case or is a part of another is another file."""
        catalog.add(SCOPE, "data_1.root", replicas_of("data_1.root", 1))
        for name in (
            "DATA_1.root",
            "data_1",
            "ata_1.root",
            "data_1.root.1",
            "dataX1.root",
            "data%",
            "*",
            "data_1.root ",
        ):
            assert not find(file_of(name)).get(name), f"asked for {name!r}, it found data_1.root"

    def test_many_files_in_one_call(self, catalog: CatalogServer, find: Find) -> None:
        """Five hundred files are asked for in one call, and each gets its own replicas."""
        wanted = {f"f{number:04}.root": replicas_of(f"f{number:04}.root", 1 + number % 3) for number in range(MANY)}
        for lfn, replicas in wanted.items():
            catalog.add(SCOPE, lfn, replicas)
        found = find(*map(file_of, wanted))
        for lfn, replicas in wanted.items():
            self.same(found, lfn, replicas)

    @pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
    def test_unusual_names_work(self, catalog: CatalogServer, find: Find, name: str) -> None:
        """Blanks, accents, quotes, percent and the like in an LFN find that file, and no other."""
        catalog.add(SCOPE, "other.root", replicas_of("other.root", 1))
        assert not find(file_of(name)).get(name), f"{name!r} was found before it was there"
        wanted = replicas_of("unusual", 2)
        catalog.add(SCOPE, name, wanted)
        self.same(find(file_of(name)), name, wanted)
        assert find(file_of("other.root")).get("other.root"), f"asked for {name!r}, it lost another file"

    @pytest.mark.parametrize("name", ODD_NAMES.values(), ids=ODD_NAMES)
    def test_impossible_names_lead_nowhere(
        self, catalog: CatalogServer, client: ReplicaCatalog, cancel: CancelToken, deadline: Deadline, name: str
    ) -> None:
        """An LFN that can be none is not known, or refused in one line; another file of the call is not mixed up."""
        catalog.add(SCOPE, "a", replicas_of("a", 1))
        try:
            found = within(lambda: client.replicas([file_of(name)], cancel=cancel, deadline=deadline), "replicas")
        except CommunicationError as error:
            text = str(error)
        else:
            assert not any(found.values()), f"asked for {name[:40]!r}, it found {found!r}"
            return
        assert text.isprintable(), f"the error is not one line: {text!r}"
        assert len(text) < 2000, f"the error has {len(text)} characters: shorten the name"

    # -- registering ---------------------------------------------------------------------------------------------

    def test_outputs_are_registered_as_reported(self, catalog: CatalogServer, register: Register) -> None:
        """Each output is entered with its scope, size, checksum, GUID, place and storage."""
        job, reports = job_of(3)
        register(job, *reports)
        self.same_entries(catalog, job, reports)

    def test_only_what_was_reported_is_registered(self, catalog: CatalogServer, register: Register) -> None:
        """Outputs of the job that were not stored are not entered; without files nothing is."""
        job, reports = job_of(4)
        register(job)
        assert not catalog.registered(), "without files, something was registered"
        register(job, reports[2])
        self.same_entries(catalog, job, [reports[2]])

    def test_a_job_without_a_log_is_registered(self, catalog: CatalogServer, register: Register) -> None:
        """Not every job has a log; its outputs are entered all the same."""
        job, reports = job_of(2)
        job = replace(job, log=None)
        register(job, *reports)
        self.same_entries(catalog, job, reports)

    def test_the_log_is_registered_too(self, catalog: CatalogServer, register: Register) -> None:
        """The log is a file of the job like its outputs, in its own scope."""
        job, reports = job_of(1)
        log = FileReport(
            lfn="job.log.tgz",
            guid=job.files_out[-1].guid,
            size=99,
            checksum="adler32:00000063",
            surl="file:///log",
            rse="LOG",
        )
        register(job, *reports, log)
        self.same_entries(catalog, job, [*reports, log])

    def test_registering_again_changes_nothing(self, catalog: CatalogServer, register: Register) -> None:
        """The same files registered again, after a lost answer, are no error and no second entry."""
        job, reports = job_of(3)
        register(job, reports[0])
        register(job, *reports)
        register(job, *reports)
        self.same_entries(catalog, job, reports)

    def test_another_file_is_not_overwritten(
        self,
        catalog: CatalogServer,
        client: ReplicaCatalog,
        register: Register,
        cancel: CancelToken,
        deadline: Deadline,
    ) -> None:
        """A file that is known with another size or checksum is refused, and kept as it is."""
        job, (report, *_) = job_of(1)
        register(job, report)
        for what, other in {
            "another size": replace(report, size=report.size + 1),
            "another checksum": replace(report, checksum="adler32:deadbeef"),
        }.items():
            call = lambda other=other: client.register(job, [other], cancel=cancel, deadline=deadline)  # noqa: E731
            refused(call, RequestRefused, what=f"registering a known file with {what}")
            self.same_entries(catalog, job, [report])

    def test_a_file_of_nobody_is_refused(
        self, catalog: CatalogServer, client: ReplicaCatalog, cancel: CancelToken, deadline: Deadline
    ) -> None:
        """A file that is no output of the job is refused: its scope is not known."""
        job, (report, *_) = job_of(1)
        stray = replace(report, lfn="stray.root")
        call = lambda: client.register(job, [stray], cancel=cancel, deadline=deadline)  # noqa: E731
        refused(call, RequestRefused, what="registering what is no output of the job")
        assert not catalog.registered(), "what is no output of the job was registered"

    def test_what_was_registered_is_found(self, catalog: CatalogServer, register: Register, find: Find) -> None:
        """Whoever asks for a registered output finds it where it was stored."""
        job, reports = job_of(2)
        register(job, *reports)
        for report in reports:
            found = find(InputFile(lfn=report.lfn, scope=scope_of(job, report.lfn))).get(report.lfn, ())
            assert report.surl in [each.url for each in found], f"{report.lfn} was registered at {report.surl}: {found}"
        assert len(catalog.registered()) == len(reports)

    # -- how it is asked -----------------------------------------------------------------------------------------

    def test_a_catalogue_that_does_not_answer_is_told(
        self, catalog: CatalogServer, client: ReplicaCatalog, cancel: CancelToken, clock: SystemClock
    ) -> None:
        """A catalogue that is down is an error of communication, not a file without replicas."""
        job, reports = job_of(1)
        catalog.add(SCOPE, "a.root", replicas_of("a.root", 1))
        if not catalog.break_down():
            self.does_not_apply("this catalogue cannot be down")
        soon = Deadline.after(clock, 3.0)
        find = lambda: client.replicas([file_of("a.root")], cancel=cancel, deadline=soon)  # noqa: E731
        refused(find, *TROUBLE, what="replicas, with the catalogue down")
        soon = Deadline.after(clock, 3.0)
        register = lambda: client.register(job, reports, cancel=cancel, deadline=soon)  # noqa: E731
        refused(register, *TROUBLE, what="register, with the catalogue down")

    def test_cancellation_is_heeded(self, catalog: CatalogServer, client: ReplicaCatalog, deadline: Deadline) -> None:
        """A cancelled token ends either call with `Cancelled`, and nothing is entered."""
        job, reports = job_of(1)
        catalog.add(SCOPE, "a.root", replicas_of("a.root", 1))
        off = CancelToken()
        off.cancel("the kit says so")
        find = lambda: client.replicas([file_of("a.root")], cancel=off, deadline=deadline)  # noqa: E731
        refused(find, Cancelled, what="a cancelled replicas")
        register = lambda: client.register(job, reports, cancel=off, deadline=deadline)  # noqa: E731
        refused(register, Cancelled, what="a cancelled register")
        assert not catalog.registered(), "a cancelled register entered something"

    def test_a_deadline_is_heeded(
        self, catalog: CatalogServer, client: ReplicaCatalog, cancel: CancelToken, clock: SystemClock
    ) -> None:
        """A deadline that has passed ends either call with an error, and nothing is entered."""
        job, reports = job_of(1)
        late = Deadline.after(clock, -1.0)
        find = lambda: client.replicas([file_of("a.root")], cancel=cancel, deadline=late)  # noqa: E731
        refused(find, CommunicationError, TransferTimeout, what="replicas past its deadline")
        register = lambda: client.register(job, reports, cancel=cancel, deadline=late)  # noqa: E731
        refused(register, CommunicationError, TransferTimeout, what="register past its deadline")
        assert not catalog.registered(), "a register past its deadline entered something"

    def test_many_may_ask_at_once(self, catalog: CatalogServer, find: Find, register: Register) -> None:
        """Threads that find and register at the same time get, and enter, each its own."""
        wanted = {f"{number}.root": replicas_of(f"{number}.root", 2) for number in range(6)}
        for lfn, replicas in wanted.items():
            catalog.add(SCOPE, lfn, replicas)
        job, reports = job_of(6)
        answers = at_once([lambda lfn=lfn: find(file_of(lfn)) for lfn in wanted], "replicas")  # type: ignore[misc]
        for lfn, found in zip(wanted, answers, strict=True):
            self.same(found, lfn, wanted[lfn])
        at_once([lambda report=report: register(job, report) for report in reports * 2], "register")  # type: ignore[misc]
        self.same_entries(catalog, job, reports)

    def test_changes_are_seen(self, catalog: CatalogServer, find: Find) -> None:
        """A file that came, or a replica that was added, since the last question is found."""
        assert not find(file_of("a.root")).get("a.root")
        for count in (1, 3, 2):
            wanted = replicas_of("a.root", count)
            catalog.add(SCOPE, "a.root", wanted)
            self.same(find(file_of("a.root")), "a.root", wanted)

    def test_it_leaves_nothing_behind(
        self, catalog: CatalogServer, find: Find, register: Register, context: Context
    ) -> None:
        """It keeps no more than a few descriptors, no threads, no processes, and no files of its own."""
        catalog.add(SCOPE, "a.root", replicas_of("a.root", 1))
        find(file_of("a.root"))
        footprint = Footprint.now()
        job, reports = job_of(5)
        for report in reports:
            find(file_of("a.root"), file_of("nobody.root"))
            register(job, report)
        footprint.check("asking and registering", slack=4)
        left = tree(context.work_dir)
        assert not left, f"files are left in the pilot's work directory: {', '.join(left)}"
