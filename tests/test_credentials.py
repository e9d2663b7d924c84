"""The built-in credential sources: `x509` and `token-file`."""

import base64
import datetime as dt
import json
import logging
import os
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from pilot_core import AuthError, CancelToken, ConfigError, Context, Deadline
from pilot_core.builtin.token_file import TokenFile, TokenFileSettings, token_expiry
from pilot_core.builtin.token_file import pilot_credentials as token_file_providers
from pilot_core.builtin.x509 import X509, X509Settings, certificate_validity
from pilot_core.builtin.x509 import pilot_credentials as x509_providers
from pilot_core.testing.clock import FakeClock

NOW = dt.datetime(2026, 6, 1, tzinfo=dt.timezone.utc)
CANARY = "canary5d1f7c0ae2"


@pytest.fixture
def clock():
    return FakeClock(wall=NOW.timestamp())


@pytest.fixture
def ask(clock):
    def ask(source):
        return source.credential(cancel=CancelToken(), deadline=Deadline.after(clock, 60))

    return ask


def context(clock, tmp_path):
    return Context(clock=clock, log=logging.getLogger("test.credential"), work_dir=tmp_path)


def pem(begins=NOW - dt.timedelta(days=1), ends=NOW + dt.timedelta(days=1), key=None):
    key = key or ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "pilot")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(4711)
        .not_valid_before(begins)
        .not_valid_after(ends)
        .sign(key, hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.PEM), key_pem(key)


def key_pem(key, password=None):
    protection = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, protection)


def write(file: Path, *parts: bytes) -> Path:
    file.write_bytes(b"".join(parts))
    file.chmod(0o600)
    return file


@pytest.fixture
def certificate(tmp_path, clock):
    """Make an x509 source over one file with the given parts."""

    def make(*parts, key_file=None):
        settings = X509Settings(cert_file=write(tmp_path / "proxy.pem", *parts), key_file=key_file)
        return X509(settings, context(clock, tmp_path))

    return make


def test_a_proxy_file_gives_certificate_and_key_and_the_earliest_end(certificate, ask, tmp_path):
    proxy, key = pem(ends=NOW + dt.timedelta(hours=12))
    issuer, _ = pem(ends=NOW + dt.timedelta(days=300))
    given = ask(certificate(proxy, key, issuer))
    assert given.cert_file == given.key_file == tmp_path / "proxy.pem"
    assert given.expires == (NOW + dt.timedelta(hours=12)).timestamp()


def test_a_chain_is_as_short_lived_as_its_shortest_certificate(certificate, ask):
    proxy, key = pem(ends=NOW + dt.timedelta(days=3))
    issuer, _ = pem(ends=NOW + dt.timedelta(hours=1))
    assert ask(certificate(proxy, key, issuer)).expires == (NOW + dt.timedelta(hours=1)).timestamp()


def test_the_key_may_be_in_its_own_file(certificate, ask, tmp_path):
    cert, key = pem()
    key_file = write(tmp_path / "key.pem", key)
    assert ask(certificate(cert, key_file=key_file)).key_file == key_file


def test_a_renewed_certificate_is_read_again(certificate, ask, clock, tmp_path):
    source = certificate(*pem(ends=NOW + dt.timedelta(hours=1)))
    first = ask(source)
    clock.advance(7200)
    with pytest.raises(AuthError, match="expired at 2026-06-01 01:00:00 UTC: renew it"):
        ask(source)
    write(tmp_path / "proxy.pem", *pem(ends=NOW + dt.timedelta(hours=9)))
    assert ask(source).expires == first.expires + 8 * 3600


def test_a_certificate_of_the_future_points_to_the_clock(certificate, ask):
    with pytest.raises(AuthError, match="valid only from 2026-06-02 00:00:00 UTC: check the clock"):
        ask(certificate(*pem(begins=NOW + dt.timedelta(days=1), ends=NOW + dt.timedelta(days=2))))


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("no key", "holds no private key .PEM.: name its file with --key"),
        ("no certificate", "holds no certificate"),
        ("other key", "does not belong to the certificate"),
        ("encrypted", "is encrypted: give one without a password"),
        ("empty", "holds no certificate"),
        ("garbage", "OpenSSL cannot use"),
    ],
)
def test_an_unusable_certificate_file_is_one_line(certificate, ask, what, message):
    key = ec.generate_private_key(ec.SECP256R1())
    cert, own = pem(key=key)
    content = {
        "no key": [cert],
        "no certificate": [own],
        "other key": [cert, pem()[1]],
        "encrypted": [cert, key_pem(key, b"secret")],
        "empty": [b""],
        "garbage": [b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", own],
    }[what]
    with pytest.raises(AuthError, match=message) as caught:
        ask(certificate(*content))
    assert "proxy.pem" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_certificate_names_the_file(ask, clock, tmp_path):
    source = X509(X509Settings(cert_file=tmp_path / "none.pem"), context(clock, tmp_path))
    with pytest.raises(AuthError, match=r"cannot read the certificate file .*none\.pem: No such file or directory"):
        ask(source)


def test_a_directory_is_no_certificate(ask, clock, tmp_path):
    source = X509(X509Settings(cert_file=tmp_path), context(clock, tmp_path))
    with pytest.raises(AuthError, match="Is a directory"):
        ask(source)


def test_a_key_that_others_may_read_is_warned_about_once(certificate, ask, tmp_path, caplog):
    source = certificate(*pem())
    (tmp_path / "proxy.pem").chmod(0o644)
    ask(source)
    ask(source)
    assert [record.getMessage().count("chmod 600") for record in caplog.records] == [1]


def test_the_private_key_is_a_secret(certificate, ask):
    cert, key = pem()
    source = certificate(cert, key)
    assert source.secrets() == ()
    ask(source)
    assert source.secrets() == tuple(key.decode().split("\n")[1:-2])
    assert source.secrets()[0] not in repr(ask(source))


@given(
    st.datetimes(
        min_value=dt.datetime(1951, 1, 1),  # noqa: DTZ001
        max_value=dt.datetime(2200, 1, 1),  # noqa: DTZ001
    )
)
def test_the_end_of_a_certificate_is_that_of_the_cryptography_library(end):
    end = end.replace(microsecond=0, tzinfo=dt.timezone.utc)
    cert, _ = pem(begins=dt.datetime(1950, 6, 1, tzinfo=dt.timezone.utc), ends=end, key=KEY)
    begins, ends = certificate_validity(x509.load_pem_x509_certificate(cert).public_bytes(serialization.Encoding.DER))
    assert ends == end.timestamp()
    assert begins == dt.datetime(1950, 6, 1, tzinfo=dt.timezone.utc).timestamp()


KEY = ec.generate_private_key(ec.SECP256R1())
DER = x509.load_pem_x509_certificate(pem(key=KEY)[0]).public_bytes(serialization.Encoding.DER)


@given(st.one_of(st.binary(max_size=200), st.integers(0, len(DER)).map(lambda n: DER[:n])))
def test_bytes_that_are_no_certificate_are_a_value_error(data):
    try:
        certificate_validity(data)
    except ValueError:
        return
    assert data.startswith(DER[:40])


def jwt(**claims):
    def part(value):
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

    return f"{part({'alg': 'RS256'})}.{part(claims)}.{CANARY}"


@pytest.fixture
def token_file(tmp_path, clock):
    """Make a token-file source over the given content."""

    def make(content, origin="wlcg.production"):
        file = write(tmp_path / "token", content if isinstance(content, bytes) else content.encode())
        return TokenFile(TokenFileSettings(file=file, origin=origin), context(clock, tmp_path))

    return make


def test_a_token_is_stripped_and_comes_with_its_origin_and_end(token_file, ask, clock):
    token = ask(token_file(f"  {jwt(exp=clock.wall() + 60)}\n"))
    assert token.value.endswith(CANARY)
    assert token.origin == "wlcg.production"
    assert token.expires == clock.wall() + 60
    assert token.source.endswith("/token")


def test_an_opaque_token_has_no_end(token_file, ask):
    assert ask(token_file(CANARY)).expires is None


def test_an_expired_token_names_file_and_time(token_file, ask, clock):
    with pytest.raises(AuthError, match=r"the token in .*/token expired at 2026-05-31 23:59:59 UTC: write a new one"):
        ask(token_file(jwt(exp=clock.wall() - 1)))


def test_a_changed_token_file_is_read_again(token_file, ask, tmp_path):
    source = token_file("first-token")
    assert ask(source).value == "first-token"
    replacement = write(tmp_path / "new", b"other-token")
    replacement.replace(tmp_path / "token")
    assert ask(source).value == "other-token"
    assert source.secrets() == ("first-token", "other-token")


def test_a_token_file_that_did_not_change_is_not_opened_again(token_file, ask, tmp_path):
    source = token_file("the-token")
    ask(source)
    before = (tmp_path / "token").stat()
    with (tmp_path / "token").open("r+b") as stream:
        stream.write(b"xxx-xxxxx")
    os.utime(tmp_path / "token", ns=(before.st_atime_ns, before.st_mtime_ns))
    assert ask(source).value == "the-token"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b" \n", "is empty"),
        (b"two words", "does not hold one token"),
        (b"line\r\nX-Evil: 1", "does not hold one token"),
        (b"\xff\xfe", "does not hold one token"),
        (b"x" * 70000, "is not a file with a token"),
    ],
)
def test_content_that_is_no_token_is_one_line(token_file, ask, content, message):
    with pytest.raises(AuthError, match=message):
        ask(token_file(content))


def test_a_missing_token_file_is_one_line(ask, clock, tmp_path):
    source = TokenFile(TokenFileSettings(file=tmp_path / "none", origin="a.b"), context(clock, tmp_path))
    with pytest.raises(AuthError, match=r"cannot read the token file .*/none: No such file or directory; check"):
        ask(source)


def test_a_directory_is_no_token_file(ask, clock, tmp_path):
    source = TokenFile(TokenFileSettings(file=tmp_path, origin="a.b"), context(clock, tmp_path))
    with pytest.raises(AuthError, match="is not a file with a token"):
        ask(source)


@pytest.mark.parametrize("origin", ["wlcg.production", "wlcg:production", "panda_dev.pilot", "eic.example.org:role"])
def test_an_origin_of_vo_and_role_is_taken(token_file, ask, origin):
    assert ask(token_file("token", origin)).origin == origin


@pytest.mark.parametrize("origin", ["", "wlcg", "wlcg.", ".production", "a b.c", "a.b\r\nX: 1", "https://x.y/"])
def test_an_origin_without_a_role_is_refused(token_file, origin):
    with pytest.raises(ConfigError, match=r"write it as VO\.ROLE"):
        token_file("token", origin)


def test_a_token_that_everybody_may_read_is_warned_about(token_file, ask, tmp_path, caplog):
    source = token_file("token")
    (tmp_path / "token").chmod(0o644)
    ask(source)
    assert "can be read by every user" in caplog.text


def test_a_token_never_shows_in_logs_or_reprs(token_file, ask, tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    source = token_file(jwt(sub="x"))
    (tmp_path / "token").chmod(0o644)
    token = ask(source)
    assert CANARY not in repr(token) + repr(source) + caplog.text
    assert CANARY in source.secrets()[0]


@given(st.one_of(st.text(), st.builds(lambda a, b: f"{a}.{b}.c", st.text(), st.text())))
def test_the_end_of_any_text_as_a_token_is_a_number_or_none(text):
    end = token_expiry(text)
    assert end is None or end >= 0


@pytest.mark.parametrize("end", ["soon", True, None, -5, 1e400, [1]])
def test_a_senseless_end_is_none(end):
    assert token_expiry(jwt(exp=end)) is None


def test_both_are_offered_under_their_names():
    assert [provider.name for provider in (*x509_providers(), *token_file_providers())] == ["x509", "token-file"]
