"""What keeps a pilot from working at all: one line that says what and what to do, an exit code, nothing left behind."""

from __future__ import annotations

import socket

import pytest
from pilot_devserver.certificates import make_proxy

from pilot_core import SystemClock
from pilot_core.testing.scripted import ScriptedServer
from pilot_core.testing.tls import TestAuthority


def fails(site, code, *words, options=(), **values):
    """Run a pilot that ends with `code`, and with one line that has all these words; returns how it ended."""
    ended = site.run(*options, **values)
    assert ended.code == code, ended.text
    assert ended.last.startswith("pilot-core: "), ended.text
    assert not [word for word in words if word not in ended.last], ended.last
    assert not ended.of_level("ERROR"), ended.text
    assert ended.out == ""
    return ended


# -- the server ------------------------------------------------------------------------------------------------------


def test_an_url_that_is_none(site):
    site.pilot["server"] = "pandaserver.example:25443"
    fails(site, 2, "'pandaserver.example:25443'", "https://")


def test_no_server_at_all(site):
    site.pilot["server"] = None
    fails(site, 2, "no server", "--server", "PILOT_CORE_SERVER")


def test_a_refused_connection_is_tried_again_within_a_budget_that_is_told(site):
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))  # and not listening: nobody else can use it either
        address = f"127.0.0.1:{held.getsockname()[1]}"
        site.pilot["server"] = f"https://{address}"
        ended = fails(
            site, 4, address, "connection refused", "check the URL", options=("--set", "pilot.acquire_budget=1")
        )
    told = ended.of_level("WARNING")
    assert told
    assert all("budget 1 s left" in line or "budget 0 s left" in line for line in told)


def test_another_path_of_an_url(site):
    site.pilot["server"] += "/elsewhere"
    fails(site, 4, "404", "URL")


def test_an_authority_that_is_not_known(site):
    site.pilot["ca_file"] = None
    ended = fails(site, 4, "not trusted", "authority", "--ca-file")
    assert not ended.of_level("WARNING"), "it was tried again"


def test_an_authority_that_is_another(site, tmp_path):
    site.pilot["ca_file"] = TestAuthority(tmp_path).ca_file
    fails(site, 4, "not trusted", "--ca-file")


def test_a_certificate_for_another_host(site, tmp_path):
    authority = TestAuthority(tmp_path)
    with ScriptedServer(tls=authority.server_context(host="elsewhere.example")) as server:
        site.pilot |= {"server": f"https://127.0.0.1:{server.port}", "ca_file": authority.ca_file}
        fails(site, 4, "not trusted", "host", "URL")
        assert not server.requests


# -- credentials -----------------------------------------------------------------------------------------------------


def use_token(site, token, origin="wlcg.production"):
    file = site.folder / "token"
    if token is not None:
        file.write_text(token)
        file.chmod(0o600)
    site.pilot |= {"cert": None, "token_file": file, "token_origin": origin}


def test_no_credential(site):
    site.pilot["cert"] = None
    fails(site, 5, "neither a certificate nor a token", "--cert", "--token-file")


def test_a_token_that_has_expired(site):
    use_token(site, site.server.token(seconds=-60))
    fails(site, 5, str(site.folder / "token"), "expired at", "write a new one")


def test_a_token_of_somebody_without_the_role(site):
    use_token(site, site.server.token(groups=["/wlcg/pilot"]))
    fails(site, 5, "Not a member of the wlcg/production group", "renew the token")


def test_a_token_for_a_role_that_is_no_pilots(site):
    use_token(site, site.server.token(), origin="wlcg.pilot")
    fails(site, 5, "role", "VO.production")


def test_a_token_file_that_is_missing(site):
    use_token(site, None)
    fails(site, 5, str(site.folder / "token"), "No such file", "--token-file")


def test_a_token_file_that_is_empty(site):
    use_token(site, "\n")
    fails(site, 5, str(site.folder / "token"), "is empty", "write the token into it")


def test_a_token_without_its_origin(site):
    use_token(site, site.server.token(), origin=None)
    fails(site, 2, "--token-origin VO.ROLE")


def test_a_certificate_without_its_key(site):
    site.pilot["cert"] = site.server.pilot_certificate.cert_file
    fails(site, 5, "no private key", "--key")


def test_a_certificate_that_is_missing(site):
    site.pilot["cert"] = site.folder / "none.pem"
    fails(site, 5, "none.pem", "No such file", "--cert")


def test_a_certificate_of_somebody_without_the_role(site):
    certificate = site.server.user_certificate
    site.pilot |= {"cert": certificate.cert_file, "key": certificate.key_file}
    fails(site, 5, "role", "VOMS role production")


def test_a_proxy_that_has_expired(site):
    proxy = site.folder / "proxy.pem"
    proxy.touch(mode=0o600)
    proxy.write_bytes(make_proxy(site.server.state.pilot(), SystemClock(), hours=-1).bundle_pem)
    site.pilot["cert"] = proxy
    fails(site, 5, "proxy.pem", "expired at", "renew")


# -- the configuration -----------------------------------------------------------------------------------------------


def test_a_queue_that_nobody_knows(site):
    site.pilot["queue"] = "NOWHERE"
    fails(site, 2, "unknown queue 'NOWHERE'", "add [queues.NOWHERE]")


def test_a_queue_that_is_offline(site):
    site.settings["status"] = "offline"
    fails(site, 2, site.queue, "is offline", "name another one")


def test_a_configuration_that_cannot_be_read(site, unprivileged):
    file = site.write_config()
    file.chmod(0)
    fails(site, 2, str(file), "Permission denied", options=("--config", file), config=False, prefix=unprivileged)


def test_a_configuration_that_does_not_exist(site):
    file = site.folder / "none.toml"
    fails(site, 2, str(file), "does not exist", "--config", options=("--config", file), config=False)


def test_a_configuration_that_is_no_toml(site):
    file = site.write_config()
    file.write_text("[pilot\n")
    fails(site, 2, str(file), "not valid TOML", "line 1", options=("--config", file), config=False)


def test_a_key_that_does_not_exist(site):
    site.pilot["sever"] = "https://localhost"
    fails(site, 2, "pilot.toml", "pilot.sever", "unknown key", "did you mean 'server'?")


def test_a_key_of_a_queue_that_does_not_exist(site):
    site.settings["hartbeat_seconds"] = 3
    fails(site, 2, f"queues.{site.queue}.hartbeat_seconds", "unknown key", "did you mean 'heartbeat_seconds'?")


def test_a_communicator_that_is_not_installed(site):
    site.pilot["communicator"] = "pandora"
    fails(site, 3, "no communicator 'pandora'", "install pilot-communicator-pandora", "list-plugins")


def test_an_executor_that_is_not_installed(site):
    site.settings["executor"] = "teapot"
    site.submit()
    fails(site, 3, "no executor 'teapot'", "install pilot-executor-teapot")
    assert site.jobs()[0].status == "activated", "a job was taken all the same"


# -- the work directory ----------------------------------------------------------------------------------------------


def test_a_work_directory_that_does_not_exist(site):
    site.pilot["work_dir"] = site.folder / "none"
    fails(site, 2, str(site.folder / "none"), "does not exist", "--work-dir")


def test_a_work_directory_that_is_none(site):
    site.pilot["work_dir"] = site.folder / "pilot.toml"
    fails(site, 2, str(site.folder / "pilot.toml"), "is not a directory", "--work-dir")


def test_a_work_directory_that_cannot_be_written(site, unprivileged):
    site.work.chmod(0o555)
    fails(site, 2, str(site.work), "cannot be written", "--work-dir", prefix=unprivileged)


def test_a_work_directory_with_too_little_room(site):
    site.submit()
    site.pilot["min_free_mb"] = 10**9
    fails(site, 1, str(site.work), "MB free", "pilot.min_free_mb", "--work-dir")
    assert site.jobs()[0].status == "activated", "a job was taken all the same"


@pytest.mark.parametrize("size", ["16k", "1m"])
def test_a_work_directory_that_is_full(site, on_small_disk, size):
    ended = site.run(prefix=on_small_disk(site.work, size, fill=True))
    assert ended.code == 1
    assert str(site.work) in ended.lines[-1]
    assert "is full; free some space" in ended.lines[-1]
