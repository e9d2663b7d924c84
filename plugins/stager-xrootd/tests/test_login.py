"""Who the pilot is towards a storage: TLS, X.509 proxies, tokens; and that nothing else has a part in it."""

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pilot_core import AuthError, BackendUnavailable, ClientCertificate, ConfigError
from pilot_core.testing.servers.scripted_xrootd import Answer, ScriptedXrootd, error
from pilot_core.testing.servers.xrootd import XrootdStorage
from pilot_core.testing.tls import TestAuthority

pytestmark = pytest.mark.needs("module:XRootD")

TOKEN = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJjYW5hcnkifQ.c2lnbmF0dXJl"
FOUND = Answer(body=b"1 5 16 1700000000\0")
"""A file of five bytes."""


def token_file(tmp_path, value):
    path = tmp_path / "token"
    path.write_text(value)
    path.chmod(0o600)
    return path


@pytest.fixture
def tls_storage(tls_server):
    return XrootdStorage(tls_server, "k")


@pytest.fixture
def gsi_storage(gsi_server):
    storage = XrootdStorage(gsi_server, "k")
    storage.put("x", b"hello")
    return storage


# -- TLS ---------------------------------------------------------------------------------------------------------------


@pytest.mark.needs("bin:xrootd")
@pytest.mark.parametrize("trusted", ["ca_dir", "ca_file"])
def test_files_travel_over_tls(trusted, bench_with, tls_storage, authority):
    bench = bench_with(**{trusted: authority.folder_of_authorities() if trusted == "ca_dir" else authority.ca_file})
    data = os.urandom(9_000_000)
    bench.store(tls_storage.url("x"), data)
    assert tls_storage.get("x") == data
    bench.fetch(tls_storage.url("x"), size=len(data))
    assert bench.got() == data


@pytest.mark.needs("bin:xrootd")
def test_without_any_of_its_own_the_pilots_authorities_are_trusted(bench_with, tls_storage, authority, monkeypatch):
    monkeypatch.setattr("pilot_stager_xrootd.access.USUAL_AUTHORITIES", Path("/nowhere"))
    for trusted in (authority.ca_file, authority.folder_of_authorities()):
        tls_storage.put("x", b"hello")
        assert bench_with(pilot_trusts=trusted).stat(tls_storage.url("x")).size == 5


@pytest.mark.needs("bin:xrootd")
def test_a_server_of_an_unknown_authority_is_refused(bench_with, tls_storage, tmp_path):
    other = TestAuthority(tmp_path, "Other CA")
    for trusted in ({"ca_file": other.ca_file}, {"ca_dir": other.folder_of_authorities()}):
        bench = bench_with(**trusted)
        with pytest.raises(BackendUnavailable, match="trusted are the authorities of"):
            bench.stat(tls_storage.url("x"))


@pytest.mark.needs("bin:xrootd")
def test_a_server_with_another_ones_certificate_is_refused(bench_with, tls_storage, authority):
    """The client does not look at the names `localhost` and 127.0.0.1; all of 127.0.0.0/8 is this machine."""
    tls_storage.put("x", b"x")
    bench = bench_with(ca_dir=authority.folder_of_authorities())
    bench.stat(tls_storage.url("x"))
    with pytest.raises(BackendUnavailable, match="hostname not in SAN"):
        bench.stat(tls_storage.url("x").replace("localhost", "127.0.0.2"))


@pytest.mark.needs("bin:xrootd")
def test_after_a_failure_of_tls_nothing_goes_over_a_plain_connection(bench_with, storage, tls_storage, tmp_path):
    bench = bench_with(ca_file=TestAuthority(tmp_path, "Other CA").ca_file)
    tls_storage.put("y", b"secret")
    for _ in range(3):
        with pytest.raises(BackendUnavailable):
            bench.fetch(tls_storage.url("y"))
    storage.put("x", b"plain")
    bench.fetch(storage.url("x"))


# -- X.509 -------------------------------------------------------------------------------------------------------------


@pytest.mark.needs("bin:xrootd")
def test_a_proxy_logs_in(bench_with, gsi_storage, authority):
    bench = bench_with(ca_dir=authority.folder_of_authorities(), x509_proxy=authority.proxy())
    bench.fetch(gsi_storage.url("x"))
    assert bench.got() == b"hello"


@pytest.mark.needs("bin:xrootd")
def test_the_pilots_own_proxy_logs_in(bench_with, gsi_storage, authority):
    from dataclasses import replace

    from pilot_stager_xrootd.stager import XrootdStager

    proxy = authority.proxy()

    class Credentials:
        def credential(self, *, cancel, deadline):
            return ClientCertificate(cert_file=proxy, key_file=proxy)

        def secrets(self):
            return ()

    bench = bench_with(ca_dir=authority.folder_of_authorities())
    settings, context = bench.stager._settings, bench.stager._context
    bench.stager = XrootdStager(settings, replace(context, credential=Credentials()))
    assert bench.stat(gsi_storage.url("x")).size == 5


@pytest.mark.needs("bin:xrootd")
def test_without_a_proxy_the_storage_refuses(bench_with, gsi_storage, authority):
    with pytest.raises(AuthError, match="no credential was given"):
        bench_with(ca_dir=authority.folder_of_authorities()).fetch(gsi_storage.url("x"))


@pytest.mark.needs("bin:xrootd")
def test_a_renewed_proxy_is_used_without_a_restart(bench_with, gsi_storage, authority, tmp_path):
    proxy = tmp_path / "proxy"
    proxy.write_bytes(authority.proxy(days=-1).read_bytes())
    proxy.chmod(0o600)
    bench = bench_with(ca_dir=authority.folder_of_authorities(), x509_proxy=proxy)
    with pytest.raises(AuthError):
        bench.stat(gsi_storage.url("x"))
    proxy.write_bytes(authority.proxy().read_bytes())
    assert bench.stat(gsi_storage.url("x")).size == 5


def test_a_credential_that_cannot_be_read_is_named(bench_with, tmp_path):
    for name in ("x509_proxy", "token_file"):
        bench = bench_with(**{name: tmp_path / "absent"})
        with pytest.raises(AuthError, match=rf"stager\.xrootd\.{name}: .*absent"):
            bench.stat("root://localhost:1//store/x")


@pytest.mark.parametrize("content", ["", "junk", "-----BEGIN CERTIFICATE-----", "-----BEGIN PRIVATE KEY-----"])
def test_a_file_without_a_proxy_in_it_is_named(bench_with, tmp_path, content):
    (tmp_path / "proxy").write_text(content)
    bench = bench_with(x509_proxy=tmp_path / "proxy")
    with pytest.raises(AuthError, match=r"stager\.xrootd\.x509_proxy: .*/proxy: holds no proxy"):
        bench.stat("root://localhost:1//store/x")


@pytest.mark.parametrize(
    "settings",
    [{"ca_dir": Path("/absent")}, {"ca_file": Path("/absent")}, {"redirects": 1000}, {"stall_timeout": 10**9}],
)
def test_settings_that_cannot_be_are_told_at_once(settings, bench_with):
    with pytest.raises(ConfigError, match=rf"stager\.xrootd\.{next(iter(settings))}"):
        bench_with(**settings)


# -- tokens ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def token_server(authority):
    """A server over TLS that takes the tokens of a set."""
    good, offered = {TOKEN}, []

    def judge(token):
        offered.append(token)
        return token in good

    context = authority.server_context()
    with ScriptedXrootd(
        lambda request: FOUND if request.name == "stat" else error(3013), tls=context, token=judge
    ) as it:
        it.good, it.offered = good, offered
        yield it


def test_a_token_logs_in_over_tls(bench_with, token_server, authority, tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    bench = bench_with(ca_file=authority.ca_file, token_file=token_file(tmp_path, TOKEN + "\n"))
    assert bench.stat(f"{token_server.url}/store/x").size == 5
    assert token_server.offered == [TOKEN]
    assert TOKEN not in caplog.text
    assert not any(TOKEN in request.path for request in token_server.requests)


def test_a_token_that_is_refused_is_an_auth_error_and_read_again(bench_with, token_server, authority, tmp_path):
    path = token_file(tmp_path, TOKEN)
    bench = bench_with(ca_file=authority.ca_file, token_file=path)
    token_server.good.clear()
    with pytest.raises(AuthError) as caught:
        bench.stat(f"{token_server.url}/store/x")
    assert TOKEN not in str(caught.value)
    token_server.good.add(TOKEN[::-1])
    path.write_text(TOKEN[::-1])
    # what is offered has to look like a token: three parts
    assert bench.stat(f"{token_server.url}/store/x").size == 5
    assert token_server.offered[-1] == TOKEN[::-1]


def test_a_token_that_was_renewed_is_used_for_the_next_file(bench_with, token_server, authority, tmp_path):
    path = token_file(tmp_path, TOKEN)
    bench = bench_with(ca_file=authority.ca_file, token_file=path)
    bench.stat(f"{token_server.url}/store/x")
    renewed = TOKEN.replace("c2lnbmF0dXJl", "bmV3")
    token_server.good.add(renewed)
    path.write_text(renewed)
    bench.stat(f"{token_server.url}/store/x")
    assert token_server.offered == [TOKEN, renewed]


def test_a_token_never_goes_over_a_plain_connection(bench_with, tmp_path):
    offered = []
    bench = bench_with(token_file=token_file(tmp_path, TOKEN))
    with (
        ScriptedXrootd(lambda _: FOUND, token=lambda token: bool(offered.append(token)) or True) as server,
        pytest.raises((AuthError, BackendUnavailable)),
    ):
        bench.stat(f"{server.url}/store/x")
    assert not any(offered)


def test_a_token_that_others_can_read_is_refused(bench_with, token_server, authority, tmp_path):
    path = token_file(tmp_path, TOKEN)
    path.chmod(0o644)
    with pytest.raises(AuthError):
        bench_with(ca_file=authority.ca_file, token_file=path).stat(f"{token_server.url}/store/x")
    assert not token_server.offered


# -- nothing else ------------------------------------------------------------------------------------------------------


def test_the_pilots_environment_has_no_part_in_it(bench_with, token_server, authority, tmp_path, monkeypatch):
    for name in ("BEARER_TOKEN", "X509_USER_PROXY", "X509_CERT_DIR", "XRD_LOGLEVEL", "XrdSecPROTOCOL"):
        monkeypatch.setenv(name, "canary-of-the-environment")
    bench = bench_with(ca_file=authority.ca_file, token_file=token_file(tmp_path, TOKEN))
    assert bench.stat(f"{token_server.url}/store/x").size == 5
    assert token_server.offered == [TOKEN]
    (worker,) = bench.stager._workers._idle
    assert not any("canary" in value for value in worker.environment.values())


def test_a_token_is_neither_argument_nor_variable_of_the_process(bench_with, token_server, authority, tmp_path):
    bench = bench_with(ca_file=authority.ca_file, token_file=token_file(tmp_path, TOKEN))
    bench.stat(f"{token_server.url}/store/x")
    told = b"".join(
        Path(f"/proc/{pid}/{what}").read_bytes()
        for lists in Path("/proc/self/task").glob("*/children")
        for pid in lists.read_text().split()
        for what in ("cmdline", "environ")
    )
    assert b"pilot_stager_xrootd" in told
    assert TOKEN.encode() not in told


@pytest.mark.needs("bin:xrootd")
def test_the_pilot_has_no_threads_and_no_library_of_xrootds(storage, tmp_path):
    storage.put("x", b"hello")
    code = f"""
import logging, sys, threading
from pathlib import Path
from pilot_core import CancelToken, Context, Deadline, SystemClock
from pilot_stager_xrootd.settings import Settings
from pilot_stager_xrootd.stager import XrootdStager
clock = SystemClock()
context = Context(clock=clock, log=logging.getLogger("x"), work_dir=Path({str(tmp_path)!r}))
stager = XrootdStager(Settings(), context)
print(stager.stat({storage.url("x")!r}, cancel=CancelToken(), deadline=Deadline.after(clock, 20)).size)
print(len(list(Path("/proc/self/task").iterdir())), "XRootD" in sys.modules, "pyxrootd" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["5", "1", "False", "False"]
    assert not done.stderr
