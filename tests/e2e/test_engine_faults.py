"""The staging engine over the stager `fault`, which does to real files what its URL says."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from pilot_core import (
    AuthError,
    BackendUnavailable,
    CancelToken,
    HandledError,
    NoSpace,
    PilotErrorCode,
    PluginError,
    SourceNotFound,
    SystemClock,
    TransferTimeout,
    TransientError,
)
from pilot_core.staging import Limits

# pytest's import mode finds no module of another folder
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "staging"))

from staging_bench import CONTENT, all_in, input_file, mover_of, queue_at, real_backends


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "payload"
    path.mkdir()
    return path


@pytest.fixture
def cancel():
    return CancelToken()


@pytest.mark.parametrize(
    ("fault", "error", "code"),
    [
        ("not-found", SourceNotFound, PilotErrorCode.MISSINGINPUTFILE),
        ("auth", AuthError, PilotErrorCode.STAGEINAUTHENTICATIONFAILURE),
        ("no-space", NoSpace, PilotErrorCode.NOLOCALSPACE),
        ("unavailable", BackendUnavailable, PilotErrorCode.SERVICENOTAVAILABLE),
        ("timeout", TransferTimeout, PilotErrorCode.STAGEINTIMEOUT),
        ("transient;retry-after=0", TransientError, PilotErrorCode.STAGEINFAILED),
        ("checksum-mismatch", HandledError, PilotErrorCode.GETADMISMATCH),
        ("size-mismatch", HandledError, PilotErrorCode.GETADMISMATCH),
        ("stall;bytes=5", TransferTimeout, PilotErrorCode.STAGEINTIMEOUT),
        ("crash", PluginError, PilotErrorCode.INTERNALPILOTPROBLEM),
        ("truncate", PluginError, PilotErrorCode.INTERNALPILOTPROBLEM),
        ("wrong-checksum", PluginError, PilotErrorCode.INTERNALPILOTPROBLEM),
        ("wrong-size", PluginError, PilotErrorCode.INTERNALPILOTPROBLEM),
        ("partial", TransientError, PilotErrorCode.STAGEINFAILED),
    ],
)
def test_where_all_replicas_are_bad_the_error_has_its_class_and_code_and_nothing_is_left(
    tmp_path, folder, cancel, fault, error, code
):
    """By the stager `fault` over real files; what stalls does so in a clock in which ten minutes are nothing."""
    urls = []
    for rse in "ab":
        (tmp_path / rse).mkdir()
        (tmp_path / rse / "f").write_bytes(CONTENT)
        urls.append(f"fault://{fault}/file://{tmp_path / rse}")
    queue = queue_at(*urls)
    clock = SystemClock(scale=3000 if "stall" in fault else 100)
    mover = mover_of(real_backends(queue, clock, tmp_path), queue, clock, limits=Limits(stall=60))
    with pytest.raises(error) as caught:
        all_in(mover, folder, [input_file("f")], cancel)
    assert caught.value.error_code is code
    if fault != "partial":  # whose fault it is to leave one
        assert list(folder.iterdir()) == []
    assert {one.rse for one in mover.ledger} == ({"A"} if error is NoSpace else {"A", "B"})
