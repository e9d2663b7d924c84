"""The fixture that other projects' tests use."""

import subprocess
import sys
import textwrap

import pytest

TESTS = """
    import http.client
    import ssl

    import pytest
    from pilot_devserver.faults import Faults


    def ask(server):
        context = ssl.create_default_context(cafile=server.ca_file)
        connection = http.client.HTTPSConnection(server.url.partition("//")[2], context=context)
        connection.request("GET", "/api/v1/system/is_alive")
        status = connection.getresponse().status
        connection.close()
        return status


    def test_a_fault(pilot_server):
        fault = pilot_server.fault("status", status=418, count=2)
        assert [ask(pilot_server) for _ in range(3)] == [418, 418, 200]
        assert (fault.fired, fault.seen) == (2, 3)
        fault.until_fired(2)
        assert list(pilot_server.site.queues) == ["DEV_QUEUE"]


    @pytest.mark.pilot_server(queues=("A", "B"))
    def test_other_arguments(pilot_server):
        assert list(pilot_server.site.queues) == ["A", "B"]
        assert ask(pilot_server) == 200
        pilot_server.fault("status", count=0)
        pilot_server.clear_faults()
        assert ask(pilot_server) == 200


    @pytest.fixture(scope="session")
    def keys():
        return []


    @pytest.mark.parametrize("_", [1, 2])
    def test_keys_are_made_once(pilot_server, keys, _):
        keys.append(pilot_server.ca_file.read_bytes())
        assert len(set(keys)) == 1
"""


def test_a_project_of_ones_own_has_the_fixture(tmp_path):
    (tmp_path / "test_mine.py").write_text(textwrap.dedent(TESTS))
    # as a project that knows nothing of this one: strict, and every warning an error
    command = [sys.executable, "-m", "pytest", "-q", "--strict-markers", "-W", "error", "-p", "no:cacheprovider"]
    options = {"capture_output": True, "text": True, "stdin": subprocess.DEVNULL}
    done = subprocess.run(command, cwd=tmp_path, **options, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 passed" in done.stdout


def test_the_plugin_imports_no_server_until_it_is_asked():
    code = "import sys, pilot_devserver.pytest_plugin; print('aiohttp' in sys.modules, 'cryptography' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_here_it_is_too(pilot_server):
    with pytest.raises(TimeoutError):
        pilot_server.fault("hang").until_fired(patience=0.0)
