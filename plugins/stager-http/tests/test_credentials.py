"""Tokens and certificates: read from files, renewed there, sent to the right place, never shown."""

from __future__ import annotations

import logging
import os
import zlib

import pytest

from pilot_core import AuthError, BearerToken, ClientCertificate, ConfigError, TransientError
from pilot_core.testing.servers.scripted_http import ScriptedHttp

DATA = bytes(range(256)) * 8192  # 2 MiB


def adler32(data):
    return f"adler32:{zlib.adler32(data):08x}"


KNOWN = {"size": len(DATA), "checksum": adler32(DATA)}


@pytest.fixture
def token(tmp_path):
    file = tmp_path / "token"
    file.write_text("canary-one\n")
    return file


def bearer(asked):
    return asked.headers.get("authorization", "").removeprefix("Bearer ")


def test_a_token_is_not_sent_where_everybody_can_read_it(bench, answering, token):
    with ScriptedHttp(answering(200, DATA)) as server:
        bench(token_file=token).fetch(f"{server.url}/f", **KNOWN)
        bench(token_file=token, token_over_http=True).fetch(f"{server.url}/f", **KNOWN)
        assert [bearer(asked) for asked in server.asked] == ["", "canary-one"]


@pytest.mark.needs("module:cryptography")
def test_a_token_is_sent_over_tls(bench, answering, token, tmp_path):
    from pilot_core.testing.tls import TestAuthority

    authority = TestAuthority(tmp_path)
    with ScriptedHttp(answering(200, DATA), tls=authority.server_context()) as server:
        on = bench(token_file=token, ca_file=authority.ca_file)
        for scheme in ("https", "davs"):
            on.fetch(f"{scheme}://localhost:{server.port}/f", **KNOWN)
        assert [bearer(asked) for asked in server.asked] == ["canary-one"] * 2


@pytest.mark.parametrize("in_body", [True, False])
def test_a_token_that_a_storage_repeats_is_not_shown(bench, token, in_body):
    def repeat(connection):
        asked = connection.request()
        token.write_text("canary-two")
        words = "x" * 182 + f" no good: {bearer(asked)}"
        if in_body:
            connection.answer(500, words.encode(), {"Content-Type": "text/plain"})
        else:
            connection.send(f"HTTP/1.1 500 {words[150:]}\r\nContent-Length: 0\r\n\r\n".encode())

    with ScriptedHttp(repeat) as server, pytest.raises(TransientError) as caught:
        bench(token_file=token, token_over_http=True).fetch(f"{server.url}/f", **KNOWN)
    assert "no good" in str(caught.value)
    assert "canary" not in str(caught.value)


def test_a_renewed_token_is_seen_without_a_restart(bench, answering, token):
    with ScriptedHttp(answering(200, DATA)) as server:
        on = bench(token_file=token, token_over_http=True)
        on.fetch(f"{server.url}/f", **KNOWN)
        renewed = token.with_name("renewed")
        renewed.write_text("canary-two")
        renewed.replace(token)
        on.fetch(f"{server.url}/f", **KNOWN)
        assert [bearer(asked) for asked in server.asked] == ["canary-one", "canary-two"]


@pytest.mark.parametrize("status", [401, 403])
def test_a_token_that_expires_in_mid_transfer_is_read_again(status, bench, token):
    """The connection is cut, the token refused: what the file has by then is taken for the rest."""

    def script(connection):
        asked = connection.request()
        if connection.number == 1:
            connection.answer(200, DATA[:500_000], {"Content-Length": str(len(DATA)), "ETag": '"1"'})
            return
        if bearer(asked) == "canary-one":
            token.write_text("canary-two")
            connection.answer(status)
            asked = connection.request()
        assert bearer(asked) == "canary-two"
        part = {"Content-Range": f"bytes 500000-{len(DATA) - 1}/{len(DATA)}", "ETag": '"1"'}
        connection.answer(206, DATA[500_000:], part)

    with ScriptedHttp(script) as server:
        on = bench(token_file=token, token_over_http=True)
        assert on.fetch(f"{server.url}/f", **KNOWN).size == len(DATA)
        assert on.copy.read_bytes() == DATA
        assert [bearer(asked) for asked in server.asked] == ["canary-one", "canary-one", "canary-two"]


def test_a_token_that_stays_refused_is_an_auth_error_and_asked_with_once(bench, answering, token):
    with ScriptedHttp(answering(401)) as server:
        with pytest.raises(AuthError, match="401") as caught:
            bench(token_file=token, token_over_http=True).fetch(f"{server.url}/f")
        assert "canary" not in str(caught.value)
        assert len(server.asked) == 1


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (None, "cannot read the token file"),
        ("", "holds no token"),
        ("two words", "holds no token"),
        ("\x00", "no token"),
    ],
)
def test_a_token_file_that_is_no_good_is_an_auth_error_that_names_it(content, match, bench, answering, tmp_path):
    file = tmp_path / "token"
    if content is not None:
        file.write_text(content)
    with ScriptedHttp(answering(200, DATA)) as server:
        on = bench(token_file=file, token_over_http=True)
        for _ in range(2):
            with pytest.raises(AuthError, match=match) as caught:
                on.fetch(f"{server.url}/f")
            assert str(file) in str(caught.value)
        assert not server.asked
        file.write_text("canary-three")
        on.fetch(f"{server.url}/f", **KNOWN)


def test_nothing_shows_a_token(bench, answering, token, caplog):
    with caplog.at_level(logging.DEBUG), ScriptedHttp(answering(500, b"no")) as server:
        on = bench(token_file=token, token_over_http=True)
        with pytest.raises(Exception, match="500") as caught:
            on.fetch(f"{server.url}/f?authz=canary-signature")
    assert "canary" not in str(caught.value) + repr(on.stager) + repr(vars(on.stager)) + caplog.text


class Source:
    """The pilot's own credential."""

    def __init__(self, credential):
        self.found = credential

    def credential(self, *, cancel, deadline):
        if isinstance(self.found, Exception):
            raise self.found
        return self.found

    def secrets(self):
        return ()


def test_the_pilots_token_for_its_server_is_never_sent_to_a_storage(bench, answering):
    own = Source(BearerToken(value="canary-panda", origin="atlas.pilot"))
    with ScriptedHttp(answering(200, DATA)) as server:
        bench(context={"credential": own}, token_over_http=True).fetch(f"{server.url}/f", **KNOWN)
        assert "authorization" not in server.asked[0].headers
        assert "origin" not in server.asked[0].headers


@pytest.mark.needs("module:cryptography")
@pytest.mark.parametrize("where", ["setting", "pilot"])
def test_a_proxy_is_presented_and_a_renewed_one_too(where, bench, answering, tmp_path):
    """An RFC 3820 proxy, of the setting or the pilot's own."""
    from pilot_core.testing.tls import TestAuthority

    authority = TestAuthority(tmp_path)
    proxy = tmp_path / "x509up"
    os.replace(authority.proxy(), proxy)
    insisting = authority.server_context(clients=authority, optional=False)
    with ScriptedHttp(answering(200, DATA), tls=insisting) as server:
        settings = {"ca_file": authority.ca_file}
        if where == "pilot":
            own = Source(ClientCertificate(cert_file=proxy, key_file=proxy))
            on = bench(context={"credential": own}, **settings)
        else:
            on = bench(x509_proxy=proxy, **settings)
        for _ in range(2):
            assert on.fetch(f"{server.url}/f", **KNOWN).size == len(DATA)
            os.replace(authority.proxy(), proxy)
        assert {asked.connection for asked in server.asked} == {1, 2}
        if where == "pilot":
            with pytest.raises(Exception, match=r"certificate|broke"):
                bench(context={"credential": own}, use_pilot_certificate=False, **settings).fetch(f"{server.url}/f")


@pytest.mark.needs("module:cryptography")
def test_a_pilots_credential_that_has_expired_is_an_auth_error(bench, answering, tmp_path):
    from pilot_core.testing.tls import TestAuthority

    authority = TestAuthority(tmp_path)
    with ScriptedHttp(answering(200, DATA), tls=authority.server_context()) as server:
        on = bench(context={"credential": Source(AuthError("the proxy expired"))}, ca_file=authority.ca_file)
        with pytest.raises(AuthError, match="the proxy expired"):
            on.fetch(f"{server.url}/f")


@pytest.mark.needs("module:cryptography")
def test_a_server_is_verified_against_the_pilots_authorities_or_the_stagers_own(bench, answering, tmp_path):
    from pilot_core.testing.tls import TestAuthority

    authority, other = TestAuthority(tmp_path), TestAuthority(tmp_path, "Other CA")
    with ScriptedHttp(answering(200, DATA), tls=authority.server_context()) as server:
        url = f"{server.url}/f"
        assert bench(context={"ca_file": authority.ca_file}).fetch(url, **KNOWN)
        assert bench(context={"ca_file": authority.folder_of_authorities()}).fetch(url, **KNOWN)
        assert bench(context={"ca_file": other.ca_file}, ca_file=authority.ca_file).fetch(url, **KNOWN)
        for trusting in ({}, {"context": {"ca_file": other.ca_file}}, {"ca_file": other.ca_file}):
            with pytest.raises(Exception, match="certificate is refused"):
                bench(**trusting).fetch(url)


# -- settings ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"ca_file": "none.pem"}, "stager.http.ca_file: there is no file none.pem"),
        ({"ca_dir": "none"}, "stager.http.ca_dir: there is no directory none"),
        ({"x509_key": "key.pem"}, "stager.http.x509_key: is set without x509_proxy"),
        ({"proxy": "socks5://x"}, "stager.http.proxy: a proxy is written as http://host:port"),
    ],
)
def test_settings_that_make_no_sense_are_told_in_one_line(settings, match, bench):
    from pathlib import Path

    paths = {name: Path(value) if name != "proxy" else value for name, value in settings.items()}
    with pytest.raises(ConfigError, match=match):
        bench(**paths)


def test_every_setting_has_a_help_text():
    from dataclasses import fields

    from pilot_stager_http.settings import Settings

    assert all(field.metadata["help"] for field in fields(Settings))


def test_proxies_of_the_environment_are_not_used_and_those_of_the_pilot_are(bench, answering, monkeypatch):
    with ScriptedHttp(answering(200, DATA)) as proxy, ScriptedHttp(answering(200, DATA)) as server:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        bench().fetch(f"{server.url}/1", **KNOWN)
        assert not proxy.asked
        context = {"proxy": proxy.url}
        bench(context=context).fetch(f"{server.url}/2", **KNOWN)
        bench(context=context, proxy="none").fetch(f"{server.url}/3", **KNOWN)
        bench(proxy=proxy.url).fetch(f"{server.url}/4", **KNOWN)
        assert [asked.target for asked in proxy.asked] == [f"{server.url}/2", f"{server.url}/4"]
        assert [asked.target for asked in server.asked] == ["/1", "/3"]


# -- what takes urllib3's place ----------------------------------------------------------------------------------------


def test_a_library_in_the_place_of_urllib3_is_warned_of(bench, monkeypatch, caplog):
    """niquests installs urllib3-future, which calls itself urllib3: less than half the rate, measured."""
    from pilot_stager_http import stager

    bench()
    assert not caplog.records
    monkeypatch.setattr(stager, "version", lambda name: "2.25.904")
    with caplog.at_level(logging.WARNING):
        bench()
    assert "remove niquests" in caplog.text
    assert len(caplog.records) == 1


def test_the_stager_uses_no_library_that_could_be_replaced(answering, tmp_path):
    """A fetch in a process of its own: neither urllib3 nor requests is imported."""
    import subprocess
    import sys

    code = """
import logging, sys
from pathlib import Path
from pilot_core import CancelToken, Context, Deadline, FetchRequest, SystemClock
from pilot_stager_http.settings import Settings
from pilot_stager_http.stager import HttpStager
clock, folder = SystemClock(), Path(sys.argv[2])
stager = HttpStager(Settings(), Context(clock=clock, log=logging.getLogger(), work_dir=folder))
request = FetchRequest(url=sys.argv[1] + "/f", destination=folder / "in.dat")
print(stager.fetch(request, cancel=CancelToken(), deadline=Deadline.after(clock, 20)).size)
print(sorted({"urllib3", "requests", "http.client", "asyncio", "niquests"} & set(sys.modules)))
"""
    with ScriptedHttp(answering(200, DATA, {"ETag": '"1"'})) as server:
        command = [sys.executable, "-c", code, server.url, str(tmp_path)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == [str(len(DATA)), "[]"]
