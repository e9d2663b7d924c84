"""How a payload ended, in PanDA's terms: what is known is said, and nothing that is not."""

from __future__ import annotations

import signal

import pytest

from pilot_core import Job, PayloadResult, PilotErrorCode, Queue
from pilot_core.explain import _limits
from pilot_core.reporting import payload_failure


def result(exit_code=None, number=None, **extra):
    return PayloadResult(exit_code=exit_code, signal=number, started=1.0, ended=2.0, extra=extra)


@pytest.mark.parametrize("code", range(1, 256))
def test_no_exit_code_is_taken_for_more_than_it_says(code):
    """Pilot 3 calls 2 a timeout of lsetup, and 3 one of a remote file's opening."""
    failure = payload_failure(result(code))
    assert failure.code == PilotErrorCode.PAYLOADEXECUTIONFAILURE
    assert failure.message.startswith(f"the payload exited with {code}")
    named = {128 + number: number.name for number in signal.Signals}
    assert failure.message.partition(", by which shells tell of ")[2] == named.get(code, "")


@pytest.mark.parametrize("number", signal.Signals)
def test_every_signal_has_its_name(number):
    failure = payload_failure(result(None, int(number)))
    assert failure.message == f"the payload was ended by {number.name} ({number.value})"


@pytest.mark.parametrize(
    ("ended", "code"),
    [
        (result(None, 9, oom_kills=1), PilotErrorCode.PAYLOADOUTOFMEMORY),
        (result(137, oom_kills=1), PilotErrorCode.PAYLOADOUTOFMEMORY),
        # killed was another process, and this one may have ended for that or for anything else
        (result(1, oom_kills=1), PilotErrorCode.PAYLOADEXECUTIONFAILURE),
        (result(None, 11, oom_kills=1), PilotErrorCode.PAYLOADSIGSEGV),
        (result(None, 9), PilotErrorCode.PAYLOADEXECUTIONFAILURE),
        (result(137), PilotErrorCode.PAYLOADEXECUTIONFAILURE),
    ],
)
def test_lack_of_memory_is_the_cause_only_of_what_was_killed(ended, code):
    failure = payload_failure(ended)
    assert failure.code == code
    assert ("for lack of memory" in failure.message) == ("oom_kills" in ended.extra)


def test_a_payload_that_ended_well_has_not_failed_whatever_was_killed():
    assert payload_failure(result(0, oom_kills=3)) is None


def test_what_is_held_to_is_explained_as_such():
    job = Job(id=1, memory_mb=1, disk_mb=2, max_wall_seconds=3, max_cpu_seconds=4)
    kept = {limit.name for limit in _limits(job, Queue(name="Q"), ["memory", "work-dir", "cpu-time"]) if limit.enforced}
    assert {"memory", "disk", "CPU time"} <= kept
    assert "wall time" not in kept
