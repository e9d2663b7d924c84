"""The clauses for a storage in trouble: down, refusing, gone in the midst. The fixture `storage` has to bring it on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pilot_core.errors import AuthError, BackendUnavailable, TransferError, TransferTimeout, TransientError
from pilot_core.testing.kits.stager_base import FILE, MIDWAY, Bench, StagerBase, data_of, refused

__all__ = ["TroubleClauses"]

LATER = (TransientError, TransferTimeout, BackendUnavailable)
"""What is due when a storage does not answer: another try, or another backend, may do better."""


class TroubleClauses(StagerBase):
    """What becomes of transfers then; each clause needs a method of the storage that few can do without a server."""

    def test_a_storage_that_is_down_is_worth_another_try(self, stage_in: Bench) -> None:
        """A storage that does not answer is a passing trouble or an unavailable backend, never a missing file."""
        stage_in.storage.put(FILE, b"x")
        self._able(stage_in, "down")()
        refused(stage_in.fetch, *LATER, what="fetching from a storage that is down")
        refused(stage_in.stat, *LATER, what="asking a storage that is down")
        stage_in.check_clean()

    def test_a_storage_that_is_down_takes_nothing(self, stage_out: Bench) -> None:
        """Storing to a storage that does not answer is a passing trouble or an unavailable backend; so is removing."""
        stage_out.write(b"x")
        self._able(stage_out, "down")()
        refused(stage_out.store, *LATER, what="storing to a storage that is down")
        refused(stage_out.remove, *LATER, what="removing from a storage that is down")

    def test_a_storage_that_refuses_is_an_auth_error(self, stage_in: Bench) -> None:
        """A storage that does not take the pilot's credential is `AuthError`: another backend is tried then."""
        stage_in.storage.put(FILE, b"x")
        self._able(stage_in, "refuse")()
        refused(stage_in.fetch, AuthError, what="fetching from a storage that refuses")
        refused(stage_in.stat, AuthError, what="asking a storage that refuses")
        stage_in.check_clean()

    def test_half_a_file_is_not_taken_for_a_whole_one(self, stage_in: Bench) -> None:
        """A transfer that breaks off is an error, also where the catalogue knows neither size nor checksum."""
        self._able(stage_in, "cut")(FILE, data_of(MIDWAY))
        refused(stage_in.fetch, TransferError, what="fetching a file of which half arrives")
        stage_in.check_clean()

    def _able(self, bench: Bench, method: str) -> Callable[..., Any]:
        """Return a method that a storage may have."""
        found: Callable[..., Any] | None = getattr(bench.storage, method, None)
        if not callable(found):
            self.does_not_apply(f"the storage fixture has no {method}()")
        return found
