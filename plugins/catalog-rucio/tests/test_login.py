"""Who asks, and how Rucio knows: against a real server, with TLS and its own tokens; no secret shows anywhere."""

import logging
import re

import pytest
from pilot_catalog_rucio.tokens import lifetime

from pilot_core import AuthError, BearerToken, ClientCertificate, CommunicationError, InputFile
from pilot_core.api.web import Headers
from pilot_core.testing.servers.rucio import NEEDS, KnownFile
from pilot_core.testing.tls import TestAuthority

FILE = InputFile(scope="user.pilot", lfn="in.root")
real = pytest.mark.needs(NEEDS)


class Held:
    """A credential source of the pilot's."""

    def __init__(self, credential):
        self.held = credential

    def credential(self, *, cancel, deadline):
        return self.held

    def secrets(self):
        return ()


@pytest.fixture
def known(server):
    server.file(KnownFile(scope="user.pilot", lfn="in.root", places=[("NEAR_DISK", "")]))
    server.requests()


@pytest.fixture
def trusted(server):
    return {"url": server.url, "account": "root", "ca_file": server.authority.ca_file}


@real
def test_one_login_serves_many_questions(known, server, catalog, limits):
    for _ in range(3):
        assert catalog.replicas([FILE], **limits)["in.root"]
    assert server.requests() == ["GET /auth/userpass", *["POST /replicas/list"] * 3]


@real
def test_a_certificate_logs_in(known, server, trusted, make, limits):
    cert_file, key_file = server.authority.client("pilot")
    both = server.folder / "both.pem"
    both.write_bytes(cert_file.read_bytes() + key_file.read_bytes())
    assert make(**trusted, x509_proxy=both).replicas([FILE], **limits)["in.root"]
    assert server.requests()[0] == "GET /auth/x509_proxy"


@real
def test_a_proxy_logs_in_and_the_account_is_the_one_it_belongs_to(known, server, trusted, make, limits):
    del trusted["account"]
    assert make(**trusted, x509_proxy=server.authority.proxy("pilot")).replicas([FILE], **limits)["in.root"]


@real
def test_the_pilots_own_certificate_is_used_where_the_settings_name_none(known, server, trusted, make, limits):
    cert_file, key_file = server.authority.client("pilot")
    held = Held(ClientCertificate(cert_file=cert_file, key_file=key_file))
    assert make({"credential": held}, **trusted).replicas([FILE], **limits)["in.root"]
    assert server.requests()[0] == "GET /auth/x509"


@real
def test_the_pilots_bearer_token_is_never_used(known, server, trusted, make, limits):
    held = Held(BearerToken(value="canary-bearer", origin="vo.role"))
    with pytest.raises(AuthError, match="set token_file, x509_proxy, or username and password_file"):
        make({"credential": held}, **trusted).replicas([FILE], **limits)
    assert server.requests() == []


@real
def test_a_stranger_is_told_what_to_look_at(known, server, trusted, make, limits):
    cert_file, key_file = server.authority.client("stranger")
    held = Held(ClientCertificate(cert_file=cert_file, key_file=key_file))
    with pytest.raises(AuthError, match=r"401 CannotAuthenticate .*the pilot's own certificate and the account"):
        make({"credential": held}, **trusted).replicas([FILE], **limits)


@real
def test_a_wrong_password_is_told_without_it(known, server, login, make, limits, tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    (tmp_path / "wrong").write_text("canary-password")
    with pytest.raises(AuthError, match="username, password_file") as error:
        make(**{**login, "password_file": tmp_path / "wrong"}).replicas([FILE], **limits)
    assert "canary" not in str(error.value) + caplog.text


@real
def test_a_token_from_a_file_is_read_again_each_time(known, server, trusted, make, limits, tmp_path):
    """One of Rucio's own, as `rucio` keeps it; an OIDC token goes the same way, in the same header."""
    token = tmp_path / "token"
    token.write_text(server.native("client.whoami(); result = client.auth_token"))
    server.requests()
    catalog = make(**trusted, token_file=token)
    assert catalog.replicas([FILE], **limits)["in.root"]
    assert server.requests() == ["POST /replicas/list"]
    token.write_text("canary-token")
    with pytest.raises(AuthError, match="Rucio does not take a new token either") as error:
        catalog.replicas([FILE], **limits)
    assert "canary" not in str(error.value)
    token.write_text(server.native("client.whoami(); result = client.auth_token"))
    assert catalog.replicas([FILE], **limits)["in.root"]


@real
def test_a_token_that_rucio_forgot_is_got_again(known, server, catalog, limits):
    assert catalog.replicas([FILE], **limits)["in.root"]
    server.empty()
    server.file(KnownFile(scope="user.pilot", lfn="in.root", places=[("NEAR_DISK", "")]))
    server.requests()
    assert catalog.replicas([FILE], **limits)["in.root"]
    again = ["POST /replicas/list", "GET /auth/userpass", "POST /replicas/list"]
    assert server.requests() == again


@real
def test_an_account_that_may_not_register_is_an_error_of_authority(server, login, make, outputs, limits, tmp_path):
    (tmp_path / "password").write_text("a password for reading")
    server.native(
        "from contextlib import suppress\n"
        "with suppress(Exception):\n"
        "    client.add_account('reader', 'USER', 'r@example.org')\n"
        "    client.add_identity('reader', 'reader', 'USERPASS', 'r@example.org', True, 'a password for reading')\n"
        "result = 1"
    )
    told = {**login, "account": "reader", "username": "reader", "password_file": tmp_path / "password"}
    job, reports = outputs("NEAR_DISK", {"out.root": "davs://near.example.org:443/data/out.root"})
    with pytest.raises(AuthError, match=r"AccessDenied .*the account may not do that"):
        make(**told).register(job, reports, **limits)


@real
def test_a_server_of_another_authority_is_not_talked_to(server, login, make, limits, tmp_path):
    stranger = TestAuthority(tmp_path, "Other CA")
    with pytest.raises(CommunicationError, match="certificate is refused"):
        make(**{**login, "ca_file": stranger.ca_file}).replicas([FILE], **limits)
    assert server.requests() == []


# -- a server that says when its tokens end ----------------------------------------------------------------------------


def test_a_token_is_renewed_before_it_ends_by_the_servers_own_clock(said, scripted, limits):
    """The server's clock is years off ours; what counts is the difference of its own two times."""
    catalog, server = scripted(said(200))
    tokens = catalog._rest._tokens
    value = tokens.get(**limits)
    assert value == "canary-token"

    def left(**fields):
        return lifetime(Headers({name.replace("_", "-"): text for name, text in fields.items()}))

    date = "Tue, 01 Jan 2019 10:00:00 GMT"
    assert left(Date=date, X_Rucio_Auth_Token_Expires="Tue, 01 Jan 2019 11:00:00 UTC") == 3300.0
    assert left(Date=date, X_Rucio_Auth_Token_Expires="Tue, 01 Jan 2019 10:01:00 UTC") == 10.0
    assert left(Date=date, X_Rucio_Auth_Token_Expires="soon") == 1800.0
    assert left() == 1800.0
    assert server.requests == 1


@pytest.mark.parametrize("content", [b"", b"\n", b"two\nlines", "ä".encode(), b"x" * 70_000])
def test_a_file_that_holds_no_token_is_named_and_not_shown(make, limits, tmp_path, content):
    file = tmp_path / "token"
    file.write_bytes(content)
    catalog = make(url="https://localhost:9", token_file=file)
    with pytest.raises(AuthError, match=re.escape(f"catalog.rucio.token_file: {file} does not hold one line")):
        catalog.replicas([FILE], **limits)
    file.unlink()
    with pytest.raises(AuthError, match=r"cannot read .*No such file"):
        catalog.replicas([FILE], **limits)
