"""What control groups count of processes that were killed for lack of memory."""

from __future__ import annotations

import pytest

from pilot_core.supervision.oom import OomCount


@pytest.fixture
def machine(tmp_path):
    """Make what a kernel shows of a process's control group; returns /proc/self and the file that counts."""

    def make(groups, mount, file):
        proc = tmp_path / "self"
        proc.mkdir()
        (proc / "cgroup").write_text(groups)
        (proc / "mountinfo").write_text(f"22 1 0:20 / /proc rw - proc proc rw\n{mount.format(top=tmp_path / 'top')}\n")
        counter = tmp_path / "top" / file
        counter.parent.mkdir(parents=True)
        counter.write_text("low 0\noom 5\noom_kill 3\noom_group_kill 0\n")
        return proc, counter

    return make


V1 = "33 31 0:32 {root} {{top}} rw,relatime - cgroup cgroup rw,memory"
V2 = "33 31 0:32 {root} {{top}} rw,relatime - cgroup2 cgroup2 rw"


@pytest.mark.parametrize(
    ("groups", "mount", "file"),
    [
        ("4:memory:/slot/7\n1:cpu:/\n0::/\n", V1.format(root="/"), "slot/7/memory.oom_control"),
        ("4:cpu,memory:/slot/7\n", V1.format(root="/slot"), "7/memory.oom_control"),
        ("0::/slot/7\n", V2.format(root="/"), "slot/7/memory.events"),
        ("0::/slot/7\n", V2.format(root="/slot/7"), "memory.events"),
        # a container that sees its own part of the tree only
        ("0::/kubepods/pod3\n", V2.format(root="/"), "memory.events"),
    ],
)
def test_what_was_killed_since_is_counted(machine, groups, mount, file):
    proc, counter = machine(groups, mount, file)
    count = OomCount(proc)
    assert count.since() == 0
    counter.write_text("low 0\noom 9\noom_kill 5\n")
    assert count.since() == 2


def test_where_nobody_counts_there_is_nothing(machine, tmp_path):
    assert OomCount(tmp_path / "nowhere").since() == 0
    proc, counter = machine("0::/slot\n", V2.format(root="/"), "slot/memory.events")
    for spoilt in ("", "oom_kill many\n"):
        counter.write_text(spoilt)
        assert OomCount(proc).since() == 0
    counter.unlink()
    assert OomCount(proc).since() == 0


def test_it_works_on_this_machine():
    assert OomCount().since() == 0
