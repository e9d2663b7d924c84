"""Where the documents come from: real servers on loopback, with and without TLS, and files."""

from __future__ import annotations

import json
import socket

import pytest

from pilot_core import (
    AuthError,
    Cancelled,
    CancelToken,
    CommunicationError,
    ConfigError,
    RequestRefused,
)

PATH = "/cache/schedconfig/HERE.all.json"
QUEUE = {"nickname": "HERE", "status": "online", "atlas_site": "SITE"}
STORED = QUEUE | {"astorages": {"write_lan": ["DISK"]}}
ENDPOINTS = {"DISK": {"arprotocols": {"write_lan": [{"endpoint": "file://", "path": "/data"}]}}}


def test_the_pilots_own_server_is_asked(site, make_source, ask):
    site.serve(PATH, QUEUE)
    queue = ask(make_source(server_url=site.url, user_agent="pilot-core/9"))
    assert queue.site == "SITE"
    assert queue.source == f"{site.url}{PATH}: HERE"
    ((_, headers),) = site.requests
    assert headers["User-Agent"] == "pilot-core/9"
    assert "Authorization" not in headers


def test_storages_come_from_the_same_server_where_the_queue_names_any(site, make_source, ask):
    site.serve(PATH, STORED)
    site.serve("/cache/ddmendpoints.json", ENDPOINTS)
    assert ask(make_source(server_url=site.url)).storages["DISK"].url == "file:///data"


def test_a_server_without_storages_leaves_them_out_with_a_warning(site, make_source, ask, caplog):
    site.serve(PATH, STORED)
    queue = ask(make_source(server_url=site.url))
    assert queue.storages == {}
    assert queue.write == ("DISK",)
    assert "no active storage is known for DISK" in caplog.text


def test_storages_inside_the_queuedata_count_alone(site, make_source, ask):
    site.serve(PATH, STORED | {"ddmendpoints": ENDPOINTS})
    queue = ask(make_source(server_url=site.url))
    assert queue.storages["DISK"].url == "file:///data"
    assert "ddmendpoints" not in queue.extra
    assert [path for path, _ in site.requests] == [PATH]


def test_the_queues_name_is_put_into_a_configured_url(site, make_source, ask):
    site.serve("/q/A%2FB%20C?json", {"nickname": "A/B C"})
    queue = ask(make_source({"url": f"{site.url}/q/{{queue}}?json"}), "A/B C")
    assert queue.name == "A/B C"


def test_a_configured_place_of_storages_is_asked(site, make_source, ask):
    site.serve("/q", STORED)
    site.serve("/d", ENDPOINTS)
    queue = ask(make_source({"url": f"{site.url}/q", "endpoints_url": f"{site.url}/d"}))
    assert list(queue.storages) == ["DISK"]


def test_transformation_urls_come_from_the_settings(site, make_source, ask):
    site.serve(PATH, QUEUE)
    source = make_source({"transformation_urls": ("https://h/trf",)}, server_url=site.url)
    assert ask(source).transformation_urls == ("https://h/trf",)


def test_a_queue_that_the_server_does_not_have_is_none(site, make_source, ask):
    assert ask(make_source(server_url=site.url)) is None
    assert len(site.requests) == 1


def test_without_a_server_and_a_file_no_queue_is_known(make_source, ask):
    assert ask(make_source()) is None


def test_files_are_read_instead_of_urls(tmp_path, make_source, ask):
    queues, storages = tmp_path / "queues.json", tmp_path / "storages.json"
    queues.write_text(json.dumps({"HERE": STORED, "THERE": {}}))
    storages.write_text(json.dumps(ENDPOINTS))
    source = make_source({"file": queues, "endpoints_file": storages}, server_url="https://127.0.0.1:1")
    assert ask(source).storages["DISK"].url == "file:///data"
    assert ask(source, "ELSEWHERE") is None


def test_a_wrong_storage_of_a_file_is_named(tmp_path, make_source, ask):
    queues, storages = tmp_path / "queues.json", tmp_path / "storages.json"
    queues.write_text(json.dumps(STORED))
    storages.write_text(json.dumps({"DISK": 3}))
    with pytest.raises(ConfigError, match=r"storages\.json: DISK: must be an object, not a number"):
        ask(make_source({"file": queues, "endpoints_file": storages}))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"{", "is not JSON: Expecting property name"),
        (b"\xff\xfe\xff", "is not JSON"),
        (b"[" * 100_000, "is not JSON: nested too deeply"),
        (b"[]", "must be an object, not an array"),
    ],
)
def test_a_file_that_is_not_queuedata_is_a_config_error(tmp_path, make_source, ask, content, expected):
    path = tmp_path / "q.json"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=expected):
        ask(make_source({"file": path}))


def test_a_missing_file_is_named(tmp_path, make_source, ask):
    with pytest.raises(ConfigError, match=r"q\.json: cannot be read: No such file"):
        ask(make_source({"file": tmp_path / "q.json"}))


# -- servers in trouble ------------------------------------------------------------------------------------------------


def test_a_server_in_trouble_is_asked_again(site, make_source, ask):
    site.answers[PATH] = [(503, "busy"), (0, ""), (200, QUEUE)]
    assert ask(make_source(server_url=site.url)).site == "SITE"
    assert len(site.requests) == 3


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ((500, "no"), "the server answered 500 Internal Server Error; check the URL"),
        ((200, b"<html>"), "the answer is not JSON: Expecting value"),
        ((0, ""), "Remote end closed connection without response; check the URL"),
    ],
)
def test_a_server_that_stays_in_trouble_is_an_error_on_one_line(site, make_source, ask, answer, expected):
    site.answers[PATH] = [answer]
    with pytest.raises(CommunicationError, match=expected) as caught:
        ask(make_source({"tries": 2}, server_url=site.url))
    assert str(caught.value).startswith(f"{site.url}{PATH}: ")
    assert "\n" not in str(caught.value)
    assert len(site.requests) == 2


def test_a_refused_connection_is_an_error_on_one_line(make_source, ask):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        with pytest.raises(CommunicationError, match=r"Connection refused; check the URL and that the server is up$"):
            ask(make_source(server_url=url))


def test_a_silent_server_is_given_up(make_source, ask):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        source = make_source({"timeout": 0.05, "tries": 1}, server_url=f"http://127.0.0.1:{silent.getsockname()[1]}")
        with pytest.raises(CommunicationError, match="timed out"):
            ask(source)


@pytest.mark.parametrize(
    ("status", "error", "expected"),
    [
        (400, RequestRefused, "the server answered 400 Bad Request; check queue-source.cric.url"),
        (401, AuthError, "the server answered 401"),
        (403, AuthError, "the server answered 403 Forbidden; queuedata must be readable"),
    ],
)
def test_a_refusal_is_not_repeated(site, make_source, ask, status, error, expected):
    site.serve(PATH, "no", status)
    with pytest.raises(error, match=expected):
        ask(make_source(server_url=site.url))
    assert len(site.requests) == 1


def test_a_redirect_is_not_followed_but_told(site, make_source, ask):
    site.serve(PATH, "https://elsewhere.example/q", 302)
    with pytest.raises(RequestRefused, match=r"302 Found: it is at https://elsewhere\.example/q; set queue-source"):
        ask(make_source(server_url=site.url))


@pytest.mark.parametrize("url", ["ftp://h/x", "h/x", "file:///x"])
def test_a_url_of_another_scheme_is_a_config_error(make_source, ask, url):
    with pytest.raises(ConfigError, match="is not an https:// or http:// URL"):
        ask(make_source({"url": url}))


@pytest.mark.parametrize("url", ["http://", "https://[::1", "http://h:port/x"])
def test_a_url_that_is_none_is_a_handled_error(make_source, ask, url):
    with pytest.raises((ConfigError, CommunicationError)):
        ask(make_source({"url": url, "tries": 1}))


def test_a_password_in_a_url_is_refused_and_not_shown(make_source, ask):
    with pytest.raises(ConfigError, match=r"^https://\.\.\.@h\.example: must not hold") as caught:
        ask(make_source({"url": "https://me:s3cret@h.example/q"}))
    assert "s3cret" not in str(caught.value)


def test_cancellation_ends_the_tries(site, make_source, ask):
    token = CancelToken()
    token.cancel("enough")
    with pytest.raises(Cancelled, match="enough"):
        ask(make_source(server_url=site.url), cancel=token)
    assert site.requests == []


def test_no_try_is_made_past_the_deadline(site, make_source, ask):
    with pytest.raises(CommunicationError, match="no time was left"):
        ask(make_source(server_url=site.url), seconds=0)
    assert site.requests == []


# -- trust -------------------------------------------------------------------------------------------------------------


def test_tls_is_verified_with_the_pilots_own_authorities(secure_site, certificate, make_source, ask):
    secure_site.serve(PATH, QUEUE)
    assert ask(make_source(server_url=secure_site.url, ca_file=certificate)).site == "SITE"


def test_a_server_that_is_not_trusted_gets_no_request(secure_site, make_source, ask):
    with pytest.raises(CommunicationError, match=r"TLS failed: .*certificate verify failed.*--ca-file") as caught:
        ask(make_source(server_url=secure_site.url))
    assert "\n" not in str(caught.value)
    assert secure_site.requests == []


def test_the_environment_changes_neither_trust_nor_way_nor_credentials(
    secure_site, certificate, make_source, ask, monkeypatch, tmp_path
):
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"):
        monkeypatch.setenv(name, "/nonexistent")
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login a password b\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    secure_site.serve(PATH, QUEUE)
    assert ask(make_source(server_url=secure_site.url, ca_file=certificate)).site == "SITE"
    ((_, headers),) = secure_site.requests
    assert "Authorization" not in headers


def test_the_pilots_own_proxy_is_used(site, make_source, ask):
    site.serve("http://cric.example/q", QUEUE)
    assert ask(make_source({"url": "http://cric.example/q"}, proxy=site.url)).site == "SITE"
