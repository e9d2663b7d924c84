"""A stager, and real servers of XRootD on loopback."""

import itertools
import logging
import threading

import pytest
from pilot_stager_xrootd.settings import Settings
from pilot_stager_xrootd.stager import XrootdStager

from pilot_core import CancelToken, Context, Deadline, FetchRequest, StoreRequest, SystemClock
from pilot_core.testing.servers.xrootd import XrootdServer, XrootdStorage, XrootdTls
from pilot_core.testing.tls import TestAuthority

NUMBERS = itertools.count()


class Bench:
    """A stager with these settings, a job's folder, and a storage."""

    def __init__(self, folder, *, pilot_trusts=None, **settings):
        self.here = folder / "job"
        self.here.mkdir(exist_ok=True)
        work = folder / "work"
        work.mkdir(exist_ok=True)
        self.clock = SystemClock()
        self.cancel = CancelToken()
        self.seconds = 30.0
        log = logging.getLogger("pilot_core.stager.xrootd")
        context = Context(clock=self.clock, log=log, work_dir=work, ca_file=pilot_trusts)
        self.stager = XrootdStager(Settings(**settings), context)

    def limits(self):
        return {"cancel": self.cancel, "deadline": Deadline.after(self.clock, self.seconds)}

    def fetch(self, url, name="in.dat", **what):
        return self.stager.fetch(FetchRequest(url=url, destination=self.here / name, **what), **self.limits())

    def store(self, url, data, name="out.dat", **what):
        source = self.here / name
        source.write_bytes(data)
        return self.stager.store(StoreRequest(source=source, url=url, **what), **self.limits())

    def stat(self, url):
        return self.stager.stat(url, **self.limits())

    def remove(self, url):
        return self.stager.remove(url, **self.limits())

    def cancel_in(self, seconds):
        """Cancel soon, from another thread."""

        def run():
            self.clock.wait(until=self.clock.monotonic() + seconds)
            self.cancel.cancel("the test says so")

        threading.Thread(target=run, daemon=True).start()

    def got(self, name="in.dat"):
        return (self.here / name).read_bytes()

    def left(self):
        return {path.name for path in self.here.iterdir()} - {"out.dat"}


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path)


@pytest.fixture
def bench_with(tmp_path):
    """Make a bench with other settings."""
    return lambda **settings: Bench(tmp_path, **settings)


@pytest.fixture(scope="session")
def shared_server():
    with XrootdServer() as server:
        yield server


@pytest.fixture
def storage(shared_server):
    return XrootdStorage(shared_server, f"test-{next(NUMBERS)}")


@pytest.fixture
def own_server():
    """A server that the test may stop."""
    with XrootdServer() as server:
        yield server


@pytest.fixture(scope="session")
def authority(tmp_path_factory):
    return TestAuthority(tmp_path_factory.mktemp("authority"), rsa=True)


@pytest.fixture(scope="session")
def tls_server(authority):
    with XrootdServer(tls=XrootdTls.of(authority), http=True) as server:
        yield server


@pytest.fixture(scope="session")
def gsi_server(authority):
    with XrootdServer(tls=XrootdTls.of(authority), login="gsi") as server:
        yield server
