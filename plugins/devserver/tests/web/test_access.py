"""Who is let in, over real sockets: the key, the cookie, names, origins and tokens."""

import http.client
from urllib.parse import urlencode

import pytest
from pilot_devserver.devserver import DevServer
from pilot_devserver.store_jobs import JobSpec

from pilot_core import HandledError


def test_the_key_is_exchanged_for_a_cookie_that_scripts_and_other_sites_do_not_get(server, stranger):
    assert server.web_url.startswith("http://127.0.0.1:")
    status, headers, _ = stranger.ask("GET", f"/jobs/1?key={stranger.key}&whole=1")
    assert (status, headers["Location"]) == (303, "/jobs/1?whole=1")
    cookie = headers["Set-Cookie"]
    assert cookie.startswith(f"pilot_devserver_{stranger.port}=")
    assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= {part.strip() for part in cookie.split(";")}
    assert stranger.key not in cookie


@pytest.mark.parametrize("path", ["/", "/jobs/1", "/exchanges", "/live/", "/?key=wrong", "/?key=%ff", "/nothing"])
def test_without_the_key_nobody_sees_anything(server, stranger, path):
    server.store.submit([JobSpec(queue="Q1", transformation="x", name="the-jobs-name")])
    status, headers, text = stranger.ask("GET", path)
    assert status == 403
    assert "pilot-core serve has printed" in text
    assert "the-jobs-name" not in text
    assert "csrf" not in text
    assert headers["Set-Cookie"] is None


def test_the_cookie_of_another_server_is_none(server, stranger):
    assert stranger.ask("GET", "/", headers={"Cookie": f"pilot_devserver_{stranger.port}=other"})[0] == 403


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:{port}", "127.0.0.1", "127.0.0.2:{port}", "[::1]:{port}"]
)
def test_a_name_that_was_made_to_lead_here_is_refused(visitor, host):
    status, _, text = visitor.ask("GET", "/", headers={"Host": host.format(port=visitor.port)})
    assert status == 421
    assert "Jobs" not in text.partition("<main")[2]


def test_localhost_is_a_name_of_ours(visitor):
    assert visitor.ask("GET", "/", headers={"Host": f"localhost:{visitor.port}"})[0] == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "https://127.0.0.1:{port}"},
        {"Origin": "http://127.0.0.1:1"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_a_form_from_elsewhere_does_nothing(server, visitor, headers):
    [job] = server.store.submit([JobSpec(queue="Q1", transformation="x")])
    given = {name: value.format(port=visitor.port) for name, value in headers.items()}
    status, _, text = visitor.send(f"/jobs/{job}/kill", headers=given)
    assert status == 403
    assert "another site" in text
    assert server.store.get(job).status == "activated"


@pytest.mark.parametrize("token", ["", "wrong", "\udc80"])
def test_a_form_without_its_token_does_nothing(server, visitor, token):
    [job] = server.store.submit([JobSpec(queue="Q1", transformation="x")])
    body = urlencode({"csrf": token}, errors="surrogateescape")
    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    status, _, text = visitor.ask("POST", f"/jobs/{job}/kill", body, kind)
    assert status == 403
    assert "token is missing or old" in text
    assert server.store.get(job).status == "activated"


def test_a_form_needs_the_cookie_too(server, visitor):
    visitor.cookie = ""
    assert visitor.send("/faults/add", quick="500")[0] == 403
    assert server.faults.rules() == []


@pytest.mark.parametrize("path", ["/", "/submit", "/exchanges", "/faults", "/static/page.js", "/nothing"])
def test_every_answer_forbids_what_pages_do_not_need(visitor, path):
    _, headers, text = visitor.ask("GET", path)
    policy = headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none';")
    assert "unsafe" not in policy
    assert (headers["X-Content-Type-Options"], headers["Referrer-Policy"]) == ("nosniff", "same-origin")
    assert headers["Cache-Control"] == "no-store"
    assert "style=" not in text
    assert " onclick" not in text


def test_a_form_leads_back_to_our_own_pages_only(visitor):
    for back in (
        "//evil.example",
        "https://evil.example",
        "/\\evil.example",
        "javascript:x",
        "/x\r\nSet-Cookie: a=b",
        "",
    ):
        status, headers, _ = visitor.send("/faults/clear", back=back)
        assert status == 303
        assert headers["Location"].startswith("/?notice=")
        assert headers["Set-Cookie"] is None


@pytest.mark.parametrize("path", ["//evil.example/", "///evil.example/", "/\\evil.example/"])
def test_the_key_leads_to_no_other_site(stranger, path):
    status, headers, _ = stranger.ask("GET", f"{path}?key={stranger.key}")
    assert (status, headers["Location"]) == (303, "/evil.example/")


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("multipart/form-data", b"x"),
        ("multipart/form-data; boundary=x", b"--x\r\nContent-Disposition: form-data\r\n\r\n1\r\n--x"),
        ("application/x-www-form-urlencoded; charset=nonsense", b"csrf=x"),
        ("application/x-www-form-urlencoded; charset=utf-8", b"csrf=\xff"),
    ],
)
def test_a_form_that_makes_no_sense_is_refused(visitor, kind, body):
    status, headers, text = visitor.ask("POST", "/faults/clear", body, {"Content-Type": kind})
    assert status in {400, 403}
    assert "Nothing was done" in text
    assert headers["Content-Security-Policy"]


def test_what_is_too_long_or_no_form_is_answered_in_one_page(visitor):
    assert visitor.send("/submit", transformation="x" * 2_000_000)[0] == 413
    assert visitor.ask("POST", "/submit", b"\xff" * 10, {"Content-Type": "application/json"})[0] == 403
    assert visitor.ask("PUT", "/submit", b"")[0] in {405, 404}
    assert visitor.ask("GET", "/static/../access.py")[0] == 404
    assert visitor.ask("GET", "/static/%2e%2e%2faccess.py")[0] == 404


def test_the_pages_are_on_the_loopback_whatever_the_pilots_address_is(state_dir):
    with DevServer(state_dir, host="0.0.0.0", web_port=0) as server:
        assert server.web_url.startswith("http://127.0.0.1:")


def test_the_pages_can_be_left_out(state_dir):
    with DevServer(state_dir) as server:
        assert server.web_url == ""


def test_a_port_that_is_taken_is_one_line(state_dir, stranger, tmp_path):
    with pytest.raises(HandledError, match=r"cannot listen on 127.0.0.1 port \d+: .* choose another with --web-port"):
        DevServer(tmp_path / "other", web_port=stranger.port).__enter__()


def test_pilots_ports_have_no_such_pages(server, connect):
    for path in ("/exchanges", "/live/", "/submit"):
        assert connect(server.pilot_certificate).ask("GET", path)[0].status == 404


def test_the_server_ends_while_somebody_looks_on(state_dir):
    with DevServer(state_dir, web_port=0) as server:
        port = int(server.web_url.partition("/?")[0].rpartition(":")[2])
        key = server.web_url.rpartition("=")[2]
        entered = http.client.HTTPConnection("127.0.0.1", port)
        entered.request("GET", f"/?key={key}")
        cookie = entered.getresponse().headers["Set-Cookie"].partition(";")[0]
        stream = http.client.HTTPConnection("127.0.0.1", port)
        stream.request("GET", "/live/", headers={"Cookie": cookie})
        response = stream.getresponse()
        assert response.readline() == b"event: page\n"
    assert b"data: " in response.read()
    stream.close()
    entered.close()
