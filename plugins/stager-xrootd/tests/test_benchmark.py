"""The benchmark runs, and compares what it says."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / "benchmarks" / "xrootd.py"


@pytest.mark.needs("bin:xrootd", "bin:xrdcp", "module:XRootD")
@pytest.mark.skipif(not SCRIPT.is_file(), reason="needs the checkout")
def test_the_benchmark_compares_with_xrdcp(tmp_path):
    tmp_path.chmod(0o755)
    command = [sys.executable, str(SCRIPT), "--megabytes", "5", "--pairs", "1", "--files", "10", "--lenient"]
    done = subprocess.run([*command, "--folder", "/dev/shm"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for what in ("download", "upload", "download 64 KiB"):
        assert re.search(rf"^{what}.*ours = \d+\.\d+ x$", done.stdout, re.MULTILINE), done.stdout
