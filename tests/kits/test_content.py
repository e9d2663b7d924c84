"""How the kits compare what files hold."""

import time

import pytest

from pilot_core.testing.content import same_bytes


def test_the_same_is_the_same():
    same_bytes(b"", b"")
    same_bytes(b"abc", b"abc", "the file")


@pytest.mark.parametrize(
    ("found", "wanted", "text"),
    [
        (b"abXd", b"abcd", r"the file: 4 bytes, 4 were expected; from byte 2 on b'Xd' instead of b'cd'"),
        (b"abcd", b"ab", r"the file: 4 bytes, 2 were expected; from byte 2 on b'cd' instead of b''"),
        (b"", b"ab", r"the file: 0 bytes, 2 were expected; from byte 0 on b'' instead of b'ab'"),
        (None, b"ab", r"the file: there is no file"),
    ],
)
def test_a_difference_is_told_in_one_line(found, wanted, text):
    with pytest.raises(pytest.fail.Exception, match=text):
        same_bytes(found, wanted, "the file")


def test_megabytes_that_differ_are_told_at_once_in_a_ci_system_too(monkeypatch):
    monkeypatch.setenv("CI", "true")
    data = bytes(range(256)) * 8192
    started = time.process_time()
    with pytest.raises(pytest.fail.Exception, match="from byte 1048576 on"):
        same_bytes(data[: 1 << 20] + b"X" + data[1 + (1 << 20) :], data)
    assert time.process_time() - started < 10
