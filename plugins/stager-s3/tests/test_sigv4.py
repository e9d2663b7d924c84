"""Signatures: the examples of Amazon's documentation, and whatever botocore signs."""

from __future__ import annotations

import calendar
from datetime import datetime, timezone
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pilot_stager_s3.keys import Keys
from pilot_stager_s3.sigv4 import UNSIGNED, Asked, encoded, presigned_query, query_string, signed_headers

KEYS = Keys(access="AKIAIOSFODNN7EXAMPLE", secret="wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
HOST = "examplebucket.s3.amazonaws.com"
NOW = calendar.timegm((2013, 5, 24, 0, 0, 0))
NOTHING = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def asked(method="GET", path="/", query=None, headers=None, host=HOST):
    return Asked(method=method, host=host, path=path, query=query or {}, headers=headers or {})


@pytest.mark.parametrize(
    ("request_", "payload", "signature"),
    [
        (
            asked(path="/test.txt", headers={"range": "bytes=0-9"}),
            NOTHING,
            "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
        ),
        (
            asked(
                "PUT",
                "/test%24file.text",
                headers={"date": "Fri, 24 May 2013 00:00:00 GMT", "x-amz-storage-class": "REDUCED_REDUNDANCY"},
            ),
            "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072",
            "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
        ),
        (
            asked(query={"lifecycle": ""}),
            NOTHING,
            "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543",
        ),
        (
            asked(query={"max-keys": "2", "prefix": "J"}),
            NOTHING,
            "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
        ),
    ],
    ids=["get", "put", "lifecycle", "list"],
)
def test_headers_are_signed_as_amazons_documentation_has_it(request_, payload, signature):
    headers = signed_headers(request_, KEYS, region="us-east-1", now=NOW, payload=payload)
    assert headers["authorization"].endswith(f"Signature={signature}")


def test_a_url_is_presigned_as_amazons_documentation_has_it():
    query = presigned_query(asked(path="/test.txt"), KEYS, region="us-east-1", now=NOW, seconds=86400)
    assert query.endswith("&X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404")


@pytest.mark.needs("module:botocore")
@given(
    key=st.text(st.characters(min_codepoint=32, exclude_categories=("Cs", "Cc")), min_size=1, max_size=40),
    query=st.dictionaries(st.sampled_from(["partNumber", "uploadId", "tagging", "x-id"]), st.text(max_size=20)),
    value=st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=20),
    token=st.sampled_from(["", "a/token+of=any==kind"]),
    seconds=st.integers(1, 604800),
)
def test_it_signs_as_botocore_does(key, query, value, token, seconds):
    from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials

    keys = Keys(access="ACCESS", secret="secret/+", token=token)
    theirs = Credentials("ACCESS", "secret/+", token or None)
    query = {name: text.encode("utf-8", "ignore").decode() for name, text in query.items()}
    path = f"/bucket/{encoded(key, safe='/')}"
    headers = {"x-amz-meta-adler32": value, "content-md5": "1B2M2Y8AsgTpgAmY7PhCfg=="}
    moment = datetime.fromtimestamp(NOW, timezone.utc)

    def request(headers):
        url = f"http://host:81{path}" + (f"?{query_string(query)}" if query else "")
        return AWSRequest(method="PUT", url=url, headers=headers)

    ours = Asked(method="PUT", host="host:81", path=path, query=query, headers=headers)
    with mock.patch("botocore.auth.get_current_datetime", return_value=moment):
        signed = request({**headers, "X-Amz-Content-SHA256": UNSIGNED})
        signed.context["payload_signing_enabled"] = False
        signed.context["client_config"] = None
        auth = S3SigV4Auth(theirs, "s3", "us-east-1")
        auth.payload = lambda _: UNSIGNED
        auth.add_auth(signed)
        presigned = request({})
        S3SigV4QueryAuth(theirs, "s3", "us-east-1", expires=seconds).add_auth(presigned)
    found = signed_headers(ours, keys, region="us-east-1", now=NOW, payload=UNSIGNED)
    assert found["authorization"].rpartition("=")[2] == signed.headers["Authorization"].rpartition("=")[2]
    bare = Asked(method="PUT", host="host:81", path=path, query=query, headers={})
    line = presigned_query(bare, keys, region="us-east-1", now=NOW, seconds=seconds)
    assert line.rpartition("=")[2] == presigned.url.rpartition("=")[2]


def test_keys_do_not_show_in_a_repr():
    assert "secret" not in repr(Keys(access="a", secret="the-secret-word", token="the-token-word")).replace("Keys", "")
    assert "word" not in repr(Keys(access="a", secret="the-secret-word", token="the-token-word"))
