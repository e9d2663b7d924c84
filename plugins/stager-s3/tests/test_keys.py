"""The keys' file: whose keys go where, and that nothing of it is told."""

from __future__ import annotations

import os

import pytest
from pilot_stager_s3.keys import KeyFile, Keys

from pilot_core import AuthError

TEXT = """\
[default]
aws_access_key_id = OURS
aws_secret_access_key = our=secret%(x)s
[other.org:9000]
aws_access_key_id = THEIRS
aws_secret_access_key = theirs
aws_session_token = token
[third.org]
aws_access_key_id = THIRD
aws_secret_access_key = third
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "credentials"
    path.write_text(TEXT)
    return path


def test_the_profiles_keys_are_for_the_endpoint_only(file):
    keys = KeyFile(file, "default")
    assert keys.keys("s3.example.org", ours=True) == Keys(access="OURS", secret="our=secret%(x)s")
    with pytest.raises(AuthError, match=r"no section \[s3.example.org\]"):
        keys.keys("s3.example.org", ours=False)


def test_a_services_own_section_is_for_it(file):
    keys = KeyFile(file, "default")
    assert keys.keys("other.org:9000", ours=False) == Keys(access="THEIRS", secret="theirs", token="token")
    assert keys.keys("third.org:8443", ours=False).access == "THIRD"
    assert keys.keys("third.org", ours=True).access == "THIRD"
    with pytest.raises(AuthError):
        keys.keys("other.org:9001", ours=False)


def test_renewed_keys_are_read(file):
    keys = KeyFile(file, "default")
    keys.keys("host", ours=True)
    new = file.with_name("new")
    new.write_text(TEXT.replace("OURS", "NEWS"))
    os.replace(new, file)
    assert keys.keys("host", ours=True).access == "NEWS"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (None, "cannot read"),
        ("just-a-secret", "AWS format"),
        ("[default]\naws_access_key_id = a\nsecret-line", "AWS format"),
        ("[default]\n[default]\n", "AWS format"),
        ("[else]\naws_access_key_id = a", r"no section \[default\]"),
        ("[default]\naws_access_key_id = a", "needs aws_access_key_id and aws_secret_access_key"),
        ("[default]\naws_access_key_id = a\naws_secret_access_key = se cret", "spaces"),
        ("[default]\naws_access_key_id = a\naws_secret_access_key = secret\n more", "spaces"),
        (b"\xff\xfe", "UTF-8"),
    ],
)
def test_a_file_that_is_none_is_an_auth_error_without_its_content(tmp_path, text, told):
    path = tmp_path / "credentials"
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(AuthError, match=told) as error:
        KeyFile(path, "default").keys("host", ours=True)
    assert "secret-line" not in str(error.value)
    assert "just-a-secret" not in str(error.value)
    assert str(error.value).isprintable()
    assert error.value.__cause__ is None
