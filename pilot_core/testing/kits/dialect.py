"""How a server protocol is spoken to: what its author writes once, so that the kit can ask in the protocol's words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from pilot_core.api.communicator import JobRequest, JobUpdate
    from pilot_core.api.server import ServerRequest, ServerResponse

__all__ = ["Dialect"]


class Dialect(Protocol):
    """Makes requests and reads answers, by the protocol's definition and not by the communicator's code.

    `identity`, `denied` and `secure` of the requests are the kit's to set. The reading methods raise `ValueError` for
    an answer that they do not understand.
    """

    needs_role: bool
    """Whether pilots need a credential with a production role."""

    def acquire(self, request: JobRequest) -> ServerRequest:
        """Return a request for jobs."""
        ...

    def acquired(self, response: ServerResponse) -> Sequence[int] | None:
        """Return the PandaIDs of the jobs that an answer brings, none for "no jobs"; None if it is a refusal."""
        ...

    def update(self, update: JobUpdate) -> ServerRequest:
        """Return a job's update as a request."""
        ...

    def commands(self, response: ServerResponse) -> Sequence[str] | None:
        """Return the commands in the answer to an update, none for a plain "taken"; None if it was not taken."""
        ...

    def status(self, job_ids: Sequence[int]) -> ServerRequest:
        """Return a question for the states of jobs."""
        ...

    def statuses(self, response: ServerResponse) -> Mapping[int, str] | None:
        """Return the states by PandaID, `not found` for unknown jobs; None if the answer is a refusal."""
        ...
