"""What services say, and the error of it: the class that decides what is tried next."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pilot_stager_s3.problems import CODES, Problem, element, error_of

from pilot_core import (
    AuthError,
    BackendUnavailable,
    ChecksumMismatch,
    NoSpace,
    SourceNotFound,
    TransferError,
    TransientError,
)


@pytest.mark.parametrize(
    ("code", "status", "kind"),
    [
        ("SignatureDoesNotMatch", 403, AuthError),
        ("InvalidAccessKeyId", 403, AuthError),
        ("AccessDenied", 403, AuthError),
        ("RequestTimeTooSkewed", 403, AuthError),
        ("ExpiredToken", 400, AuthError),
        ("InvalidToken", 400, AuthError),
        ("AuthorizationHeaderMalformed", 400, AuthError),
        ("UserSuspended", 403, AuthError),
        ("NoSuchKey", 404, SourceNotFound),
        ("NoSuchBucket", 404, SourceNotFound),
        ("InvalidObjectState", 403, SourceNotFound),
        ("SlowDown", 503, TransientError),
        ("ServiceUnavailable", 503, TransientError),
        ("InternalError", 500, TransientError),
        ("RequestTimeout", 400, TransientError),
        ("OperationAborted", 409, TransientError),
        ("QuotaExceeded", 403, NoSpace),
        ("XMinioStorageFull", 507, NoSpace),
        ("BadDigest", 400, ChecksumMismatch),
        ("InvalidDigest", 400, ChecksumMismatch),
        ("XAmzContentSHA256Mismatch", 400, ChecksumMismatch),
        ("PermanentRedirect", 301, BackendUnavailable),
        ("NotImplemented", 501, BackendUnavailable),
        ("EntityTooLarge", 400, TransferError),
        ("", 400, TransferError),
        ("", 401, AuthError),
        ("", 403, AuthError),
        ("", 404, SourceNotFound),
        ("", 408, TransientError),
        ("", 410, SourceNotFound),
        ("", 413, NoSpace),
        ("", 418, TransferError),
        ("", 425, TransientError),
        ("", 429, TransientError),
        ("", 301, BackendUnavailable),
        ("", 500, TransientError),
        ("", 501, BackendUnavailable),
        ("", 502, TransientError),
        ("", 503, TransientError),
        ("", 504, TransientError),
        ("", 507, NoSpace),
        ("SomethingNew", 503, TransientError),
        ("SomethingNew", 400, TransferError),
    ],
)
def test_each_refusal_has_its_class(code, status, kind):
    error = error_of(Problem(status=status, code=code), "s3://b/k")
    assert type(error) is kind
    assert str(error).startswith(f"s3://b/k: HTTP {status}")
    assert code in str(error)


def test_each_code_is_in_one_class():
    assert len(CODES) > 50
    from pilot_stager_s3.problems import _TABLE

    listed = [code for codes in _TABLE.values() for code in codes.split()]
    assert len(listed) == len(set(listed))


def test_a_missing_bucket_is_no_missing_file_where_one_is_written():
    error = error_of(Problem(status=404, code="NoSuchBucket"), "x", reading=False)
    assert isinstance(error, BackendUnavailable)


def test_the_pause_that_is_asked_for_is_passed_on():
    error = error_of(Problem(status=503, code="SlowDown", retry_after=7.0), "x")
    assert isinstance(error, TransientError)
    assert error.retry_after == 7.0


@pytest.mark.parametrize(
    ("problem", "told"),
    [
        (Problem(status=403, code="RequestTimeTooSkewed", skew=3600.0), "clock is 3600 s behind the service's"),
        (Problem(status=403, code="AccessDenied", skew=-901.0), "clock is 901 s ahead of the service's"),
        (
            Problem(status=301, code="PermanentRedirect", region="eu-west-1"),
            "in region eu-west-1: set stager.s3.region",
        ),
        (Problem(status=307, location="other.org"), "redirects to other.org: set stager.s3.endpoint"),
        (Problem(status=400, code="AuthorizationHeaderMalformed", region="eu-1"), "set stager.s3.region to eu-1"),
        (Problem(status=403), "need access there"),
        (Problem(status=404, code="NoSuchBucket"), "written with its port"),
        (Problem(status=500, message="a\nb\x1b[31m"), "a b [31m"),
    ],
)
def test_the_text_says_what_to_do(problem, told):
    text = str(error_of(problem, "s3://b/k"))
    assert told in text
    assert text.isprintable()


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("<?xml version='1.0'?><Error><Code>NoSuchKey</Code></Error>", "NoSuchKey"),
        ('<Error xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Code> A&amp;B </Code></Error>', "A&B"),
        ('{"Code":"InvalidRequest","Message":""}', "InvalidRequest"),
        ("<html>Code</html>", ""),
        ("", ""),
    ],
)
def test_documents_are_read(text, code):
    assert element(text, "Code") == code


@given(st.text(max_size=200))
def test_no_document_is_too_odd(text):
    assert isinstance(element(text, "Code"), str)
    error = error_of(Problem(status=400, code=text, message=text, region=text, location=text), "x")
    assert str(error).isprintable()
