"""Job stores with something wrong, which stand before the real one for a single request."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn, cast

from pilot_core.api.server import StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pilot_core.api.server import JobFilter, JobRecord, JobStore

__all__ = ["no_database", "with_duplicates"]

WITH_A_PILOT = ("sent", "starting", "running")


class _NoDatabase:
    """Fails whatever is asked."""

    def __getattr__(self, name: str) -> Callable[..., NoReturn]:
        if name.startswith("_"):
            raise AttributeError(name)
        return _fail


def _fail(*_: Any, **__: Any) -> NoReturn:
    raise StoreUnavailable("could not connect to the database")


def no_database() -> JobStore:
    """Return a store whose database is down."""
    return cast("JobStore", _NoDatabase())


class _Duplicates:
    """Hands out a job that a pilot has already, and is the real store in everything else."""

    def __init__(self, store: Any, job: int | None, nothing: Callable[[], None]) -> None:
        self._store = store
        self._job = job
        self._nothing = nothing

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def dispatch(self, wanted: JobFilter) -> Sequence[JobRecord]:
        """Return the job that was handed out last; nothing is noted, as nothing is in a server that errs so."""
        found: list[JobRecord] = [
            job
            for job in self._store.jobs(queue=wanted.queue)
            if job.status in WITH_A_PILOT and self._job in (None, job.id)
        ]
        if found:
            return found[-1:]
        self._nothing()
        real: Sequence[JobRecord] = self._store.dispatch(wanted)
        return real


def with_duplicates(store: JobStore, job: int | None, nothing: Callable[[], None]) -> JobStore:
    """Return a store that hands out a job again (`job`, or any); `nothing` is called if there is none, and the real
    store asked.
    """
    return cast("JobStore", _Duplicates(store, job, nothing))
