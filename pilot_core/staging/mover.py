"""Moving a job's files: all of a kind are planned before the first byte, then moved side by side."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pilot_core.api.cancel import Deadline
from pilot_core.api.staging import REMOTE_IO, StagingProgress, TransferAttempt, TransferResult
from pilot_core.api.url import shown_url, without_password
from pilot_core.errors import HandledError, JobDescriptionError, SourceNotFound
from pilot_core.routes import Routes
from pilot_core.staging.attempts import Attempts
from pilot_core.staging.batch import Batch
from pilot_core.staging.ledger import Ledger
from pilot_core.staging.limits import START_ALLOWANCE, Limits
from pilot_core.staging.reporter import Reporter
from pilot_core.staging.strays import sweep
from pilot_core.staging.telling import all_told
from pilot_core.staging.transfer import Moved, Transfer

if TYPE_CHECKING:
    from pilot_core.api.cancel import CancelToken
    from pilot_core.api.clock import Clock
    from pilot_core.api.job import InputFile, OutputFile
    from pilot_core.api.queue import Queue
    from pilot_core.api.staging import Replica, StageOut
    from pilot_core.plugins import Loaded
    from pilot_core.selection import Candidate, Verdict
    from pilot_core.staging.backends import Backends
    from pilot_core.staging.space import Space

__all__ = ["InTurn", "Mover"]

InTurn = Callable[[Sequence[Sequence[str]]], Sequence[int]]
"""Says which files, given the URLs of each, are to be begun in any case, and in which order: in a replay.

All are moved one after the other then, in the job's own thread; what it does not name comes last."""


class Mover:
    """Moves one job's files, and keeps the ledger of every attempt."""

    def __init__(
        self,
        *,
        queue: Queue,
        backends: Backends,
        clock: Clock,
        log: logging.LoggerAdapter[logging.Logger],
        listener: Callable[[TransferAttempt], None],
        routes: Routes | None = None,
        limits: Limits | None = None,
        space: Space | None = None,
        progress: Callable[[StagingProgress], None] | None = None,
        job_id: int = 0,
        in_turn: InTurn | None = None,
    ) -> None:
        """`listener` hears of attempts, `progress` of how far they are; no `space` = nobody looks at the disk."""
        self.routes = routes or Routes(queue)
        self._ledger = Ledger(self._say, listener)
        self._backends = backends
        self._clock = clock
        self._log = log
        self._limits = limits or Limits()
        self._space = space
        self._progress = progress
        self._job_id = job_id
        self._in_turn = in_turn
        self._attempts = Attempts(queue=queue, backends=backends, clock=clock, log=log, ledger=self._ledger)

    @property
    def ledger(self) -> Sequence[TransferAttempt]:
        """Every attempt so far, in the order in which they ended."""
        return self._ledger.attempts

    def restore(self, attempts: Sequence[TransferAttempt]) -> None:
        """Have the ledger begin with attempts that an earlier pilot made."""
        self._ledger.restore(attempts)

    def explain(self, activity: str, replicas: Sequence[Replica]) -> list[Verdict[Loaded[Any]]]:
        """Return what would be tried, in order, and what would not, each with the rule that says so."""
        return self._attempts.explain(activity, replicas)

    # -- in ------------------------------------------------------------------------------------------------------

    def bring_in(self, file: InputFile, destination: Path, *, cancel: CancelToken) -> TransferResult:
        """Fetch an input, verified against what the catalogue knows of it. Raises `TransferError`, `AuthError`."""
        return self.bring_all_in([(file, destination)], cancel=cancel)[0].result

    def bring_all_in(self, files: Sequence[tuple[InputFile, Path]], *, cancel: CancelToken) -> Sequence[Moved]:
        """Fetch inputs, each to its destination, verified.

        Before the first byte all of them have places to come from, backends, and room. Raises the error that says
        most, with the names of all that failed in it; `NoSpace` and `Cancelled` end everything, another failure does
        not. Whatever happens, no partial file stays.
        """
        transfers = self._planned_in(files)
        if not transfers:
            cancel.raise_if_cancelled()
            return ()
        folders = dict.fromkeys(transfer.local.parent for transfer in transfers)
        for folder in folders:
            sweep(folder)
        try:
            if self._space is None:
                return self._run(transfers, cancel)
            need = sum(transfer.size or 0 for transfer in transfers)
            with self._space.hold(transfers[0].local.parent, need, _what(transfers)) as hold:
                return self._run(transfers, cancel, moved=lambda moved: hold.used(moved.result.size))
        finally:
            for folder in folders:
                with suppress(OSError):
                    sweep(folder)

    def leave(self, file: InputFile, replica: Replica) -> None:
        """Enter an input into the ledger that is not copied: the payload reads it where it lies."""
        self._ledger.add(
            TransferAttempt(
                activity="read",
                lfn=file.lfn,
                url=without_password(replica.url),
                rse=replica.rse,
                backend="",
                backend_version="",
                number=1,
                started=self._clock.wall(),
                seconds=0.0,
                bytes=0,
                outcome=REMOTE_IO,
            )
        )

    def _planned_in(self, files: Sequence[tuple[InputFile, Path]]) -> list[Transfer]:
        """Return what is to be fetched, each file once."""
        planned: dict[Path, tuple[InputFile, Transfer]] = {}
        errors: dict[str, HandledError] = {}
        for file, destination in files:
            if destination in planned:
                _check_same(planned[destination][0], file)
                continue
            try:
                transfer = Transfer(
                    activity="read",
                    lfn=file.lfn,
                    local=destination,
                    replicas=tuple(self.routes.sources(file)),
                    size=file.size,
                    checksum=file.checksum,
                )
                transfer = self._attempts.plan(transfer)
            except HandledError as error:
                errors[file.lfn] = error
            else:
                planned[destination] = (file, transfer)
        if errors:
            raise all_told(errors)
        return [transfer for _, transfer in planned.values()]

    # -- out -----------------------------------------------------------------------------------------------------

    def bring_out(
        self, file: OutputFile, source: Path, activity: str, *, cancel: CancelToken
    ) -> tuple[TransferResult, str]:
        """Store an output or the log; returns what was stored and the RSE. Raises as `bring_in`."""
        [moved] = self.bring_all_out([(file, source)], activity, cancel=cancel)
        return moved.result, moved.replica.rse

    def bring_all_out(
        self,
        files: Sequence[tuple[OutputFile, Path]],
        activity: str,
        *,
        cancel: CancelToken,
        moved: Callable[[Moved], None] | None = None,
    ) -> Sequence[Moved]:
        """Store outputs, or the log: all or none, so the first failure ends the others.

        What was stored by then is on the storages; `moved` hears of each file, one at a time, from any thread. Raises
        as `bring_all_in`.
        """
        self.routes.ask_for_outputs([file for file, _ in files], activity, cancel=cancel)
        transfers = [self._planned_out(file, source, activity) for file, source in files]
        return self._run(transfers, cancel, moved=moved, all_or_none=True)

    def _planned_out(self, file: OutputFile, source: Path, activity: str) -> Transfer:
        """Return what is to be stored."""
        transfer = Transfer(
            activity=activity,
            lfn=file.lfn,
            local=source,
            replicas=tuple(self.routes.destinations(file, activity)),
            size=source.stat().st_size,
        )
        return self._attempts.plan(transfer)

    def remove(self, rse: str, url: str, *, cancel: CancelToken) -> None:
        """Take a stored file away again, as well as that can be done; raises nothing."""
        why: object = "no stager here serves it"
        found: Sequence[Candidate[Loaded[Any]]] = ()
        try:
            found = self._attempts.candidates("write", self.routes.removals(rse, url))
        except HandledError as error:
            why = error
        for candidate in found:
            try:
                backend: StageOut = self._backends.instance("pilot_stageout", candidate.stager.name)
                backend.remove(
                    candidate.replica.url, cancel=cancel, deadline=Deadline.after(self._clock, START_ALLOWANCE)
                )
            except SourceNotFound:
                return
            except HandledError as error:
                why = error
            except (Exception, SystemExit) as error:  # noqa: BLE001  (the next backend may do better)
                why = self._attempts.broken(candidate.stager, error)
            else:
                self._log.info("%s removed from the storage", shown_url(url))
                return
        self._log.warning("%s stays on the storage: %s", shown_url(url), why)

    # -- both ----------------------------------------------------------------------------------------------------

    def _run(
        self,
        transfers: Sequence[Transfer],
        cancel: CancelToken,
        *,
        moved: Callable[[Moved], None] | None = None,
        all_or_none: bool = False,
    ) -> Sequence[Moved]:
        """Move the files; raises the error that says most if one could not be."""
        reporter = Reporter(transfers, job_id=self._job_id, clock=self._clock, log=self._log, listener=self._progress)
        batch = Batch(
            transfers,
            self._attempts.move,
            clock=self._clock,
            limits=self._limits,
            reporter=reporter,
            all_or_none=all_or_none,
            moved=moved,
        )
        try:
            if self._in_turn is None:
                batch.run(cancel)
            else:
                urls = [[replica.url for replica in transfer.replicas] for transfer in transfers]
                batch.run_in_turn(self._in_turn(urls), cancel)
        finally:
            reporter.end()
        if batch.errors:
            raise all_told(batch.errors)
        return batch.results

    def _say(self, attempt: TransferAttempt) -> None:
        """Log an attempt."""
        if attempt.outcome == "ok":
            way = "from" if attempt.activity == "read" else "to"
            self._log.info("%s %s %s (%d bytes, %.3f s)", attempt.lfn, way, attempt.url, attempt.bytes, attempt.seconds)
        elif attempt.outcome == REMOTE_IO:
            self._log.info("%s stays at %s: the payload reads it there", attempt.lfn, attempt.url)
        else:
            self._log.warning("%s: attempt %d failed: %s", attempt.lfn, attempt.number, attempt.error)


def _what(transfers: Sequence[Transfer]) -> str:
    """Return what needs space, for messages."""
    largest = max(transfers, key=lambda transfer: transfer.size or 0)
    return f"the job's {len(transfers)} inputs ({largest.lfn} is the largest)" if len(transfers) > 1 else largest.lfn


def _check_same(one: InputFile, other: InputFile) -> None:
    """Raise `JobDescriptionError` for two inputs of one name that are not the same file."""
    if (one.scope, one.size or other.size, one.checksum or other.checksum) != (
        other.scope,
        other.size or one.size,
        other.checksum or one.checksum,
    ):
        raise JobDescriptionError(
            f"inputs {one.scope}:{one.lfn} and {other.scope}:{other.lfn} would have one name in the job's directory; "
            "a job can have one of them only"
        )
