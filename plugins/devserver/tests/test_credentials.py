"""Certificates, proxies and tokens: what they say of their holder, without a server."""

import json
import stat

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from pilot_devserver.certificates import Authority, make_proxy
from pilot_devserver.identity import Authenticator, certificate_dn
from pilot_devserver.statedir import Running, StateDir
from pilot_devserver.tokens import AUDIENCE, TokenDenied, TokenIssuer

from pilot_core import ConfigError, SystemClock

PILOT = "/O=pilot-core development server/CN=pilot"


@pytest.fixture(scope="module")
def authority():
    return Authority.create(SystemClock())


@pytest.fixture(scope="module")
def issuer():
    return TokenIssuer.create(SystemClock())


def der(credential):
    return credential.certificate.public_bytes(serialization.Encoding.DER)


def test_a_certificates_dn_is_written_with_slashes(authority):
    assert certificate_dn(der(authority.client("pilot"))) == PILOT


def test_a_proxy_of_a_proxy_has_the_dn_of_its_owner(authority):
    proxy = make_proxy(make_proxy(authority.client("pilot"), SystemClock()), SystemClock())
    assert certificate_dn(der(proxy)) == PILOT
    assert len(proxy.chain) == 2


def test_digits_at_the_end_of_a_plain_certificates_dn_stay(authority):
    assert certificate_dn(der(authority.client("12345"))).endswith("/CN=12345")


def test_a_limited_proxy_is_known_by_its_dn_only(authority, issuer):
    known = Authenticator(issuer, {PILOT: ("/wlcg/Role=production",)})
    pilot, clock = authority.client("pilot"), SystemClock()
    old = make_proxy(pilot, clock, common_name="limited proxy")
    new = make_proxy(pilot, clock, limited=True)
    assert known.identify(der(old), {}) == (None, "")
    assert known.identify(der(new), {})[0].production


def test_roles_come_from_the_configuration(authority, issuer):
    known = Authenticator(issuer, {PILOT: ("/wlcg/Role=production",)})
    assert known.identify(der(authority.client("pilot")), {})[0].production
    user, denied = known.identify(der(authority.client("user")), {})
    assert (user.fqans, user.production, denied) == ((), False, "")


@pytest.mark.parametrize("origin", ["wlcg.production", "wlcg:production"])
def test_a_token_gives_the_role_that_its_origin_names(issuer, origin):
    identity = issuer.identify(issuer.issue(name="some ROBOT"), origin)
    assert identity.dn == "Some Robot"
    assert identity.fqans == ("/wlcg/Role=production",)
    assert identity.production
    assert not issuer.identify(issuer.issue(), "wlcg.pilot").production


def test_a_vo_may_have_dots_in_its_name():
    issuer = TokenIssuer.create(SystemClock(), vos=["vo.example.org"])
    token = issuer.issue(groups=["/vo.example.org/production"])
    assert issuer.identify(token, "vo.example.org:production").production
    assert issuer.identify(token, "vo.example.org.production").production


def unsigned(**changes):
    return jwt.encode({"aud": AUDIENCE, **changes}, "x" * 32, algorithm="HS256")


@pytest.mark.parametrize(
    ("make", "origin", "text"),
    [
        (lambda i: i.issue(), None, "Token decode failure. 'NoneType' object has no attribute 'replace' Traceback"),
        (lambda i: i.issue(), "wlcg", "Token decode failure. 'wlcg' Traceback"),
        (lambda i: i.issue(), "other.production", "Unknown vo : other"),
        (lambda i: i.issue(), "wlcg.admin", "Not a member of the wlcg/admin group"),
        (lambda i: i.issue(groups=()), "wlcg.production", "Not a member of the wlcg/production group"),
        (lambda i: i.issue(seconds=-10), "wlcg.production", "Invalid token. Signature has expired"),
        (lambda i: "garbage", "wlcg.production", "Invalid token. Not enough segments"),
        (lambda i: i.issue(claims={"aud": "x"}), "wlcg.production", "Invalid token. cannot extract client_id from"),
        (lambda i: i.issue(claims={"iss": "x"}), "wlcg.production", "Invalid token. Invalid issuer"),
        (lambda i: unsigned(), "wlcg.production", "Invalid token. cannot extract kid from headers"),
        (lambda i: TokenIssuer.create(i.clock).issue(), "wlcg.production", "Invalid token. JWK not found for kid="),
        (lambda i: i.issue()[:-6] + "AAAAAA", "wlcg.production", "Invalid token. Signature verification failed"),
    ],
)
def test_a_refusal_has_the_real_servers_text(issuer, make, origin, text):
    with pytest.raises(TokenDenied) as denial:
        issuer.identify(make(issuer), origin)
    assert str(denial.value).startswith(text)


def test_a_token_signed_with_another_algorithm_is_refused(issuer):
    forged = jwt.encode({"aud": AUDIENCE, "sub": "x"}, "x" * 32, algorithm="HS256", headers={"kid": issuer.key_id})
    with pytest.raises(TokenDenied, match="Invalid token"):
        issuer.identify(forged, "wlcg.production")


def test_an_authorization_without_scheme_is_ignored(issuer):
    known = Authenticator(issuer, {})
    assert known.identify(None, {"authorization": "abc", "origin": "wlcg.production"}) == (None, "")


def test_a_bad_token_is_refused_beside_a_good_certificate(authority, issuer):
    known = Authenticator(issuer, {})
    identity, denied = known.identify(der(authority.client("pilot")), {"authorization": "Bearer x", "origin": "wlcg.p"})
    assert identity.dn == PILOT
    assert denied == "Invalid token. Not enough segments"


def test_a_state_directory_is_made_once_and_used_again(tmp_path):
    first = StateDir(tmp_path / "state", SystemClock())
    first.prepare()
    files = {path: path.read_bytes() for path in first.path.glob("*.*")}
    StateDir(tmp_path / "state", SystemClock()).prepare()
    changed = {path.name for path, content in files.items() if path.read_bytes() != content}
    assert changed <= {"pilot.token"}
    assert first.roles()[first.pilot().dn] == ("/wlcg/Role=production", "/wlcg/Role=pilot")


def test_keys_and_tokens_are_for_their_owner_only(tmp_path):
    state = StateDir(tmp_path, SystemClock())
    state.prepare()
    secret = [*tmp_path.glob("*.key"), state.pilot_proxy, state.token_file, tmp_path / "token-key.pem"]
    assert len(secret) == 8
    assert {stat.S_IMODE(path.stat().st_mode) for path in secret} == {0o600}


def test_certificates_that_end_soon_are_made_anew(tmp_path):
    class Later(SystemClock):
        def wall(self):
            return super().wall() + 89.5 * 86400

    StateDir(tmp_path, SystemClock()).prepare()
    before = {name: (tmp_path / name).read_bytes() for name in ("ca.pem", "server.pem", "pilot.pem", "roles.toml")}
    later = StateDir(tmp_path, Later())
    later.prepare()
    changed = {name for name, content in before.items() if (tmp_path / name).read_bytes() != content}
    assert changed == {"server.pem", "pilot.pem"}
    assert later.tokens().identify(later.token_file.read_text().strip(), "wlcg.production").production


def test_a_new_authority_renews_everything(tmp_path):
    state = StateDir(tmp_path, SystemClock())
    state.prepare()
    state.ca_file.unlink()
    state.prepare()
    issuer = state.authority().credential.certificate
    assert state.pilot().certificate.verify_directly_issued_by(issuer) is None


@pytest.mark.parametrize("name", ["ca.key", "pilot.pem"])
def test_damaged_files_are_named_with_what_to_do(tmp_path, name):
    state = StateDir(tmp_path, SystemClock())
    state.prepare()
    (tmp_path / name).write_text("not PEM")
    if name == "pilot.pem":
        state.prepare()
        assert state.pilot().dn == PILOT
        return
    with pytest.raises(ConfigError, match=r"ca\.pem and ca\.key: .*start again"):
        state.prepare()


@pytest.mark.parametrize("text", ["[fqans", "fqans = 3", '[fqans]\n"/CN=x" = "y"'])
def test_a_roles_file_that_makes_no_sense_is_named(tmp_path, text):
    state = StateDir(tmp_path, SystemClock())
    state.roles_file.write_text(text)
    with pytest.raises(ConfigError, match=r"roles\.toml: "):
        state.roles()


def test_the_running_server_leaves_word(tmp_path):
    state = StateDir(tmp_path, SystemClock())
    assert state.running() is None
    state.set_running(Running("https://127.0.0.1:1", "", 2))
    assert state.running() == Running("https://127.0.0.1:1", "", 2)
    state.clear_running()
    state.clear_running()
    (tmp_path / "server.json").write_text(json.dumps([1]))
    with pytest.raises(ConfigError, match=r"server\.json"):
        state.running()


def test_no_two_tokens_are_the_same_even_in_one_second(server):
    assert server.token(seconds=60) != server.token(seconds=60)
