"""The faults that are planted in the reference stager that speaks HTTP: those that need a server to show."""

from __future__ import annotations

from harness import Mutant
from stager_http.reference import Plugin, Web

from pilot_core import CancelToken, SourceNotFound, TransferError, TransientError

MUTANTS = []
NOBODY = CancelToken()


def mutant(fault, *caught_by):
    """Plant a fault: the decorated class is a stager that has it."""

    def plant(stager):
        name = "".join(f"-{c.lower()}" if c.isupper() else c for c in stager.__name__).lstrip("-")
        MUTANTS.append(Mutant(name=name, fault=fault, caught_by=caught_by, plugin=lambda: Plugin(stager)))
        return stager

    return plant


@mutant("half a file is taken for the whole", "test_half_a_file_is_not_taken_for_a_whole_one")
class HalfIsWhole(Web):
    def blocks(self, *arguments):
        try:
            yield from super().blocks(*arguments)
        except TransientError:
            return


@mutant(
    "a server that is down is told as a missing file",
    "test_a_storage_that_is_down_is_worth_another_try",
    "test_a_storage_that_is_down_takes_nothing",
)
class DownIsMissing(Web):
    def unreachable(self, what, error):
        return SourceNotFound(what)


@mutant("a server that is down ends in its OSError", "test_a_storage_that_is_down_is_worth_another_try")
class DownIsRaw(Web):
    def unreachable(self, what, error):
        return error


@mutant("a server that is down is told as a plain failure", "test_a_storage_that_is_down_takes_nothing")
class DownIsFinal(Web):
    def unreachable(self, what, error):
        return TransferError(what)


@mutant("a refusal is told as a passing trouble", "test_a_storage_that_refuses_is_an_auth_error")
class RefusedIsTransient(Web):
    def refused(self, status, what):
        return TransientError(what) if status == 403 else super().refused(status, what)


@mutant("a refusal is told as a missing file", "test_a_storage_that_refuses_is_an_auth_error")
class RefusedIsMissing(Web):
    def refused(self, status, what):
        return SourceNotFound(what) if status == 403 else super().refused(status, what)


@mutant("while the server says nothing nobody hears of a cancellation", "test_a_transfer_that_waits_can_be_cancelled")
class DeafWhileWaiting(Web):
    def wait(self, sock, cancel, deadline, what):
        deadline.wait(sock)


@mutant("without overwrite an older file is replaced all the same", "test_without_overwrite_an_older_file_stays")
class OverwriteAlways(Web):
    def ask(self, method, url, cancel, deadline, headers=(), body=()):
        told = [(name, "T" if name == "Overwrite" else value) for name, value in headers]
        return super().ask(method, url, cancel, deadline, told, body)


@mutant("what a cancelled store began stays on the server", "test_a_store_is_cancelled_in_its_midst")
class PartStays(Web):
    def forget(self, url):
        pass

    def checks(self, cancel, deadline, what):
        if not what.startswith("/"):
            super().checks(cancel, deadline, what)

    def ask(self, method, url, cancel, deadline, headers=(), body=()):
        made = super().ask(method, url, NOBODY if method == "PUT" else cancel, deadline, headers, body)
        cancel.raise_if_cancelled()
        return made
