"""The jobs of the demo."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pilot_devserver.demo.contents import (
    JETS,
    MUONS,
    PARTICLES,
    Check,
    check_archive,
    check_masses,
    check_particles,
    check_summary,
)
from pilot_devserver.jobfile import InputTemplate, JobTemplate

__all__ = ["DATA", "DemoJob", "demo_jobs"]

DATA = Path(__file__).parent / "data"
SCRIPTS = Path(__file__).parent / "trf"


@dataclass(frozen=True, kw_only=True)
class DemoJob:
    """One job and what has to come of it."""

    template: JobTemplate
    about: str
    check: Check | None = None
    exit_code: int = 0
    """What the payload is to exit with; the job is to fail if it is not 0."""

    @property
    def name(self) -> str:
        """Return the job's name."""
        return self.template.name

    @property
    def status(self) -> str:
        """Return the state that the job must have on the server in the end."""
        return "failed" if self.exit_code else "finished"


def _inputs(*names: str) -> tuple[InputTemplate, ...]:
    return tuple(InputTemplate(path=DATA / name) for name in names)


def demo_jobs() -> list[DemoJob]:
    """Return the jobs, in the order in which they are submitted.

    Three have scripts that the pilot fetches from the server over TLS, two a program that is on every machine.
    """
    both = f"{MUONS} {JETS}"
    return [
        DemoJob(
            template=JobTemplate(
                name="dimuon-mass",
                script=SCRIPTS / "dimuon_mass.py",
                parameters=f"--input {MUONS} --pairs dimuon-pairs.csv --histogram dimuon-histogram.csv",
                inputs=_inputs(MUONS),
                outputs=("dimuon-pairs.csv", "dimuon-histogram.csv"),
            ),
            about="masses of muon pairs in LHC collisions",
            check=check_masses,
        ),
        DemoJob(
            template=JobTemplate(
                name="pdg-summary",
                script=SCRIPTS / "pdg_summary.py",
                parameters=f"--input {PARTICLES} --output pdg-summary.json",
                inputs=_inputs(PARTICLES),
                outputs=("pdg-summary.json",),
                label="user",
            ),
            about="statistics of the particle table",
            check=check_particles,
        ),
        DemoJob(
            template=JobTemplate(
                name="event-archive",
                transformation="sh",
                parameters=f"-c 'sha256sum {both} > events.sha256 && tar -cf events.tar {both} events.sha256'",
                inputs=_inputs(MUONS, JETS),
                outputs=("events.tar", "events.sha256"),
            ),
            about="two inputs in one archive, with checksums",
            check=check_archive,
        ),
        DemoJob(
            template=JobTemplate(
                name="event-summary",
                script=SCRIPTS / "event_summary.py",
                parameters=f"--muons {MUONS} --jets {JETS} --output events.json",
                inputs=_inputs(MUONS, JETS),
                outputs=("events.json",),
            ),
            about="muons and jets joined by event",
            check=check_summary,
        ),
        DemoJob(
            template=JobTemplate(
                name="meant-to-fail",
                transformation="sh",
                parameters=f"-c 'head -n 2 {MUONS}; echo giving up on purpose >&2; exit 3'",
                inputs=_inputs(MUONS),
            ),
            about="a payload that exits with 3",
            exit_code=3,
        ),
    ]
