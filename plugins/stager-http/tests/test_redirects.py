"""Redirects are followed, and credentials stay at home."""

from __future__ import annotations

import zlib

import pytest

from pilot_core import AuthError, BackendUnavailable, SourceNotFound, TransientError
from pilot_core.testing.servers.scripted_http import ScriptedHttp

DATA = bytes(range(256)) * 8192  # 2 MiB


def adler32(data):
    return f"adler32:{zlib.adler32(data):08x}"


TOKEN = "canary-token"


@pytest.fixture
def token(tmp_path):
    """Settings with a token that goes over http, too."""
    file = tmp_path / "token"
    file.write_text(TOKEN)
    return {"token_file": file, "token_over_http": True}


def redirecting(status, to):
    """Return a script that redirects everything to another place, before it reads any body."""

    def script(connection):
        asked = connection.request()
        place = to() if callable(to) else to
        connection.answer(status, b"", {"Location": place.replace("TARGET", asked.target)})

    return script


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_fetch_follows_a_redirect_without_the_token(status, bench, serving, token):
    with (
        ScriptedHttp(serving(lambda c, asked, body: c.answer(200, DATA))) as disk,
        ScriptedHttp(redirecting(status, f"{disk.url}TARGET?authz=canary-signature")) as head,
    ):
        result = bench(**token).fetch(f"{head.url}/f", size=len(DATA), checksum=adler32(DATA))
        assert head.asked[0].headers["authorization"] == f"Bearer {TOKEN}"
        assert "authorization" not in disk.asked[0].headers
        assert disk.asked[0].target == "/f?authz=canary-signature"
        assert result.url == f"{disk.url}/f"


@pytest.mark.parametrize("status", [301, 302, 307, 308])
@pytest.mark.parametrize("size", [1000, 3_000_000])
def test_a_file_body_passes_a_redirect_whole(status, size, bench, serving, kept, token):
    """The trap: clients that send a file's body to the first place have nothing left for the second: 0 bytes stored."""
    files = kept()
    with ScriptedHttp(serving(files)) as disk, ScriptedHttp(redirecting(status, f"{disk.url}TARGET")) as head:
        data = DATA[:1000] * (size // 1000)
        assert bench(**token).store(f"{head.url}/f", data=data).checksum == adler32(data)
        assert files == {"/f": data}
        assert all("authorization" not in asked.headers for asked in disk.asked)


def test_a_body_is_sent_only_to_the_last_place(bench, serving, kept):
    files, heard = kept(), []

    def head_node(connection):
        asked = connection.request()
        connection.answer(307, b"", {"Location": f"{disk.url}{asked.target}"})
        heard.append(connection.rest())

    with ScriptedHttp(serving(files)) as disk, ScriptedHttp(head_node) as head:
        bench().store(f"{head.url}/f")
        assert files == {"/f": DATA}
    assert heard[0] == b""


def test_on_the_same_server_the_token_goes_along(bench, serving, token):
    def answer(connection, asked, body):
        if asked.target == "/f":
            connection.answer(302, b"", {"Location": "/elsewhere/f"})
        else:
            connection.answer(200, DATA)

    with ScriptedHttp(serving(answer)) as server:
        bench(**token).fetch(f"{server.url}/f", size=len(DATA))
        assert [asked.headers.get("authorization") for asked in server.asked] == [f"Bearer {TOKEN}"] * 2
        assert {asked.connection for asked in server.asked} == {1}


def test_a_redirect_loop_ends(bench, answering):
    with ScriptedHttp(answering(302, b"", {"Location": "/f"})) as server:
        with pytest.raises(BackendUnavailable, match="redirects in a circle"):
            bench().fetch(f"{server.url}/f")
        assert 2 < len(server.asked) < 30


def test_a_refusal_after_a_redirect_says_that_no_credentials_were_sent(bench, answering, token):
    with ScriptedHttp(answering(401)) as disk, ScriptedHttp(redirecting(302, f"{disk.url}TARGET?x=canary")) as head:
        with pytest.raises(AuthError, match="where no credentials are sent") as caught:
            bench(**token).fetch(f"{head.url}/f")
        assert "canary" not in str(caught.value)


@pytest.mark.parametrize(
    ("location", "match"),
    [
        ("", "without a Location"),
        ("ftp://elsewhere/f", "not a URL of HTTP"),
        ("file:///etc/passwd", "not a URL of HTTP"),
    ],
)
def test_a_redirect_that_leads_nowhere_is_an_unavailable_backend(location, match, bench, answering):
    with (
        ScriptedHttp(answering(302, b"", {"Location": location} if location else {})) as server,
        pytest.raises(BackendUnavailable, match=match),
    ):
        bench().fetch(f"{server.url}/f")


def test_a_redirect_to_the_name_with_a_slash_says_that_it_is_a_folder(bench, answering):
    with (
        ScriptedHttp(answering(301, b"", {"Location": "/f/"})) as server,
        pytest.raises(SourceNotFound, match="is a folder"),
    ):
        bench().fetch(f"{server.url}/f")


def test_a_put_that_is_answered_with_another_request_is_refused(bench, answering):
    with (
        ScriptedHttp(answering(303, b"", {"Location": "/status"})) as server,
        pytest.raises(BackendUnavailable, match="303"),
    ):
        bench().store(f"{server.url}/f")


@pytest.mark.needs("module:cryptography")
def test_a_redirect_from_https_to_http_is_followed_only_where_the_site_allows_it(bench, serving, tmp_path):
    from pilot_core.testing.tls import TestAuthority

    authority = TestAuthority(tmp_path)
    with (
        ScriptedHttp(serving(lambda c, asked, body: c.answer(200, DATA))) as disk,
        ScriptedHttp(redirecting(302, f"{disk.url}TARGET"), tls=authority.server_context()) as head,
    ):
        settings = {"ca_file": authority.ca_file}
        with pytest.raises(BackendUnavailable, match="insecure_redirects allows it"):
            bench(**settings).fetch(f"{head.url}/f")
        assert not disk.asked
        assert bench(**settings, insecure_redirects=True).fetch(f"{head.url}/f", size=len(DATA)).size == len(DATA)


@pytest.mark.needs("module:cryptography")
def test_a_client_certificate_is_not_shown_to_where_a_redirect_leads(bench, tmp_path):
    """The other server insists on one, and does not get it."""
    from pilot_core.testing.tls import TestAuthority

    authority = TestAuthority(tmp_path)
    proxy = authority.proxy()
    insisting = authority.server_context(clients=authority, optional=False)

    def answer(connection):
        connection.request()
        connection.answer(200, DATA)

    with (
        ScriptedHttp(answer, tls=insisting) as disk,
        ScriptedHttp(redirecting(302, f"{disk.url}TARGET"), tls=insisting) as head,
    ):
        on = bench(ca_file=authority.ca_file, x509_proxy=proxy)
        with pytest.raises((AuthError, TransientError)) as caught:
            on.fetch(f"{head.url}/f")
        assert head.asked
        assert not disk.asked
        assert "/f" in str(caught.value)
