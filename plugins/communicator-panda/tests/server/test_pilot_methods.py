"""The methods that pilots call, over a real store."""

import json

import pytest

from pilot_core.api.server import Identity

USER = Identity(dn="/O=x/CN=Jane User")
ENTRY = {"guid": "g", "fsize": 1, "adler32": "00000001"}


def report(*names):
    return json.dumps(dict.fromkeys(names, ENTRY))


@pytest.fixture
def acquire(post):
    def acquire(**values):
        answer = post("pilot/acquire_jobs", {"site_name": "Q", "prod_source_label": "managed", **values})
        return answer["data"]["jobs"] if answer["success"] else answer["message"]

    return acquire


@pytest.fixture
def update(post):
    def update(job_id, state, **values):
        return post("pilot/update_job", {"job_id": job_id, "job_status": state, "attempt_nr": 1, **values})

    return update


def done(command):
    return {"success": True, "message": "", "data": {"StatusCode": 0, "command": command}}


DATABASE_ERROR = {"success": True, "message": "Database error", "data": {"StatusCode": 30}}


def test_a_job_from_acquire_to_the_end(submit, acquire, update, store):
    job_id = submit("out", "log")
    (job,) = acquire()
    assert (job["StatusCode"], job["PandaID"], job["outFiles"], job["nSent"]) == (0, job_id, "out,log", 1)
    assert acquire() == "No jobs in PanDA"
    assert update(job_id, "starting") == done("NULL")
    assert update(job_id, "running", n_events=5) == done("NULL")
    assert update(job_id, "finished", job_output_report=report("out", "log")) == done("NULL")
    assert update(job_id, "finished") == done("alreadydone")
    store.settle()
    assert update(job_id, "finished") == done("tobekilled")
    assert store.get(job_id).status == "finished"


@pytest.mark.parametrize(
    ("label", "job_label", "processing", "more", "matches"),
    [
        (None, "managed", "x", {}, True),
        ("managed", "install", "x", {}, True),
        ("managed", "user", "x", {}, False),
        ("user", "panda", "x", {}, True),
        ("user", "managed", "x", {}, False),
        ("unified", "user", "x", {}, True),
        ("unified", "test", "x", {}, True),
        ("test", "test", "x", {}, True),
        ("test", "managed", "gangarobot", {}, False),
        ("test", "managed", "gangarobot", {"computing_element": "CE"}, True),
        ("test", "prod_test", "x", {"computing_element": "CE"}, True),
        ("ptest", "ptest", "x", {}, True),
        ("ptest", "managed", "x", {}, False),
    ],
)
def test_labels_choose_jobs(submit, acquire, label, job_label, processing, more, matches):
    submit(label=job_label, processing_type=processing)
    assert isinstance(acquire(prod_source_label=label, **more), list) is matches


def test_a_queue_in_test_gets_test_jobs(submit, acquire, store):
    store.set_queue("Q", status="test")
    submit()
    assert acquire() == "No jobs in PanDA"
    submit(label="test")
    (job,) = acquire()
    assert job["nSent"] == 0, "it counts for production pilots only"


def test_a_unified_queue_gives_robot_jobs_to_user_pilots(submit, acquire, store):
    store.set_queue("Q", status="test", data={"type": "unified"})
    submit(label="test", processing_type="x")
    wanted = {"computing_element": "CE", "job_type": "user"}
    assert acquire(**wanted) == "No jobs in PanDA"
    submit(processing_type="gangarobot")
    assert len(acquire(**wanted)) == 1


def test_users_get_their_own_jobs(submit, post):
    submit(label="user", user="/O=x/CN=Joe User")
    body = {"site_name": "Q", "prod_source_label": "user"}
    assert post("pilot/acquire_jobs", body, identity=USER)["message"] == "No jobs in PanDA"
    submit(label="user", user="/O=y/CN=Jane User/CN=123")
    answer = post("pilot/acquire_jobs", body, identity=USER)
    assert answer["data"]["jobs"][0]["prodUserID"] == "/O=y/CN=Jane User/CN=123"


@pytest.mark.parametrize("timeout", [10, 0, -5, 10**15, True])
def test_a_short_timeout_never_yields_a_job(submit, acquire, timeout):
    submit()
    assert acquire(timeout=timeout) == "No jobs in PanDA"
    assert len(acquire(timeout=11)) == 1


def test_several_jobs_at_once(submit, acquire):
    for _ in range(3):
        submit()
    assert acquire(n_jobs=0) == acquire(n_jobs=-1) == "No jobs in PanDA"
    assert [job["nSent"] for job in acquire(n_jobs=2)] == [2, 2]
    assert [job["nSent"] for job in acquire(n_jobs=5)] == [3]


def test_odd_limits_are_none(submit, acquire):
    for odd in ({"memory": -1}, {"disk_space": -5}, {"remaining_time": "soon"}, {"remaining_time": float("inf")}):
        submit(memory_mb=10, disk_mb=10, walltime_seconds=10)
        assert len(acquire(**odd)) == 1
    submit(walltime_seconds=100)
    assert acquire(remaining_time=99.5) == acquire(resource_type="") == "No jobs in PanDA"


def test_hardware_that_cannot_be_read_is_refused(acquire):
    text = "failed to parse target_architecture with Expecting value: line 1 column 1 (char 0)"
    assert acquire(target_architecture="x86_64") == text
    assert acquire(target_architecture="[1]") == "target_architecture must be a JSON object"
    for good in ('{"gpus": []}', {"gpus": []}, "", None, {}):
        assert acquire(target_architecture=good) == "No jobs in PanDA"


def test_secrets_and_proxy_names_come_with_the_job(submit, acquire, store):
    store.set_secret("Lab User", "USER_KEY", "v1")
    submit(special="us")
    submit(special="dm")
    mine, debug = acquire(n_jobs=2, get_proxy_key="True")
    assert mine["secrets"] == '{"USER_KEY": "v1"}'
    assert "secrets" not in debug
    assert mine["pilotSecrets"] == debug["pilotSecrets"] == "{}", "one job in debug mode is enough for all"
    assert mine["credname"] == mine["myproxy"] == ""


def test_a_worker_is_remembered(submit, acquire, store):
    job_id = submit()
    acquire(scheduler_id="h", worker_id=17, node="wn1")
    assert store.workers()[0]["jobs"] == [job_id]


def test_a_database_that_is_down(store, submit, acquire, update, post, get):
    job_id = submit()
    store.available = False
    assert acquire() == "No jobs in PanDA"
    assert update(job_id, "running", pilot_log="x", stdout="x") == DATABASE_ERROR
    message = "Failed to add meta_data"
    assert update(job_id, "running", meta_data="{}")["data"] == {"StatusCode": 30, "ErrorDiag": message}
    assert get("pilot/get_job_status", f"job_ids={job_id}")["data"] == [
        {"job_id": job_id, "status": "unknown", "attempt_number": "NULL"}
    ]
    body = {"worker_id": "17", "harvester_id": "h", "status": "started"}
    assert post("pilot/update_worker_status", body)["message"] == "Failed to update worker status"
    node = post("pilot/update_worker_node", {"site": "S", "host_name": "h", "cpu_model": "c"})
    assert node == {"success": True, "data": None} | {
        "message": "Another pilot was updating the worker node at the same time."
    }
    assert post("job/kill", {"job_ids": [job_id]})["data"] == [False]
    assert post("job/set_command", {"job_id": job_id, "command": "x"})["message"] == "database error"
    assert post("job/set_debug_mode", {"job_id": job_id, "mode": True}) == {
        "success": True,
        "message": None,
        "data": None,
    }
    assert get("metaconfig/get_resource_types")["message"] == "database error in the PanDA server"
    assert get("system/is_alive")["success"]


@pytest.mark.parametrize("state", ["flying", "", "activated", "cancelled"])
def test_a_state_that_pilots_do_not_report_is_refused(update, state):
    assert update(1, state) == {
        "success": False,
        "message": f"Invalid job status: {state}",
        "data": {"StatusCode": 50},
    }


@pytest.mark.parametrize(
    ("name", "length", "kept"),
    [
        ("pilot_error_diag", 5000, 500),
        ("exe_error_diag", 5000, 500),
        ("job_metrics", 5000, 500),
        ("node", 400, 128),
        ("pilot_id", 500, 200),
        ("batch_id", 300, 80),
        ("job_sub_status", 300, 80),
        ("grid", 99, 50),
        ("source_site", 99, 36),
        ("destination_site", 99, 36),
        ("cpu_architecture_level", 300, 20),
        ("site_name", 300, None),
        ("corrupted_files", 9000, None),
    ],
)
def test_over_long_text_is_cut(submit, update, store, name, length, kept):
    job_id = submit()
    assert update(job_id, "running", **{name: "x" * length}) == done("NULL")
    assert store.get(job_id).fields.get(name) == (None if kept is None else "x" * kept)


@pytest.mark.parametrize(
    "values",
    [
        {"pilot_timing": "1|" * 200},
        {"cpu_consumption_unit": "x" * 129},
        {"scheduler_id": "x" * 129},
        {"n_input_files": 2**31},
        {"pilot_error_code": -(2**31) - 1},
        {"exe_error_code": 10**12},
        {"core_count": 10**12},
        {"mean_core_count": 10**7},
        {"max_rss": 10**20},
        {"avg_pss": 1e30},
        {"n_events": 2**63},
        {"cpu_consumption_time": 10**20},
        {"cpu_conversion_factor": 1e6},
        {"exe_error_diag": "a\0b"},
        {"node": "\0"},
        {"batch_id": "\0"},
    ],
)
def test_what_the_database_cannot_hold_loses_the_update(submit, update, store, values):
    job_id = submit()
    assert update(job_id, "finished", **values) == DATABASE_ERROR
    assert store.get(job_id).status == "activated"
    assert update(job_id + 1, "finished", **values) == done("tobekilled"), "an unknown job comes first"


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ({"tot_rchar": 10**20}, {"tot_rchar": 9999999999}),
        ({"rate_rchar": 5120.0}, {"rate_rchar": 5}),
        ({"avg_pss": 1000.7}, {"avg_pss": 1000}),
        ({"max_rss": True}, {"max_rss": 1}),
        ({"pilot_error_code": -1305}, {"pilot_error_code": -1305}),
        ({"trans_exit_code": 3}, {"trans_exit_code": "3"}),
        ({"start_time": "2026-11-22 13:50:00"}, {"start_time": "2026-11-22 13:50:00"}),
        ({"start_time": "yesterday", "end_time": ""}, {}),
        ({"max_rss": float("inf"), "tot_wchar": float("nan")}, {}),
        ({"node": "", "pilot_error_diag": ""}, {}),
        ({"n_events": 10**12}, {"n_events": 10**12}),
    ],
)
def test_values_are_kept_as_the_columns_take_them(submit, update, store, sent, kept):
    job_id = submit()
    assert update(job_id, "running", **sent) == done("NULL")
    assert store.get(job_id).fields == kept


def test_an_update_with_everything(submit, update, store):
    job_id = submit()
    assert update(job_id, "running", pilot_log="l" * 10**6, stdout="o" * 300_000, meta_data="m" * 10**6) == done("NULL")
    job = store.get(job_id)
    assert (len(job.log), job.stdout, len(job.metadata)) == (4000, "", 10**6)


def test_metadata_of_an_unknown_job_is_an_error(update):
    message = "Failed to add meta_data"
    failed = {"success": True, "message": message, "data": {"StatusCode": 30, "ErrorDiag": message}}
    assert update(999999, "running", meta_data="{}") == failed
    assert update(999999, "failed", meta_data="{}") == done("tobekilled"), "that of failed jobs is not looked at"


def test_updates_in_bulk(submit, post):
    first, second = submit(), submit()
    updates = [
        {"job_id": first, "job_status": "running", "attempt_nr": 1, "meta_data": {"a": 1}},
        {"job_id": second, "job_status": "bad"},
        {"job_id": str(second), "job_status": "running"},
        {"job_id": 999999, "job_status": "running", "foo": 1},
    ]
    answer = post("pilot/update_jobs_bulk", {"job_list": updates, "harvester_id": "h"})
    assert (answer["success"], answer["message"]) == (True, "")
    assert answer["data"][0] == done("NULL")
    assert [item["message"] for item in answer["data"][1:]] == [
        "Invalid job status: bad",
        "Type error: 'job_id' must be of type int, got str.",
        "Argument error: got an unexpected keyword argument 'foo'",
    ]


@pytest.mark.parametrize(
    ("update", "message"),
    [
        ({"job_status": "running"}, "failed with KeyError 'job_id'"),
        ({"job_id": 1}, "failed with KeyError 'job_status'"),
        (5, "failed with TypeError 'int' object is not subscriptable"),
        (
            {"job_id": 1, "job_status": "running", "max_rss": "x"},
            "failed with AttributeError 'types.UnionType' object has no attribute '__name__'",
        ),
        (
            {"job_id": 1, "job_status": "running", "req": 1},
            "failed with TypeError update_job() got multiple values for argument 'req'",
        ),
    ],
)
def test_one_that_is_no_update_spoils_the_answer_of_all(submit, post, store, update, message):
    job_id = submit()
    good = {"job_id": job_id, "job_status": "running"}
    answer = post("pilot/update_jobs_bulk", {"job_list": [good, update]})
    assert answer == {"success": False, "message": message, "data": []}
    assert store.get(job_id).status == "running", "what came before it was done"


@pytest.mark.parametrize(
    ("values", "success"),
    [
        ({"worker_id": "17", "node_id": "wn1"}, True),
        ({"worker_id": 17}, True),
        ({"worker_id": None}, True),
        ({"harvester_id": None}, True),
        ({"worker_id": 1.5}, True),
        ({"worker_id": "abc"}, False),
        ({"worker_id": ""}, False),
        ({"worker_id": True}, False),
        ({"worker_id": [1]}, False),
        ({"worker_id": 10**20}, False),
        ({"harvester_id": 5}, False),
        ({"node_id": {}}, False),
        ({"node_id": "n" * 81}, False),
    ],
)
def test_worker_ids_are_what_the_database_can_compare(post, values, success):
    body = {"worker_id": "17", "harvester_id": "h", "status": "started", **values}
    answer = post("pilot/update_worker_status", body)
    assert (answer["success"], answer["message"]) == (success, "" if success else "Failed to update worker status")


def test_a_worker_status_needs_its_arguments(post):
    answer = post("pilot/update_worker_status", {"harvester_id": "h", "status": "started"})
    assert answer["message"] == "Argument error: missing a required argument: 'worker_id'"
    bad = post("pilot/update_worker_status", {"worker_id": "17", "harvester_id": "h", "status": "running"})
    assert bad["message"] == "Invalid worker state. The worker state has to be in ('started', 'finished')"


def test_machines_and_gpus(post, store):
    node = {"site": "S", "host_name": "slot1@wn1", "cpu_model": "EPYC", "clock_speed": 2400.0, "n_sockets": None}
    for _ in range(2):
        assert post("pilot/update_worker_node", node)["message"] == "Inserted new worker node."
    assert len(store.worker_nodes()) == 1
    gpu = {"site": "S", "host_name": "slot1@wn1", "vendor": "NVIDIA", "model": "T4", "count": 1}
    assert post("pilot/update_worker_node_gpu", gpu)["message"] == "Inserted new worker node GPU."
    assert post("pilot/update_worker_node_gpu", gpu)["message"] == "Updated existing worker node GPU."


def test_kill_command_and_debug(submit, post, update, get):
    running, waiting = submit(), submit()
    update(running, "running")
    assert post("job/kill", {"job_ids": [running, waiting, 999999]})["data"] == [True, True, False]
    assert update(running, "running") == done("tobekilled")
    assert get("job/get_status", f"job_ids={running}&job_ids=999999")["data"] == [
        {"command": "tobekilled", "status": "running"},
        {"command": "tobekilled", "status": "unknown"},
    ]
    other = submit()
    assert post("job/set_command", {"job_id": other, "command": "softkill"}) == {
        "success": True,
        "message": "command received",
        "data": None,
    }
    debug = {"job_id": other, "mode": True}
    assert post("job/set_debug_mode", debug) == {"success": False, "message": "Succeeded", "data": None}
    assert post("job/set_debug_mode", debug) == {"success": True, "message": "Already set accordingly", "data": None}
    assert update(other, "running")["data"] == {"StatusCode": 0, "pilotSecrets": "{}", "command": "debug,softkill"}


def test_job_status(submit, get):
    job_id = submit(attempt=3)
    answer = get("pilot/get_job_status", f"job_ids={job_id}&job_ids=999999&job_ids={10**30}")
    assert answer["data"] == [
        {"job_id": job_id, "status": "activated", "attempt_number": 3},
        {"job_id": 999999, "status": "not found", "attempt_number": 0},
        {"job_id": int(1e30), "status": "not found", "attempt_number": 0},
    ]


def test_credentials_are_for_those_who_may(get, post, store):
    assert "not in authorized users with 'p'" in get("creds/get_proxy", "role=x")["message"]
    assert "not authorized with 'k'" in get("creds/get_key_pair", "public_key_name=a&private_key_name=b")["message"]
    assert "not authorized with 't'" in get("creds/get_token_key", "client_name=c")["message"]
    store.set_flags("pilot", "pkt")
    assert get("creds/get_access_token", "client_name=c")["message"] == "'token' not found for c"
    assert get("creds/get_proxy", "dn=/CN=u/CN=123")["message"] == "'proxy' not found for /CN=u"
    for kind, name, value in (
        ("token", "c", "TOKEN"),
        ("token-key", "c", "KEY"),
        ("proxy", "/CN=u:prod", "PEM"),
        ("key", "a", "A"),
        ("key", "b", "B"),
    ):
        store.set_credential(kind, name, value)
    assert get("creds/get_access_token", "client_name=c")["message"] == "failed since token key is invalid for c"
    assert get("creds/get_access_token", "client_name=c&token_key=KEY")["data"] == {"user_proxy": "TOKEN"}
    assert get("creds/get_proxy", "dn=/CN=u&role=prod")["data"] == {"user_proxy": "PEM"}
    pair = get("creds/get_key_pair", "public_key_name=a&private_key_name=b")
    assert pair["data"] == {"public_key": "A", "private_key": "B"}
    assert get("creds/get_token_key", "client_name=c")["data"] == {"tokenKey": "KEY"}


def test_user_secrets_are_json_in_a_string(get, post):
    for key, value in (("A", "1"), ("B", "2")):
        assert post("creds/set_user_secrets", {"key": key, "value": value})["message"] == "OK"
    assert get("creds/get_user_secrets")["data"] == '{"A": "1", "B": "2"}'
    assert get("creds/get_user_secrets", "keys=B&keys=C")["data"] == '{"B": "2"}'
    assert get("creds/get_user_secrets", "keys=A,B")["data"] == '{"A": "1", "B": "2"}'


def test_resource_types(get):
    kinds = get("metaconfig/get_resource_types")["data"]
    assert [kind["resource_name"] for kind in kinds] == ["SCORE", "MCORE", "SCORE_HIMEM", "MCORE_HIMEM"]
