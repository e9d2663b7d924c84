"""A job's transfers put together: who hears of attempts and of progress, and the ledger that is kept."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
from staging_bench import Shelf, Told, input_file, queue_at

from pilot_core import Job, SourceNotFound, SystemClock
from pilot_core.logs import Redactor
from pilot_core.staging import Limits
from pilot_core.transfers import TRANSFERS, JobTransfers


class Hooks:
    """What hears of a job's transfers."""

    def __init__(self, *, progress=True):
        self.listens = progress
        self.attempts = []
        self.progress = []

    def hears_progress(self):
        return self.listens

    def transfer_attempted(self, attempt):
        self.attempts.append(attempt)

    def transfer_progress(self, progress):
        self.progress.append(progress)


def transfers_of(hooks, stager=None, **more):
    values = {
        "queue": queue_at("disk://A"),
        "backends": Shelf(one=stager or Told()),
        "clock": SystemClock(),
        "hooks": hooks,
        "redactor": Redactor(),
        "catalog": None,
        "limits": Limits(),
        "space": None,
        "progress": None,
        "in_turn": None,
    }
    return JobTransfers(more.pop("job", Job(id=41)), SimpleNamespace(**{**values, **more}))


def bring(transfers, folder, cancel):
    transfers.mover.bring_all_in([(input_file("f"), folder / "f")], cancel=cancel)


def test_attempts_go_to_the_hooks_and_into_a_file_without_secrets(tmp_path, folder, cancel):
    def does(*_):
        raise SourceNotFound("gone, said token s3cr3t-t0k3n")

    hooks, redactor = Hooks(), Redactor()
    redactor.add(["s3cr3t-t0k3n"])
    transfers = transfers_of(hooks, Told(does), redactor=redactor)
    transfers.begin(tmp_path)
    with pytest.raises(SourceNotFound):
        bring(transfers, folder, cancel)
    transfers.close()
    [line] = (tmp_path / TRANSFERS).read_text().splitlines()
    assert json.loads(line) == {**hooks.attempts[0].to_json(), "error": "gone, said token <hidden>"}
    assert list(transfers.mover.ledger) == hooks.attempts


def test_without_a_place_for_the_ledger_the_job_goes_on(tmp_path, folder, cancel, caplog):
    hooks = Hooks()
    transfers = transfers_of(hooks)
    transfers.begin(tmp_path / "none")
    bring(transfers, folder, cancel)
    transfers.close()
    assert len(hooks.attempts) == 1
    assert "the ledger of transfers is not kept in" in caplog.text


def test_a_job_that_asks_for_more_disk_than_there_is_is_told_of_in_its_log(tmp_path, caplog):
    for megabytes in (0, 1):
        transfers = transfers_of(Hooks(), job=Job(id=41, disk_mb=megabytes))
        transfers.begin(tmp_path)
        transfers.close()
    assert caplog.messages == []
    transfers = transfers_of(Hooks(), job=Job(id=41, disk_mb=10**9))
    transfers.begin(tmp_path)
    transfers.close()
    [line] = caplog.messages
    assert line.startswith(f"the job asks for 1.05 PB of disk, and {tmp_path} has ")


def test_progress_goes_to_the_pilots_own_listener_and_to_the_hooks(folder, cancel):
    hooks, own = Hooks(), []
    bring(transfers_of(hooks, progress=own.append), folder, cancel)
    assert own == hooks.progress
    assert own[-1].ended
    assert own[-1].job_id == 41
    hooks, own = Hooks(progress=False), []
    bring(transfers_of(hooks, progress=own.append), folder, cancel)
    assert own
    assert hooks.progress == []
    bring(transfers_of(Hooks(progress=False)), folder, cancel)
