"""What is wrong with a request of the form API, told field by field."""

import gzip
import json
import logging
from urllib.parse import urlencode

import pytest
from pilot_communicator_panda_legacy.server.protocol import LegacyProtocol

from pilot_core.api.server import ExplainsRequests, Identity, ServerRequest

PILOT = Identity(dn="/O=x/CN=pilot", fqans=("/wlcg/Role=production",))
UPDATE = {"jobId": "1", "state": "running"}


@pytest.fixture
def problems():
    protocol = LegacyProtocol(logging.getLogger("test"))
    assert isinstance(protocol, ExplainsRequests)

    def problems(name, fields, *, identity=PILOT, denied=""):
        packed = isinstance(fields, bytes)
        request = ServerRequest(
            method="POST",
            path=f"/server/panda/{name}",
            headers={"content-type": "application/json" if packed else "application/x-www-form-urlencoded"},
            body=fields if packed else urlencode(fields).encode(),
            identity=identity,
            denied=denied,
        )
        return [(problem.field, problem.kind) for problem in protocol.problems(request)]

    return problems


def test_nothing_is_wrong_with_a_good_update(problems):
    assert problems("updateJob", {**UPDATE, "node": "n", "attemptNr": "1", "pilotErrorCode": "-1099"}) == []
    assert problems("updateJob", gzip.compress(json.dumps(UPDATE).encode())) == []


def test_all_mistakes_are_named_not_only_the_first(problems):
    found = problems(
        "updateJob",
        {"jobid": "1", "state": "done", "attemptNr": "x", "node": "n" * 129, "maxRSS": "1", "totRCHAR": "x"},
    )
    assert set(found) == {
        ("jobid", "unknown"),
        ("jobId", "missing"),
        ("state", "refused"),
        ("attemptNr", "ignored"),
        ("node", "truncated"),
        ("totRCHAR", "type"),
    }


def test_each_update_of_a_bulk_has_its_own_fields(problems):
    listed = json.dumps([UPDATE, {"jobId": "1"}])
    assert problems("updateJobsInBulk", {"jobList": listed}) == [("jobList[1].state", "missing")]
    assert problems("updateJobsInBulk", {"jobList": "{"}) == [("jobList", "type")]


def test_who_may_not_call_is_told(problems):
    assert problems("updateJob", UPDATE, identity=None) == [("", "refused")]
    assert problems("updateJob", UPDATE, identity=Identity(dn="/CN=x")) == [("", "refused")]
    assert problems("updateJob", UPDATE, denied="Invalid token") == [("header:authorization", "refused")]


@pytest.mark.parametrize("body", [b"{}", gzip.compress(b"{")])
def test_a_body_that_cannot_be_read_is_one_problem(problems, body):
    assert problems("updateJob", body) == [("", "unreadable")]


def test_an_unknown_method_is_one_problem(problems):
    assert problems("nothing", {}) == [("", "refused")]
