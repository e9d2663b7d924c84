"""What is executed: names, arguments, environment, and programs that are fetched."""

from __future__ import annotations

import json
import os
import shlex
import socket
import stat
import subprocess
import sys
import threading
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import requests
from hypothesis import example, given
from hypothesis import strategies as st

from pilot_core import (
    Cancelled,
    CancelToken,
    Deadline,
    HandledError,
    Job,
    JobDescriptionError,
    NoSpace,
    PilotErrorCode,
    Queue,
    Step,
    SystemClock,
)
from pilot_core.payload import (
    DEFAULT_PATH,
    MAX_TRANSFORMATION_BYTES,
    allowed_url,
    argument_vector,
    check_needs,
    environment,
    fetch_transformation,
    plain_name,
    write_secrets,
)
from pilot_core.testing.clock import SteppedClock
from pilot_core.testing.scripted import Answer, ScriptedServer
from pilot_core.testing.tls import TestAuthority

CANARY = "canary5d1f7c0ae2"
PROGRAM = b"#!/bin/sh\necho it runs\n"


# -- names -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a", "EVNT.1._2.pool.root.1", "...", ".hidden", "-x", "a b", "é" * 127, "x" * 255])
def test_plain_names_pass(name):
    assert plain_name(name) == name


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a/b", "/a", "../a", "a\0", "a\nb", "x" * 256, "é" * 128, "\ud800", "a\udcff"]
)
def test_names_that_lead_elsewhere_or_are_none_are_refused(name):
    with pytest.raises(JobDescriptionError, match="not a plain file name of at most 255 bytes") as caught:
        plain_name(name)
    assert caught.value.error_code is PilotErrorCode.BADOUTPUTFILENAME
    assert str(caught.value).isprintable()


@given(st.text(st.characters(), max_size=300))
@example("\ud800")
def test_a_name_that_passes_is_one_file_of_its_directory(tmp_path_factory, name):
    try:
        plain_name(name)
    except JobDescriptionError:
        return
    folder = tmp_path_factory.getbasetemp() / "names"
    folder.mkdir(exist_ok=True)
    (folder / name).write_text("x")
    assert [path.name for path in folder.iterdir()] == [name]
    (folder / name).unlink()


# -- what is not offered yet -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"preprocess": Step(command="x")}, "preprocess"),
        ({"postprocess": Step(command="x")}, "postprocess"),
        ({"coprocess": Step(command="x")}, "coprocess"),
        ({"container_options": {"a": 1}}, "containerOptions"),
        ({"container_image": "docker://x"}, "a container image"),
        ({"preprocess": Step(command="x"), "container_image": "y"}, "preprocess, a container image"),
    ],
)
def test_a_job_that_needs_more_is_told_what(values, text):
    with pytest.raises(JobDescriptionError, match=f"the job needs {text}, which this pilot does not offer") as caught:
        check_needs(Job(id=1, transformation="/bin/true", **values))
    assert caught.value.error_code is PilotErrorCode.NOTIMPLEMENTED


@pytest.mark.parametrize("transformation", ["", " ", "\n"])
def test_a_job_without_a_program_is_told_so(transformation):
    with pytest.raises(JobDescriptionError, match="the job has no transformation") as caught:
        check_needs(Job(id=1, transformation=transformation))
    assert caught.value.error_code is PilotErrorCode.TRANSFORMNOTFOUND


def test_a_plain_job_needs_nothing():
    check_needs(Job(id=1, transformation="/bin/true"))


# -- arguments ---------------------------------------------------------------------------------------------------------


def vector(parameters, program="/bin/prog", **queue):
    return argument_vector(Job(id=1, parameters=parameters), Queue(name="Q", **queue), program)


@given(st.lists(st.text(st.characters(blacklist_characters="\0", blacklist_categories=("Cs",)))))
def test_quoted_words_arrive_as_they_were(words):
    assert vector(shlex.join(words)) == ("/bin/prog", *words)


@given(st.text(st.characters(blacklist_characters="\0", blacklist_categories=("Cs",))))
def test_any_parameters_are_split_or_refused_in_one_line(text):
    found, message = ("/bin/prog",), ""
    try:
        found = vector(text)
    except JobDescriptionError as error:
        message = str(error)
    assert message == "" or message.startswith("jobPars: ")
    assert message.isprintable()
    assert found[0] == "/bin/prog"
    assert all(isinstance(word, str) for word in found)


@given(st.lists(st.text(st.sampled_from("ab$`;|&<>*?~#(){}[]!\\'\" \t\n"), max_size=8), max_size=4))
def test_a_shell_would_split_quoted_words_the_same_way(words):
    """Against a real shell, and nothing in them is executed."""
    line = shlex.join(words)
    done = subprocess.run(["/bin/sh", "-c", f"printf '%s\\0' x {line}"], capture_output=True, text=True, check=True)
    assert tuple(done.stdout.split("\0")[1:-1]) == vector(line)[1:]


@pytest.mark.parametrize(
    ("parameters", "argv"),
    [
        ("", ()),
        ("  ", ()),
        ("a  b\tc\nd", ("a", "b", "c", "d")),
        ("--x='1 2' \"3 4\" 5\\ 6", ("--x=1 2", "3 4", "5 6")),
        ("$HOME `id` $(id) ; rm * #no comment", ("$HOME", "`id`", "$(id)", ";", "rm", "*", "#no", "comment")),
        ("''", ("",)),
        ("é ☃", ("é", "☃")),
    ],
)
def test_parameters_are_split_and_never_expanded(parameters, argv):
    assert vector(parameters)[1:] == argv


@pytest.mark.parametrize("parameters", ["'", '"a', "a\\", "it's"])
def test_quotes_that_do_not_match_are_named(parameters):
    with pytest.raises(JobDescriptionError, match=r"jobPars: no .*: the parameters cannot be split"):
        vector(parameters)


@pytest.mark.parametrize("shell", [True, False])
@pytest.mark.parametrize(("parameters", "program"), [("a\0b", "/bin/prog"), ("a", "/bin/p\0")])
def test_nul_characters_are_refused(parameters, program, shell):
    with pytest.raises(JobDescriptionError, match="NUL"):
        vector(parameters, program, shell=shell)


def test_a_queue_may_ask_for_a_shell():
    assert vector("a 'b", shell=True) == ("/bin/sh", "-c", "/bin/prog a 'b")
    assert vector("", shell=True) == ("/bin/sh", "-c", "/bin/prog")


# -- environment -------------------------------------------------------------------------------------------------------

SECRET_NAMES = (
    *("PILOT_CORE_TOKEN_FILE", "PILOT_CORE_TOKEN_ORIGIN", "PILOT_CORE_CERT", "PILOT_CORE_PROXY", "X509_USER_PROXY"),
    *("X509_USER_KEY", "BEARER_TOKEN", "BEARER_TOKEN_FILE", "PANDA_AUTH_TOKEN", "OIDC_TOKEN"),
    *("AWS_SECRET_ACCESS_KEY", "LD_PRELOAD", "PYTHONPATH", "PYTHONHOME"),
)
OWN = dict.fromkeys(SECRET_NAMES, CANARY) | {"PATH": "/own/bin", "LANG": "C", "LC_ALL": "C.UTF-8", "USER": "u"}


def variables(own=OWN, job=None, **queue):
    return environment(job or Job(id=7), Queue(name="Q", **queue), Path("/job/payload"), own)


def test_nothing_of_the_pilots_secrets_is_in_the_environment():
    assert CANARY not in json.dumps(variables())
    assert set(variables()) == {
        *("PATH", "LANG", "LC_ALL", "USER", "HOME", "TMPDIR", "PWD"),
        *("PandaID", "PanDA_TaskID", "PanDA_AttemptNr", "PANDA_RESOURCE", "CORE_COUNT"),
    }


@given(st.dictionaries(st.text("ABCXLP_0", min_size=1, max_size=8), st.just(CANARY)))
def test_only_what_the_list_names_is_passed(own):
    allowed = {"PATH", "LANG", "TZ", "USER", "LOGNAME", "SHELL", "TERM"}
    made = variables(own)
    assert {name for name, value in made.items() if value == CANARY} == {
        name for name in own if name in allowed or name.startswith("LC_")
    }


def test_the_queue_may_name_more_by_name_or_beginning():
    own = {"X509_CERT_DIR": "1", "X509_USER_PROXY": "2", "FRONTIER": "3", "FRONTIER_SERVER": "4"}
    assert {"X509_CERT_DIR", "FRONTIER"} == set(own) & set(
        variables(own, pass_environment=("X509_CERT_DIR", "FRONTIER"))
    )
    assert {"FRONTIER", "FRONTIER_SERVER"} == set(own) & set(variables(own, pass_environment=("FRONTIER*",)))


@pytest.mark.parametrize("pattern", ["*", "P*", "PILOT_*", "PILOT_CORE_TOKEN_FILE"])
def test_no_pattern_passes_the_pilots_own_settings(pattern):
    made = variables(pass_environment=(pattern,))
    assert not [name for name in made if name.startswith("PILOT_CORE_")]


def test_home_and_temporary_files_lie_in_the_jobs_directory_whatever_the_pilot_has():
    made = variables({"HOME": "/root", "TMPDIR": "/tmp", "PWD": "/"}, pass_environment=("HOME", "TMPDIR", "PWD"))
    assert made["HOME"] == made["TMPDIR"] == made["PWD"] == "/job/payload"


@pytest.mark.parametrize("own", [{}, {"PATH": ""}])
def test_there_is_always_a_path(own):
    assert variables(own)["PATH"] == DEFAULT_PATH


def test_the_job_is_named_by_pandas_variables():
    made = variables(job=Job(id=7, task_id=3, attempt=2, core_count=8))
    assert (made["PandaID"], made["PanDA_TaskID"], made["PanDA_AttemptNr"]) == ("7", "3", "2")
    assert (made["PANDA_RESOURCE"], made["CORE_COUNT"]) == ("Q", "8")
    assert variables()["PanDA_TaskID"] == ""


def test_the_queues_own_variables_come_last():
    assert variables(environment={"PATH": "/q", "X": "1"}) == {**variables(), "PATH": "/q", "X": "1"}


# -- secrets -----------------------------------------------------------------------------------------------------------


def test_secrets_are_a_file_for_the_payload_only(tmp_path):
    file = tmp_path / "panda_secrets.json"
    write_secrets(file, {"key": "välue\n"})
    assert json.loads(file.read_text(encoding="utf-8")) == {"key": "välue\n"}
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


@pytest.mark.parametrize("planted", ["file", "link"])
def test_secrets_are_written_over_nothing_and_through_no_link(tmp_path, planted):
    file, other = tmp_path / "panda_secrets.json", tmp_path / "other"
    other.write_text("old")
    file.symlink_to(other) if planted == "link" else file.write_text("old")
    with pytest.raises(FileExistsError):
        write_secrets(file, {"key": CANARY})
    assert other.read_text() == "old"


# -- which URLs --------------------------------------------------------------------------------------------------------

BASE = "https://trf.example/base"


def allowed(url, *bases, allow_http=False):
    return allowed_url(url, Queue(name="Q", transformation_urls=bases or (BASE,), allow_http=allow_http))


@pytest.mark.parametrize(
    "url",
    [
        "https://trf.example/base/run.sh",
        "https://trf.example:443/base/run.sh",
        "HTTPS://TRF.Example/base/deep/er/run.sh",
        "https://trf.example/base/run.sh?version=3",
        "https://trf.example/base//run.sh",
        "https://trf.example/base/./run.sh",
        "https://trf.example/base/a..b",
        "https://trf.example/base/...",
        "https://trf.example/base/50%25",
    ],
)
def test_what_lies_below_a_base_is_allowed(url):
    assert allowed(url)
    assert allowed(url, BASE + "/")
    assert allowed(url, "https://other.example/x", "https://trf.example")


@pytest.mark.parametrize(
    "url",
    [
        "https://trf.example/base",
        "https://trf.example/base.sh",
        "https://trf.example/basement/run.sh",
        "https://trf.example/Base/run.sh",
        "https://trf.example/other/run.sh",
        "https://trf.example.evil.example/base/run.sh",
        "https://eviltrf.example/base/run.sh",
        "https://evil.example/https://trf.example/base/run.sh",
        "https://trf.example@evil.example/base/run.sh",
        "https://user:pass@trf.example/base/run.sh",
        "https://@trf.example/base/run.sh",
        "https://trf.example:8443/base/run.sh",
        "https://trf.example:0/base/run.sh",
        "https://trf.example:port/base/run.sh",
        "https://trf.example:99999/base/run.sh",
        "http://trf.example/base/run.sh",
        "http://trf.example:443/base/run.sh",
        "ftp://trf.example/base/run.sh",
        "file:///base/run.sh",
        "//trf.example/base/run.sh",
        "https:/trf.example/base/run.sh",
        "https://trf.example/base/../run.sh",
        "https://trf.example/base/..",
        "https://trf.example/base/%2e%2e/run.sh",
        "https://trf.example/base/%2E./run.sh",
        "https://trf.example/base/.%2e/run.sh",
        "https://trf.example/base/..%2frun.sh",
        "https://trf.example/base/%252e%252e/run.sh",
        "https://trf.example/base/%25252e%25252e%25252frun.sh",
        "https://trf.example/base/..;/run.sh",
        "https://trf.example/base/..;x=1/run.sh",
        "https://trf.example/base/..%5crun.sh",
        "https://trf.example/base\\..\\run.sh",
        "https://trf.example\\@evil.example/base/run.sh",
        "https://evil.example\\.trf.example/base/run.sh",
        "https://trf.example/base/.\n./run.sh",
        "https://trf.example/base/.\t./run.sh",
        "https://trf.ex\nample/base/run.sh",
        " https://trf.example/base/run.sh",
        "https://trf.example/base/run .sh",
        "https://trf.example/base/r\u00fcn.sh",
        "https://\uff54rf.example/base/run.sh",
        "https://[::1/base/run.sh",
        "https:///base/run.sh",
        "https://",
        "",
    ],
)
def test_everything_else_is_refused(url):
    assert not allowed(url)


def test_a_queue_that_names_nothing_allows_nothing():
    assert not allowed_url(BASE + "/run.sh", Queue(name="Q"))


def test_http_has_to_be_allowed_twice():
    url, base = "http://trf.example/base/run.sh", "http://trf.example/base"
    assert not allowed(url, base)
    assert not allowed(url, BASE, allow_http=True)
    assert allowed(url, base, allow_http=True)
    assert allowed(url, "http://trf.example:80/base", allow_http=True)
    assert allowed("https://trf.example/base/x", BASE, allow_http=True)


@pytest.mark.parametrize("base", ["https://trf.example:port", "https://[::1", "trf.example/base", "", "https://", "/"])
def test_a_base_that_is_no_url_allows_nothing(base):
    assert not allowed("https://trf.example/base/run.sh", base)
    assert not allowed("https:///x", base)


PIECES = st.sampled_from(
    [
        *("https://", "http://", "trf.example", "evil.example", "/base", "/", "//", "..", ".", "a", ":443", ":1"),
        *("%2e", "%2f", "%252e", "%5c", "%00", "\\", ";", "@", "?", "#", "\n", " "),
    ]
)


@given(st.lists(PIECES, max_size=10).map("".join))
def test_what_is_allowed_is_asked_of_that_host_below_that_path(tail):
    """As the HTTP library will really ask for it, which has a parser and rules of its own."""
    for url in (tail, f"{BASE}/{tail}", f"https://trf.example{tail}"):
        if not allowed(url):
            continue
        asked = urlsplit(requests.Request("GET", url).prepare().url)
        assert (asked.scheme, asked.hostname, asked.port in {None, 443}) == ("https", "trf.example", True)
        assert asked.path.startswith("/base/")
        assert ".." not in unquote(unquote(asked.path)).replace("\\", "/").split("/")


IN_A_PROCESS = """
import pathlib, subprocess, sys
from pilot_core import CancelToken, Deadline, HandledError, Job, Queue, SystemClock
from pilot_core.payload import fetch_transformation
url, folder, ca_file = sys.argv[1], *map(pathlib.Path, sys.argv[2:])
def fetch():
    job, queue = Job(id=1, transformation=url + "/run.sh"), Queue(name="Q", transformation_urls=(url,))
    deadline = Deadline.after(SystemClock(), 60)
    return fetch_transformation(job, queue, folder, ca_file, cancel=CancelToken(), deadline=deadline)
"""
"""The beginning of a program that calls `fetch` in a process of its own."""


# -- fetching ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return TestAuthority(tmp_path_factory.mktemp("ca"))


@pytest.fixture
def fetch(tmp_path, authority):
    """Fetch `url` into an empty directory, from the allow-list given."""
    folder = tmp_path / "payload"
    folder.mkdir()

    def fetch(url, *bases, ca_file=authority.ca_file, cancel=None, clock=None, seconds=60.0, allow_http=False):
        queue = Queue(name="Q", transformation_urls=bases, allow_http=allow_http)
        return fetch_transformation(
            Job(id=1, transformation=url),
            queue,
            folder,
            ca_file,
            cancel=cancel or CancelToken(),
            deadline=Deadline.after(clock or SystemClock(), seconds),
        )

    fetch.folder = folder
    return fetch


@pytest.fixture
def server(authority):
    """Start a server with a script, over TLS."""
    started = []

    def start(*script, tls=True):
        made = ScriptedServer(*script, tls=authority.server_context() if tls else None)
        started.append(made)
        return made.__enter__()

    yield start
    for one in started:
        one.__exit__(None, None, None)


def failure(fetch, *arguments, error=HandledError, code=PilotErrorCode.TRFDOWNLOADFAILURE, **more):
    """Return the message of a fetch that must fail, and check that nothing of the file is left."""
    before = sorted(fetch.folder.iterdir())
    with pytest.raises(error) as caught:
        fetch(*arguments, **more)
    assert caught.value.error_code is code
    assert str(caught.value).isprintable()
    assert sorted(fetch.folder.iterdir()) == before
    return str(caught.value)


@pytest.mark.parametrize("program", ["/bin/true", "python3", "./run.sh", "run.sh", "a b"])
def test_what_is_no_url_is_left_as_it_is(fetch, program):
    assert fetch(program) == program
    assert list(fetch.folder.iterdir()) == []


def test_a_program_is_fetched_and_can_be_executed(fetch, server):
    trf = server(Answer(PROGRAM))
    assert fetch(f"{trf.url}/trf/run.sh?x=1", f"{trf.url}/trf") == "./run.sh"
    file = fetch.folder / "run.sh"
    assert stat.S_IMODE(file.stat().st_mode) == 0o700
    assert subprocess.run(["./run.sh"], cwd=fetch.folder, capture_output=True, check=True).stdout == b"it runs\n"
    [request] = trf.requests
    assert (request.method, request.path) == ("GET", "/trf/run.sh?x=1")
    assert request.headers["accept-encoding"] == "identity"
    assert not {"authorization", "cookie", "proxy-authorization"} & set(request.headers)


def test_plain_http_is_for_queues_that_allow_it(fetch, server):
    trf = server(Answer(PROGRAM), tls=False)
    message = failure(fetch, f"{trf.url}/run.sh", trf.url, error=JobDescriptionError)
    assert "not below a base URL that queue Q allows" in message
    assert fetch(f"{trf.url}/run.sh", trf.url, allow_http=True) == "./run.sh"


def test_what_the_queue_does_not_allow_is_not_asked_for(fetch, server):
    trf = server(Answer(PROGRAM))
    message = failure(
        fetch, f"{trf.url}/other/run.sh", f"{trf.url}/trf", "https://x.example", error=JobDescriptionError
    )
    assert message == (
        f"transformation {trf.url}/other/run.sh: not below a base URL that queue Q allows ({trf.url}/trf, "
        "https://x.example); add it to its transformation_urls"
    )
    assert "allows (nothing)" in failure(fetch, f"{trf.url}/run.sh")
    assert trf.requests == []


@pytest.mark.parametrize("last", ["", "a%20b", "a;id", "-x", ".hidden", "$(id)", "a'b", "x" * 201])
def test_a_program_needs_a_name_that_no_shell_can_misread(fetch, last):
    assert "its last part is not a plain file name" in failure(fetch, f"https://h/{last}", "https://h")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_refused(fetch, server, status):
    elsewhere = server(Answer(PROGRAM))
    trf = server(Answer(b"", status, {"Location": f"{elsewhere.url}/run.sh"}))
    message = failure(fetch, f"{trf.url}/run.sh", trf.url)
    assert message.endswith(f"the server answered {status} X (redirects are not followed)")
    assert elsewhere.requests == []


@pytest.mark.parametrize("status", [201, 204, 206, 401, 403, 404, 500, 503])
def test_any_other_answer_than_200_is_named(fetch, server, status):
    trf = server(Answer(PROGRAM if status != 204 else b"", status))
    assert failure(fetch, f"{trf.url}/run.sh", trf.url).endswith(f"the server answered {status} X")


@pytest.mark.parametrize(
    "answer",
    [Answer(PROGRAM * 1000, fault="cut"), Answer(PROGRAM, fault="close"), Answer(PROGRAM, fault="reset")],
    ids=lambda answer: answer.fault,
)
def test_a_broken_transfer_leaves_nothing(fetch, server, answer):
    trf = server(answer)
    message = failure(fetch, f"{trf.url}/run.sh", trf.url)
    assert "cannot be fetched: " in message or "the transfer ended after " in message
    assert "object at 0x" not in message


def test_a_transfer_without_a_length_is_taken_to_its_end(fetch, server):
    trf = server(Answer(PROGRAM, fault="chunked"))
    fetch(f"{trf.url}/run.sh", trf.url)
    assert (fetch.folder / "run.sh").read_bytes() == PROGRAM


def test_a_program_that_is_too_large_is_given_up(fetch, server):
    trf = server(Answer(b"x" * (MAX_TRANSFORMATION_BYTES + 1)))
    assert failure(fetch, f"{trf.url}/run.sh", trf.url).endswith("run.sh: larger than 64 MiB")


def test_an_untrusted_server_is_named_as_such(fetch, server, tmp_path):
    (tmp_path / "other").mkdir()
    other = TestAuthority(tmp_path / "other", "Other CA")
    trf = server(Answer(PROGRAM))
    message = failure(fetch, f"{trf.url}/run.sh", trf.url, ca_file=other.ca_file)
    assert "the server's certificate is not trusted (" in message
    assert message.endswith("give its authority by --ca-file")
    assert "not trusted" in failure(fetch, f"{trf.url}/run.sh", trf.url, ca_file=None)
    assert trf.requests == []


def test_a_certificate_for_another_name_is_not_trusted(fetch, authority):
    with ScriptedServer(Answer(PROGRAM), tls=authority.server_context(host="other.example")) as trf:
        assert "not trusted (Hostname mismatch" in failure(fetch, f"{trf.url}/run.sh", trf.url)


def test_a_ca_file_that_is_not_there_is_named(fetch, server, tmp_path):
    trf = server(Answer(PROGRAM))
    assert "none.pem" in failure(fetch, f"{trf.url}/run.sh", trf.url, ca_file=tmp_path / "none.pem")


def test_a_server_that_is_not_there_is_said_in_few_words(fetch):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    url = f"https://localhost:{port}"
    assert failure(fetch, f"{url}/run.sh", url).endswith("run.sh: cannot be fetched: Connection refused")


def test_proxies_bundles_and_netrc_of_the_environment_are_not_read(authority, server, tmp_path):
    """In a process of its own, whose environment leads everywhere but to the server."""
    trf = server(Answer(PROGRAM))
    netrc = tmp_path / "netrc"
    netrc.write_text(f"machine localhost login user password {CANARY}\n")
    wrong = {
        **dict.fromkeys(("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "HTTP_PROXY"), "http://127.0.0.1:1"),
        **dict.fromkeys(("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"), "/dev/null"),
        "NETRC": str(netrc),
    }
    code = f"{IN_A_PROCESS}print(fetch())\n"
    argv = [sys.executable, "-c", code, trf.url, tmp_path, authority.ca_file]
    done = subprocess.run(argv, env={**os.environ, **wrong}, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("./run.sh\n", "")
    assert "authorization" not in trf.requests[0].headers


@pytest.mark.parametrize("planted", ["link", "dangling link", "file", "directory"])
def test_a_program_is_written_over_nothing_and_through_no_link(fetch, server, tmp_path, planted):
    """As an input file of the same name would lie there."""
    target, other = fetch.folder / "run.sh", tmp_path / "other"
    if planted == "link":
        other.write_text("old")
    if "link" in planted:
        target.symlink_to(other)
    elif planted == "file":
        target.write_text("old")
    else:
        target.mkdir()
    trf = server(Answer(PROGRAM))
    message = failure(fetch, f"{trf.url}/run.sh", trf.url)
    assert message.endswith(f"cannot be written to {target}: File exists")
    if planted != "dangling link":
        assert target.is_dir() or target.read_text() == "old"
    assert not other.exists() or other.read_text() == "old"


def test_a_directory_that_cannot_be_written_is_no_full_disk(fetch, server):
    trf = server(Answer(PROGRAM))
    fetch.folder.rmdir()
    with pytest.raises(HandledError, match="No such file or directory") as caught:
        fetch(f"{trf.url}/run.sh", trf.url)
    assert not isinstance(caught.value, NoSpace)
    assert caught.value.error_code is PilotErrorCode.TRFDOWNLOADFAILURE


def in_background(call):
    """Start a call in a thread; return its outcome's list and the thread."""
    outcome = []

    def run():
        try:
            outcome.append(call())
        except Exception as error:
            outcome.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return outcome, thread


def test_a_cancelled_job_fetches_nothing(fetch, server):
    trf, cancel = server(Answer(PROGRAM)), CancelToken()
    cancel.cancel("tobekilled")
    with pytest.raises(Cancelled, match="tobekilled"):
        fetch(f"{trf.url}/run.sh", trf.url, cancel=cancel)
    assert trf.requests == []


def test_a_cancellation_ends_a_fetch_from_a_silent_server_at_once(fetch, server):
    trf, cancel, clock = server(Answer(fault="hang")), CancelToken(), SteppedClock()
    outcome, thread = in_background(lambda: fetch(f"{trf.url}/run.sh", trf.url, cancel=cancel, clock=clock))
    clock.until_waiting()
    cancel.cancel("tobekilled")
    thread.join()
    assert isinstance(outcome[0], Cancelled)
    assert str(outcome[0]) == "tobekilled"
    assert list(fetch.folder.iterdir()) == []


def test_the_deadline_ends_a_fetch_from_a_silent_server(fetch, server):
    trf, clock = server(Answer(fault="hang")), SteppedClock()
    outcome, thread = in_background(lambda: fetch(f"{trf.url}/run.sh", trf.url, clock=clock, seconds=3600))
    clock.until_waiting()
    clock.advance(3600)
    thread.join()
    assert str(outcome[0]).endswith("run.sh: was not fetched within the time allowed for it")
    assert outcome[0].error_code is PilotErrorCode.TRFDOWNLOADFAILURE


def test_a_full_disk_is_told_as_such(server, authority, tmp_path, own_mounts):
    """On a file system of 64 kB, mounted in a process of its own that sees it alone."""
    trf = server(Answer(b"x" * 1_000_000))
    code = (
        f"{IN_A_PROCESS}"
        "subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=64k', 'none', folder], check=True)\n"
        "try: fetch()\n"
        "except HandledError as error: print(type(error).__name__, error.error_code.name, error)\n"
        "print(list(folder.iterdir()))\n"
    )
    argv = [*own_mounts, sys.executable, "-c", code, trf.url, tmp_path, authority.ca_file]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert done.stdout == (
        f"NoSpace NOLOCALSPACE transformation {trf.url}/run.sh: cannot be written to {tmp_path}/run.sh: "
        "No space left on device\n[]\n"
    )
