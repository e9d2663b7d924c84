"""The description that a pilot gets of a job."""

import base64

import pytest
from pilot_devserver.store_jobs import FileSpec, JobSpec, describe, user_name


def test_lists_are_parallel_and_the_log_comes_with_the_outputs():
    files = (
        FileSpec(lfn="in.1", guid="G1", size=5, checksum="ad:1", scope="s", dataset="s:d1", endpoint="A"),
        FileSpec(lfn="in.2", guid="G2", scope="t", dataset="s:d2", endpoint="B"),
        FileSpec(lfn="in.1", guid="G1"),
        FileSpec(lfn="out", kind="output", scope="o", dataset="o:d", token="ddd:SITE,x", dispatch_token="an"),
        FileSpec(lfn="log", kind="log", guid="LG", scope="l", dataset="o:l", endpoint="E"),
    )
    job = describe(JobSpec(queue="Q", files=files, special="wf"), 7)
    assert (job["inFiles"], job["GUID"], job["fsize"], job["checksum"]) == ("in.1,in.2", "G1,G2", "5,NULL", "ad:1,NULL")
    assert (job["scopeIn"], job["ddmEndPointIn"]) == ("s,t", "A,B")
    assert (job["outFiles"], job["scopeOut"], job["scopeLog"]) == ("out,log", "o", "l")
    assert (job["logFile"], job["logGUID"], job["ddmEndPointOut"]) == ("log", "LG", ",E")
    assert job["destinationDBlockToken"] == "dst:SITE,NULL"
    assert job["allowNoOutput"] == "out"
    assert job["writeToFile"] == "tmpin_d1:in.1^tmpin_d2:in.2"


def test_what_is_not_set_is_null():
    job = describe(JobSpec(queue="Q"), 1)
    assert [job[name] for name in ("swRelease", "taskID", "maxWalltime", "cmtConfig", "transformation")] == ["NULL"] * 5
    assert (job["coreCount"], job["ioIntensity"], job["inFiles"], job["outFiles"]) == (1, None, "", "")


def test_parameters_are_kept_verbatim_or_packed():
    text = "-i \"a b\" --x='1;2' & | > $HOME é中 \\ \n second"
    assert describe(JobSpec(queue="Q", parameters=text), 1)["jobPars"] == text
    packed = describe(JobSpec(queue="Q", parameters=text, special="ej"), 1)["jobPars"]
    assert base64.b64decode(packed).decode() == text


def test_steps_are_taken_out_of_the_parameters():
    text = '-a <MULTI_STEP_EXEC>{"preprocess": {"command": "x"}}</MULTI_STEP_EXEC>'
    job = describe(JobSpec(queue="Q", parameters=text), 1)
    assert (job["jobPars"], job["preprocess"], job["cmtConfig"]) == ("-a ", {"command": "x"}, "")


@pytest.mark.parametrize("steps", ["{", "[1]", "{}</MULTI_STEP_EXEC> <MULTI_STEP_EXEC>{}"])
def test_steps_that_cannot_be_read_stay_in_the_parameters(steps):
    text = f"-a <MULTI_STEP_EXEC>{steps}</MULTI_STEP_EXEC>"
    assert describe(JobSpec(queue="Q", parameters=text), 1)["jobPars"] == text


def test_flags_show_in_the_description():
    job = describe(JobSpec(queue="Q", special="dm,lc,nc,po,ao:on,ho,om"), 1)
    assert (job["debug"], job["loopingCheck"], job["noExecStrCnv"], job["altStageOut"]) == ("True", False, "True", "on")
    assert list(job)[-3:] == ["ioIntensityUnit", "isHPO", "onSiteMerging"]
    assert "debug" not in describe(JobSpec(queue="Q", special="dm"), 1, "lc")


@pytest.mark.parametrize(
    ("identity", "name"),
    [
        ("/DC=lab/O=LabPanda/OU=users/CN=Jane User", "Jane User"),
        ("/O=x/CN=jdoe/CN=12345/CN=Jane Doe", "Jane Doe"),
        ("/O=x/CN=Jane Doe/CN=98765/CN=proxy", "Jane Doe"),
        ("/O=x/CN=Robot: Pilot/CN=Jane Doe 42", "Jane Doe"),
        ("Lab User", "Lab User"),
        ("Lab User/CN=nickname:lab", "Lab User"),
        ("", ""),
    ],
)
def test_users_are_known_by_their_names(identity, name):
    assert user_name(identity) == name
    assert user_name(name) == name
