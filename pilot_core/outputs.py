"""What comes out of a job: its outputs, all or none of them, and its log."""

from __future__ import annotations

import errno
import stat
import tempfile
import uuid
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from pilot_core.api.communicator import FileReport
from pilot_core.archives import look_at, make_archive, members_of
from pilot_core.cleanup import remove_tree
from pilot_core.errors import HandledError, NoSpace, PilotErrorCode
from pilot_core.joblog import make_log_archive
from pilot_core.logs import job_logger
from pilot_core.past import NEW
from pilot_core.payload import SECRETS_FILE, plain_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pilot_core.api.cancel import CancelToken
    from pilot_core.api.job import Job, OutputFile
    from pilot_core.archives import Packed
    from pilot_core.catalogs import Catalogue
    from pilot_core.journal import SteadyJournal
    from pilot_core.past import Past
    from pilot_core.staging import Moved, Mover

__all__ = ["Outputs"]


class Outputs:
    """Stores a job's files and keeps what the server has to know of each (`stored`)."""

    def __init__(
        self,
        job: Job,
        queue_name: str,
        mover: Mover,
        journal: SteadyJournal,
        catalogue: Catalogue | None = None,
        *,
        past: Past = NEW,
    ) -> None:
        """`catalogue`: what is stored is entered there. What the past has is stored already."""
        self.stored: list[FileReport] = list(past.stored)
        self.elsewhere: list[str] = list(past.elsewhere)
        """LFNs of what is stored, and not where it belongs."""
        self._job = job
        self._queue_name = queue_name
        self._mover = mover
        self._journal = journal
        self._files = {file.lfn: file for file in job.files_out}
        self._places = {file.lfn: number for number, file in enumerate(job.files_out)}
        self._catalogue = catalogue
        self._archives = members_of(job)
        self._packed: dict[str, Sequence[Packed]] = {}
        """What was told of the members of each archive."""
        self._guids = {file.lfn: file.guid or str(uuid.uuid4()) for file in job.files_out}
        self._made = past.archives
        """Archives that an earlier pilot made, or began to make."""

    def store_all(self, payload_dir: Path, *, cancel: CancelToken, cleanup: CancelToken) -> None:
        """Store the outputs, all or none: what was stored is removed again when a later one fails.

        None is stored before all are known to be there. Those that belong into an archive go out in it, and are told
        with its place. Raises `HandledError` for a missing output (MISSINGOUTPUTFILE), and the errors of the transfer.
        """
        _check_place(payload_dir, PilotErrorCode.MISSINGOUTPUTFILE)
        for lfn in self._made:
            (payload_dir / plain_name(lfn)).unlink(missing_ok=True)
        present = self._present(payload_dir, cancel)
        try:
            self._store([(file, payload_dir / file.lfn) for file in present], "write", cancel)
            self._add_members()
        except Exception:
            self.withdraw(cancel=cleanup)
            raise

    def withdraw(self, *, cancel: CancelToken) -> None:
        """Remove from the storages what was stored of the outputs, as well as that can be done; the log stays."""
        log = self._job.log.lfn if self._job.log else None
        stored, inside = sorted(self.stored, key=self._place), self._inside
        self.stored[:] = [report for report in stored if report.lfn == log]
        if self.stored != stored:
            self._journal.record("withdrawing", keep=log)
        for report in stored:
            if report.lfn != log and report.lfn not in inside:
                self._mover.remove(report.rse, report.surl, cancel=cancel)
        self.elsewhere = [lfn for lfn in self.elsewhere if lfn == log]

    def store_log(self, log: OutputFile, job_dir: Path, *, cancel: CancelToken) -> None:
        """Make the job's log archive and store it; raises `HandledError`, or `OSError` if it has no place.

        On a full disk what the payload left, but for what it said, makes room: the job is over.
        """
        if any(report.lfn == log.lfn for report in self.stored):
            return  # by an earlier pilot
        _check_place(job_dir / "payload", PilotErrorCode.LOGFILECREATIONFAILURE)
        try:
            archive = self._archive(log, job_dir, cancel)
        except (NoSpace, OSError) as error:
            if isinstance(error, OSError) and error.errno not in {errno.ENOSPC, errno.EDQUOT}:
                raise
            job_logger(self._job.id, "outputs").warning("no room for the log: the payload's files are removed")
            _make_room(job_dir / "payload")
            archive = self._archive(log, job_dir, cancel)
        self._store([(log, archive)], "log", cancel)

    def register(self, *, cancel: CancelToken) -> None:
        """Enter what is stored into the catalogue, if the queue wants that; raises `HandledError`.

        Last of all, because what a catalogue knows is not taken out of it again. What lies in an archive has no place
        of its own there.
        """
        inside = self._inside
        singly = [report for report in self.stored if report.lfn not in inside]
        if self._catalogue is not None and singly:
            self._catalogue.register(self._job, singly, cancel=cancel)

    # -- archives ------------------------------------------------------------------------------------------------

    @property
    def _inside(self) -> set[str]:
        """The outputs that lie in an archive."""
        return {member.lfn for members in self._packed.values() for member in members}

    def _present(self, payload_dir: Path, cancel: CancelToken) -> list[OutputFile]:
        """Return the outputs to store, archives made; raises `HandledError` for one that is missing."""
        files = {file.lfn: file for file in self._job.outputs}
        made = {lfn for lfn in self._archives if not (payload_dir / plain_name(lfn)).is_symlink()}
        made = {lfn for lfn in made if not (payload_dir / lfn).exists()}
        there = {lfn for lfn, file in files.items() if lfn not in made and self._is_there(file, payload_dir)}
        for archive, lfns in self._archives.items():
            members = [payload_dir / lfn for lfn in lfns if lfn in there]
            if archive in made and not members:
                self._is_there(files[archive], payload_dir)
            elif archive in made:
                self._journal.record("archive", lfn=archive)
                self._packed[archive] = make_archive(payload_dir / archive, members, cancel=cancel)
                there.add(archive)
            elif archive in there:
                self._packed[archive] = [look_at(path, cancel=cancel) for path in members]
        there -= self._inside
        return [file for lfn, file in files.items() if lfn in there]

    def _add_members(self) -> None:
        """Tell of the members of the archives that were stored."""
        places = {report.lfn: report for report in self.stored}
        for archive, members in self._packed.items():
            self.stored += [
                FileReport(
                    lfn=member.lfn,
                    guid=self._guids[member.lfn],
                    size=member.size,
                    checksum=member.checksum,
                    surl=places[archive].surl,
                    rse=places[archive].rse,
                )
                for member in members
            ]
        self.stored.sort(key=self._place)

    # -- files ---------------------------------------------------------------------------------------------------

    def _archive(self, log: OutputFile, job_dir: Path, cancel: CancelToken) -> Path:
        """Make the job's log archive and return its path."""
        # a folder of its own: the archive's name is the server's, and may be that of anything in the job's directory
        archive = Path(tempfile.mkdtemp(prefix="log-", dir=job_dir)) / plain_name(log.lfn)
        make_log_archive(
            archive,
            folder=f"tarball_PandaJob_{self._job.id}_{self._queue_name.replace('/', '_')}",
            pilot_files=[
                path for name in ("pilot.log", "journal.jsonl", "transfers.jsonl") if (path := job_dir / name).exists()
            ],
            job_dir=job_dir / "payload",
            leave_out={
                SECRETS_FILE,
                *(file.lfn for file in self._job.inputs),
                *(file.lfn for file in self._job.outputs),
            },
            cancel=cancel,
        )
        return archive

    def _is_there(self, file: OutputFile, payload_dir: Path) -> bool:
        """Check that the payload wrote an output, as a plain file; raises `HandledError` if it had to."""
        try:
            mode = (payload_dir / plain_name(file.lfn)).lstat().st_mode
        except FileNotFoundError:
            if file.may_be_missing:
                return False
            text = f"output {file.lfn} was not written by the payload; its log shows what it did write"
        else:
            if stat.S_ISREG(mode):
                return True
            what = "is a link" if stat.S_ISLNK(mode) else "is not a plain file"
            text = f"output {file.lfn} {what}; the payload has to write a plain file"
        raise HandledError(text, error_code=PilotErrorCode.MISSINGOUTPUTFILE)

    def _store(self, files: Sequence[tuple[OutputFile, Path]], activity: str, cancel: CancelToken) -> None:
        """Store files side by side, and note of each what the server has to know, in the job's order."""
        there = {report.lfn for report in self.stored}
        files = [(file, path) for file, path in files if file.lfn not in there]
        self._mover.bring_all_out(files, activity, cancel=cancel, moved=self._note)
        self.stored.sort(key=self._place)

    def _place(self, report: FileReport) -> int:
        """Return which of the job's files it is."""
        return self._places.get(report.lfn, len(self._places))

    def _note(self, moved: Moved) -> None:
        """Note a file that is on its storage; called one at a time, from any thread."""
        lfn, result = moved.transfer.lfn, moved.result
        report = FileReport(
            lfn=lfn,
            guid=self._guids[lfn],
            size=result.size,
            checksum=result.checksum,
            surl=result.url,
            rse=moved.replica.rse,
        )
        elsewhere = self._mover.routes.elsewhere(self._files[lfn], moved.transfer.activity, moved.replica.rse)
        self._journal.record(
            "stored",
            lfn=lfn,
            url=result.url,
            size=result.size,
            checksum=result.checksum,
            report=asdict(report),
            elsewhere=elsewhere,
        )
        self.stored.append(report)
        if elsewhere:
            self.elsewhere.append(lfn)
            job_logger(self._job.id, "outputs").warning(
                "%s is stored on %s, not where it belongs", lfn, moved.replica.rse
            )


def _check_place(payload_dir: Path, code: PilotErrorCode) -> None:
    """Raise `HandledError` if the payload put a link in the place of its directory, or of the job's.

    What such a link leads to is neither to be published nor to be removed.
    """
    for path in (payload_dir, payload_dir.parent):
        if path.is_symlink():
            text = f"{path}: the payload put a link in the place of its directory, and that is not followed"
            raise HandledError(f"{text}; it has to write into the directory that it was given", error_code=code)


def _make_room(payload_dir: Path) -> None:
    """Remove what a payload left, but for its standard output and error."""
    for path in payload_dir.iterdir():
        if path.is_dir() and not path.is_symlink():
            remove_tree(path)
        elif not path.name.startswith("payload."):
            path.unlink()
