"""The server protocol's kit on the reference, or on the mutant that the environment names."""

import json

import pytest
from harness import chosen
from server_protocol.faults import MUTANTS
from server_protocol.reference import reference

from pilot_core import ServerRequest
from pilot_core.testing import ServerProtocolKit


class Dialect:
    """How the reference is spoken to."""

    needs_role = True

    def acquire(self, request):
        return self._post("acquire", **vars(request))

    def acquired(self, response):
        answer = json.loads(response.body)
        return [job["PandaID"] for job in answer["jobs"]] if answer["ok"] else None

    def update(self, update):
        return self._post("update", **update.to_json())

    def commands(self, response):
        answer = json.loads(response.body)
        return answer["commands"] if answer["ok"] else None

    def status(self, job_ids):
        return self._post("status", job_ids=list(job_ids))

    def statuses(self, response):
        answer = json.loads(response.body)
        return {job["job_id"]: job["status"] for job in answer["jobs"]} if answer["ok"] else None

    def _post(self, call, **values):
        said = {name: value for name, value in values.items() if value not in (None, "")}
        return ServerRequest(method="POST", path=f"/kit/{call}", body=json.dumps(said).encode())


class TestMutant(ServerProtocolKit):
    @pytest.fixture
    def plugin(self):
        return chosen(MUTANTS, reference)

    @pytest.fixture
    def dialect(self):
        return Dialect()
