"""What extensions are called with: jobs of many sorts, as they really are, with real files and a real program."""

from __future__ import annotations

import copy
import itertools
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pilot_core.api.communicator import FileReport, JobUpdate, ServerAnswer
from pilot_core.api.events import FinishedPayload, JobState, Outcome, PayloadCommand, TaskInfo
from pilot_core.api.executor import PayloadResult
from pilot_core.api.job import InputFile, Job, OutputFile, Step
from pilot_core.api.queue import Queue, Storage
from pilot_core.api.staging import StagingProgress, TransferAttempt, TransferProgress
from pilot_core.testing.kits.canary import CANARY

__all__ = ["OWN_SECRET", "Occasion", "occasions", "sample_job"]

OWN_SECRET = 'own+secret/"c07d11e8f2"'  # noqa: S105  (a canary)
"""The pilot's own secret of a job, as the kits plant it: nothing that the payload may see."""

_PROGRAM = """
import json, os, sys
told = {"words": sys.argv[3:], "environment": dict(os.environ), "cwd": os.getcwd()}
with open(sys.argv[1], "w") as stream:
    json.dump(told, stream)
sys.exit(int(sys.argv[2]))
"""
WORDS = (
    "plain",
    "two words",
    "",
    "it's",
    '"quoted"',
    "$HOME",
    "$(id)",
    "`id`",
    "a;b&c|d",
    "*",
    "back\\slash",
    "ü文",
    "-x",
)


@dataclass(frozen=True, kw_only=True)
class Occasion:
    """One job at one moment, and what each hook is given of it."""

    name: str
    payload: FinishedPayload
    command: PayloadCommand
    report: Path
    """Where the command's program tells what it got."""

    @property
    def job(self) -> Job:
        """The job."""
        return self.payload.job

    def arguments(self, hook: str) -> list[dict[str, Any]]:
        """Return what a hook is called with, once or several times; every value is the caller's own copy."""
        return [copy.deepcopy(each) for each in getattr(self, f"_{hook.removeprefix('pilot_')}")()]

    def told(self) -> dict[str, Any]:
        """Return what the program told of itself."""
        told: dict[str, Any] = json.loads(self.report.read_text())
        return told

    def _prepare_environment(self) -> list[dict[str, Any]]:
        return [{"job": self.job, "queue": self.payload.queue, "environment": dict(self.command.environment)}]

    def _wrap_command(self) -> list[dict[str, Any]]:
        return [{"job": self.job, "queue": self.payload.queue, "command": self.command}]

    def _diagnose_failure(self) -> list[dict[str, Any]]:
        return [] if self.payload.result.ok else [{"payload": self.payload}]

    def _collect_metadata(self) -> list[dict[str, Any]]:
        return [{"payload": self.payload}]

    def _job_state_changed(self) -> list[dict[str, Any]]:
        states = list(JobState)
        return [{"job": self.job, "old": old, "new": new} for old, new in itertools.pairwise(states)]

    def _task(self, name: str) -> TaskInfo:
        return TaskInfo(name=name, job=self.job, queue=self.payload.queue, job_dir=self.payload.job_dir)

    def _task_started(self) -> list[dict[str, Any]]:
        return [{"task": self._task(name)} for name in ("stage-in", "payload", "stage-out", "log", "report")]

    def _task_finished(self) -> list[dict[str, Any]]:
        well = Outcome(ok=True, seconds=1.25, details={"files": 1, "bytes": 4097})
        badly = Outcome(ok=False, seconds=0.0, error_code=1137, error="stage-out failed: no space", details={})
        return [{**each, "outcome": outcome} for each in self._task_started() for outcome in (well, badly)]

    def _transfer_attempted(self) -> list[dict[str, Any]]:
        good = TransferAttempt(
            activity="read",
            lfn="input ü.root",
            url="davs://storage.example.org:443/store/input%20%C3%BC.root",
            rse="DISK",
            backend="http",
            backend_version="1.2",
            number=1,
            started=1_700_000_000.5,
            seconds=0.25,
            bytes=4097,
            outcome="ok",
        )
        bad = replace(good, activity="log", number=3, bytes=0, outcome="TransferTimeout", error="no answer in 60 s")
        return [{"attempt": good}, {"attempt": bad}]

    def _transfer_progress(self) -> list[dict[str, Any]]:
        one = TransferProgress(lfn="input ü.root", backend="http", rse="DISK", bytes=2048, size=4097, seconds=0.5)
        other = replace(one, lfn="second.root", bytes=0, size=None)
        progress = StagingProgress(
            job_id=self.job.id,
            activity="read",
            files=3,
            files_done=1,
            bytes=6145,
            size=None,
            seconds=1.5,
            under_way=(one, other),
        )
        last = replace(progress, files_done=3, bytes=9000, size=9000, under_way=(), ended=True)
        return [{"progress": progress}, {"progress": last}, {"progress": replace(last, activity="log", files=0)}]

    def _heartbeat(self) -> list[dict[str, Any]]:
        job, result = self.job, self.payload.result
        running = JobUpdate(job_id=job.id, attempt=job.attempt, state="running", queue="KIT", node="slot1@node")
        stored = FileReport(lfn="output.root", guid="0A1B2C3D-4E5F-4678-9ABC-000000000001", size=4097, checksum="")
        final = replace(
            running,
            state="finished" if result.ok else "failed",
            payload_exit_code=result.exit_code,
            files=(stored,),
            metadata={"events": 12, "nested": {"list": [1, 2]}},
            log_extract="last line",
        )
        answer = ServerAnswer(commands=("tobekilled",), pilot_secrets={"token": OWN_SECRET})
        return [
            {"update": running, "answer": ServerAnswer()},
            {"update": running, "answer": answer},
            {"update": final, "answer": None},
        ]


def sample_job() -> Job:
    """Return a job that says something in every field."""
    return Job(
        id=4711,
        attempt=2,
        name="kit.job.$HOME 'ü'",
        label="user",
        transformation="run.py",
        parameters="--in 'input ü.root' --out output.root",
        inputs=(InputFile(lfn="input ü.root", scope="kit", size=4097, checksum="adler32:00000001", dataset="kit.in"),),
        outputs=(OutputFile(lfn="output.root", scope="kit", dataset="kit.out"),),
        log=OutputFile(lfn="job.log.tgz", scope="kit", guid="0A1B2C3D-4E5F-4678-9ABC-000000000099"),
        task_id=815,
        jobset_id=42,
        core_count=8,
        memory_mb=16_000,
        disk_mb=20_000,
        max_cpu_seconds=86_400,
        max_wall_seconds=90_000,
        resource_type="MCORE",
        processing_type="simul",
        priority=900,
        user="/DC=org/CN=Some Body",
        release="Kit-1.2.3",
        home_package="Kit/1.2.3",
        platform="x86_64-el9-gcc13-opt",
        preprocess=Step(command="true"),
        container_options={"execOptions": ["--nv"]},
        input_lists={"files.txt": ("input ü.root",)},
        queue_overrides={"maxrss": 2000},
        secrets={"USER_PASSWORD": CANARY},
        pilot_secrets={"PILOT_TOKEN": OWN_SECRET},
        extra={"unknownField": {"list": [1, 2]}, "coreCount": "8"},
    )


def occasions(folder: Path, job: Job) -> list[Occasion]:
    """Return jobs that went well and badly, each with a directory of its own below `folder`."""
    bare = Job(id=1)
    text = b"first line\nERROR something is wrong\nlast line\n"
    ended = PayloadResult(exit_code=0, signal=None, started=1_700_000_000.0, ended=1_700_000_060.0, user_seconds=50.0)
    binary = bytes(range(256)) * 40
    specs: dict[str, tuple[Job, PayloadResult, bytes | None, bytes | None]] = {
        "went well": (job, ended, text, b""),
        "failed": (job, replace(ended, exit_code=1), text, b"Traceback\nMemoryError: std::bad_alloc\n"),
        "was killed": (job, replace(ended, exit_code=None, signal=9, leftovers=2), text, text),
        "ran out of memory": (job, replace(ended, exit_code=137, max_rss_kb=64_000_000), b"", b"Killed\n"),
        "never started": (
            job,
            replace(ended, exit_code=None, error="no such file", ended=ended.started),
            None,
            None,
        ),
        "said nothing": (bare, replace(ended, exit_code=2), b"", b""),
        "wrote no text": (bare, replace(ended, exit_code=255), binary, b"\xff\xfe\0\x80" + binary),
        "wrote a single long line": (job, replace(ended, exit_code=1), b"x" * 3_000_000, b"y" * 3_000_000),
        "left pipes": (job, replace(ended, exit_code=1), None, None),
        "left no directory": (bare, replace(ended, exit_code=1), None, None),
    }
    made = []
    for number, (name, (each, result, stdout, stderr)) in enumerate(specs.items()):
        job_dir = folder / f"job-{number}"
        if name != "left no directory":
            _fill(job_dir, {"payload.stdout": stdout, "payload.stderr": stderr, "output.root": b"\0" * 4097})
        if name == "left pipes":
            os.mkfifo(job_dir / "payload.stdout")
            os.mkfifo(job_dir / "payload.stderr")
        payload = FinishedPayload(
            job=replace(each, id=each.id + number),
            queue=_queue(),
            job_dir=job_dir,
            result=result,
            stdout=job_dir / "payload.stdout",
            stderr=job_dir / "payload.stderr",
        )
        made.append(_occasion(name, payload, folder / f"report-{number}.json"))
    return made


def _fill(folder: Path, files: Mapping[str, bytes | None]) -> None:
    folder.mkdir()
    for name, content in files.items():
        if content is not None:
            (folder / name).write_bytes(content)


def _occasion(name: str, payload: FinishedPayload, report: Path) -> Occasion:
    program = report.parent / "program.py"
    program.write_text(_PROGRAM)
    code = payload.result.exit_code or 0
    environment = {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "HOME": str(payload.job_dir),
        "TMPDIR": str(payload.job_dir),
        "PandaID": str(payload.job.id),
        "PANDA_RESOURCE": payload.queue.name,
        "LC_ALL": "C.UTF-8",
        "SITE_OPTIONS": "a=b 'c' $d ü",
        "EMPTY": "",
    }
    argv = (sys.executable, "-I", "-S", str(program), str(report), str(code), *WORDS)
    command = PayloadCommand(argv=argv, environment=environment)
    return Occasion(name=name, payload=payload, command=command, report=report)


def _queue() -> Queue:
    disk = Storage(rse="DISK", url="file:///data", layout="rucio")
    return Queue(
        name="KIT",
        site="KIT-SITE",
        storages={"DISK": disk},
        read=("DISK",),
        write=("DISK",),
        environment={"SITE_OPTIONS": "a=b"},
        source="kit.toml: queues.KIT",
        extra={"catchall": ["x"]},
    )
