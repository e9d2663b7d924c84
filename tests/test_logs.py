"""The human log: one form, no secrets, a job's own part in a file."""

from __future__ import annotations

import io
import json
import logging
import os
import re
import subprocess
import sys
import threading
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilot_core.logs import HIDDEN, JobLog, Redactor, job_logger, set_up_logging
from pilot_core.testing.clock import FakeClock

CANARY = "canary5d1f7c0ae2"
WALL = 1_700_000_000.125
STAMP = "2023-11-14T22:13:20.125Z"


@pytest.fixture
def redactor():
    return Redactor()


@pytest.fixture
def clock():
    return FakeClock(wall=WALL)


@pytest.fixture
def clean_logging():
    """Put the process's logging back as it was."""
    top, root = logging.getLogger(), logging.getLogger("pilot_core")
    handlers, level = list(top.handlers), root.level
    yield
    top.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def human(clean_logging, clock, redactor):
    """The stream of the human log, at level info."""
    stream = io.StringIO()
    set_up_logging(stream, "info", clock, redactor)
    return stream


# -- redactor ----------------------------------------------------------------------------------------------------------

SECRETS = st.text(st.characters(blacklist_categories=("Cs",), blacklist_characters="<hiden>"), min_size=6, max_size=20)


@given(st.lists(SECRETS, min_size=1, max_size=4), st.lists(st.text(max_size=8), max_size=5), st.randoms())
def test_no_secret_is_left_in_a_text(secrets, texts, random):
    redactor = Redactor()
    redactor.add(secrets)
    parts = [*secrets, *texts, *secrets]
    random.shuffle(parts)
    for text in ("".join(parts), json.dumps(parts), repr(parts), quote("/".join(parts), safe="")):
        cleaned = redactor.clean(text)
        for secret in secrets:
            assert secret not in cleaned
        assert HIDDEN in cleaned


@given(st.text())
def test_without_secrets_a_text_stays_as_it_is(text):
    assert Redactor().clean(text) == text


def test_very_short_secrets_are_left_alone(redactor):
    redactor.add(["", "a", "12345"])
    assert redactor.clean("a 12345 bananas") == "a 12345 bananas"


def test_a_secret_of_several_lines_is_hidden_in_every_form(redactor):
    secret = 'first "line" 1\nsecond\\line 2\n'
    redactor.add([secret])
    for text in (secret, json.dumps({"x": secret}), repr(secret), quote(secret), *secret.splitlines()):
        cleaned = redactor.clean(f"<{text}>")
        assert "line" not in cleaned, text


def test_the_longer_of_two_secrets_is_hidden_whole(redactor):
    redactor.add(["canary", "canary5d1f"])
    assert redactor.clean("canary5d1f canary") == f"{HIDDEN} {HIDDEN}"


def test_secrets_learned_in_many_threads_at_once_are_all_kept(redactor):
    go, count = threading.Barrier(8), 40

    def learn(number):
        go.wait()
        for index in range(count):
            redactor.add([f"secret-{number}-{index}-"])

    threads = [threading.Thread(target=learn, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number in range(8):
        for index in range(count):
            assert redactor.clean(f"secret-{number}-{index}-") == HIDDEN


# -- the human log -----------------------------------------------------------------------------------------------------


def test_a_line_has_time_level_component_and_text(human):
    logging.getLogger("pilot_core.pilot").info("queue %s from %s", "Q", "file")
    assert human.getvalue() == f"{STAMP} INFO    pilot: queue Q from file\n"


def test_a_jobs_lines_carry_its_id(human):
    job_logger(6612345678, "staging").warning("%d bytes", 3)
    assert human.getvalue() == f"{STAMP} WARNING [6612345678] staging: 3 bytes\n"


def test_the_time_is_that_of_the_injected_clock(human, clock):
    clock.advance(86_400.5)
    logging.getLogger("pilot_core.x").error("e")
    assert human.getvalue().startswith("2023-11-15T22:13:20.625Z ERROR ")


@given(st.floats(min_value=0, max_value=4e9))
def test_any_time_makes_a_stamp(wall):
    stream = io.StringIO()
    handler_of(stream, FakeClock(wall=wall)).emit(record("x"))
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z INFO    y: x\n", stream.getvalue())


def handler_of(stream, clock, redactor=None):
    """Return the handler that `set_up_logging` adds, without leaving it there."""
    top, root = logging.getLogger(), logging.getLogger("pilot_core")
    before, level = list(top.handlers), root.level
    try:
        set_up_logging(stream, "info", clock, redactor or Redactor())
        return top.handlers[-1]
    finally:
        top.handlers[:] = before
        root.setLevel(level)


def record(message, *arguments, **more):
    return logging.LogRecord("pilot_core.y", logging.INFO, "file.py", 12, message, arguments, None, **more)


@pytest.mark.parametrize(
    ("level", "seen"), [("debug", "diwe"), ("info", "iwe"), ("warning", "we"), ("error", "e"), ("ERROR", "e")]
)
def test_the_level_is_the_least_that_is_shown(clean_logging, clock, redactor, level, seen):
    stream = io.StringIO()
    log = set_up_logging(stream, level, clock, redactor)
    log.debug("d")
    log.info("i")
    log.warning("w")
    log.error("e")
    assert "".join(line[-1] for line in stream.getvalue().splitlines()) == seen


def test_setting_up_again_replaces_the_stream(human, clock, redactor):
    second = io.StringIO()
    log = set_up_logging(second, "info", clock, redactor)
    log.info("once")
    assert human.getvalue() == ""
    assert second.getvalue().count("once") == 1


def test_warnings_of_libraries_take_the_same_form_and_hide_secrets(human, redactor):
    redactor.add([CANARY])
    other = logging.getLogger("urllib3.connectionpool")
    other.debug("a debug line with %s", CANARY)
    other.info("nothing to see")
    other.warning("Retrying after connection broken: /x?token=%s", CANARY)
    assert human.getvalue() == (
        f"{STAMP} WARNING urllib3.connectionpool: Retrying after connection broken: /x?token={HIDDEN}\n"
    )


def test_secrets_are_hidden_in_texts_arguments_and_tracebacks(human, redactor):
    redactor.add([CANARY])
    log = logging.getLogger("pilot_core.x")
    log.info(CANARY)
    log.info("%s", CANARY)
    log.info("%r", {"Authorization": f"Bearer {CANARY}"})
    try:
        raise ValueError(f"bad token {CANARY}")
    except ValueError:
        log.exception("it broke")
    assert CANARY not in human.getvalue()
    assert human.getvalue().count(HIDDEN) == 4
    assert f"    ValueError: bad token {HIDDEN}\n" in human.getvalue()


def test_a_secret_with_line_ends_is_hidden_before_they_are_spelled_out(human, redactor):
    redactor.add([f"a {CANARY}\nb {CANARY}\n"])
    logging.getLogger("pilot_core.x").info("key: %s", f"a {CANARY}\nb {CANARY}\n")
    assert CANARY not in human.getvalue()


@given(st.text())
def test_one_record_is_one_line_whatever_is_in_it(text):
    stream = io.StringIO()
    handler_of(stream, FakeClock(wall=WALL)).emit(record("%s", text))
    assert len(stream.getvalue().splitlines()) == 1
    assert stream.getvalue()[:-1].isprintable()


def test_a_line_cannot_be_forged(human):
    """Neither by a message nor by an exception's text: what is not the first line of a record is indented."""
    forged = f"x\n{STAMP} INFO    pilot: forged"
    log = logging.getLogger("pilot_core.x")
    log.info(forged)
    try:
        raise ValueError(forged)
    except ValueError:
        log.exception("bug")
    assert not re.search(r"^2023\S+ INFO    pilot: forged", human.getvalue(), re.MULTILINE)


def test_arguments_that_do_not_fit_are_a_line_too_without_them(capsys, clock):
    """A plugin's slip: no traceback on standard error, and nothing of the arguments."""
    human = io.StringIO()
    handler = handler_of(human, clock)

    class Bad:
        def __str__(self):
            raise RuntimeError(CANARY)

    handler.handle(record("%d files of %s", "three", CANARY))
    handler.handle(record("%s", Bad()))
    handler.handle(record(Bad()))
    first, second, third = human.getvalue().splitlines()
    assert "y: %d files of %s (its arguments do not fit: TypeError, file.py:12)" in first
    assert "%s (its arguments do not fit: RuntimeError, " in second
    assert "Bad (its arguments do not fit: RuntimeError, " in third
    assert CANARY not in human.getvalue()
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("target", ["closed pipe", "full disk"])
def test_a_log_that_cannot_be_written_stops_nothing(target, tmp_path):
    code = (
        "import logging, sys\n"
        "from pilot_core.cli import guarded\n"
        "from pilot_core.logs import Redactor, set_up_logging\n"
        "from pilot_core import SystemClock\n"
        "def work():\n"
        "    log = set_up_logging(sys.stderr, 'info', SystemClock(), Redactor())\n"
        "    for _ in range(3): log.info('line')\n"
        "    print('done')\n"
        "    return 0\n"
        "sys.exit(guarded(work))\n"
    )
    read, write = os.pipe()
    os.close(read)
    full = os.open("/dev/full", os.O_WRONLY)
    try:
        errors = write if target == "closed pipe" else full
        buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
        command = [sys.executable, "-c", code]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=errors, check=True, env=buffered)
        assert done.stdout == b"done\n"
    finally:
        os.close(write)
        os.close(full)


def test_names_that_are_not_text_can_be_logged(clock):
    """As `os.fsdecode` makes them of any bytes. (Not by a logger: what pytest captures of it has to be text.)"""
    stream = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="strict")
    handler_of(stream, clock).handle(record("file %s", os.fsdecode(b"a\xff")))
    assert stream.buffer.getvalue().endswith(b" y: file a\\udcff\n")


# -- a job's part ------------------------------------------------------------------------------------------------------


@pytest.fixture
def job_log(tmp_path, clock, redactor, human):
    """Open logs of jobs; each is closed at the end."""
    made = []

    def open_one(panda_id):
        file = tmp_path / f"{panda_id}.log"
        made.append(JobLog(file, panda_id, clock, redactor))
        return file, made[-1]

    yield open_one
    for log in made:
        log.close()


def test_a_job_gets_its_own_lines_and_those_of_no_job(job_log, human):
    (first, _), (second, _) = job_log(1), job_log(2)
    job_logger(1, "job").info("of one")
    job_logger(2, "job").info("of two")
    logging.getLogger("pilot_core.pilot").info("of none")
    logging.getLogger("some.library").warning("of a library")
    for file, own in ((first, "[1] job: of one"), (second, "[2] job: of two")):
        texts = [line.split(maxsplit=2)[2] for line in file.read_text().splitlines()]
        assert texts == [own, "pilot: of none", "some.library: of a library"]
    assert human.getvalue().count("\n") == 4


def test_a_jobs_log_begins_and_ends_with_the_job(job_log):
    log = logging.getLogger("pilot_core.x")
    log.info("before")
    file, opened = job_log(1)
    log.info("during")
    opened.close()
    log.info("after")
    opened.close()
    assert [line.split(": ")[1] for line in file.read_text().splitlines()] == ["during"]


def test_secrets_stay_out_of_a_jobs_log(job_log, redactor):
    redactor.add([CANARY])
    file, _ = job_log(1)
    job_logger(1, "job").info("token %s", CANARY)
    assert CANARY not in file.read_text()


def test_a_jobs_log_takes_any_text(job_log):
    file, opened = job_log(1)
    opened._handler.handle(record("name %s", os.fsdecode(b"\xff\n\xc3\xa9")))
    assert "name \\udcff\\né" in file.read_text(encoding="utf-8")


def test_a_file_in_the_logs_place_is_an_error(tmp_path, clock, redactor):
    (tmp_path / "1.log").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FileExistsError):
        JobLog(tmp_path / "1.log", 1, clock, redactor)
    assert not (tmp_path / "elsewhere").exists()


def test_a_full_disk_stops_the_jobs_log_and_nothing_else(tmp_path):
    """The limit of a file's size is the full disk here; the human log has every line."""
    code = (
        "import io, logging, pathlib, resource, sys\n"
        "from pilot_core.logs import JobLog, Redactor, job_logger, set_up_logging\n"
        "from pilot_core import SystemClock\n"
        "clock, redactor = SystemClock(), Redactor()\n"
        "set_up_logging(sys.stderr, 'info', clock, redactor)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (200, 200))\n"
        "job_log = JobLog(pathlib.Path(sys.argv[1]), 1, clock, redactor)\n"
        "for number in range(20): job_logger(1, 'job').info('line %d', number)\n"
        "job_log.close()\n"
        "print('done')\n"
    )
    file = tmp_path / "1.log"
    done = subprocess.run([sys.executable, "-c", code, file], capture_output=True, text=True, check=True)
    assert done.stdout == "done\n"
    assert done.stderr.count("\n") == 20
    assert "Traceback" not in done.stderr
    assert file.stat().st_size == 200


def test_what_an_adapter_is_given_besides_is_kept(human, clean_logging):
    seen = []
    handler = logging.Handler()
    handler.emit = seen.append
    logging.getLogger().addHandler(handler)
    job_logger(5, "job").info("x", extra={"more": 1})
    assert (seen[0].panda_id, seen[0].more) == (5, 1)
