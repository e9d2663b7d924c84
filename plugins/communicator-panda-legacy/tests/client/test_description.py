"""A job's description out of a file."""

from __future__ import annotations

import logging

from pilot_communicator_panda_legacy import pilot_communicators

from pilot_core import Context, JobReader
from pilot_core.testing.clock import FakeClock


def test_the_communicator_reads_jobs_without_a_server(tmp_path):
    (provider,) = pilot_communicators()
    context = Context(clock=FakeClock(), log=logging.getLogger("test"), work_dir=tmp_path)
    communicator = provider.factory(provider.settings(), context)
    assert isinstance(communicator, JobReader)
    answer = {"StatusCode": 0, "PandaID": 7, "transformation": "/bin/echo", "jobPars": "hello"}
    assert communicator.read_job(answer).parameters == "hello"
    communicator.close()
