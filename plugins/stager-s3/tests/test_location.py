"""What URLs mean: one rule for services and buckets, and no name that leads elsewhere."""

from __future__ import annotations

from urllib.parse import quote, unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pilot_stager_s3.location import Locator
from pilot_stager_s3.settings import Settings

from pilot_core import BackendUnavailable, ConfigError, PilotErrorCode, SourceNotFound, TransferError

OURS = Settings(endpoint="https://s3.example.org")


def found(url, settings=OURS, *, reading=True):
    return Locator(settings).find(url, reading=reading)


@pytest.mark.parametrize(
    ("url", "wire", "ours"),
    [
        ("s3://bucket/a/b.dat", "https://s3.example.org/bucket/a/b.dat", True),
        ("s3://other.org:9000/bucket/a/b.dat", "https://other.org:9000/bucket/a/b.dat", False),
        ("s3://other.org:443//bucket/a//b.dat", "https://other.org/bucket/a//b.dat", False),
        ("s3://s3.example.org:443/bucket/k", "https://s3.example.org/bucket/k", True),
        ("s3+https://bucket/k", "https://s3.example.org/bucket/k", True),
        ("s3://[::1]:9000/bucket/k", "https://[::1]:9000/bucket/k", False),
        ("s3://bucket/a%20b%2Bc", "https://s3.example.org/bucket/a%20b%2Bc", True),
        ("s3://bucket/a b+c", "https://s3.example.org/bucket/a%20b%2Bc", True),
        ("s3://bucket/é?x".replace("?", "%3f"), "https://s3.example.org/bucket/%C3%A9%3Fx", True),
        ("s3://bucket/50%2525", "https://s3.example.org/bucket/50%2525", True),
        ("s3://bucket/..a/b..", "https://s3.example.org/bucket/..a/b..", True),
    ],
)
def test_a_url_with_a_port_names_a_service_and_one_without_a_bucket(url, wire, ours):
    location = found(url)
    assert (location.address.url, location.ours) == (wire, ours)


def test_the_bucket_goes_into_the_hosts_name_where_the_site_says_so():
    settings = Settings(endpoint="https://s3.example.org:8443", addressing="virtual")
    assert found("s3://bucket/k", settings).address.url == "https://bucket.s3.example.org:8443/k"


@pytest.mark.parametrize(
    "url",
    [
        "s3://bucket",
        "s3://bucket/",
        "s3://bucket/folder/",
        "s3:///key",
        "s3://other.org:443/bucket",
        "s3://other.org:443/",
        "s3://bucket/a/../b",
        "s3://bucket/%2e%2e/b",
        "s3://bucket/./b",
        "s3://bucket/a%0ab",
        "s3://bucket/a\nb",
        "s3://bucket/a%00b",
        "s3://bucket/a?versionId=3",
        "s3://bucket/a#b",
        "s3://user:password@bucket/a",
        "s3://bucket/%ff",
        "s3://b_/a",
        "s3://bucket/" + "x" * 1025,
        "s3://bucket/" + "é" * 513,
    ],
)
def test_what_names_no_object_is_not_found_and_not_written(url):
    with pytest.raises(SourceNotFound) as error:
        found(url)
    assert "password" not in str(error.value)
    assert str(error.value).isprintable()
    with pytest.raises(TransferError) as error:
        found(url, reading=False)
    assert error.value.error_code == PilotErrorCode.BADOUTPUTFILENAME


def test_a_key_of_the_longest_length_is_one():
    assert found("s3://bucket/" + "x" * 1024).key == "x" * 1024


@pytest.mark.parametrize(
    ("url", "settings", "told"),
    [
        ("s3://bucket/k", Settings(), "set stager.s3.endpoint"),
        ("s3+http://host:80/bucket/k", OURS, "plain_http"),
        ("s3+http://bucket/k", OURS, "https"),
        ("s3://host:notaport/bucket/k", OURS, "Port could not be cast"),
        ("http://host/bucket/k", OURS, "serves s3://"),
    ],
)
def test_a_service_that_cannot_be_used_is_unavailable(url, settings, told):
    with pytest.raises(BackendUnavailable, match=told):
        found(url, settings)


@pytest.mark.parametrize(
    ("endpoint", "told"),
    [
        ("s3.example.org", "not a URL of HTTP"),
        ("https://", "host"),
        ("http://s3.example.org", "without TLS"),
        ("https://s3.example.org/path", "more than"),
        ("https://key:secret@s3.example.org", "more than"),
    ],
)
def test_an_endpoint_that_makes_no_sense_is_a_configuration_error(endpoint, told):
    with pytest.raises(ConfigError, match=told) as error:
        Locator(Settings(endpoint=endpoint))
    assert "secret" not in str(error.value)


NAMES = st.text(st.characters(min_codepoint=32, exclude_categories=("Cs", "Cc")), min_size=1, max_size=60)


@given(NAMES)
def test_any_key_arrives_as_it_is(key):
    try:
        location = found(f"s3://bucket/{quote(key, safe='/')}")
    except SourceNotFound:
        assert key.endswith("/") or {".", ".."} & set(key.split("/"))
        return
    assert location.key == key
    assert unquote(location.address.target) == f"/bucket/{key}"
    assert location.address.target.isascii()


@given(st.text(max_size=60))
def test_any_text_is_a_location_or_a_transfer_error(text):
    for url in (text, f"s3://{text}", f"s3://bucket/{text}", f"s3://host:1/{text}"):
        try:
            location = found(url)
        except TransferError as refused:
            told = str(refused)
        else:
            told = location.address.target
            assert location.key
            assert told.isascii()
        assert told.isprintable()
