"""PanDA's job dictionary as a job: what it means, and that nothing in it can break the pilot."""

import json
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pilot_communicator_panda.retry import AttemptFailed
from pilot_communicator_panda.translate import acquired_jobs, translate

from pilot_core import BadJob, InputFile, Job, OutputFile, PilotErrorCode, Step

LOG = logging.getLogger("test.translate")
Code = PilotErrorCode


def job(**fields):
    return translate({"PandaID": 1, "attemptNr": 2, "transformation": "/bin/echo", **fields}, LOG)


def jobs_of(recordings):
    for exchange in recordings.values():
        if '"jobs": [' in exchange["response"]:
            yield exchange["id"], json.loads(exchange["response"])["data"]["jobs"]


def test_every_recorded_job_is_understood(recordings):
    seen = 0
    for name, entries in jobs_of(recordings):
        for entry, made in zip(entries, acquired_jobs(entries, LOG), strict=True):
            assert isinstance(made, Job), (name, made)
            assert made.id == entry["PandaID"]
            assert made.attempt == entry["attemptNr"]
            assert [file.lfn for file in made.inputs] == [lfn for lfn in entry["inFiles"].split(",") if lfn]
            assert [file.lfn for file in made.files_out] == [lfn for lfn in entry["outFiles"].split(",") if lfn]
            seen += 1
    assert seen > 20


def recorded_job(recordings, name):
    return translate(json.loads(recordings[name]["response"])["data"]["jobs"][0], LOG)


def test_a_job_with_every_field(recordings):
    made = recorded_job(recordings, "api2-021")
    assert made.inputs[1] == InputFile(
        lfn="in.2.root",
        scope="lab",
        guid="2a96586c-8dfc-4c24-9c32-fe8ab29c849a",
        size=1002,
        checksum="adler32:00000002",
        dataset="lab:in.ds/",
        rse="LAB_DATADISK",
    )
    assert made.outputs[2] == OutputFile(lfn="o3.00097.txt", scope="lab", dataset="lab:out.ds/", rse="LAB_DATADISK")
    assert made.log == OutputFile(
        lfn="log.00097.tgz",
        scope="lab",
        guid="7e76dc28-369d-4445-9579-b42a6ecef561",
        dataset="lab:out.ds/",
        rse="LAB_DATADISK",
    )
    assert made.parameters == "-i \"a b\" --x='1;2' & | > $HOME %IN \u00e9\u4e2d \\ \n second line"
    assert (made.core_count, made.memory_mb, made.disk_mb) == (8, 16000, 5000)
    assert (made.max_cpu_seconds, made.max_wall_seconds, made.task_id) == (86400, 7200, 4711)
    assert (made.release, made.home_package, made.platform) == ("Atlas-1.2", "pkg/1", "x86_64-el9@#gpu")
    assert made.container_image == "docker://alpine"
    assert made.extra["nSent"] == 1
    assert "PandaID" not in made.extra


def test_encoded_parameters_and_flags(recordings):
    made = recorded_job(recordings, "extra-006")
    assert made.parameters == "--x '\u00e9 & b'"
    assert (made.looping_check, made.debug) == (False, True)
    assert made.extra["noExecStrCnv"] == "True"


def test_the_steps_of_a_multi_step_job(recordings):
    made = recorded_job(recordings, "extra-008")
    assert made.preprocess == Step(command="/bin/echo pre", arguments="p1")
    assert made.postprocess == Step(command="/bin/echo", arguments="post")
    assert made.coprocess is None
    assert made.container_options == {"containerImage": "img"}
    assert made.container_image == "img"


def test_lists_for_the_payload(recordings):
    assert recorded_job(recordings, "extra-010").input_lists == {"tmpin_my.ds": ("a.1", "b.1")}


def test_secrets_are_read_and_not_shown(recordings):
    made = recorded_job(recordings, "extra-015")
    assert made.secrets == {"USER_KEY": "v1"}
    assert "v1" not in repr(made)


def test_a_hundred_kilobytes_of_parameters_and_500_files(recordings):
    made = recorded_job(recordings, "extra-013")
    assert len(made.inputs) == 500
    assert len(made.parameters) >= 100_000


@pytest.mark.parametrize("unset", [None, "", "NULL"])
def test_three_ways_to_say_nothing(unset):
    names = ("taskID", "jobsetID", "swRelease", "maxWalltime", "coreCount", "inFiles", "outFiles", "GUID", "secrets")
    made = job(**dict.fromkeys((*names, "jobPars", "preprocess", "debug", "loopingCheck", "checksum"), unset))
    assert isinstance(made, Job)
    assert (made.task_id, made.release, made.max_wall_seconds, made.core_count) == (None, "", 0, 1)
    assert (made.parameters, made.inputs, made.debug, made.looping_check) == ("", (), False, True)


@pytest.mark.parametrize("value", [7, "7", 7.0, "7.0", " 7 "])
def test_numbers_may_be_numbers_or_texts(value):
    assert job(coreCount=value).core_count == 7


@pytest.mark.parametrize(
    ("value", "meant"), [("True", True), ("true", True), (True, True), (1, True), ("False", False)]
)
def test_truth_has_many_spellings(value, meant):
    assert job(debug=value).debug is meant


FILES = {"inFiles": "a,b", "GUID": "g1,g2", "fsize": "1,2", "checksum": "ad:1,md:" + "f" * 32, "scopeIn": "s,s"}


def test_checksums_are_brought_into_one_form():
    made = job(**FILES)
    assert [file.checksum for file in made.inputs] == ["adler32:00000001", "md5:" + "f" * 32]
    made = job(inFiles="a,b,c,d", checksum=f"ABCD1234,{'E' * 32},adler32:1,NULL")
    expected = ["adler32:abcd1234", f"md5:{'e' * 32}", "adler32:00000001", ""]
    assert [file.checksum for file in made.inputs] == expected


def test_a_trailing_comma_is_no_entry():
    made = job(inFiles="a,b,", fsize="1,2,", checksum="ad:1,ad:2,", GUID="g,h", prodDBlockToken="local,NULL,")
    assert [(file.lfn, file.size, file.token) for file in made.inputs] == [("a", 1, "local"), ("b", 2, "")]


def test_an_input_that_is_named_twice_is_fetched_once(caplog):
    made = job(inFiles="a,b,a", fsize="1,2,1")
    assert [file.lfn for file in made.inputs] == ["a", "b"]
    assert "a is named twice" in caplog.text


@pytest.mark.parametrize(
    "name", ["GUID", "fsize", "checksum", "scopeIn", "ddmEndPointIn", "realDatasetsIn", "prodDBlockToken"]
)
def test_an_input_list_of_the_wrong_length(name):
    made = job(**{**FILES, name: "1,1,1"})
    assert isinstance(made, BadJob)
    assert made.error_code == Code.NOTSAMELENGTH
    assert made.reason == f"{name}: 3 entries for 2 files of inFiles"
    assert made.attempt == 2


OUT = {"outFiles": "o1,log.tgz,o2", "logFile": "log.tgz", "logGUID": "G", "scopeLog": "l", "scopeOut": "s1,s2"}


def test_the_log_is_found_wherever_it_is_among_the_outputs():
    made = job(**OUT, ddmEndPointOut="R1,RL,R2", realDatasets="d1,dl,d2", allowNoOutput="o2,other")
    assert made.outputs == (
        OutputFile(lfn="o1", scope="s1", dataset="d1", rse="R1"),
        OutputFile(lfn="o2", scope="s2", dataset="d2", rse="R2", may_be_missing=True),
    )
    assert made.log == OutputFile(lfn="log.tgz", scope="l", guid="G", dataset="dl", rse="RL")


def test_a_log_that_is_not_among_the_outputs_is_a_log_all_the_same():
    made = job(outFiles="o1", logFile="log.tgz", scopeOut="s")
    assert made.log == OutputFile(lfn="log.tgz")
    assert [file.lfn for file in made.outputs] == ["o1"]


@pytest.mark.parametrize(("name", "value", "of"), [
    ("scopeOut", "a,b,c", "3 entries for 2 files of outFiles without the log"),
    ("ddmEndPointOut", "a,b", "2 entries for 3 files of outFiles"),
    ("realDatasets", "a", "1 entries for 3 files of outFiles"),
])  # fmt: skip
def test_an_output_list_of_the_wrong_length_still_tells_the_log(name, value, of):
    made = job(**{**OUT, name: value})
    assert made.error_code == Code.NOTSAMELENGTH
    assert made.reason == f"{name}: {of}"
    assert made.log == OutputFile(lfn="log.tgz", scope="l", guid="G")


BAD_NAMES = ["../x", "a/b", "/etc/passwd", ".", "..", "a\nb", "a\x00b", "x" * 256, "\u00e9" * 128, "\ud800", "a,,b"]


@pytest.mark.parametrize("lfn", BAD_NAMES)
def test_an_output_name_that_is_no_file_name(lfn):
    made = job(outFiles=lfn)
    assert isinstance(made, BadJob)
    assert made.error_code in {Code.BADOUTPUTFILENAME, Code.CONVERSIONFAILURE}
    assert made.reason.startswith("outFiles: ")
    assert "\n" not in made.reason
    assert job(logFile=lfn.replace(",", "/")).log is None


@pytest.mark.parametrize("lfn", BAD_NAMES)
def test_an_input_name_that_is_no_file_name(lfn):
    made = job(inFiles=lfn)
    assert made.error_code == Code.CONVERSIONFAILURE
    assert made.reason.startswith("inFiles: ")


@pytest.mark.parametrize(
    ("fields", "code", "reason"),
    [
        ({"transformation": "NULL"}, Code.TRANSFORMNOTFOUND, "transformation: the job names no program to run"),
        ({"transformation": " "}, Code.TRANSFORMNOTFOUND, "transformation: the job names no program to run"),
        ({"transformation": ["x"]}, Code.CONVERSIONFAILURE, "transformation: a text was expected, not a list"),
        ({"transformation": "a\0b"}, Code.CONVERSIONFAILURE, "transformation: has a NUL character in it"),
        ({"jobPars": {"a": 1}}, Code.CONVERSIONFAILURE, "jobPars: a text was expected, not an object"),
        ({"jobPars": "\ud800"}, Code.CONVERSIONFAILURE, "jobPars: is not valid Unicode"),
        ({"coreCount": "many"}, Code.CONVERSIONFAILURE, "coreCount: 'many' is not an integer"),
        ({"coreCount": True}, Code.CONVERSIONFAILURE, "coreCount: True is not an integer"),
        ({"taskID": 10**30}, Code.CONVERSIONFAILURE, "taskID: 1000000000000000000000000000000 is not an integer"),
        ({"maxWalltime": float("nan")}, Code.CONVERSIONFAILURE, "maxWalltime: nan is not an integer"),
        ({"debug": "maybe"}, Code.CONVERSIONFAILURE, "debug: 'maybe' is neither true nor false"),
        ({"inFiles": "a", "fsize": "big"}, Code.CONVERSIONFAILURE, "fsize: 'big' is not a size in bytes"),
        ({"inFiles": "a", "fsize": "-1"}, Code.CONVERSIONFAILURE, "fsize: '-1' is not a size in bytes"),
        ({"inFiles": "a", "checksum": "sha:12"}, Code.CHKSUMNOTSUP, "checksum: 'sha:12' is neither an adler32"),
        ({"inFiles": "a", "checksum": "ad:xyz"}, Code.CONVERSIONFAILURE, "checksum: 'ad:xyz' is neither"),
        ({"inFiles": "a", "checksum": "ad:123456789"}, Code.CONVERSIONFAILURE, "has the wrong length"),
        ({"inFiles": "a", "checksum": "md:1234"}, Code.CONVERSIONFAILURE, "has the wrong length"),
        ({"inFiles": "zip://a"}, Code.NOTIMPLEMENTED, "inFiles: 'zip://a': a prefix before the file name"),
        ({"inFiles": [["a"]]}, Code.CONVERSIONFAILURE, "inFiles: a list of texts was expected"),
        ({"scopeIn": "s"}, Code.NOTSAMELENGTH, "scopeIn: 1 entries for 0 files of inFiles"),
        ({"outFiles": "a,a"}, Code.BADOUTPUTFILENAME, "outFiles: 'a' is named twice"),
        ({"outFiles": "a|b.*"}, Code.NOTIMPLEMENTED, "outFiles: 'a|b.*': a pattern is not supported"),
        ({"inFiles": "a", "outFiles": "a"}, Code.BADOUTPUTFILENAME, "outFiles: 'a' is an input too"),
        ({"eventService": "True"}, Code.NOTIMPLEMENTED, "eventService: this pilot has no event service"),
        ({"preprocess": "run me"}, Code.CONVERSIONFAILURE, "preprocess: a command with args was expected"),
        ({"postprocess": {"args": "x"}}, Code.CONVERSIONFAILURE, "postprocess: a command with args was expected"),
        ({"containerOptions": "x"}, Code.CONVERSIONFAILURE, "containerOptions: is not valid JSON"),
        ({"containerOptions": [1]}, Code.CONVERSIONFAILURE, "containerOptions: an object was expected"),
        ({"secrets": "{canary"}, Code.CONVERSIONFAILURE, "secrets: is not valid JSON"),
        ({"secrets": ["canary"]}, Code.CONVERSIONFAILURE, "secrets: an object was expected"),
        ({"writeToFile": "no colon"}, Code.CONVERSIONFAILURE, "writeToFile: 'no colon' is not written as NAME:LFN"),
        ({"writeToFile": "../x:a"}, Code.CONVERSIONFAILURE, "writeToFile: '../x' cannot be a file name"),
        ({"jobPars": "--overwriteQueueData={1"}, Code.CONVERSIONFAILURE, "jobPars: --overwriteQueueData: the dict"),
    ],
)
def test_a_field_that_cannot_be_used_is_named_with_the_right_code(fields, code, reason):
    made = job(**fields)
    assert isinstance(made, BadJob)
    assert reason in made.reason
    assert made.error_code == code
    assert "\n" not in made.reason
    assert "canary" not in made.reason + repr(made)


@pytest.mark.parametrize("panda_id", [None, "NULL", "", "abc", 0, -1, 1.5e300, True, [], {}, "12x", 2**63])
def test_a_job_without_an_id_is_logged_and_dropped(panda_id, caplog):
    good = {"PandaID": "17", "transformation": "x"}
    made = acquired_jobs([{"PandaID": panda_id, "transformation": "x"}, good], LOG)
    assert [entry.id for entry in made] == [17]
    assert "PandaID" in caplog.text


@pytest.mark.parametrize("entries", [[None], [{"PandaID": "x"}, {}]])
def test_jobs_of_which_none_has_an_id_are_not_taken_for_no_job(entries):
    with pytest.raises(AttemptFailed, match="without a usable PandaID"):
        acquired_jobs(entries, LOG)


@pytest.mark.parametrize("entry", [None, 1, "x", [], [1]])
def test_what_is_no_object_is_logged_and_dropped(entry, caplog):
    assert translate(entry, LOG) is None
    assert "no object" in caplog.text


def test_unknown_fields_are_kept_as_received():
    made = job(newThing={"a": [1, None]}, prodDBlocks="NULL", cloud="")
    assert made.extra == {"newThing": {"a": [1, None]}, "prodDBlocks": "NULL", "cloud": ""}


KNOWN = sorted(
    {
        *[
            "PandaID",
            "attemptNr",
            "jobName",
            "prodSourceLabel",
            "transformation",
            "jobPars",
            "taskID",
            "jobsetID",
            "coreCount",
        ],
        *[
            "inFiles",
            "GUID",
            "fsize",
            "checksum",
            "scopeIn",
            "ddmEndPointIn",
            "realDatasetsIn",
            "prodDBlockToken",
            "maxCpuCount",
        ],
        *[
            "outFiles",
            "logFile",
            "logGUID",
            "scopeLog",
            "scopeOut",
            "ddmEndPointOut",
            "realDatasets",
            "allowNoOutput",
            "minRamCount",
        ],
        *[
            "preprocess",
            "postprocess",
            "coprocess",
            "containerOptions",
            "container_name",
            "loopingCheck",
            "debug",
            "secrets",
        ],
        *[
            "pilotSecrets",
            "writeToFile",
            "transferType",
            "eventService",
            "eventServiceMerge",
            "maxWalltime",
            "StatusCode",
            "altStageOut",
            "nucleus",
        ],
    }
)
TEXT = st.text(max_size=20) | st.sampled_from(
    [
        "NULL",
        "a,b",
        "a,b,log",
        "log",
        "x,",
        "--overwriteQueueData={'a': 1}",
        "<ZIP_MAP>x</ZIP_MAP>",
        '<MULTI_STEP_EXEC>{"preprocess": 1}</MULTI_STEP_EXEC>',
        "LS14ICfDqSAmIGIn",
        "ad:1,ad:2",
        "\ud800",
        "\0",
    ]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=10,
)


@given(JSON | st.dictionaries(st.sampled_from(KNOWN) | st.text(max_size=5), JSON))
def test_any_json_gives_a_job_or_a_bad_job_or_is_dropped(entry):
    assert isinstance(translate(entry, LOG), (Job, BadJob, type(None)))


@given(st.dictionaries(st.sampled_from([name for name in KNOWN if name != "PandaID"]) | st.text(max_size=5), JSON))
def test_any_job_with_an_id_is_a_job_or_a_bad_job_in_one_line(entry):
    made = translate({**entry, "PandaID": 5, "transformation": entry.get("transformation") or "x"}, LOG)
    assert made.id == 5
    if isinstance(made, BadJob):
        assert made.reason.isprintable()
        assert made.error_code in {code.value for code in Code}
    else:
        for file in (*made.inputs, *made.files_out):
            assert "/" not in file.lfn
            assert file.lfn.isprintable()


def test_nesting_without_end_is_a_bad_job():
    deep = json.loads("[" * 900 + "]" * 900)
    for name in ("secrets", "jobPars", "containerOptions", "preprocess", "extraField"):
        assert job(**{name: {"a": deep} if name == "secrets" else deep}).id == 1


@pytest.mark.parametrize(("value", "meant"), [("on", "on"), ("OFF", "off"), ("NULL", ""), (None, ""), ("maybe", "")])
def test_alternative_stage_out_is_on_off_or_not_said(value, meant):
    assert job(altStageOut=value).alt_stageout == meant


def test_what_staging_has_to_know_of_a_job():
    made = job(jobPars="--accessmode=copy -i x <ZIP_MAP>z:a</ZIP_MAP>", transferType="direct", nucleus="T1")
    assert (made.access_mode, made.transfer_type) == ("copy", "")
    assert (made.nucleus, made.archives) == ("T1", {"z": ("a",)})
    assert "nucleus" not in made.extra
    assert job(transferType="direct").transfer_type == "direct"
