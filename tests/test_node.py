"""The description of the machine."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilot_core import Queue
from pilot_core.node import _number, describe_node, parse_cpuinfo

TWO = """processor\t: 0
vendor_id\t: GenuineIntel
model name\t: Intel(R) Xeon(R) CPU: E5-2650 @ 2.00GHz
cpu MHz\t\t: 1999.998
physical id\t: 0
siblings\t: 2
cpu cores\t: 1
flags\t\t: fpu vme
power management:

processor\t: 1
model name\t: Intel(R) Xeon(R) CPU: E5-2650 @ 2.00GHz
physical id\t: 0

"""
ARM = """processor\t: 0
BogoMIPS\t: 50.00
Features\t: fp asimd

processor\t: 1
BogoMIPS\t: 50.00

Hardware\t: BCM2835
Serial\t\t: 10000000
"""


def test_each_cpu_is_one_mapping():
    first, second = parse_cpuinfo(TWO)
    assert first["model name"] == "Intel(R) Xeon(R) CPU: E5-2650 @ 2.00GHz"
    assert first["power management"] == ""
    assert (first["cpu cores"], second["processor"]) == ("1", "1")


def test_what_is_no_cpu_is_left_out():
    assert [cpu["processor"] for cpu in parse_cpuinfo(ARM)] == ["0", "1"]


@pytest.mark.parametrize("text", ["", "\n\n\n", "nonsense", "a : b", ":", "processor"])
def test_no_cpu_is_no_error(text):
    assert parse_cpuinfo(text) == []


@given(st.text())
def test_any_text_is_taken_apart(text):
    for cpu in parse_cpuinfo(text):
        assert "processor" in cpu


@given(st.lists(st.dictionaries(st.sampled_from(["model name", "cpu MHz", "flags"]), st.text("abc 1.:")), max_size=4))
def test_cpus_come_back_as_they_were_written(cpus):
    text = "".join(
        f"processor\t: {number}\n" + "".join(f"{name}\t: {value}\n" for name, value in cpu.items()) + "\n"
        for number, cpu in enumerate(cpus)
    )
    assert parse_cpuinfo(text) == [
        {"processor": str(number), **{name: value.strip() for name, value in cpu.items()}}
        for number, cpu in enumerate(cpus)
    ]


@pytest.mark.parametrize(
    ("text", "number"), [("4", 4), ("", None), ("-4", None), ("4.5", None), ("²", None), (" ", None)]
)
def test_numbers_are_numbers_or_not_known(text, number):
    assert _number(text) == number


def test_this_machine_is_described_as_it_says_itself():
    node = describe_node(Queue(name="Q", site="S"), "slot1@host")
    assert (node.site, node.queue, node.host_name) == ("S", "Q", "slot1@host")
    assert node.logical_cpus == os.cpu_count()
    assert node.cpu_architecture == platform.machine()
    assert node.cpu_model
    [total] = [line for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemTotal:")]
    assert node.memory_mb == int(total.split()[1]) // 1024
    disk = os.statvfs("/")
    assert node.disk_gb == disk.f_blocks * disk.f_frsize // 1024**3
    for value in (node.sockets, node.cores_per_socket, node.threads_per_core):
        assert value is None or value >= 1
    assert node.clock_mhz is None or node.clock_mhz > 0


def test_a_queue_without_a_site_is_its_own():
    assert describe_node(Queue(name="Q"), "h").site == "Q"
