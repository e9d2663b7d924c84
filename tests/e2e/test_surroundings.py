"""What surrounds a pilot: an environment full of traps, and people who look for its credentials."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest


def poison(site):
    """Return variables that lead every library astray that heeds them, and lay files that do."""
    nowhere = "http://127.0.0.1:1"
    netrc = "machine 127.0.0.1 login wrong password wrong\ndefault login wrong password wrong\n"
    for file in (site.folder / "home/.netrc", site.folder / "netrc"):
        file.write_text(netrc)
        file.chmod(0o600)
    proxies = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"), nowhere)
    return {
        **proxies,
        **{name.lower(): value for name, value in proxies.items()},
        "REQUESTS_CA_BUNDLE": "/nonexistent/ca.pem",
        "CURL_CA_BUNDLE": "/nonexistent/ca.pem",
        "SSL_CERT_FILE": "/dev/null",
        "SSL_CERT_DIR": "/nonexistent",
        "NETRC": str(site.folder / "netrc"),
        "X509_USER_PROXY": "/nonexistent/proxy.pem",
        "BEARER_TOKEN": "wrong",
        "PYTHONWARNINGS": "error",
        "LC_ALL": "C",
        "TZ": "Pacific/Kiritimati",
    }


def use_token(site):
    file = site.folder / "token"
    file.touch(mode=0o600)
    file.write_text(site.server.state.tokens().issue())
    site.pilot |= {"cert": None, "token_file": file, "token_origin": "wlcg.production"}
    return file


@pytest.mark.parametrize("communicator", ["panda", "panda-legacy"])
def test_an_environment_full_of_traps_changes_nothing(site, communicator):
    """The server is asked, with a token, and a transformation is fetched from it."""
    use_token(site)
    site.pilot["communicator"] = communicator
    script = site.server.state.transformations / f"{site.queue}.sh"
    script.write_text("#!/bin/sh\necho fetched\n")
    site.settings["transformation_urls"] = [f"{site.server.url}/trf"]
    job = site.submit(f"{site.server.url}/trf/{script.name}")
    assert site.run(env=poison(site)).code == 0
    assert site.job(job).status == "finished", site.job(job).fields
    assert site.log_of(job)["payload.stdout"] == b"fetched\n"


def test_nor_where_the_queue_is_told_by_the_server(own_site, own_server):
    site, queue = own_site, "DEV_QUEUE"
    storage = own_server.state.storage / f"{queue}_DATADISK"

    def there(job):
        return replace(job, queue=queue, files=tuple(replace(file, endpoint=storage.name) for file in job.files))

    site.pilot["queue"] = queue
    job = site.submit("/bin/echo", "hello", spec=there)
    ended = site.run(env=poison(site))
    assert ended.code == 0
    assert site.job(job).status == "finished", ended.text
    assert (storage / site.job(job).description["logFile"]).is_file()


def files_with(secrets, folder):
    """Return the files below a folder that hold one of the secrets."""
    found = []
    for path in folder.rglob("*"):
        with suppress(OSError):
            if path.is_file() and any(secret in path.read_bytes() for secret in secrets):
                found.append(path)
    return found


def processes_with(secrets):
    """Return the processes that show one of the secrets in their arguments or their environment."""
    found = []
    for entry in Path("/proc").iterdir():
        for name in ("cmdline", "environ") if entry.name.isdecimal() else ():
            with suppress(OSError):
                if any(secret in (entry / name).read_bytes() for secret in secrets):
                    found.append((entry.name, name))
    return found


@pytest.mark.parametrize("kind", ["token", "proxy"])
@pytest.mark.parametrize("communicator", ["panda", "panda-legacy"])
def test_the_pilots_credential_is_shown_nowhere(own_site, own_server, kind, communicator):
    """Neither in debug logs, job directories, log tarballs and the spool, nor to other users and to the payload."""
    site, gate = own_site, own_site.gate()
    site.pilot |= {"communicator": communicator, "report_budget": 1, "log_level": "debug"}
    if kind == "token":
        file = use_token(site)
        token = file.read_bytes().strip()
        secrets = [token, *token.split(b".")[1:]]
    else:
        file = own_server.state.pilot_proxy
        key = file.read_text().partition("PRIVATE KEY-----")[2].partition("-----END")[0]
        secrets = [line.encode() for line in key.split() if len(line) > 16]
        assert secrets
    site.script(f"echo $$; env; cat /proc/$PPID/environ; ls -l /proc/$PPID/fd; {gate.script}", priority=2000)
    job = site.script(f"cat /proc/*/cmdline 2> /dev/null; {gate.script}; exit 1")
    pilot = site.start("--jobs", 0, env={"SSLKEYLOGFILE": str(site.folder / "keys.log")})
    gate.wait()
    assert files_with(secrets, site.work) == []
    assert processes_with(secrets) == []
    gate.open()
    gate.wait()
    own_server.kill()
    gate.open()
    ended = pilot.wait()
    site.check_clean(["spool"])
    assert ended.code == 4
    assert site.job(job).status in {"sent", "running", "starting"}
    assert files_with(secrets, site.work) == []
    assert files_with(secrets, site.storage) == []
    assert not (site.folder / "keys.log").exists(), "with the session's keys everybody can read what was sent"
    assert not any(secret in ended.text.encode() for secret in secrets)
    logs = [site.log_of(found.id) for found in site.jobs()]
    assert len(logs) == 2
    for log in logs:
        assert not any(secret in content for content in log.values() for secret in secrets)


def test_a_users_secrets_are_for_the_payloads_eyes_only(site):
    """They go with a job that may have them (`us`): in a file while its payload runs, and nowhere else."""
    canary = "users-canary-7f3a9c"
    site.server.store.set_secret(f"User of {site.queue}", "db_password", canary)
    gate = site.gate()
    site.pilot["log_level"] = "debug"
    job = site.script(
        f"cp panda_secrets.json secrets.out; stat -c %a panda_secrets.json; {gate.script}",
        outputs=["secrets.out"],
        special="us",
        user=f"User of {site.queue}",
    )
    pilot = site.start()
    gate.wait()
    holders = {path.name for path in files_with([canary.encode()], site.work)}
    assert holders == {"panda_secrets.json", "secrets.out"}
    gate.open()
    ended = pilot.wait()
    site.check_clean()
    assert site.job(job).status == "finished", site.job(job).fields
    assert canary not in ended.text
    log = site.log_of(job)
    assert "panda_secrets.json" not in log
    assert log["payload.stdout"] == b"600\n"
    assert not any(canary.encode() in content for content in log.values())
    assert canary not in str(site.job(job).fields) + site.job(job).metadata
