"""What the tests of staging share: stagers that do as they are told, and a job's mover over them or over real ones."""

from __future__ import annotations

import logging
import threading
import zlib

from pilot_core import Cancelled, Context, InputFile, Provider, Queue, Storage, SystemClock, TransferResult
from pilot_core.logs import job_logger
from pilot_core.plugins import Loaded, PluginSettings, Record, Registry
from pilot_core.staging import Backends, Mover

CONTENT = b"what the storage holds"
ADLER = f"adler32:{zlib.adler32(CONTENT):08x}"
PATIENCE = 30.0
"""Real seconds after which a test gives up waiting."""


def input_file(lfn, data=CONTENT, **more):
    """Return an input as its catalogue knows it."""
    return InputFile(lfn=lfn, size=len(data), checksum=f"adler32:{zlib.adler32(data):08x}", **more)


def loaded(name, hook, schemes=("disk",), priority=50):
    """Return what the plugin loader makes of a stager of that name."""
    provider = Provider(name=name, factory=lambda *_: None, schemes=frozenset(schemes), priority=priority)
    record = Record(
        entry_point=f"stager.{name}",
        value="x",
        api=1,
        distribution=f"pilot-stager-{name}",
        version="1.2",
        where="",
        directory="",
    )
    return Loaded(hook, provider, record)


class Told:
    """A stager that writes `CONTENT`, or does what a function of the file's name says.

    `does(name, request, cancel)` may raise, wait, or return a result of its own.
    """

    def __init__(self, does=lambda *_: None):
        self.does = does
        self.clock = SystemClock()
        self.most = 0
        self.names = []
        self.threads = set()
        self._now = 0
        self._lock = threading.Lock()

    def fetch(self, request, *, cancel, deadline):
        result = self._serve(request, cancel, request.url.rpartition("/")[2])
        if result is None:
            request.destination.write_bytes(CONTENT)
            request.progress(len(CONTENT))
        return result or TransferResult(size=len(CONTENT), checksum=ADLER, url=request.url)

    def store(self, request, *, cancel, deadline):
        result = self._serve(request, cancel, request.url.rpartition("/")[2])
        data = request.source.read_bytes()
        adler = f"adler32:{zlib.adler32(data):08x}"
        return result or TransferResult(size=len(data), checksum=adler, url=request.url)

    def _serve(self, request, cancel, name):
        with self._lock:
            self._now += 1
            self.most = max(self.most, self._now)
            self.names.append(name)
            self.threads.add(threading.current_thread().name)
        try:
            return self.does(name, request, cancel)
        finally:
            with self._lock:
                self._now -= 1

    def until(self, cancel):
        """Wait until it is called off, as a stager does."""
        assert self.clock.wait(cancel, until=self.clock.monotonic() + PATIENCE)
        raise Cancelled(cancel.reason)


class Shelf:
    """The stagers of a test, by name; all serve one scheme."""

    def __init__(self, scheme="disk", **stagers):
        self.scheme = scheme
        self.made = stagers

    def stagers(self, hook, urls):
        return [
            loaded(name, hook, (self.scheme,), priority=10 * number)
            for number, name in enumerate(self.made)
            if all(url.startswith(f"{self.scheme}:") for url in urls)
        ]

    def recorded(self, hook, candidate):
        return None

    def instance(self, hook, name):
        return self.made[name]


def real_backends(queue, clock, work_dir):
    """Return the stagers that are installed, as a pilot makes them."""
    registry = Registry.discover(PluginSettings())

    def make(kind, name, hook):
        provider = registry.provider(kind, name, hook).provider
        context = Context(clock=clock, log=logging.getLogger("pilot_core.test"), work_dir=work_dir, stagers=made)
        return provider.factory(provider.settings(), context)

    made = Backends(registry, queue, make)
    return made


def queue_at(*urls):
    """Return a queue that reads and writes at some places, called A, B ..."""
    names = "ABCDEFGH"[: len(urls)]
    storages = {rse: Storage(rse=rse, url=url) for rse, url in zip(names, urls, strict=True)}
    return Queue(name="Q", storages=storages, read=tuple(names), write=tuple(names))


def mover_of(backends, queue=None, clock=None, told=None, **more):
    """Return a job's mover."""
    return Mover(
        queue=queue or queue_at("disk://A"),
        backends=backends,
        clock=clock or SystemClock(),
        log=job_logger(7, "staging"),
        listener=(told if told is not None else []).append,
        **more,
    )


def all_in(mover, folder, files, cancel):
    """Bring files in, each under its own name."""
    return mover.bring_all_in([(file, folder / file.lfn) for file in files], cancel=cancel)
