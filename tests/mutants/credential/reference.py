"""A correct credential source: a JSON file with a token and its end, which somebody else replaces."""

from __future__ import annotations

import json
import re
import threading
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from pilot_core import AuthError, BearerToken, Provider, hookimpl, setting


@dataclass(frozen=True)
class JsonTokenSettings:
    file: Path = setting(help="JSON file with token and expires")
    origin: str = setting("kit.pilot", help="virtual organisation and role", metavar="VO.ROLE")


class JsonToken:
    """Reads the file again when it has changed."""

    def __init__(self, settings, context):
        self.file = settings.file
        self.origin = settings.origin
        self.clock = context.clock
        self.log = context.log
        self.lock = threading.Lock()
        self.version = None
        self.token = None
        self.seen = []

    def credential(self, *, cancel, deadline):
        cancel.raise_if_cancelled()
        with self.lock:
            token = self.current()
        if token.expires is not None and token.expires <= self.clock.wall():
            when = datetime.fromtimestamp(token.expires, timezone.utc).isoformat()
            raise AuthError(f"the token in {self.file} expired at {when}: write a new one")
        return token

    def secrets(self):
        with self.lock:
            return tuple(self.seen)

    def current(self):
        try:
            version = self.version_of(self.file.stat())
            if self.token is not None and version == self.version:
                return self.token
            content = self.file.read_bytes()
        except OSError as error:
            raise AuthError(f"cannot read the token file {self.file}: {error.strerror}; check its path") from None
        self.token = None
        self.token = self.parse(content)
        self.version = version
        return self.token

    def version_of(self, status):
        return status.st_mtime_ns, status.st_size, status.st_ino

    def parse(self, content):
        try:
            data = json.loads(content)
            value, expires = data["token"], float(data["expires"])
            if not re.fullmatch(r"[\x21-\x7e]+", value):
                raise ValueError
        except (ValueError, KeyError, TypeError):
            raise AuthError(f"{self.file} is no JSON file with a token: write a new one") from None
        self.remember(value)
        return BearerToken(value=value, origin=self.origin, expires=expires, source=str(self.file))

    def remember(self, value):
        if value not in self.seen:
            self.seen.append(value)


class Plugin:
    """The plugin, as an object; faulty ones have another source."""

    def __init__(self, source=JsonToken):
        self.source = source

    @hookimpl
    def pilot_credentials(self):
        yield Provider(name="json-token", factory=self.source, settings=JsonTokenSettings)
