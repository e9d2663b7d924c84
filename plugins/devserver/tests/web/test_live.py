"""The streams of changes, over real sockets."""

import http.client
import json
from contextlib import closing

import pytest
from pilot_devserver.store_jobs import JobSpec


class Stream:
    """One open page."""

    def __init__(self, visitor, path):
        self.connection = http.client.HTTPConnection("127.0.0.1", visitor.port)
        self.connection.request("GET", f"/live{path}", headers={"Cookie": visitor.cookie})
        self.response = self.connection.getresponse()

    def next(self):
        """Return the next content of the page."""
        assert self.response.readline() == b"event: page\n"
        line = self.response.readline()
        assert self.response.readline() == b"\n"
        return json.loads(line.removeprefix(b"data: "))

    def until(self, text):
        """Read on until the page has a text; a test that hangs here ends by the limit of all tests."""
        while text not in (page := self.next()):
            pass
        return page

    def close(self):
        self.connection.close()


@pytest.fixture
def follow(visitor):
    streams = []

    def start(path):
        streams.append(Stream(visitor, path))
        return streams[-1]

    yield start
    for stream in streams:
        stream.close()


def test_a_stream_begins_with_the_page_as_it_is_and_goes_on_with_changes(server, visitor, follow):
    stream = follow("/")
    assert stream.response.headers["Content-Type"] == "text/event-stream"
    assert "There is no job yet" in stream.next()
    server.store.submit([JobSpec(queue="Q1", transformation="x", name="first")])
    assert "first" in stream.until("activated")
    server.store.kill(1)
    stream.until("cancelled")


def test_a_burst_of_changes_ends_with_the_last(server, follow):
    stream = follow("/")
    stream.next()
    for number in range(50):
        server.store.submit([JobSpec(queue="Q1", transformation="x", name=f"job number {number}.")])
    assert "job number 0." in stream.until("job number 49.")


def test_a_filtered_page_hears_of_what_it_shows_only(server, follow):
    stream = follow("/?queue=Q2")
    stream.next()
    server.store.submit([JobSpec(queue="Q2", transformation="x", name="mine")])
    page = stream.until("mine")
    assert "other" not in page


def test_a_jobs_page_hears_of_its_updates_and_exchanges(server, follow, pilot):
    [job] = server.store.submit([JobSpec(queue="Q1", transformation="x")])
    stream = follow(f"/jobs/{job}")
    assert "No exchange about this job is kept" in stream.next()
    pilot.acquire()
    stream.until("#1")
    pilot.post("/api/v1/pilot/update_job", {"job_id": job, "job_status": "running", "attempt_nr": 1})
    stream.until("the pilot reports running")


def test_the_page_of_faults_hears_of_strikes(server, follow, pilot):
    stream = follow("/faults")
    stream.next()
    server.fault("html", endpoint="acquire_jobs")
    stream.until("0 of 1")
    pilot.ask("POST", "/api/v1/pilot/acquire_jobs", "{}")
    stream.until("1 of 1")


def test_a_page_says_that_the_database_is_down_and_comes_back(server, follow, pilot):
    stream = follow("/")
    stream.next()
    server.store.available = False
    pilot.acquire()
    stream.until("The database does not answer")
    server.store.available = True
    pilot.acquire()
    stream.until("There is no job yet")


def test_who_leaves_is_not_waited_for(server, visitor):
    for _ in range(20):
        with closing(Stream(visitor, "/exchanges")) as stream:
            stream.next()
    server.store.submit([JobSpec(queue="Q1", transformation="x")])
    assert "activated" in visitor.get("/")
