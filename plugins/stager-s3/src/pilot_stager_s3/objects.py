"""Objects asked about, removed and labelled.

A file's checksum goes with its object: as metadata (`x-amz-meta-adler32`) where it is known before the object is begun,
else as a tag, which can be set afterwards. A tag names the ETag of the object that it was made for.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from pilot_core import AuthError, Checksum, FileStat, HandledError, shown_url
from pilot_core.api.checksums import DIGITS, parse
from pilot_core.api.web import WebAnswer, WebBody
from pilot_stager_s3.problems import LARGEST, Problem, error_of
from pilot_stager_s3.session import Call

if TYPE_CHECKING:
    import logging

    from pilot_core.api.web import Headers
    from pilot_stager_s3.location import Location
    from pilot_stager_s3.session import Limits, Session
    from pilot_stager_s3.settings import Settings

__all__ = ["TAG_OF", "Objects", "known_checksum", "tagging_document", "unquoted"]

TAG_OF = "checksum-of"
"""The tag with the ETag of the object whose checksum the other tag is."""
_TAG = re.compile(r"<Key>([^<]*)</Key>\s*<Value>([^<]*)</Value>")
_MD5 = re.compile(r"[0-9a-f]{32}")


class Objects:
    """What there is to know of objects. Thread safe."""

    def __init__(self, session: Session, settings: Settings, log: logging.Logger) -> None:
        self.session = session
        self._etag_is_md5 = settings.etag_is_md5
        self._log = log

    @staticmethod
    def what(location: Location) -> str:
        """Return an object's name for messages."""
        return shown_url(f"s3://{location.service.authority}/{location.bucket}/{location.key}")

    def head(self, location: Location, limits: Limits, *, what: str = "") -> Headers | Problem:
        """Return what the service says of an object; a `Problem` if there is none. Raises for anything else."""
        what = what or self.what(location)
        answer = self.session.ask(Call(method="HEAD", location=location, what=what), limits)
        if isinstance(answer, WebAnswer):
            answer.close()
            return answer.headers
        if answer.status == 400:
            # AWS's answer where the keys have expired; that to a HEAD has no document that says so
            raise AuthError(f"{error_of(answer, what)}; the keys of stager.s3.credentials_file may have expired")
        if answer.status != 404:
            raise error_of(answer, what)
        return answer

    def etag(self, location: Location, limits: Limits) -> str:
        """Return an object's ETag, empty if there is none. Raises as `head`."""
        found = self.head(location, limits)
        return "" if isinstance(found, Problem) else found.get("etag", "").strip('"')

    def stat(self, location: Location, limits: Limits, *, what: str) -> FileStat:
        """Return an object's size, and its checksum if the service knows one. Raises as `StageIn.stat`."""
        headers = self.head(location, limits, what=what)
        if isinstance(headers, Problem):
            raise error_of(headers, what)
        length = headers.get("content-length", "")
        size = int(length) if length.isascii() and length.isdigit() else 0
        return FileStat(size=size, checksum=self._checksum(location, headers, limits, what=what))

    def _checksum(self, location: Location, headers: Headers, limits: Limits, *, what: str) -> str:
        """Return what is known of an object's checksum."""
        told = _told({name: headers.get(f"x-amz-meta-{name}", "") for name in DIGITS})
        etag = headers.get("etag", "").strip('"')
        if told:
            return told
        if headers.get("x-amz-tagging-count", "0") != "0":
            tags = self._tags(location, limits, what=what)
            if etag and tags.get(TAG_OF) == etag and (told := _told(tags)):
                return told
        encrypted = "kms" in headers.get("x-amz-server-side-encryption", "") or any(
            name.startswith("x-amz-server-side-encryption-customer") for name in headers
        )
        return f"md5:{etag}" if self._etag_is_md5 and not encrypted and _MD5.fullmatch(etag) else ""

    def _tags(self, location: Location, limits: Limits, *, what: str) -> Mapping[str, str]:
        """Return an object's tags, none if they may not be read."""
        answer = self.session.ask(Call(method="GET", location=location, what=what, query={"tagging": ""}), limits)
        if isinstance(answer, Problem):
            self._log.debug("its tags cannot be read: %s", error_of(answer, what))
            return {}
        with answer:
            return dict(_TAG.findall(answer.read(LARGEST).decode("utf-8", "replace")))

    def tag(self, location: Location, document: bytes, limits: Limits) -> None:
        """Label an object; a service that does not allow it is no error: the object is there."""
        md5 = hashlib.md5(document, usedforsecurity=False).digest()
        call = Call(
            method="PUT",
            location=location,
            what=self.what(location),
            query={"tagging": ""},
            headers={"content-md5": base64.b64encode(md5).decode()},
            body=WebBody.of(document),
            digest=hashlib.sha256(document).hexdigest(),
        )
        try:
            self.session.must(call, limits).close()
        except HandledError as error:
            self._log.info("the object is stored, but not labelled with its checksum: %s", error)

    def remove(self, location: Location, limits: Limits, *, what: str = "") -> None:
        """Remove an object; raises the service's error, which for one that is not there it does not say."""
        call = Call(method="DELETE", location=location, what=what or self.what(location))
        self.session.must(call, limits).close()


def known_checksum(text: str) -> Checksum | None:
    """Return the checksum that a request to store knows already, None if it has only a name."""
    return parse(text) if ":" in text else None


def tagging_document(checksum: Checksum, more: Mapping[str, str]) -> bytes:
    """Return what sets an object's tags; none of them has characters that mean something to XML."""
    tags = {checksum.name: checksum.value, **more}
    listed = "".join(f"<Tag><Key>{key}</Key><Value>{value}</Value></Tag>" for key, value in tags.items())
    return f"<Tagging><TagSet>{listed}</TagSet></Tagging>".encode()


def unquoted(answer: WebAnswer) -> str:
    """Return the ETag of an answer without its quotes; empty where it is no MD5 because the object is encrypted."""
    if "kms" in answer.headers.get("x-amz-server-side-encryption", "") or any(
        name.startswith("x-amz-server-side-encryption-customer") for name in answer.headers
    ):
        return ""
    return answer.headers.get("etag", "").strip('"')


def _told(values: Mapping[str, str]) -> str:
    """Return the first checksum that makes sense."""
    for name in DIGITS:
        try:
            return str(parse(f"{name}:{values.get(name, '')}"))
        except ValueError:
            continue
    return ""
