"""What the clauses for finding and for registering replicas share: files, jobs, and how answers are judged."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

from pilot_core.api.communicator import FileReport
from pilot_core.api.job import InputFile, Job, OutputFile
from pilot_core.api.staging import Replica
from pilot_core.errors import AuthError, CommunicationError, TransferTimeout
from pilot_core.testing.kits.base import Kit
from pilot_core.testing.kits.catalog_server import CatalogServer, Registered
from pilot_core.testing.kits.judging import unlike
from pilot_core.testing.kits.within import within

if TYPE_CHECKING:
    from pilot_core.api.cancel import CancelToken, Deadline
    from pilot_core.api.catalog import ReplicaCatalog
    from pilot_core.api.provider import Context
    from pilot_core.testing.kits.subject import Subject

__all__ = [
    "MANY",
    "NAMES",
    "ODD_NAMES",
    "SCOPE",
    "TROUBLE",
    "CatalogBase",
    "Find",
    "Register",
    "file_of",
    "job_of",
    "replicas_of",
    "scope_of",
]

Find = Callable[..., Mapping[str, Sequence[Replica]]]
Register = Callable[..., None]

SCOPE = "kit_scope"
MANY = 500
"""Files of one job."""
TROUBLE = (CommunicationError, AuthError, TransferTimeout)
"""What a catalogue that does not answer may be told with."""
NAMES = {
    "space": "with a space.root",
    "accents": "ünïcödé.root",
    "three-byte": "文" * 60,
    "longest": "n" * 250,
    "percent": "50%25.root",
    "slash": "/folder/a b/file.root",
    "encoded-slash": "a%2Fb.root",
    "query": "what?is=this&that",
    "fragment": "a#b.root",
    "plus": "a+b.root",
    "semicolon": "a;b,c.root",
    "colon": "a:b.root",
    "quotes": 'it\'s "quoted".root',
    "backslash": "a\\b.root",
    "glob": "*[a-z]?.root",
    "wildcard": "%_.root",
    "sql": "'; DROP TABLE files; --",
    "dots": "../../../etc/passwd",
    "dash": "-rf",
    "shell": "$(id)`id`$HOME",
}
"""LFNs that a catalogue may have: all of them have to work."""
ODD_NAMES = {
    "empty": "",
    "newline": "a\nb",
    "nul": "a\0b",
    "escape": "a\x1b[31mb",
    "lone": "\udcff",
    "long": "x" * 10_000,
}
"""LFNs that may be refused, and must not lead anywhere else."""


class CatalogBase(Kit):
    """Fixtures and helpers."""

    kind = "catalog"

    # -- fixtures ------------------------------------------------------------------------------------------------

    @pytest.fixture
    def catalog(self, tmp_path: Path) -> CatalogServer:  # noqa: ARG002  (what authors' own will ask for)
        """The catalogue that the plugin asks; override it."""
        what = "return a CatalogServer (pilot_core.testing.CatalogServer) of your own"
        return cast("CatalogServer", self.missing("catalog", what))

    @pytest.fixture
    def settings(self, catalog: CatalogServer) -> Mapping[str, Any]:
        """The plugin's settings: those of the catalogue."""
        return catalog.settings

    @pytest.fixture
    def client(self, subject: Subject, settings: Mapping[str, Any], context: Context) -> ReplicaCatalog:
        """The plugin's instance under test."""
        return cast("ReplicaCatalog", self.made(subject.providers["pilot_catalogs"], settings, context))

    @pytest.fixture
    def find(self, client: ReplicaCatalog, cancel: CancelToken, deadline: Deadline) -> Find:
        """Ask for replicas, and look at the answer as at any."""

        def find(*files: InputFile) -> Mapping[str, Sequence[Replica]]:
            found = within(lambda: client.replicas(files, cancel=cancel, deadline=deadline), "replicas")
            self.check_sound(found, files)
            return found

        return find

    @pytest.fixture
    def register(self, client: ReplicaCatalog, cancel: CancelToken, deadline: Deadline) -> Register:
        """Register outputs."""

        def register(job: Job, *files: FileReport) -> None:
            within(lambda: client.register(job, files, cancel=cancel, deadline=deadline), "register")

        return register

    # -- helpers -------------------------------------------------------------------------------------------------

    @staticmethod
    def check_sound(found: Mapping[str, Sequence[Replica]], files: Sequence[InputFile]) -> None:
        """See that an answer is what was asked for."""
        assert isinstance(found, Mapping), f"replicas returned a {type(found).__name__}, not a mapping by LFN"
        stray = sorted(set(found) - {file.lfn for file in files})
        assert not stray, f"it returned what was not asked for: {', '.join(map(repr, stray[:5]))}"
        for lfn, replicas in found.items():
            assert isinstance(replicas, Sequence), f"{lfn!r} has a {type(replicas).__name__}, not a sequence"
            for each in replicas:
                assert isinstance(each, Replica), f"{lfn!r} has {each!r}, which is no Replica"
            orders = [each.order for each in replicas]
            assert orders == sorted(orders), f"{lfn!r}: Replica.order goes down along the sequence: {orders}"

    @staticmethod
    def same(found: Mapping[str, Sequence[Replica]], lfn: str, wanted: Sequence[Replica]) -> None:
        """See that a file has just these replicas, in this order."""
        have = [(each.url, each.rse) for each in found.get(lfn, ())]
        due = [(each.url, each.rse) for each in wanted]
        assert sorted(have) == sorted(due), f"{lfn!r} has the replicas {have}; those of the catalogue are {due}"
        assert have == due, f"{lfn!r} has its replicas in the order {have}; the catalogue's is {due}"

    @staticmethod
    def same_entries(catalog: CatalogServer, job: Job, reports: Sequence[FileReport]) -> None:
        """See that just these files were registered, each once and as reported."""
        entries = sorted(catalog.registered(), key=lambda entry: entry.lfn)
        names = [entry.lfn for entry in entries]
        due = sorted(report.lfn for report in reports)
        assert names == due, f"registered are {names}; due are {due}, each once"
        for entry, report in zip(entries, sorted(reports, key=lambda report: report.lfn), strict=True):
            wanted = Registered(
                scope=scope_of(job, report.lfn),
                lfn=report.lfn,
                guid=_plain(report.guid),
                size=report.size,
                checksum=report.checksum,
                url=report.surl,
                rse=report.rse,
            )
            wrong = unlike(wanted, replace(entry, guid=_plain(entry.guid)))
            assert not wrong, f"{report.lfn} was registered wrongly: {wrong}"


def file_of(lfn: str) -> InputFile:
    """Return an input of the kit's scope."""
    return InputFile(lfn=lfn, scope=SCOPE)


def replicas_of(lfn: str, count: int) -> list[Replica]:
    """Return replicas whose best one is not the first by name."""
    names = ("MIDDLE", "ZULU", "ALFA", "kilo", "BRAVO")
    return [
        Replica(url=f"davs://{rse.lower()}.example.org:443/store/{lfn}", rse=f"{rse}_DISK", order=number)
        for number, rse in enumerate(names[:count])
    ]


def _guid(number: int) -> str:
    return f"0A1B2C3D-4E5F-4678-9ABC-{number:012X}"


def _plain(guid: str) -> str:
    return guid.replace("-", "").lower()


def scope_of(job: Job, lfn: str) -> str:
    """Return the scope of a job's output."""
    return next(file.scope for file in job.files_out if file.lfn == lfn)


def job_of(count: int) -> tuple[Job, list[FileReport]]:
    """Return a job with outputs of several scopes, and what was stored of them."""
    outputs = [
        OutputFile(lfn=f"out.{number}.root", scope=("kit_out", "user.kit")[number % 2], dataset=f"kit.ds{number}")
        for number in range(count)
    ]
    reports = [
        FileReport(
            lfn=output.lfn,
            guid=_guid(number),
            size=4097 * number,
            checksum=f"adler32:{number:08x}" if number % 2 else f"md5:{number:032x}",
            surl=f"davs://storage.example.org:443/out/{number}/{output.lfn}",
            rse=f"OUT{number}_DISK",
        )
        for number, output in enumerate(outputs)
    ]
    log = OutputFile(lfn="job.log.tgz", scope="kit_log", guid=_guid(99))
    return Job(id=4711, attempt=1, task_id=815, outputs=tuple(outputs), log=log), reports
