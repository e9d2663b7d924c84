"""What this extension does: write down here what your experiment relies on."""

from __future__ import annotations

import json
from pathlib import Path

from pilot_core import FinishedPayload, Job, PayloadResult, Queue

from {{ cookiecutter.__module }} import (
    pilot_collect_metadata,
    pilot_diagnose_failure,
    pilot_prepare_environment,
)


def payload(folder: Path, *, stderr: bytes = b"", report: str = "") -> FinishedPayload:
    """Return a payload that has failed."""
    (folder / "stderr").write_bytes(stderr)
    if report:
        (folder / "jobReport.json").write_text(report)
    result = PayloadResult(exit_code=1, signal=None, started=0.0, ended=1.0)
    return FinishedPayload(
        job=Job(id=7),
        queue=Queue(name="HERE"),
        job_dir=folder,
        result=result,
        stdout=folder / "stdout",
        stderr=folder / "stderr",
    )


def test_the_payload_is_told_which_job_it_is() -> None:
    environment = pilot_prepare_environment(Job(id=7, task_id=3), {"PATH": "/bin"})
    assert environment == {"PATH": "/bin", "{{ cookiecutter.name.upper().replace('-', '_') }}_JOB": "3.7"}


def test_a_lack_of_memory_is_diagnosed(tmp_path: Path) -> None:
    found = pilot_diagnose_failure(payload(tmp_path, stderr=b"terminate called: std::bad_alloc\n"))
    assert found is not None
    assert found.error_code == 1223
    assert pilot_diagnose_failure(payload(tmp_path, stderr=b"another reason\n")) is None


def test_the_payloads_report_becomes_metadata(tmp_path: Path) -> None:
    assert pilot_collect_metadata(payload(tmp_path, report=json.dumps({"events": 12}))) == {"events": 12}
    for odd in ("[1]", "no JSON", '{"events": NaN}'):
        assert pilot_collect_metadata(payload(tmp_path, report=odd)) is None
