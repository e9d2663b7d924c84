"""The benchmark of the checkout runs, with little to move."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).parents[3] / "benchmarks" / "s3.py"


@pytest.mark.needs("bin:ceph-mon", "bin:ceph-osd", "bin:radosgw", "bin:ceph", "module:boto3")
@pytest.mark.skipif(not BENCHMARK.is_file(), reason="not in the checkout")
def test_the_benchmark_compares_with_boto3(tmp_path):
    argv = [sys.executable, BENCHMARK, "--folder", tmp_path, "--megabytes", "12", "--pairs", "1", "--files", "3"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for what in ("upload  ", "download  ", "upload 64 KiB x8", "memory  "):
        assert what in done.stdout
    assert "ours / boto3 = " in done.stdout
