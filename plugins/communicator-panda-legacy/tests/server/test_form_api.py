"""The form API: how parameters come in, how answers go out, and every method over a real store."""

import gzip
import json
import pickle

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pilot_communicator_panda_legacy.server.protocol import HANDLERS
from pilot_communicator_panda_legacy.server.signatures import OWNERS, SIGNATURES

from pilot_core.api.server import Identity

USER = Identity(dn="/O=x/CN=Jane User")
ENTRY = {"guid": "g", "fsize": 1, "adler32": "00000001"}
NO_ROLE = "no production/pilot role in VOMS FQANs or non pilot owner"


def test_every_method_has_a_handler():
    assert set(HANDLERS) == set(SIGNATURES) == set(OWNERS)


@pytest.mark.parametrize("name", ["nope", "getEventRanges", "/server/panda/getJob/", "/server/panda/a/b"])
def test_what_it_does_not_have_it_forbids(respond, name):
    response = respond(name, denied="anything")
    shown = "" if "/" in name else name
    assert (response.status, response.body.decode()) == (403, f"ERROR : method {shown} is forbidden")


def test_a_refused_token_is_told_why(respond):
    response = respond("getJob", {"siteName": "Q"}, denied="Unknown vo : other")
    assert (response.status, response.body) == (403, b"ERROR : Token authentication failed. Unknown vo : other")


def test_the_answer_is_a_form_unless_json_is_accepted(respond, form, as_json):
    assert form("getJob", {"siteName": "Q"}) == {"StatusCode": "20"}
    assert as_json("getJob", {"siteName": "Q"}) == {"StatusCode": 20, "errorDialog": "no jobs in PanDA"}
    response = respond("getJob", {"siteName": "Q"}, accept="text/html, application/json;q=0.5")
    assert response.content_type == "application/json"


def test_json_is_always_packed(respond, form):
    assert form("getJob", {"siteName": "Q", "allowOtherCountry": False, "mem": 4000.0}, packed=True)
    plain = respond("getJob", b'{"siteName": "Q"}', content_type="application/json")
    assert (plain.status, plain.body.decode()) == (500, "Not a gzipped file (b'{\"')")
    broken = respond("getJob", gzip.compress(b"{x"), content_type="application/json")
    assert (broken.status, broken.body[:43]) == (500, b"Expecting property name enclosed in double ")
    for value, text in (
        (None, "'NoneType' object is not iterable"),
        ([], "pandaserver.jobdispatcher.JobDispatcher.getJob() argument after ** must be a mapping, not list"),
        (5, "'int' object is not iterable"),
    ):
        response = respond("getJob", value, packed=True)
        assert (response.status, response.body.decode()) == (500, text)


def test_a_query_will_do(form, submit):
    submit()
    assert form("getJob", method="GET", query="siteName=Q&prodSourceLabel=managed")["StatusCode"] == "0"


@pytest.mark.parametrize(
    ("name", "fields", "text"),
    [
        ("getJob", {"node": "x"}, "getJob() missing 1 required positional argument: 'siteName'"),
        ("getJob", {"siteName": "Q", "foo": 1}, "getJob() got an unexpected keyword argument 'foo'"),
        ("getJob", {"foo": 1}, "getJob() got an unexpected keyword argument 'foo'"),
        ("getJob", {"siteName": "Q", "req": 1}, "getJob() got multiple values for argument 'req'"),
        ("getJob", {"siteName": "Q", "timeout": "x"}, "invalid literal for int() with base 10: 'x'"),
        ("updateJob", {}, "updateJob() missing 2 required positional arguments: 'jobId' and 'state'"),
        ("updateJob", {"jobId": "abc", "state": "running"}, "invalid literal for int() with base 10: 'abc'"),
        (
            "updateJob",
            {"jobId": "1", "state": "running", "avgPSS": "x"},
            "could not convert string to float: 'x'",
        ),
        (
            "updateJob",
            {"jobId": "1", "state": "running", "totRCHAR": "1.5"},
            "invalid literal for int() with base 10: '1.5'",
        ),
        (
            "updateWorkerPilotStatus",
            {"site": "Q"},
            (
                "updateWorkerPilotStatus() missing 3 required positional arguments:"
                " 'workerID', 'harvesterID', and 'status'"
            ),
        ),
        ("isAlive", {"x": 1}, "isAlive() got an unexpected keyword argument 'x'"),
    ],
)
def test_arguments_are_refused_as_python_refuses_them(respond, name, fields, text):
    response = respond(name, fields)
    assert (response.status, response.body.decode(), response.content_type) == (500, text, "text/plain")


def test_values_of_packed_json_that_are_no_text_fail_the_call(respond, submit):
    fields = {"jobId": submit(), "state": "running", "node": 5}
    response = respond("updateJob", fields, packed=True)
    assert (response.status, response.body) == (500, b"'int' object is not subscriptable")


def test_who_may_do_what(form, as_json, respond):
    for who in (None, USER, Identity(dn="/CN=x", fqans=("/wlcg/Role=pilot",))):
        assert form("getJob", {"siteName": "Q"}, identity=who) == {"StatusCode": "60"}
        assert as_json("updateJob", {"jobId": "1", "state": "x"}, identity=who) == {
            "StatusCode": 60,
            "errorDialog": NO_ROLE,
        }
    for fqan in ("/atlas/Role=pilot", "/osg/Role=pilot", "/atlas/de/Role=NULL", "/any/Role=production"):
        who = Identity(dn="/CN=x", fqans=(fqan,))
        assert form("getJob", {"siteName": "Q"}, identity=who) == {"StatusCode": "20"}
    worker = {"site": "Q", "workerID": "17", "harvesterID": "h", "status": "started"}
    assert respond("updateWorkerPilotStatus", worker, identity=None).body == b"failed to retrieve DN"
    assert respond("updateWorkerPilotStatus", worker, identity=USER).body == b"production or pilot role is required"


def test_a_job_from_getjob_to_the_end(submit, form, as_json, store):
    job_id = submit("out", "log", parameters="a b=c&d é")
    job = form("getJob", {"siteName": "Q", "mem": "4000", "diskSpace": "20000", "node": "wn1"})
    assert (job["StatusCode"], job["PandaID"], job["jobPars"], job["nSent"]) == ("0", str(job_id), "a b=c&d é", "1")
    assert (job["ioIntensity"], job["taskID"]) == ("None", "NULL")
    update = {"jobId": job_id, "attemptNr": 1}
    assert form("updateJob", {**update, "state": "starting", "timestamp": "now"}) == {
        "StatusCode": "0",
        "command": "NULL",
    }
    report = json.dumps({"out": ENTRY, "log": ENTRY})
    final = {**update, "state": "finished", "xml": report, "nEvents": "10", "pilotErrorCode": "-1305"}
    assert as_json("updateJob", final) == {"StatusCode": 0, "command": "NULL"}
    assert as_json("updateJob", final) == {"StatusCode": 0, "command": "alreadydone"}
    store.settle()
    assert as_json("updateJob", final) == {"StatusCode": 0, "command": "tobekilled"}
    found = store.get(job_id)
    assert (found.status, found.fields["n_events"], found.fields["pilot_error_code"]) == ("finished", 10, 1305)
    assert form("getStatus", {"ids": f"{job_id} 999999 x"}) == {
        "StatusCode": "0",
        "status": "finished+notfound+notfound",
        "attemptNr": "1+0+0",
    }
    checked = json.loads(json.dumps([{"command": None, "status": "finished"}, {"command": None, "status": None}]))
    assert as_json("checkJobStatus", {"ids": f"{job_id},x"}) == {"StatusCode": 0, "data": checked}


def test_several_jobs_come_as_a_list(submit, form, as_json):
    submit(), submit(), submit()
    assert len(as_json("getJob", {"siteName": "Q", "nJobs": "2"})["jobs"]) == 2
    assert len(json.loads(form("getJob", {"siteName": "Q", "nJobs": "many"})["jobs"])) == 1
    assert form("getJob", {"siteName": "Q", "nJobs": "0"}) == {"StatusCode": "20"}


@pytest.mark.parametrize(
    ("fields", "matches"),
    [
        ({"mem": "15999"}, False),
        ({"mem": "16000.5"}, True),
        ({"mem": "much"}, True),
        ({"mem": "-5"}, True),
        ({"diskSpace": "1"}, False),
        ({"remaining_time": "10"}, False),
        ({"remaining_time": "soon"}, True),
        ({"taskID": "4711"}, True),
        ({"taskID": "NULL"}, True),
        ({"taskID": "5"}, False),
        ({"taskID": "abc"}, False),
        ({"taskID": ""}, False),
        ({"resourceType": "SCORE"}, False),
        ({"resourceType": "MCORE"}, True),
        ({"prodSourceLabel": "user"}, False),
        ({"prodSourceLabel": "unified"}, True),
        ({"prodUserID": "/CN=Jane User"}, True),
        ({"prodUserID": "/CN=Joe User"}, False),
        ({"timeout": "10"}, False),
        ({"timeout": "11"}, True),
        ({"background": "True"}, False),
        ({"background": "yes"}, True),
    ],
)
def test_a_pilot_gets_only_what_it_can_take(submit, form, fields, matches):
    needs = {"memory_mb": 16000, "disk_mb": 5000, "walltime_seconds": 7200, "resource_type": "MCORE", "task_id": 4711}
    submit(**needs, user="/O=x/CN=Jane User")
    assert (form("getJob", {"siteName": "Q", **fields})["StatusCode"] == "0") is matches


def test_users_get_their_own_jobs(submit, form):
    submit(label="user", user="/CN=Joe User")
    fields = {"siteName": "Q", "prodSourceLabel": "user", "prodUserID": "/CN=Joe User"}
    assert form("getJob", fields, identity=USER) == {"StatusCode": "20"}
    assert form("getJob", fields)["StatusCode"] == "0"


def test_secrets_and_proxy_names_come_with_the_job(submit, as_json, store):
    store.set_secret("Lab User", "K", "v")
    submit(special="us,dm")
    job = as_json("getJob", {"siteName": "Q", "getProxyKey": "True"})
    assert (job["credname"], job["myproxy"], job["secrets"], job["pilotSecrets"]) == ("", "", '{"K": "v"}', "{}")
    update = as_json("updateJob", {"jobId": job["PandaID"], "state": "running"})
    assert update == {"StatusCode": 0, "command": "debug", "pilotSecrets": "{}"}


@pytest.mark.parametrize(
    ("fields", "answer"),
    [
        ({"jobId": "NULL"}, {"StatusCode": 0}),
        ({"state": "flying"}, {"StatusCode": 0}),
        ({"jobId": "999999"}, {"StatusCode": 0, "command": "tobekilled"}),
        ({"jobId": "999999", "metaData": "{}"}, {"StatusCode": 0}),
        ({"attemptNr": "9"}, {"StatusCode": 0, "command": "tobekilled"}),
        ({"attemptNr": "abc"}, {"StatusCode": 0, "command": "NULL"}),
        ({"cpuConsumptionTime": "abc"}, {"StatusCode": 30}),
        ({"cpuConsumptionTime": ""}, {"StatusCode": 0, "command": "NULL"}),
        ({"nEvents": ""}, {"StatusCode": 30}),
        ({"exeErrorCode": "x"}, {"StatusCode": 30}),
        ({"transExitCode": "x", "meanCoreCount": "x", "startTime": "x"}, {"StatusCode": 0, "command": "NULL"}),
        ({"pilotTiming": "1|" * 60}, {"StatusCode": 30}),
        ({"node": "n" * 300, "pilotErrorDiag": "d" * 900}, {"StatusCode": 0, "command": "NULL"}),
        ({"stdout": "s" * 3000, "pilotLog": "l" * 9000}, {"StatusCode": 0, "command": "NULL"}),
    ],
)
def test_answers_to_odd_updates(submit, as_json, fields, answer):
    job_id = submit()
    assert as_json("updateJob", {"jobId": job_id, "state": "running", **fields}) == answer


def test_values_are_kept_as_the_columns_take_them(submit, as_json, store):
    job_id = submit()
    values = {"totRCHAR": "10240", "rateRCHAR": "5.5", "avgPSS": "1000.7", "meanCoreCount": "1.5", "coreCount": "8"}
    values |= {"startTime": "2026-11-22 13:50:00", "stdout": "s" * 3000, "cpu_architecture_level": "x" * 30}
    as_json("updateJob", {"jobId": job_id, "state": "running", **values})
    job = store.get(job_id)
    assert job.fields == {
        "tot_rchar": 10,
        "rate_rchar": 5,
        "avg_pss": 1000,
        "mean_core_count": 1.5,
        "core_count": 8,
        "start_time": "2026-11-22 13:50:00",
        "cpu_architecture_level": "x" * 20,
    }
    assert len(job.stdout) == 2048, "this API cuts it, the other loses it"


def test_a_database_that_is_down(submit, form, respond, store):
    job_id = submit()
    store.available = False
    assert form("updateJob", {"jobId": job_id, "state": "running", "pilotLog": "l", "stdout": "s"}) == {
        "StatusCode": "30"
    }
    assert form("updateJob", {"jobId": job_id, "state": "running", "metaData": "{}"}) == {"StatusCode": "0"}
    assert form("getJob", {"siteName": "Q"}) == {"StatusCode": "20"}
    assert form("getStatus", {"ids": str(job_id)})["status"] == "unknown"
    worker = {"site": "Q", "workerID": "17", "harvesterID": "h", "status": "started"}
    assert form("updateWorkerPilotStatus", worker) == {"StatusCode": "30"}
    assert respond("isAlive").body == b"alive=yes"


def test_updates_in_bulk(submit, respond):
    first, second = submit(), submit()
    updates = [{"jobId": first, "state": "running", "metaData": {"a": 1}}, {"jobId": second, "state": "failed"}]
    response = respond("updateJobsInBulk", {"jobList": json.dumps(updates)})
    assert (response.content_type, json.loads(response.body)) == (
        "text/plain",
        [True, ["StatusCode=0&command=NULL"] * 2],
    )
    answers = json.loads(respond("updateJobsInBulk", {"jobList": json.dumps(updates)}, accept="application/json").body)
    assert answers[1][0] == {"type": "json", "content": '{"StatusCode": 0, "command": "NULL"}'}
    for bad, text in (
        ([{"state": "running"}], "failed with KeyError 'jobId'"),
        ([{"jobId": 1, "state": "running", "x": 1}], "failed with TypeError updateJob() got an unexpected keyword"),
    ):
        success, told = json.loads(respond("updateJobsInBulk", {"jobList": json.dumps(bad), "harvester_id": "h"}).body)
        assert not success
        assert told.startswith(f"updateJobsInBulk h {text}")


def test_worker_states(form, as_json, respond):
    worker = {"site": "Q", "workerID": 17, "harvesterID": "h", "node_id": "wn1"}
    assert form("updateWorkerPilotStatus", {**worker, "status": "started"}, packed=True) == {"StatusCode": "0"}
    assert as_json("updateWorkerPilotStatus", {**worker, "status": "finished"}) == {"StatusCode": 0}
    bad = respond("updateWorkerPilotStatus", {**worker, "status": "zzz"}).body.decode()
    assert bad == "Invalid worker state. The worker state has to be in ('started', 'finished')"
    assert as_json("updateWorkerPilotStatus", {**worker, "workerID": "x", "status": "started"}) == {"StatusCode": 30}


def test_kill_command_and_debug(submit, form, respond, store):
    running, waiting = submit(), submit()
    form("updateJob", {"jobId": running, "state": "running"})
    assert respond("setDebugMode", {"pandaID": running, "modeOn": "True"}).body == b"Succeeded"
    told = json.loads(respond("send_command_to_job", {"panda_id": running, "com": "softkill"}).body)
    assert told == [True, "command received"]
    assert form("updateJob", {"jobId": running, "state": "running"})["command"] == "debug,softkill"
    ids = pickle.dumps([running, waiting, 999999], protocol=0).decode()
    killed = respond("killJobs", {"ids": ids}).body
    assert pickle.loads(killed) == [True, True, False]
    assert (store.get(running).command, store.get(waiting).status) == ("tobekilled", "cancelled")
    assert respond("killJobs", {"ids": ids}, identity=None).body == b"False"


def test_a_pickle_with_a_class_is_refused(respond):
    response = respond("killJobs", {"ids": "cos\nsystem\n(S'true'\ntR."})
    assert (response.status, response.body) == (500, b"Attempting to import disallowed module os")


def test_credentials_and_secrets(as_json, respond, store):
    assert as_json("getProxy", {}, identity=None)["StatusCode"] == 70
    assert "'p'" in as_json("get_access_token", {"client_name": "c"})["errorDialog"]
    store.set_flags("pilot", "pkt")
    missing = {"StatusCode": 90, "errorDialog": "token not found for c"}
    assert as_json("get_access_token", {"client_name": "c"}) == missing
    store.set_credential("token", "c", "TOKEN")
    store.set_credential("token-key", "c", "KEY")
    store.set_credential("proxy", "/O=x/CN=pilot", "PEM")
    store.set_credential("key", "a", "A")
    assert as_json("get_access_token", {"client_name": "c"})["StatusCode"] == 50
    good = {"StatusCode": 0, "errorDialog": "", "userProxy": "TOKEN"}
    assert as_json("get_access_token", {"client_name": "c", "token_key": "KEY"}) == good
    assert as_json("getProxy", {})["userProxy"] == "PEM"
    assert as_json("get_token_key", {"client_name": "c"}) == {"StatusCode": 0, "tokenKey": "KEY"}
    assert as_json("getKeyPair", {"publicKeyName": "a", "privateKeyName": "a"})["publicKey"] == "A"
    assert as_json("getKeyPair", {"publicKeyName": "a", "privateKeyName": "b"})["StatusCode"] == 80
    for key in ("A", "B"):
        assert json.loads(respond("set_user_secret", {"key": key, "value": "1"}).body) == [True, "OK"]
    assert json.loads(respond("get_user_secrets", {"keys": "A"}).body) == [True, '{"A": "1"}']
    assert json.loads(respond("get_user_secrets", {"get_json": "True"}).body) == [True, {"A": "1", "B": "1"}]
    assert json.loads(respond("get_user_secrets", identity=None).body)[0] is False


def test_resource_types_are_for_everybody(form, as_json):
    assert as_json("getResourceTypes", identity=None)["ResourceTypes"][0]["resource_name"] == "SCORE"
    assert form("getResourceTypes")["ResourceTypes"].startswith("[{'resource_name': 'SCORE'")


values = st.text(max_size=8) | st.integers() | st.floats() | st.booleans() | st.none() | st.just([]) | st.just({})


@given(name=st.sampled_from(sorted(SIGNATURES)), data=st.data(), packed=st.booleans())
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_parameters_get_an_answer(respond, name, data, packed):
    fields = data.draw(st.dictionaries(st.sampled_from([*SIGNATURES[name], "jobId", "state", "extra"]), values))
    if not packed:
        fields = {key: value if isinstance(value, (str, int)) else "x" for key, value in fields.items()}
        fields = {key: str(value).encode("utf-8", "replace") for key, value in fields.items()}
    response = respond(name, fields, packed=packed)
    assert response.status in (200, 500)


@given(body=st.binary(max_size=60), name=st.sampled_from(sorted(SIGNATURES)))
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_body_gets_an_answer(respond, name, body):
    assert respond(name, body, content_type="application/json").status == 500 or name == "isAlive"
