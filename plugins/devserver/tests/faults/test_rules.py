"""Rules and scenarios without a server: what they say, what they match, and what is wrong with them in one line."""

import gzip
import json
import re
import string
from pathlib import Path
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pilot_devserver.faults import KINDS, Faults, Rule, read_scenario
from pilot_devserver.faults.kinds import CONDITIONS, Place, documentation
from pilot_devserver.faults.scenario import parse_scenario
from pilot_devserver.faults.subject import Subject, subject_of
from pilot_devserver.jobfile import read_job_file

from pilot_core import BadInput, ConfigError
from pilot_core.api.server import ServerRequest

README = Path(__file__).parents[2] / "README.md"
UPDATE = "/api/v1/pilot/update_job"


def nowhere(_):
    return ""


def meet(faults, subject):
    return [fault.number for fault in faults.meet(subject, nowhere)]


def read(**values):
    return Rule.read(values)


# -- what a request is about -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "body", "query", "jobs", "queue"),
    [
        (UPDATE, {"job_id": 5, "job_status": "running"}, "", ((5, "running"),), ""),
        (UPDATE, {"job_id": "5", "job_status": "x", "site_name": "Q"}, "", ((5, "x"),), "Q"),
        ("/server/panda/updateJob", urlencode({"jobId": 7, "state": "failed"}), "", ((7, "failed"),), ""),
        ("/server/panda/getJob", urlencode({"siteName": "A B"}), "", (), "A B"),
        ("/api/v1/pilot/acquire_jobs", {"site_name": "Q"}, "", (), "Q"),
        ("/api/v1/pilot/get_job_status", "", "job_ids=3&job_ids=4", ((4, ""),), ""),
        (
            "/api/v1/pilot/update_jobs_bulk",
            {"job_list": [{"job_id": 1, "job_status": "running"}, {"job_id": 2, "job_status": "failed"}, 3]},
            "",
            ((1, "running"), (2, "failed")),
            "",
        ),
        (
            "/server/panda/updateJobsInBulk",
            urlencode({"jobList": json.dumps([{"jobId": "9", "state": "holding"}])}),
            "",
            ((9, "holding"),),
            "",
        ),
        (UPDATE, {"job_id": True}, "", (), ""),
        (UPDATE, {"job_id": "9" * 5000}, "", (), ""),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_a_request_tells_its_jobs_states_and_queue(path, body, query, jobs, queue, packed):
    content = (body if isinstance(body, str) else json.dumps(body)).encode()
    if packed and content:
        content = gzip.compress(content)
    subject = subject_of(ServerRequest(method="POST", path=path, query=query, body=content))
    assert (subject.jobs, subject.queue, subject.method) == (jobs, queue, path.rpartition("/")[2])


@given(st.binary(max_size=300), st.text(max_size=30), st.text(max_size=30))
def test_whatever_is_sent_is_about_something_or_nothing(body, path, query):
    for content in (body, gzip.compress(body), b"\x1f\x8b" + body, b"{" * 5000, b'{"job_id": ' + b"[" * 900):
        subject_of(ServerRequest(method="POST", path=path, query=query, body=content))


# -- matching --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("endpoint", "path", "fits"),
    [
        ("*", "/anything", True),
        ("update_job", UPDATE, True),
        ("update_*", UPDATE, True),
        ("update_job", "/api/v1/pilot/update_jobs_bulk", False),
        ("/api/v1/pilot/*", UPDATE, True),
        ("/api/*", "/server/panda/getJob", False),
        ("getJob", "/server/panda/getJob", True),
        ("getjob", "/server/panda/getJob", False),
        ("api", UPDATE, False),
    ],
)
def test_an_endpoint_is_a_glob_on_the_name_or_on_the_path(endpoint, path, fits):
    assert read(fault="hang", endpoint=endpoint).matches(Subject(path), nowhere) is fits


SUBJECTS = st.builds(
    Subject,
    path=st.sampled_from([UPDATE, "/api/v1/pilot/acquire_jobs", "/server/panda/getJob", "/"]),
    jobs=st.lists(st.tuples(st.integers(1, 4), st.sampled_from(["", "running", "finished"])), max_size=3).map(tuple),
    queue=st.sampled_from(["", "A", "B"]),
    bearer=st.booleans(),
)


@given(
    SUBJECTS,
    st.fixed_dictionaries(
        {},
        optional={
            "job": st.integers(1, 4),
            "state": st.sampled_from(["running", "finished"]),
            "queue": st.sampled_from(["A", "B"]),
            "endpoint": st.sampled_from(["*", "update_job", "/api/*"]),
        },
    ),
)
def test_a_rule_matches_what_each_of_its_conditions_matches(subject, conditions):
    """Narrower never matches more; and job and state have to be those of the same update."""
    rule = read(fault="hang", **conditions)
    matched = rule.matches(subject, {1: "A", 2: "B"}.get)
    for name, value in conditions.items():
        alone = read(fault="hang", **{name: value}).matches(subject, {1: "A", 2: "B"}.get)
        assert alone or not matched
    if {"job", "state"} <= conditions.keys():
        assert not matched or (conditions["job"], conditions["state"]) in subject.jobs


@given(after=st.integers(0, 5), count=st.integers(0, 5), requests=st.integers(0, 15))
def test_a_fault_lets_the_first_ones_through_and_then_strikes_as_often_as_it_is_to(after, count, requests):
    faults = Faults()
    fault = faults.add(read(fault="hang", after=after, count=count))
    struck = [bool(meet(faults, Subject("/x"))) for _ in range(requests)]
    expected = [after <= number and (not count or number < after + count) for number in range(requests)]
    assert struck == expected
    assert (fault.seen, fault.fired, faults.fired) == (requests, sum(expected), sum(expected))


@given(st.integers(), st.floats(0, 1), st.integers(1, 50))
def test_chance_is_the_same_with_the_same_seed(seed, probability, requests):
    patterns = []
    for _ in range(2):
        faults = Faults(seed)
        faults.add(read(fault="hang", probability=probability, count=0))
        faults.add(read(fault="tobekilled", probability=probability, count=0))
        patterns.append([meet(faults, Subject(UPDATE, jobs=((1, "running"),))) for _ in range(requests)])
    assert patterns[0] == patterns[1]
    if probability in (0, 1):
        assert all(len(struck) == 2 * probability for struck in patterns[0])


def test_two_faults_of_one_server_have_chances_of_their_own():
    faults = Faults()
    for _ in range(2):
        faults.add(read(fault="tobekilled", probability=0.5, count=0))
    struck = [tuple(meet(faults, Subject(UPDATE))) for _ in range(100)]
    assert {(), (1,), (2,), (1, 2)} <= set(struck)


def test_one_fault_of_the_answer_strikes_and_all_of_the_server():
    faults = Faults()
    for name in ("tobekilled", "hang", "reset-after", "command", "certificate"):
        faults.add(read(fault=name, count=2))
    subject = Subject(UPDATE)
    assert meet(faults, subject) == [1, 2, 4, 5]
    assert meet(faults, subject) == [1, 2, 4, 5]
    assert meet(faults, subject) == [3]
    assert not faults.refuses()


def test_changes_of_the_faults_are_told():
    faults, told = Faults(), []
    unsubscribe = faults.subscribe(lambda: told.append(len(faults.rules())))
    change = faults.next_change()
    fault = faults.add(read(fault="hang"))
    assert change.is_set()
    meet(faults, Subject("/x"))
    assert fault.remove()
    assert not fault.remove()
    assert faults.clear() == 0
    assert told == [1, 1, 0]
    unsubscribe()
    faults.add(read(fault="hang"))
    assert told == [1, 1, 0]


def test_a_listener_may_look_at_the_faults_and_remove_them():
    faults = Faults()
    faults.add(read(fault="hang", count=0))
    faults.subscribe(lambda: faults.clear() if faults.fired else None)
    assert meet(faults, Subject("/x")) == [1]
    assert meet(faults, Subject("/x")) == []


def test_waiting_for_a_fault_that_does_not_strike_ends():
    fault = Faults().add(read(fault="hang"))
    with pytest.raises(TimeoutError, match=r"<fault 1: hang.*, seen 0, fired 0> has not struck 1 times within 0\.01 s"):
        fault.until_fired(patience=0.01)


# -- reading ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "fault: the key 'fault' is missing; known: certificate, clock-skew"),
        ({"fault": 3}, "fault.fault: must be a text, not 3"),
        ({"fault": "reset-aftr"}, "fault: unknown fault 'reset-aftr'; did you mean 'reset-after'?"),
        ({"fault": "zzz"}, "fault: unknown fault 'zzz'; known: certificate, "),
        ({"fault": "hang", "endpont": "x"}, "fault.endpont: unknown key of the fault hang; did you mean 'endpoint'?"),
        ({"fault": "hang", "xyz": 3}, "fault.xyz: unknown key of the fault hang; known: after, "),
        ({"fault": "hang", "a\nb": 3}, r"fault.'a\nb': unknown key of the fault hang"),
        ({"fault": "refuse", "job": 3}, "fault.job: the fault refuse strikes before there is a request; known: after"),
        ({"fault": "hang", "count": -1}, "fault.count: -1 is too small; at least 0"),
        ({"fault": "hang", "count": 1.0}, "fault.count: must be a whole number, not 1.0"),
        ({"fault": "hang", "count": True}, "fault.count: must be a whole number, not True"),
        ({"fault": "hang", "job": 0}, "fault.job: 0 is too small; at least 1"),
        ({"fault": "hang", "job": 10**4400}, "fault.job: "),
        ({"fault": "hang", "probability": 1.5}, "fault.probability: 1.5 is out of range; 0 to 1"),
        ({"fault": "hang", "probability": float("nan")}, "fault.probability: nan is out of range"),
        ({"fault": "hang", "probability": "often"}, "fault.probability: must be a number, not 'often'"),
        ({"fault": "hang", "processed": 1}, "fault.processed: must be true or false, not 1"),
        ({"fault": "hang", "endpoint": ""}, "fault.endpoint: must not be empty; * is every endpoint"),
        ({"fault": "status", "status": 200}, "fault.status: 200 is out of range; 400 to 599"),
        ({"fault": "status", "headers": {"a": 1}}, "fault.headers: must be a table of texts"),
        ({"fault": "status", "headers": {"a": "b\r\nc: d"}}, "fault.headers: 'a' is no header"),
        ({"fault": "status", "headers": {"a b": "c"}}, "fault.headers: 'a b' is no header"),
        (
            {"fault": "certificate", "kind": "bad"},
            "fault.kind: 'bad' is none of expired, wrong-host, other-ca, renewed",
        ),
        (
            {"fault": "command", "endpoint": "acquire_jobs"},
            "fault.endpoint: 'acquire_jobs' can never have the fault co",
        ),
        ({"fault": "drip", "rate": 0}, "fault.rate: 0.0 is out of range; 0.01 to 1e+09"),
    ],
)
def test_what_is_wrong_with_a_rule_is_one_line_that_names_the_key(values, message):
    with pytest.raises(BadInput) as caught:
        Rule.read(values)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_a_word_that_is_nested_without_end_is_refused():
    with pytest.raises(BadInput, match="must be a table of texts"):
        Rule.from_words("status", [f"headers={'[' * 100_000}"])


@pytest.mark.parametrize(
    ("words", "values"),
    [
        (["count=0", "probability=0.5"], {"count": 0, "probability": 0.5}),
        (["endpoint=update_*", "job=17"], {"endpoint": "update_*", "job": 17}),
        (['headers={"A": "b=c"}', "status=502", "processed=true"], {}),
    ],
)
def test_words_of_a_command_make_the_same_rule(words, values):
    rule = Rule.from_words("status", words)
    assert rule.to_json().items() >= values.items()
    if "headers" in words[0]:
        assert rule.options == {"status": 502, "body": "", "headers": {"A": "b=c"}, "processed": True}


def value_of(option):
    """Return a strategy for good values of an option."""
    if option.choices:
        return st.sampled_from(option.choices)
    if option.type is int:
        return st.integers(int(option.minimum or 0), int(option.maximum or 10**6))
    if option.type is float:
        return st.floats(option.minimum or 0.0, option.maximum or 1e6, allow_subnormal=False)
    if option.type is bool:
        return st.booleans()
    if option.type is dict:
        return st.dictionaries(st.text(string.ascii_letters, min_size=1), st.text(string.ascii_letters))
    return st.text(min_size=1, max_size=20)


@st.composite
def rules(draw):
    kind = draw(st.sampled_from(list(KINDS.values())))
    conditions = CONDITIONS[4:] if kind.place is Place.CONNECTION else CONDITIONS
    options = {
        option.name: option
        for option in (*conditions, *kind.options)
        if not (kind.endpoints and option.name == "endpoint")
    }
    chosen = draw(st.sets(st.sampled_from(sorted(options))))
    return {"fault": kind.name, **{name: draw(value_of(options[name])) for name in sorted(chosen)}}


@given(rules())
def test_a_rule_written_down_and_read_again_is_the_same(values):
    rule = Rule.read(values)
    assert Rule.read(rule.to_json()) == rule
    assert Rule.read(json.loads(json.dumps(rule.to_json()))) == rule


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=10,
)
NAMES = sorted({option.name for kind in KINDS.values() for option in (*CONDITIONS, *kind.options)})


@given(st.dictionaries(st.sampled_from([*NAMES, "fault", "other"]), JSON | st.sampled_from(sorted(KINDS))))
def test_whatever_is_read_is_a_rule_or_one_line(values):
    rule, message = None, ""
    try:
        rule = Rule.read(values)
    except BadInput as error:
        message = str(error)
    assert rule.kind.name == values["fault"] if rule else "\n" not in message


# -- scenarios -------------------------------------------------------------------------------------------------------

GOOD = """
seed = 42

[[faults]]
fault = "reset-after"
endpoint = "update_job"
count = 2

[[faults]]
fault = "status"
status = 502
headers = { X-Proxy = "tired" }
"""


def test_a_scenario_has_a_seed_and_faults(tmp_path):
    (tmp_path / "s.toml").write_text(GOOD)
    scenario = read_scenario(tmp_path / "s.toml")
    assert scenario.seed == 42
    assert str(scenario.rules[0]) == "reset-after endpoint=update_job count=2"
    assert scenario.rules[1].options["headers"] == {"X-Proxy": "tired"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no faults: write one [[faults]] table for each"),
        ("faults = []", "has no faults"),
        ("faults = 3", "has no faults"),
        ("faults = [3]", "faults[0]: must be a table"),
        ("[[fault]]\n", "'fault': unknown key; did you mean 'faults'?"),
        ("seed = 'x'\n[[faults]]\nfault = 'hang'", "seed: must be a whole number, not 'x'"),
        ("seed = true\n[[faults]]\nfault = 'hang'", "seed: must be a whole number"),
        (
            "[[faults]]\nfault = 'hang'\n[[faults]]\nfault = 'hangs'",
            "faults[1]: unknown fault 'hangs'; did you mean 'h",
        ),
        (
            "[[faults]]\nfault = 'hang'\ncuont = 2",
            "faults[0].cuont: unknown key of the fault hang; did you mean 'count'",
        ),
        ("[[faults]\n", "not TOML: "),
        ("\0", "not TOML: "),
        ("[[faults]]\nfault = 'hang'\njob = 1979-05-27", "faults[0].job: must be a whole number"),
    ],
)
def test_a_scenario_that_makes_no_sense_is_one_line(tmp_path, text, message):
    file = tmp_path / "s.toml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_scenario(file)
    assert str(caught.value).startswith(f"{file}: {message}")
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(("content", "message"), [(None, "cannot read the scenario: No such"), (b"\xff", "not TOML: ")])
def test_a_scenario_that_cannot_be_read_is_one_line(tmp_path, content, message):
    file = tmp_path / "s.toml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        read_scenario(file)


@given(st.text() | st.text(alphabet="[]fault=s\"'\n #.0123{},-_\\truehng"))
def test_whatever_is_in_a_file_is_a_scenario_or_one_line(text):
    message = "file: "
    try:
        parse_scenario(text, "file")
    except ConfigError as error:
        message = str(error)
    assert message.startswith("file: ")
    assert len(message.splitlines()) == 1


@given(st.integers(-(2**62), 2**62), st.lists(rules(), min_size=1, max_size=4))
def test_a_scenario_of_good_rules_is_those_rules(seed, tables):
    lines = [f"seed = {seed}"]
    for table in tables:
        lines.append("[[faults]]")
        lines += [f"{name} = {in_toml(value)}" for name, value in table.items()]
    scenario = parse_scenario("\n".join(lines), "file")
    assert scenario.seed == seed
    assert list(scenario.rules) == [Rule.read(table) for table in tables]


def in_toml(value):
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(name)} = {in_toml(item)}" for name, item in value.items()) + "}"
    if isinstance(value, str):
        escaped = (f"\\U{ord(char):08x}" for char in value)
        return '"' + "".join(escaped) + '"'
    return repr(value).lower() if isinstance(value, bool) else repr(value)


# -- the README ------------------------------------------------------------------------------------------------------


def test_the_readme_has_the_table_of_faults():
    assert documentation() in README.read_text()


def test_the_readmes_scenario_is_one():
    blocks = re.findall(r"^```toml\n(.*?)^```$", README.read_text(), re.MULTILINE | re.DOTALL)
    [scenario] = [block for block in blocks if "[[faults]]" in block]
    assert len(parse_scenario(scenario, "README").rules) >= 3


def test_a_scenario_is_no_file_of_jobs(tmp_path):
    (tmp_path / "s.toml").write_text(GOOD)
    with pytest.raises(ConfigError, match="has no jobs"):
        read_job_file(tmp_path / "s.toml")
