"""What the storage's errors come to: each row of the tables, and the same over a real connection."""

import pytest
from pilot_stager_xrootd.trouble import ANSWERED, FOUND, Trouble, handled

from pilot_core import (
    AuthError,
    BackendUnavailable,
    Cancelled,
    ChecksumMismatch,
    NoSpace,
    PilotErrorCode,
    SourceNotFound,
    TargetExists,
    TransferError,
    TransferTimeout,
    TransientError,
)
from pilot_core.api.local_files import INPUT, OUTPUT
from pilot_core.testing.servers.scripted_xrootd import Answer, ScriptedXrootd, error, redirect, silence, wait

DUE_ANSWERED = {
    TargetExists: (3018,),
    TransferError: (3000, 3001, 3027, 3031, 3032),
    SourceNotFound: (3002, 3011, 3015, 3016, 3029),
    TransientError: (3003, 3004, 3005, 3007, 3008, 3012, 3014, 3017, 3020, 3024, 3026, 3033, 3034, 3035),
    BackendUnavailable: (3006, 3013, 3025, 3028),
    NoSpace: (3009, 3021),
    AuthError: (3010, 3022, 3023, 3030),
    ChecksumMismatch: (3019,),
}
DUE_FOUND = {
    TransientError: (
        *(1, 2, 3, 4, 5, 7, 10, 12, 14, 17),
        *(101, 102, 104, 105, 106, 107, 108, 109, 201, 202, 207, 208, 301, 303, 401),
    ),
    BackendUnavailable: (6, 8, 11, 13, 15, 110, 205, 302, 306),
    TransferError: (9,),
    SourceNotFound: (16, 304, 500),
    TransferTimeout: (103, 206),
    AuthError: (203, 204),
    ChecksumMismatch: (305,),
}


def rows(due):
    return [(number, kind) for kind, numbers in due.items() for number in numbers]


def test_every_row_has_a_test():
    assert {number for number, _ in rows(DUE_ANSWERED)} == set(ANSWERED)
    assert {number for number, _ in rows(DUE_FOUND)} == set(FOUND)


@pytest.mark.parametrize(("number", "kind"), rows(DUE_ANSWERED))
def test_an_answer_of_a_server_has_its_class(number, kind):
    found = handled(
        Trouble(400, number, "[ERROR] Server responded with an error: [0] no\n"), "url", OUTPUT, absent=True
    )
    assert type(found) is kind
    assert str(found) == f"url: [0] no ({ANSWERED[number][0]})"


@pytest.mark.parametrize(("number", "kind"), rows(DUE_FOUND))
def test_what_the_client_finds_has_its_class(number, kind):
    assert type(handled(Trouble(number, 0, "[FATAL] no"), "url", OUTPUT, absent=True)) is kind


def test_a_connection_that_ends_in_its_tls_handshake_is_worth_another_try():
    hung_up = Trouble(110, 104, "[FATAL] TLS error: connection reset by peer")
    assert type(handled(hung_up, "url", INPUT, absent=True)) is TransientError
    assert type(handled(Trouble(110, 0, "[FATAL] TLS error"), "url", INPUT, absent=True)) is BackendUnavailable


def test_an_unknown_code_is_worth_another_try():
    assert type(handled(Trouble(400, 9999, ""), "url", INPUT, absent=True)) is TransientError
    assert "no reason" in str(handled(Trouble(999, 0, ""), "url", INPUT, absent=True))


def test_codes_tell_the_two_ways_apart():
    refused, full, absent = (Trouble(400, number, "x") for number in (3010, 3009, 3011))
    assert handled(refused, "u", INPUT, absent=True).error_code == PilotErrorCode.STAGEINAUTHENTICATIONFAILURE
    assert handled(refused, "u", OUTPUT, absent=True).error_code == PilotErrorCode.STAGEOUTAUTHENTICATIONFAILURE
    assert handled(full, "u", OUTPUT, absent=True).error_code == PilotErrorCode.NOREMOTESPACE
    assert type(handled(full, "u", INPUT, absent=True)) is TransientError
    assert type(handled(absent, "u", OUTPUT, absent=False)) is TransferError


def test_words_of_a_storage_come_on_one_line():
    found = handled(Trouble(400, 3011, "[ERROR] a\nb\x1b[31m " + "x" * 10_000), "url", INPUT, absent=True)
    assert str(found).isprintable()
    assert len(str(found)) < 600


# -- over a real connection --------------------------------------------------------------------------------------------

ANSWERS_THAT_ARRIVE = [row for row in rows(DUE_ANSWERED) if row[0] not in {3009, 3021}]


@pytest.mark.needs("module:XRootD")
@pytest.mark.parametrize(("number", "kind"), ANSWERS_THAT_ARRIVE)
def test_a_server_that_refuses_to_open_is_told_by_class(number, kind, bench):
    with ScriptedXrootd(lambda _: error(number)) as server, pytest.raises(kind) as caught:
        bench.fetch(f"{server.url}/store/x")
    assert type(caught.value) is kind
    assert "because the test says so" in str(caught.value)
    assert not bench.left()


@pytest.mark.needs("module:XRootD")
@pytest.mark.parametrize("number", [3009, 3021])
def test_a_full_storage_is_no_space(number, bench):
    with ScriptedXrootd(lambda _: error(number)) as server, pytest.raises(NoSpace) as caught:
        bench.store(f"{server.url}/store/x", b"x")
    assert caught.value.error_code == PilotErrorCode.NOREMOTESPACE


@pytest.mark.needs("module:XRootD")
def test_a_circle_of_redirections_ends(bench_with):
    bench = bench_with(redirects=5)
    with ScriptedXrootd(lambda _: redirect(server.port)) as server, pytest.raises((BackendUnavailable, TransientError)):
        bench.stat(f"{server.url}/store/x")
    assert len(server.requests) < 20


@pytest.mark.needs("module:XRootD")
def test_a_redirection_is_followed_and_told(bench, storage):
    storage.put("x", b"elsewhere")

    def answer(_):
        return redirect(storage.server.port)

    with ScriptedXrootd(answer) as manager:
        result = bench.fetch(storage.url("x").replace(f":{storage.server.port}/", f":{manager.port}/"))
    assert bench.got() == b"elsewhere"
    assert f":{storage.server.port}/" in result.url
    assert bench.stat(result.url).size == 9


@pytest.mark.needs("module:XRootD")
def test_a_storage_that_says_wait_can_be_called_off(bench):
    with ScriptedXrootd(lambda _: wait(20)) as server:
        bench.seconds = 0.5
        before = bench.clock.monotonic()
        with pytest.raises(TransferTimeout):
            bench.fetch(f"{server.url}/store/x")
        bench.seconds = 60
        bench.cancel_in(0.3)
        with pytest.raises(Cancelled, match="the test says so"):
            bench.stat(f"{server.url}/store/x")
        assert bench.clock.monotonic() - before < 5
    assert not bench.left()


@pytest.mark.needs("module:XRootD")
def test_a_question_for_a_checksum_that_gets_lost_is_asked_again(bench):
    asked = []

    def answer(request):
        if request.name == "stat":
            return Answer(body=b"1 5 16 1700000000\0")
        asked.append(request.path)
        return silence() if len(asked) == 1 else Answer(body=b"adler32 062c0215\0")

    with ScriptedXrootd(answer) as server:
        before = bench.clock.monotonic()
        assert bench.stat(f"{server.url}/store/x").checksum == "adler32:062c0215"
        assert bench.clock.monotonic() - before < 10
    assert asked == ["/store/x?cks.type=adler32"] * 2


@pytest.mark.needs("module:XRootD")
def test_a_server_of_another_protocol_is_no_storage(bench_with):
    import socket
    import threading

    bench = bench_with(connect_timeout=2)
    bench.seconds = 8
    listener = socket.create_server(("127.0.0.1", 0))

    def talk():
        connection, _ = listener.accept()
        with connection:
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n" * 10)
            connection.recv(4096)

    talker = threading.Thread(target=talk, daemon=True)
    talker.start()
    try:
        with pytest.raises((TransientError, BackendUnavailable, TransferTimeout)):
            bench.stat(f"root://localhost:{listener.getsockname()[1]}//store/x")
    finally:
        listener.close()
        talker.join()


@pytest.mark.needs("module:XRootD")
def test_a_storage_that_says_to_wait_beyond_the_deadline_is_not_waited_for(bench):
    with ScriptedXrootd(lambda _: wait(1000)) as server, pytest.raises(TransferTimeout):
        bench.stat(f"{server.url}/store/x")


@pytest.mark.needs("module:XRootD")
def test_an_open_that_never_ends_leaves_nothing(bench):
    with ScriptedXrootd(lambda request: Answer() if request.name == "stat" else wait(1000)) as server:
        bench.seconds = 1.0
        with pytest.raises(TransferTimeout):
            bench.store(f"{server.url}/store/x", b"x")
