"""What a server may tell a pilot to do while a job runs: look, end softly; and what it may not."""

from __future__ import annotations

import pytest

from pilot_core import PilotErrorCode as Code


@pytest.fixture
def running(site):
    """A job that waits, with a pilot whose updates are rare; those that a test waits for come at once, or every 60 s
    of a clock that is fast."""
    gate = site.gate()

    class Running:
        def start(self, text="", *, scale=200, **values):
            self.job = site.script(f"{text}\n{gate.script}", **values)
            site.settings["heartbeat_seconds"] = 200.0
            # it waits for hours
            site.settings["watchdogs"] = {"looping": {"enabled": False}}
            for name in ("connect_timeout", "timeout"):
                site.tables.setdefault("communicator.panda", {})[name] = 60.0 * scale
            command = ("-m", "pilot_core.testing.pilot", "--clock-scale", scale, "run")
            self.pilot = site.start(command=command)
            gate.wait()
            site.until(lambda: site.job(self.job).status == "running")

        def told(self, command, *words):
            """Set a command and wait until the server was shown something with all these words; returns it."""
            assert site.server.store.set_command(self.job, command)[0]
            return self.until_shown(*words)

        def until_shown(self, *words):
            site.until(lambda: all(word in (site.job(self.job).stdout or "") for word in words))
            return site.job(self.job).stdout

        def end(self):
            gate.open()
            ended = self.pilot.wait()
            site.check_clean()
            assert ended.code == 0
            return site.job(self.job), ended

    return Running()


def test_in_debug_mode_the_end_of_the_output_is_shown_again_and_again(site, running):
    second = site.gate("second")
    running.start(f"seq 1 100; ({second.script}; echo later) &")
    shown = running.told("debug", "99\n100")
    assert "80\n" not in shown
    second.wait()
    second.open()
    # no new command: by the interval of debugging, a third of the usual one
    running.until_shown("100\nlater")
    found, _ = running.end()
    assert found.status == "finished"


def test_debug_mode_ends_when_the_server_does_not_say_so_any_more(site, running):
    running.start("echo hello")
    site.server.store.set_debug(running.job, True)
    running.until_shown("hello")
    site.server.store.set_debug(running.job, False)
    known = len(site.job(running.job).heartbeats)
    site.until(lambda: len(site.job(running.job).heartbeats) >= known + 3)
    *_, before, last = site.job(running.job).heartbeats
    assert last - before > 0.6, "far less than 200 s of the pilot's"
    running.end()


def test_a_job_may_be_in_debug_mode_from_its_start(site, running):
    running.start("echo hello", special="debug")
    running.until_shown("hello")
    found, _ = running.end()
    assert found.status == "finished"


def test_the_four_verbs_show_the_job(site, running):
    running.start("seq 1 50; mkdir sub; head -c 70000 /dev/zero > sub/big.dat; echo note > sub/note.txt")
    assert running.told("tail -n 2 payload.stdout", "49\n50") == "49\n50"
    listed = running.told("ls -l sub", "big.dat", "note.txt")
    assert "70000" in listed
    assert "sub/" not in running.told("ls", "sub", "payload.stdout").replace("payload", "")
    assert "kB  sub" in running.told("du -sh", "kB  .")
    assert "/bin/sh -c" in running.told("ps -ef", "PID", "/bin/sh")
    found, _ = running.end()
    assert found.status == "finished"


REFUSED = (
    *("tail ../journal.jsonl", "tail /etc/passwd", "tail link", "tail folder/passwd", "tail pipe", "tail sub/again"),
    *("tail --follow=name payload.stdout", "tail a b", "tail 'a", "tail -n -1 payload.stdout", "tail gone"),
    *("ls ..", "ls sub/../..", "ls folder/ssl", "ls --color=always", "du /", "du folder", "ps /etc/passwd"),
    *("ps; touch shell", "ls $(touch shell)", "tail `touch shell`", "ls | touch shell", "ls && touch shell"),
    *("gdb 1", "rm -rf .", "touch shell", "/bin/ls", "sh -c 'touch shell'", "nocleanup"),
    "tail panda_secrets.json",
)


def test_what_leads_out_or_runs_something_is_refused_and_told(site, running):
    running.start(
        "ln -s /etc/passwd link; ln -s /etc folder; mkfifo pipe; mkdir sub; echo x > sub/a; ln sub/a sub/again"
    )
    for command in REFUSED:
        shown = running.told(command, "pilot-core refuses", repr(command))
        assert "root:" not in shown
    # a link is shown as a link
    assert running.told("ls folder", "lrwx").count("\n") == 0
    (folder,) = (path for path in site.work.iterdir() if path.name.startswith("job-"))
    assert not list(folder.rglob("shell"))
    found, ended = running.end()
    assert found.status == "finished"
    assert all(ended.says("WARNING", repr(command)[1:-1], "is refused") for command in REFUSED)


def test_secrets_in_the_output_are_hidden(site, running):
    site.server.store.set_secret("Development User", "password", "canary-of-the-user")
    running.start("cat panda_secrets.json; echo; echo here it was")
    shown = running.told("debug", "here it was")
    assert "canary" not in shown
    running.end()
    site.server.store.set_secret("Development User", "password", None)


def test_softkill_lets_the_payload_end_well(site):
    gate = site.gate("soft")
    job = site.script(
        f"trap 'echo saved > part.out; exit 0' TERM; {gate.script} & wait", outputs=["part.out"], priority=2000
    )
    next_job = site.submit()
    site.settings["heartbeat_seconds"] = 0.2
    pilot = site.start("--jobs", 0)
    gate.wait()
    site.until(lambda: site.job(job).status == "running")
    assert site.server.store.set_command(job, "softkill")[0]
    assert pilot.wait().code == 0
    site.check_clean()
    assert site.job(job).status == "finished"
    assert (site.storage / "part.out").read_text() == "saved\n"
    assert site.job(next_job).status == "finished"


def test_softkill_of_a_payload_that_does_not_care_is_a_kill(site):
    gate = site.gate()
    job = site.script(gate.script)
    site.settings["heartbeat_seconds"] = 0.2
    pilot = site.start()
    gate.wait()
    site.until(lambda: site.job(job).status == "running")
    assert site.server.store.set_command(job, "softkill")[0]
    assert pilot.wait().code == 0
    site.check_clean()
    found = site.job(job)
    assert found.reported_state == "failed"
    assert found.fields["pilot_error_code"] == Code.PANDAKILL
    assert "softkill" in found.fields["pilot_error_diag"]
