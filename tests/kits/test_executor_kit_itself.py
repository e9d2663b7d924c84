"""What the executor kit stands on: processes are found by their mark, and none outlives a clause."""

import os
import subprocess

import pytest

from pilot_core import ExecutorError, PayloadHandle, SystemClock
from pilot_core.testing.kits.executor_bench import PATH, Bench
from pilot_core.testing.kits.processes import below, eventually, living, sweep, zombies
from pilot_core.testing.kits.second_pilot import SecondPilot, SecondPilotError

pytest_plugins = ["pytester"]


@pytest.fixture
def marked(tmp_path):
    """A process with a mark in its environment, and another with one in its command line."""
    os.mkfifo(tmp_path / "hold")
    mark = f"kit-{os.getpid()}-{tmp_path.name}"
    script = "exec 3<>hold; read nothing <&3"
    processes = [
        subprocess.Popen(["/bin/sh", "-c", script], cwd=tmp_path, env={"PATH": PATH, "MARK": mark}),
        subprocess.Popen(["/bin/sh", "-c", f": {mark}; {script}"], cwd=tmp_path, env={}),
    ]
    yield mark, processes
    for process in processes:
        process.kill()
        process.wait()


def test_processes_are_found_by_their_mark_and_killed(marked):
    mark, processes = marked
    # right after exec(2) the kernel does not show the environment yet
    assert eventually(lambda: set(living(mark)) == {process.pid for process in processes})
    assert living("a mark that nobody has, not even in part") == {}
    sweep(mark)
    assert living(mark) == {}
    assert {process.pid for process in processes} <= zombies()
    assert [process.wait() for process in processes] == [-9, -9]
    assert not {process.pid for process in processes} & set(below())


def test_what_does_not_come_true_is_not_waited_for_ever():
    assert eventually(lambda: True)
    assert not eventually(lambda: False, seconds=0.0)


class Broken:
    """An executor that finds nothing."""

    def attach(self, handle, *, cancel, deadline):
        raise ExecutorError("there is no such payload")

    def close(self):
        pass


def test_an_error_in_the_second_pilot_is_told():
    pilot = SecondPilot(lambda clock: Broken())
    try:
        with pytest.raises(SecondPilotError, match=r"^ExecutorError: there is no such payload$"):
            pilot.attach(PayloadHandle(executor="broken", version=1, data={}))
        pilot.kill()
        with pytest.raises(pytest.fail.Exception, match="died"):
            pilot.end()
    finally:
        pilot.close()
    assert pilot.pid not in below()


class Losing:
    """An executor that starts payloads and forgets them."""

    def __init__(self):
        self.processes = []

    def start(self, spec, *, cancel, deadline):
        self.processes.append(subprocess.Popen(spec.argv, cwd=spec.cwd, env=spec.environment, start_new_session=True))
        return PayloadHandle(executor="losing", version=1, data={})

    def attach(self, handle, *, cancel, deadline):
        raise ExecutorError("lost")

    def close(self):
        for process in self.processes:
            process.wait()


def test_what_an_executor_loses_is_killed_at_the_end_of_a_clause(tmp_path):
    bench = Bench(make=lambda clock: Losing(), root=tmp_path, clock=SystemClock())
    with pytest.raises(ExecutorError, match="lost"):
        bench.start(bench.shell('trap "" TERM; exec 3<>hold; read nothing <&3'))
    assert bench.living()
    bench.close()
    assert not bench.living()
    assert [process.returncode for process in bench.executor.processes] == [-9]


def test_an_author_who_names_no_plugin_is_told_what_to_return(pytester):
    pytester.makepyfile("from pilot_core.testing import ExecutorKit\nclass TestMine(ExecutorKit):\n    pass\n")
    options = ("-p", "no:cacheprovider", "-k", "exit_codes")
    pytester.runpytest_subprocess(*options).stdout.fnmatch_lines(
        ["*override the fixture `plugin` in TestMine*executor.*"]
    )
