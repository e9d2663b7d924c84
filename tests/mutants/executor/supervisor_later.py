"""More supervisors with one fault each, thought of by who tried to beat the kit; what the fault is says `faults`."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress

from executor.supervisor import HEARD, Supervisor, stat_of


class AtLeast2s(Supervisor):
    def begin(self):
        self.order["kill_grace"] = max(2.0, self.order["kill_grace"])
        super().begin()


class LeftoversGrace(Supervisor):
    """Gives leftovers a grace of its own choice."""

    def begin(self):
        first = not self.ending
        super().begin()
        if first and self.noted:
            self.deadline = time.monotonic() + 2.0


class GraceFromStart(Supervisor):
    def start(self):
        super().start()
        self.begun = time.monotonic()

    def begin(self):
        first = not self.ending
        super().begin()
        if first:
            self.deadline = self.begun + self.order["kill_grace"]


class AskingEachTime(Supervisor):
    def begin(self):
        if self.ending:
            self.ask()
        super().begin()


class AskingOnAndOn(Supervisor):
    def wait(self):
        found = signal.sigtimedwait(HEARD, 0.1)
        if found is None and self.ending:
            self.ask()
        return found.si_signo if found else None


class Looking(Supervisor):
    """Looks whether something has happened, and looks again."""

    def wait(self):
        found = signal.sigtimedwait(HEARD, 0)
        return found.si_signo if found else None


class LinkToNowhere(Supervisor):
    def output(self, path):
        if os.path.exists(path):
            raise FileExistsError(path)
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)


class SwappedTimes(Supervisor):
    def result(self):
        found = super().result()
        return {**found, "user_seconds": found["system_seconds"], "system_seconds": found["user_seconds"]}


class WrittenBytes(Supervisor):
    """Tells the bytes that are in the job's directory, where blocks of 512 are asked for."""

    way = "written_blocks"

    def result(self):
        sizes = [entry.stat(follow_symlinks=False).st_size for entry in os.scandir(self.order["cwd"])]
        return {**super().result(), self.way: sum(sizes)}


class WrittenIsRead(WrittenBytes):
    way = "read_blocks"

    def result(self):
        found = super().result()
        return {**found, self.way: found[self.way] // 512}


class FirstGeneration(Supervisor):
    """Counts its own children only."""

    def result(self):
        return {**super().result(), "leftovers": len(self.direct)}

    def begin(self):
        if self.noted:
            stats = {pid: stat_of(pid) for pid in self.left}
            self.direct = [pid for pid, stat in stats.items() if stat and stat[1] == os.getpid()]
        super().begin()


class WritableRecord(Supervisor):
    def write(self, text):
        os.umask(0)
        super().write(text)


class CarelessReader(Supervisor):
    """Looks for the words of /proc/PID/stat, whatever a program is called."""

    def kill(self):
        for pid in filter(str.isdigit, os.listdir("/proc")):
            with suppress(OSError), open(f"/proc/{pid}/stat") as stream:
                words = stream.read().split()
                if words[2] != "Z" and words[3] == str(os.getpid()):
                    self.send(int(pid), signal.SIGKILL)


class HoldsErrors(Supervisor):
    """Has what it was given open, and its payload has not."""

    def become(self):
        os.closerange(3, 20)
        super().become()


class ReplacingVariables(Supervisor):
    """Replaces what looks like the payload's variables in its arguments."""

    def execute(self, argv, environment):
        path = environment.get("PATH", "")
        super().execute([word.replace("$PATH", path) for word in argv], environment)
