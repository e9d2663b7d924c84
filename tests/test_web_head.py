"""The heads of HTTP answers, URLs as they go over the wire, and what Retry-After asks for."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilot_core.api.web import Headers, WebAddress, retry_after
from pilot_core.api.web.dial import Proxy
from pilot_core.api.web.head import Head, end_of_head

TOKEN = st.text("abcdefghijklmnopqrstuvwxyzABCXYZ0123456789-_", min_size=1, max_size=12)
VALUE = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=20)


@given(status=st.integers(200, 599), fields=st.lists(st.tuples(TOKEN, VALUE), max_size=8), more=st.binary(max_size=20))
def test_a_head_is_read_as_it_was_written(status, fields, more):
    text = f"HTTP/1.1 {status} Some reason\r\n" + "".join(f"{name}: {value}\r\n" for name, value in fields) + "\r\n"
    data = text.encode() + more
    end, after = end_of_head(data)
    assert data[after:] == more
    head = Head.parse(data[:end])
    assert (head.status, head.reason, head.minor) == (status, "Some reason", 1)
    for name, _ in fields:
        assert head.headers[name.upper()] == ", ".join(v for n, v in fields if n.lower() == name.lower())


@given(st.binary(max_size=200))
def test_any_bytes_are_a_head_or_a_value_error(data):
    with contextlib.suppress(ValueError):
        head = Head.parse(data)
        assert 100 <= head.status <= 999
        head.length()


def test_folded_fields_and_bare_line_feeds_are_understood():
    head = Head.parse(b"HTTP/1.0 200\nDigest: adler32=1\n  ,md5=x\nA: b")
    assert head.headers["digest"] == "adler32=1 ,md5=x"
    assert head.headers["a"] == "b"
    assert not head.keeps


@pytest.mark.parametrize("text", ["-1", "1, 2", "0x10", "1 2", "²", "9" * 20, "1;"])
def test_a_content_length_that_is_none_is_an_error(text):
    head = Head.parse(f"HTTP/1.1 200 OK\r\nContent-Length: {text}".encode("latin-1"))
    with pytest.raises(ValueError, match="Content-Length"):
        head.length()


def test_equal_content_lengths_are_one():
    assert Head.parse(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\ncontent-length: 5").length() == 5


def test_values_of_headers_are_not_shown():
    assert "secret" not in repr(Headers({"Location": "https://x/?authz=secret"}))


@pytest.mark.parametrize(
    ("url", "origin", "target"),
    [
        ("http://Host.Example/a%20b?x=1#part", ("http", "host.example", 80), "/a%20b?x=1"),
        ("https://host:8443", ("https", "host", 8443), "/"),
        ("https://user:pass@[2001:db8::1]/x", ("https", "2001:db8::1", 443), "/x"),
    ],
)
def test_a_url_is_taken_apart(url, origin, target):
    address = WebAddress.parse(url)
    assert (address.origin, address.target) == (origin, target)


def test_an_ipv6_address_has_brackets_in_the_host_header():
    assert WebAddress.parse("https://[::1]:8443/x").authority == "[::1]:8443"


def test_a_query_and_a_password_are_not_shown():
    shown = str(WebAddress.parse("https://user:canary@host/x?authz=canary"))
    assert shown == "https://host/x"


@pytest.mark.parametrize(
    "url",
    [
        *("", "host/x", "ftp://h/x", "http:///x", "http://h:0/", "http://h:99999/", "http://h:x/", "http://[::1/x"),
        *("http://h/a b", "http://h/\r\nX: y", "http://h/ü", "http://h\0/", "http://-h/", "http://h/" + "x" * 70000),
    ],
)
def test_what_is_no_url_of_http_is_a_value_error(url):
    with pytest.raises(ValueError, match=r".") as caught:
        WebAddress.parse(url)
    assert str(caught.value).isprintable()


@given(st.text(max_size=60))
def test_any_text_is_a_url_or_a_value_error(text):
    try:
        address = WebAddress.parse(text)
    except ValueError:
        return
    assert WebAddress.parse(address.url).origin == address.origin


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("120", 120.0),
        ("0", 0.0),
        ("99999999999", 86400.0),
        ("Thu, 01 Jan 1970 00:02:00 GMT", 60.0),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0),
        ("", None),
        ("soon", None),
        ("-5", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(text, seconds):
    assert retry_after(Headers({"Retry-After": text}), 60.0) == seconds


@given(st.text(max_size=40))
def test_any_retry_after_is_seconds_or_none(text):
    found = retry_after(Headers({"Retry-After": text}), 0.0)
    assert found is None or 0 <= found <= 86400


def test_a_proxy_has_a_port_and_keeps_its_password_to_itself():
    proxy = Proxy.parse("http://user:canary@squid.example")
    assert (proxy.host, proxy.port) == ("squid.example", 3128)
    assert "canary" not in repr(proxy)
    assert Proxy.parse("") is None
    with pytest.raises(ValueError, match="http://host:port"):
        Proxy.parse("socks5://x")
