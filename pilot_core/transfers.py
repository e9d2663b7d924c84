"""A job's transfers: the mover made of what the pilot gives, its ledger as a file, its progress to whoever listens."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from pilot_core.api.cancel import Deadline
from pilot_core.api.catalog import HearsTransfers
from pilot_core.api.staging import TransferAttempt
from pilot_core.api.url import shown_url
from pilot_core.catalogs import Catalogue
from pilot_core.errors import Cancelled, HandledError, SourceNotFound
from pilot_core.logs import job_logger
from pilot_core.remote_io import RemoteInputs, may_be_remote, replicas_for
from pilot_core.routes import Routes
from pilot_core.staging import AttemptFile, Mover, free_space, in_words

if TYPE_CHECKING:
    from pathlib import Path

    from pilot_core.api.cancel import CancelToken
    from pilot_core.api.catalog import ReplicaCatalog
    from pilot_core.api.clock import Clock
    from pilot_core.api.job import InputFile, Job
    from pilot_core.api.queue import Queue
    from pilot_core.api.staging import Replica, StagingProgress
    from pilot_core.services import Services

__all__ = ["TRANSFERS", "JobTransfers", "catalogue_of", "remote_inputs"]

LOOK_SECONDS = 60.0
"""For looking whether one input is where it is said to be."""
TOGETHER = 8
"""Inputs that are looked at side by side: each is a round trip to a storage, and little else."""
TRANSFERS = "transfers.jsonl"
"""The whole attempt ledger, in the job's directory and in its log archive: one `TransferAttempt` a line."""


class JobTransfers:
    """What moves one job's files."""

    def __init__(self, job: Job, services: Services) -> None:
        self._job = job
        self._services = services
        self._log = job_logger(job.id, "staging")
        self._file: AttemptFile | None = None
        self.catalogue = catalogue_of(job, services.queue, services.catalog, services.clock)
        """The replica catalogue, if the queue has one."""
        made: object = services.catalog
        self._hears = made if isinstance(made, HearsTransfers) else None
        self.mover = Mover(
            queue=services.queue,
            backends=services.backends,
            clock=services.clock,
            log=self._log,
            listener=self._attempted,
            routes=Routes(services.queue, job, self.catalogue),
            limits=services.limits,
            space=services.space,
            progress=self._listener(),
            job_id=job.id,
            in_turn=services.in_turn,
        )

    def begin(self, job_dir: Path, *, again: bool = False) -> None:
        """Keep the ledger in a job's directory from now on; the job goes on without if that is not possible.

        `again`: an earlier pilot kept it there, and the ledger goes on with that.
        """
        if again:
            self.mover.restore(_kept(job_dir / TRANSFERS))
        try:
            self._file = AttemptFile(job_dir / TRANSFERS, self._services.redactor.clean)
        except OSError as error:
            self._log.warning("the ledger of transfers is not kept in %s: %s", job_dir, error.strerror)
        self._look_at_space(job_dir)

    def remote_inputs(self, files: Sequence[InputFile], *, cancel: CancelToken) -> RemoteInputs:
        """Find out where inputs lie, and return those that the payload reads there. Raises `Cancelled`."""

        def is_there(file: InputFile, replica: Replica) -> bool | None:
            return self._is_there(file, replica, cancel)

        found = remote_inputs(
            self._job, files, self._services.queue, self.mover.routes, cancel=cancel, is_there=is_there
        )
        for file in files:
            if file.lfn in found:
                self.mover.leave(file, found.replicas[file.lfn])
        return found

    def _is_there(self, file: InputFile, replica: Replica, cancel: CancelToken) -> bool | None:
        """Say whether an input is where it is said to be, None if no stager here can tell; raises `Cancelled`."""
        services = self._services
        deadline = Deadline.after(services.clock, LOOK_SECONDS)
        try:
            stat = services.backends.stage_in(replica.url).stat(replica.url, cancel=cancel, deadline=deadline)
        except Cancelled:
            raise
        except SourceNotFound as error:
            self._log.warning("%s is not read where it is said to lie: %s", file.lfn, error)
            return False
        except Exception as error:  # noqa: BLE001  (the payload may do better)
            self._log.warning("%s at %s was not looked at: %s", file.lfn, shown_url(replica.url), error)
            return None
        if file.size is not None and stat.size != file.size:
            place = shown_url(replica.url)
            self._log.warning("%s has %d bytes at %s, and %d are due", file.lfn, stat.size, place, file.size)
            return False
        return True

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()

    def _look_at_space(self, job_dir: Path) -> None:
        """Say if there is less room than the job asks for; only of the inputs is it known what they need."""
        need = self._job.disk_mb * 1024**2
        try:
            free = free_space(job_dir) if need else 0
        except OSError:
            return
        if free < need:
            self._log.warning(
                "the job asks for %s of disk, and %s has %s free: it may not be enough for its outputs",
                *(in_words(need), job_dir, in_words(free)),
            )

    def _attempted(self, attempt: TransferAttempt) -> None:
        if self._file is not None:
            self._file.write(attempt)
        self._services.hooks.transfer_attempted(attempt)
        if self._hears is not None:
            try:
                self._hears.attempted(self._job, attempt)
            except Exception as error:  # noqa: BLE001  (what a plugin tells others is nothing to the job)
                self._log.warning("catalog.%s broke, and hears no more: %s", self._services.queue.catalog, error)
                self._hears = None

    def _listener(self) -> Callable[[StagingProgress], None] | None:
        """Return what hears of progress; None if nobody does, so that nobody has to be woken for it."""
        services = self._services
        own = services.progress
        if not services.hooks.hears_progress():
            return own

        def tell(progress: StagingProgress) -> None:
            if own is not None:
                own(progress)
            services.hooks.transfer_progress(progress)

        return tell


def _kept(file: Path) -> list[TransferAttempt]:
    """Return the attempts in a file, as far as they can be read: its last line may be torn."""
    found = []
    try:
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    for line in lines:
        with suppress(ValueError, TypeError):
            found.append(TransferAttempt(**json.loads(line)))
    return found


def catalogue_of(job: Job, queue: Queue, catalog: ReplicaCatalog | None, clock: Clock) -> Catalogue | None:
    """Return the queue's replica catalogue as one job asks it."""
    if catalog is None:
        return None
    return Catalogue(name=queue.catalog, made=catalog, clock=clock, log=job_logger(job.id, "catalog"))


def remote_inputs(
    job: Job,
    files: Sequence[InputFile],
    queue: Queue,
    routes: Routes,
    *,
    cancel: CancelToken,
    is_there: Callable[[InputFile, Replica], bool | None] = lambda _file, _replica: True,
) -> RemoteInputs:
    """Ask where inputs lie, and return those that the payload reads there, each at the first place where it is.

    Where `is_there` cannot tell (None) comes after all where it can: the payload may do better than the pilot's
    stagers. It may be asked from several threads. Raises `Cancelled`.
    """
    routes.ask_for_inputs(files, cancel=cancel)
    if not (queue.direct_access_lan or queue.direct_access_wan):
        return RemoteInputs()
    wanted = [file for file in files if may_be_remote(job, file)]

    def place(file: InputFile) -> Replica | None:
        try:
            replicas = replicas_for(queue, routes.sources(file))
        except HandledError:
            return None  # whoever copies it tells why that cannot be
        unknown: Replica | None = None
        for replica in replicas:
            there = is_there(file, replica)
            if there:
                return replica
            if there is None:
                unknown = unknown or replica
        return unknown

    if not wanted:
        return RemoteInputs()
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415  (few jobs need it)

    with ThreadPoolExecutor(min(len(wanted), TOGETHER), thread_name_prefix="remote-input") as pool:
        places = list(pool.map(place, wanted))
    return RemoteInputs({file.lfn: replica for file, replica in zip(wanted, places, strict=True) if replica})
