"""Asking a storage: credentials for the place that the URL names, redirects followed without them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urljoin

from pilot_core import BackendUnavailable, SourceNotFound, TransferError
from pilot_core.api.web import Trust, WebAddress, WebBody, WebClient, WebRequest
from pilot_stager_http.credentials import Credentials
from pilot_stager_http.meaning import refusal
from pilot_stager_http.names import ready

if TYPE_CHECKING:
    from pilot_core import CancelToken, Context, Deadline, HandledError
    from pilot_core.api.web import WebAnswer
    from pilot_stager_http.names import RemoteFile
    from pilot_stager_http.settings import Settings

__all__ = ["Limits", "Question", "Storage"]

MOST_REDIRECTS = 10
"""Redirects of one request; WLCG's storages need one or two."""
_REDIRECTS = frozenset({301, 302, 303, 307, 308})


@dataclass(frozen=True)
class Limits:
    """What calls a request off."""

    cancel: CancelToken
    deadline: Deadline


@dataclass(frozen=True, kw_only=True)
class Question:
    """What is asked of a storage about a file."""

    method: str
    file: RemoteFile
    address: WebAddress | None = None
    """Another place of the same storage: a folder, a temporary name; by itself the file's."""
    headers: Mapping[str, str] = field(default_factory=dict)
    body: WebBody | None = None
    expect: bool = False
    writing: bool = False
    """Whether errors speak of stage-out."""


class Storage:
    """Sends questions to storages. Thread safe."""

    def __init__(self, settings: Settings, context: Context) -> None:
        """Prepare; raises `ValueError` for a proxy that is no URL of one."""
        proxy = {"none": "", "": context.proxy}.get(settings.proxy, settings.proxy)
        self.log = context.log
        self._clock = context.clock
        self._credentials = Credentials(settings, context)
        self._insecure_redirects = settings.insecure_redirects
        self._client = WebClient(
            context.clock,
            trust=Trust.chosen(settings.ca_file, settings.ca_dir, otherwise=context.ca_file),
            proxy=proxy,
            user_agent=context.user_agent,
            connect_seconds=settings.connect_timeout,
            silence=settings.timeout,
        )

    def ask(self, question: Question, limits: Limits) -> WebAnswer:
        """Return the answer, whatever its status but that of a redirect: those are followed.

        Raises what `WebClient.send` does, and `BackendUnavailable` for redirects that lead nowhere.
        """
        start = address = question.address or question.file.address
        for _ in range(MOST_REDIRECTS + 1):
            answer = self._sent(question, address, limits, trusted=address.origin == start.origin)
            if answer.status not in _REDIRECTS:
                return answer
            with answer:
                address = self._next(question, address, answer)
        raise BackendUnavailable(f"{question.file.what}: the storage redirects in a circle, last to {address}")

    def refusal(self, question: Question, answer: WebAnswer) -> HandledError:
        """Return the error that an answer amounts to that was not wished for."""
        start, asked = question.address or question.file.address, answer.address
        error = refusal(
            answer,
            question.file.what,
            self._clock,
            writing=question.writing,
            without_secrets=self._credentials.without_secrets,
        )
        if asked.origin != start.origin:
            error.args = (f"{error} (redirected to {asked}, where no credentials are sent)",)
        return error

    def _sent(self, question: Question, address: WebAddress, limits: Limits, *, trusted: bool) -> WebAnswer:
        """Ask in one place; a second time if the token that it refuses was renewed meanwhile."""
        token = self._credentials.token(secure=address.secure) if trusted else ""
        answer = self._sent_with(question, address, limits, token, trusted=trusted)
        if answer.status in {401, 403} and token and token != (newer := self._credentials.token(secure=address.secure)):
            answer.close()
            answer = self._sent_with(question, address, limits, newer, trusted=trusted)
        return answer

    def _sent_with(
        self, question: Question, address: WebAddress, limits: Limits, token: str, *, trusted: bool
    ) -> WebAnswer:
        certificate = None
        if trusted and address.secure:
            certificate = self._credentials.certificate(cancel=limits.cancel, deadline=limits.deadline)
        request = WebRequest(
            method=question.method,
            url=address,
            headers={**question.headers, **({"Authorization": f"Bearer {token}"} if token else {})},
            body=question.body,
            expect=question.expect,
            certificate=certificate,
            what=question.file.what,
        )
        return self._client.send(request, cancel=limits.cancel, deadline=limits.deadline)

    def _next(self, question: Question, address: WebAddress, answer: WebAnswer) -> WebAddress:
        """Return where a redirect leads."""
        what, location = question.file.what, answer.headers.get("location", "")
        if not location:
            raise BackendUnavailable(f"{what}: HTTP {answer.status} without a Location")
        if answer.status == 303 and question.method not in {"GET", "HEAD"}:
            raise BackendUnavailable(f"{what}: the storage answers {question.method} with HTTP 303, another request")
        try:
            found = WebAddress.parse(ready(urljoin(address.url, location)))
        except ValueError as error:
            raise BackendUnavailable(f"{what}: the storage redirects to {error}") from None
        if question.address is None and question.file.is_folder(found):
            text = f"{what}: is a folder, no file"
            raise TransferError(text) if question.writing else SourceNotFound(text)
        if address.secure and not found.secure and not self._insecure_redirects:
            raise BackendUnavailable(
                f"{what}: the storage redirects from https to http ({found}); stager.http.insecure_redirects allows it"
            )
        return found
