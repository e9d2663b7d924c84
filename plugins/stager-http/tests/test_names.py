"""URLs and the files that they name; checksums as storages write them."""

from __future__ import annotations

import base64
import hashlib
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pilot_stager_http.digests import digests
from pilot_stager_http.names import RemoteFile

from pilot_core import BackendUnavailable, HandledError, SourceNotFound, TransferError
from pilot_core.api.web import Headers


@pytest.mark.parametrize(
    ("url", "wire"),
    [
        ("http://h/a", "http://h/a"),
        ("dav://h:8080/a", "http://h:8080/a"),
        ("davs://H/a%20b", "https://h/a%20b"),
        ("https://h//store/a b/ü.dat?authz=x y", "https://h//store/a%20b/%C3%BC.dat?authz=x%20y"),
        ("https://h/50%25.dat", "https://h/50%25.dat"),
        ('https://h/"<>\\^`{|}', "https://h/%22%3C%3E%5C%5E%60%7B%7C%7D"),
    ],
)
def test_a_url_goes_over_the_wire_percent_encoded_once(url, wire):
    assert RemoteFile.parse(url).address.url == wire


@pytest.mark.parametrize("url", ["", "ftp://h/a", "root://h//a", "http", "h/a", "file:///a"])
def test_another_scheme_is_an_unavailable_backend(url):
    with pytest.raises(BackendUnavailable, match="serves http, https, dav, davs only"):
        RemoteFile.parse(url)


@pytest.mark.parametrize(
    "path",
    ["", "/", "/a/", "/a/..", "/../a", "/a/%2e%2e/b", "/a%2f..%2f..%2fb", "/./a", "/a#b", "/a\nb", "/a%0ab", "/%00"],
)
def test_what_names_no_file_is_refused(path):
    with pytest.raises(SourceNotFound):
        RemoteFile.parse(f"http://h{path}")
    with pytest.raises(TransferError):
        RemoteFile.parse(f"http://h{path}", writing=True)


@given(st.text(max_size=40), st.booleans())
def test_any_text_names_a_file_or_is_refused_in_one_line(text, writing):
    for url in (text, f"http://{text}", f"davs://h/{text}"):
        said = ""
        try:
            RemoteFile.parse(url, writing=writing)
        except HandledError as error:
            said = str(error)
        assert said.isprintable()


@given(st.text(st.characters(exclude_categories=("C", "Z")), min_size=1, max_size=30))
def test_every_name_that_was_quoted_arrives(name):
    if name in {".", ".."} or "/" in name:
        return
    file = RemoteFile.parse(f"http://h/folder/{quote(name, safe='')}")
    assert file.address.target == f"/folder/{quote(name, safe=chr(45) + '._~')}".replace("%7E", "~")


def test_secrets_of_a_url_are_not_told():
    file = RemoteFile.parse("https://user:canary@h/f?authz=canary")
    assert "canary" not in file.what + file.url
    assert "canary" in file.address.url


def test_the_folders_of_a_file_are_told_the_deepest_first():
    file = RemoteFile.parse("https://h/a/b%20c/d?x=1")
    assert [folder.target for folder in file.folders()] == ["/a/b%20c/?x=1", "/a/?x=1"]
    assert RemoteFile.parse("https://h/f").folders() == []
    assert [folder.target for folder in RemoteFile.parse("https://h//store/f").folders()] == ["//store/"]
    assert file.beside(".x y").target == "/a/b%20c/.x%20y?x=1"


DATA = b"some data"
HEX = {
    "adler32": "11e60398",
    **{name: hashlib.new(name, DATA).hexdigest() for name in ("md5", "sha1", "sha256", "sha512")},
}


def b64(name):
    return base64.b64encode(bytes.fromhex(HEX[name])).decode()


@pytest.mark.parametrize(
    ("headers", "found"),
    [
        ({"Digest": f"adler32={HEX['adler32']}"}, ["adler32"]),
        ({"Digest": f"ADLER32={HEX['adler32'].upper()}"}, ["adler32"]),
        ({"Digest": f"adler32={b64('adler32')}"}, ["adler32"]),
        ({"Digest": f"md5={b64('md5')},adler32={HEX['adler32']}"}, ["adler32", "md5"]),
        ({"Digest": f"md5={HEX['md5']}"}, ["md5"]),
        (
            {"Digest": f"SHA={b64('sha1')}, SHA-256={b64('sha256')}, sha-512={b64('sha512')}"},
            ["sha1", "sha256", "sha512"],
        ),
        ({"Repr-Digest": f"sha-256=:{b64('sha256')}:, adler=:{b64('adler32')}:"}, ["adler32", "sha256"]),
        ({"Content-MD5": b64("md5")}, ["md5"]),
        ({"Content-MD5": b64("md5"), "Content-Range": "bytes 1-2/3"}, []),
        ({"Digest": "adler32=nothing, md5=, sha-256=xyz, unixsum=30637"}, []),
        ({"Digest": "adler32"}, []),
        ({}, []),
    ],
)
def test_checksums_are_read_however_storages_write_them(headers, found):
    told = digests(Headers(headers))
    assert sorted(told) == found
    for name, checksum in told.items():
        assert checksum.value == HEX[name]


def test_an_adler32_without_its_leading_zeros_is_one():
    assert str(digests(Headers({"Digest": "adler32=1a2b"}))["adler32"]) == "adler32:00001a2b"


@given(st.text(max_size=60))
def test_any_text_is_a_digest_or_none(text):
    for name, checksum in digests(Headers({"Digest": text, "Content-MD5": text})).items():
        assert checksum.name == name
