"""A pilot that is killed at every point of its journal: just before the write, just after it, just after its effect.

The next pilot in the same work directory brings the job to its end: one run of the payload, one final report, all
outputs once and whole, no process and no file left, the log complete.
"""

from __future__ import annotations

import json
import random
import signal
import subprocess
import zipfile
import zlib
from contextlib import suppress
from dataclasses import replace

import pytest

from pilot_core import PilotErrorCode
from pilot_core.journal import MOMENTS, POINTS

INPUT = b"of the input\n" * 1000
LOST = {("acquired", "before"), ("asking", "effect")}
"""Where the server has given a job, and no pilot knows which: the protocol has no key to ask for it again."""


def struck(site, where, *options):
    """Run a pilot that is killed there, if it comes there."""
    ended = site.start(*options, command=("-m", "pilot_core.testing.pilot", "--kill-at", where, "run")).wait()
    print(ended.text)
    return ended


def killed(site, where, *options):
    """Run a pilot that is killed there; returns what it said."""
    ended = struck(site, where, *options)
    assert ended.code == -signal.SIGKILL, f"the pilot did not come to {where}"
    return ended.text


def recovered(site, *options):
    """Run the next pilot to its end, and see that nothing is left of it, nor of the first; returns what it said."""
    ended = site.run("--jobs", 0, *options)
    assert ended.code == 0
    return ended.text


def finals(site, job):
    return [status for _, status in site.job(job).history if status in {"finished", "failed"}]


def runs(site):
    file = site.folder / "runs"
    return file.read_text().split() if file.exists() else []


class Plain:
    """A job with an input, outputs of which one goes into an archive, and a log."""

    def __init__(self, site):
        self.site, self.texts = site, []
        (site.storage / "in.dat").write_bytes(INPUT)
        self.job = self.submit()

    def submit(self, **more):
        def zipped(spec):
            return replace(spec, parameters=f"{spec.parameters} <ZIP_MAP>all.zip:b.out</ZIP_MAP>")

        text = f"echo run >> {self.site.folder}/runs; cat in.dat > a.out; echo b > b.out; echo said"
        more = {"inputs": ["in.dat"], "outputs": ["a.out", "b.out", "all.zip"], "spec": zipped, **more}
        return self.site.script(text, **more)

    def kill(self, where):
        self.texts.append(killed(self.site, where))

    def start(self, where):
        """Run a pilot that is killed there, if it comes there; returns how it ended."""
        ended = struck(self.site, where)
        self.texts.append(ended.text)
        return ended

    def recover(self):
        self.texts.append(recovered(self.site))

    def check(self):
        site, found = self.site, self.site.job(self.job)
        assert runs(site) == ["run"]
        assert finals(site, self.job) == ["finished"]
        self.check_files(found)
        self.check_log(site.log_of(self.job))

    def check_files(self, found):
        """See that each output is there once and whole, as it was told, and nothing else."""
        site, log = self.site, found.description["logFile"]
        assert sorted(path.name for path in site.storage.iterdir()) == sorted(["in.dat", "a.out", "all.zip", log])
        assert (site.storage / "a.out").read_bytes() == INPUT
        told = json.loads(found.report)
        assert told["a.out"]["adler32"] == f"{zlib.adler32(INPUT):08x}"
        with zipfile.ZipFile(site.storage / "all.zip") as archive:
            assert archive.read("b.out") == b"b\n"
        whole = (site.storage / "all.zip").read_bytes()
        assert told["all.zip"]["adler32"] == f"{zlib.adler32(whole):08x}"

    def check_log(self, log):
        """See that the log has what the payload said, and all that any pilot said of the job until it was made."""
        assert log["payload.stdout"] == b"said\n"
        # each handler of the pilot's log looks at the clock by itself: what is said is the same, not when
        logged = [line.split(maxsplit=1) for line in log["pilot.log"].decode().splitlines()]
        # standard error comes before it, so that the last line of a killed pilot may be there only
        *killed, last = (
            [line.split(maxsplit=1) for line in text.splitlines() if f" [{self.job}] " in line] for text in self.texts
        )
        said = [line for lines in killed for line in lines[:-1]] + last
        until, there = logged[-1][0], {what for _, what in logged}
        assert [what for when, what in said if when < until and what not in there] == []
        steps = [json.loads(line) for line in log["journal.jsonl"].splitlines()]
        names = [step["step"] for step in steps]
        assert names[0] == "acquired"
        assert names.count("payload-ended") == 1
        assert sorted(step["lfn"] for step in steps if step["step"] == "stored") == ["a.out", "all.zip"]
        takers, takes = sum("is taken over in the state" in what for _, what in logged), names.count("taken-over")
        # those that were killed just as they took the job over had said nothing yet
        assert min(1, takes) <= takers <= takes


class NoJob(Plain):
    """A pilot that gets none; the next one gets one."""

    def kill(self, where):
        self.site.server.store.kill(self.job)
        super().kill(where)
        self.job = self.submit()


class TakenOver(Plain):
    """The second pilot is killed, too."""

    def kill(self, where):
        super().kill("payload-started:after")
        super().kill(where)


class Kill(Plain):
    """The server wants the job killed while its payload runs."""

    def __init__(self, site):
        self.site, self.texts = site, []
        site.settings["heartbeat_seconds"] = 0.2
        self.gate = site.gate()
        self.job = site.script(f"echo run >> {site.folder}/runs; {self.gate.script}")
        self.fault = site.server.fault("tobekilled", job=self.job, state="running", after=1, count=0)

    def check(self):
        found = self.site.job(self.job)
        assert runs(self.site) == ["run"]
        assert found.reported_state == "failed"
        assert found.fields["pilot_error_code"] == PilotErrorCode.PANDAKILL


class NoLog(Plain):
    """The log cannot be stored, so the outputs are removed again."""

    def __init__(self, site):
        self.site, self.texts = site, []
        site.settings["storages"]["NONE"] = {"url": f"file://{site.folder}/none"}
        site.settings["log"] = ["NONE"]

        def nowhere(spec):
            files = (replace(file, endpoint="NONE" if file.kind == "log" else site.rse) for file in spec.files)
            return replace(spec, files=tuple(files))

        self.job = self.submit(inputs=[], outputs=["b.out"], spec=nowhere)

    def check(self):
        assert runs(self.site) == ["run"]
        assert self.site.job(self.job).reported_state == "failed"
        assert list(self.site.storage.iterdir()) == []


class NoServer(Plain):
    """The final report cannot be delivered within its budget."""

    def kill(self, where):
        struck = self.site.server.fault(
            "reset-before", endpoint="update_job", state="finished", queue=self.site.queue, count=0
        )
        killed(self.site, where, "--report-budget", 1)
        struck.remove()


class NoStorage(Plain):
    """Outputs cannot be stored, and are kept."""

    def __init__(self, site):
        self.site, self.texts = site, []
        site.settings["storages"]["AWAY"] = {"url": f"file://{site.folder}/away"}
        site.settings["storages"]["LOGS"] = {"url": f"file://{site.storage}"}
        site.settings["write"], site.settings["log"] = ["AWAY"], ["LOGS"]

        def away(spec):
            files = (replace(file, endpoint="AWAY" if file.kind == "output" else "LOGS") for file in spec.files)
            return replace(spec, files=tuple(files))

        self.job = self.submit(inputs=[], outputs=["b.out"], spec=away)

    def submit(self, **more):
        text = f"echo run >> {self.site.folder}/runs; echo b > b.out"
        return self.site.script(text, **more)

    def kill(self, where):
        killed(self.site, where, "--keep-outputs-hours", 1)
        (self.site.folder / "away").mkdir()

    def check(self):
        assert runs(self.site) == ["run"]
        assert finals(self.site, self.job) == ["finished"]
        assert (self.site.folder / "away/b.out").read_text() == "b\n"


SCENES = {
    "asked": NoJob,
    "taken-over": TakenOver,
    "commanded": Kill,
    "called-off": Kill,
    "payload-ending": Kill,
    "withdrawing": NoLog,
    "spooled": NoServer,
    "outputs-kept": NoStorage,
}
"""What brings a pilot to a point, where that is not a plain job."""


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("point", POINTS)
def test_killed_at(site, point, moment):
    scene = SCENES.get(point, Plain)(site)
    scene.kill(f"{point}:{moment}")
    if (point, moment) in LOST:
        assert site.job(scene.job).status == "sent"
        assert runs(site) == []
        site.server.store.kill(scene.job)
        scene.job = scene.submit()
    scene.recover()
    scene.check()


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("number", [2, 3])
def test_killed_at_each_file_that_is_stored(site, number, moment):
    """The first one is a point like the others; these are the archive of outputs, and the log."""
    scene = Plain(site)
    scene.kill(f"stored:{moment}:{number}")
    scene.recover()
    scene.check()


ANYWHERE = [point for point in POINTS if point not in SCENES and not point.startswith(("pilot-", "ask", "acquired"))]
"""The points of a plain job that has been given."""


@pytest.mark.parametrize("seed", range(8))
def test_killed_at_random_points_one_after_the_other(site, seed):
    """Up to four pilots, each at a point of its own; one that does not come there brings the job to its end."""
    chance = random.Random(seed)
    scene = Plain(site)
    scene.kill("acquired:after")
    for where in [f"{chance.choice(ANYWHERE)}:{chance.choice(MOMENTS)}" for _ in range(chance.randint(2, 4))]:
        ended = scene.start(where)
        if ended.code != -signal.SIGKILL:
            assert ended.code == 0, ended.text
            break
    scene.recover()
    scene.check()


@pytest.mark.parametrize("seed", range(12))
def test_killed_at_any_moment(site, seed):
    """Not at a write of the journal, but whenever it happens; the payload and its supervisor are let live."""
    chance = random.Random(seed)
    scene = Plain(site)
    for _ in range(chance.randint(1, 3)):
        pilot = site.start()
        pilot.until_says("pilot: queue")
        with suppress(subprocess.TimeoutExpired):
            pilot.process.wait(chance.uniform(0.0, 0.3))
        pilot.kill()
        scene.texts.append(pilot.text)
    scene.recover()
    if site.job(scene.job).status == "sent":  # the answer with the job was lost
        assert runs(site) == []
        site.server.store.kill(scene.job)
        scene.job = scene.submit()
        scene.recover()
    scene.check()
