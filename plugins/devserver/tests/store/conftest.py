"""Stores in memory, with a clock that the test moves."""

from contextlib import ExitStack

import pytest
from pilot_devserver.store import SqliteStore
from pilot_devserver.store_jobs import FileSpec, JobSpec

from pilot_core.api.server import JobFilter
from pilot_core.testing.clock import FakeClock


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def open_store(clock):
    """Open stores that are closed at the end."""
    with ExitStack() as stack:

        def open_store(path=None, **options):
            store = SqliteStore(path, **{"clock": clock, **options})
            stack.callback(store.close)
            return store

        yield open_store


@pytest.fixture
def store(open_store):
    return open_store(adder_delay=None)


@pytest.fixture
def job():
    """Make a specification; by default with one output and a log."""

    def make(**values):
        files = (FileSpec(lfn="out.1", kind="output"), FileSpec(lfn="log.1.tgz", kind="log"))
        return JobSpec(**{"queue": "Q", "transformation": "/bin/true", "files": files, **values})

    return make


@pytest.fixture
def sent(store, job):
    """Submit a job and have it handed out; return its id."""

    def send(**values):
        store.submit([job(**values)])
        (record,) = store.dispatch(JobFilter(queue="Q"))
        return record.id

    return send
