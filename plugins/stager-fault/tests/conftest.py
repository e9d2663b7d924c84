"""The stager before the stager `file`, on real files."""

import logging
from dataclasses import replace

import pytest
from pilot_stager_fault.stager import FaultStager

from pilot_core import BackendUnavailable, CancelToken, Context, Deadline, FetchRequest, StoreRequest
from pilot_core.testing.clock import FakeClock

CONTENT = bytes(range(256)) * 20


class Files:
    """The stagers of a pilot that has two: `file`, and this one."""

    def __init__(self, context):
        # here: the kits' asserts are rewritten when their plugin imports them, which is later than this file; and now:
        # a clause's forked process cannot load plugins (faulthandler's watchdog of the parent blocks its own)
        from pilot_core.testing.kits.subject import subject_of

        self.context = context
        self.fault = None
        self.providers = subject_of("stager.file", "stager").providers

    def stage_in(self, url):
        return self._serving("pilot_stagein", url)

    def stage_out(self, url):
        return self._serving("pilot_stageout", url)

    def _serving(self, hook, url):
        if url.startswith("fault:"):
            return self.fault
        if url.startswith("file:"):
            provider = self.providers[hook]
            return provider.factory(provider.settings(), self.context)
        raise BackendUnavailable(f"no stager here serves {url}")


@pytest.fixture
def files():
    """Make the stagers of a pilot, of a context."""
    return Files


class Bench:
    """A storage with one file, a place to work, and the stager."""

    def __init__(self, folder):
        self.clock = FakeClock()
        self.cancel = CancelToken()
        self.storage, self.work = folder / "storage", folder / "work"
        self.storage.mkdir()
        self.work.mkdir()
        (self.storage / "f").write_bytes(CONTENT)
        self.local = self.work / "local"
        context = Context(clock=self.clock, log=logging.getLogger("pilot_core.stager.fault"), work_dir=self.work)
        files = Files(context)
        self.stager = files.fault = FaultStager(replace(context, stagers=files))

    def url(self, faults, name="f"):
        return f"fault://{faults}/file://{self.storage}/{name}"

    def limits(self, seconds=600.0):
        return {"cancel": self.cancel, "deadline": Deadline.after(self.clock, seconds)}

    def fetch(self, faults, seconds=600.0, **values):
        request = FetchRequest(url=self.url(faults), destination=self.local, **values)
        return self.stager.fetch(request, **self.limits(seconds))

    def store(self, faults, seconds=600.0, **values):
        self.local.write_bytes(CONTENT)
        request = StoreRequest(source=self.local, url=self.url(faults, "out"), **values)
        return self.stager.store(request, **self.limits(seconds))

    @property
    def out(self):
        return self.storage / "out"


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path)
