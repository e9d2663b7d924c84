"""Faults of credential sources."""

from __future__ import annotations

import json
import os
import threading
import time
from dataclasses import dataclass, replace

from credential.reference import JsonToken, Plugin
from harness import Mutant

from pilot_core import AuthError, BearerToken, ConfigError


def told(change):
    """Return a source whose tokens are changed by `change`."""

    class Changed(JsonToken):
        def parse(self, content):
            return change(super().parse(content))

    return Changed


def failing(change):
    """Return a source whose errors are made by `change` of the right one."""

    class Failing(JsonToken):
        def credential(self, **limits):
            try:
                return super().credential(**limits)
            except AuthError as error:
                raise change(error) from None

    return Failing


class NeverAgain(JsonToken):
    def version_of(self, status):
        return 0


class BySecond(JsonToken):
    def version_of(self, status):
        return int(status.st_mtime), status.st_size


class EveryMinute(JsonToken):
    looked = float("-inf")

    def current(self):
        now = self.clock.monotonic()
        if self.token is not None and now < self.looked + 60:
            return self.token
        self.looked = now
        return super().current()


class Unchecked(JsonToken):
    def credential(self, *, cancel, deadline):
        with self.lock:
            return self.current()


class WorldsTime(JsonToken):
    def credential(self, *, cancel, deadline):
        with self.lock:
            token = self.current()
        if token.expires <= time.time():
            raise AuthError(f"the token in {self.file} expired: write a new one")
        return token


class CheckedWhenRead(Unchecked):
    def parse(self, content):
        token = super().parse(content)
        if token.expires <= self.clock.wall():
            raise AuthError(f"the token in {self.file} expired: write a new one")
        return token


class Late(Unchecked):
    grace = 60.0

    def credential(self, **limits):
        token = super().credential(**limits)
        if token.expires + self.grace <= self.clock.wall():
            raise AuthError(f"the token in {self.file} expired: write a new one")
        return token


class Early(Late):
    grace = -300.0


class LastKnown(JsonToken):
    def current(self):
        try:
            return super().current()
        except AuthError:
            if self.last is None:
                raise
            return self.last

    last = None

    def parse(self, content):
        self.last = super().parse(content)
        return self.last


class Raw(JsonToken):
    def current(self):
        self.file.stat()
        return super().current()


class RawPermission(JsonToken):
    def current(self):
        if self.file.exists():
            self.file.read_bytes()
        return super().current()


class RawParser(JsonToken):
    def parse(self, content):
        json.loads(content)
        return super().parse(content)


class ShowsContent(JsonToken):
    def parse(self, content):
        try:
            return super().parse(content)
        except AuthError:
            raise AuthError(f"{self.file} is no JSON file with a token: {content.decode()}") from None


class ShowsCause(JsonToken):
    def parse(self, content):
        try:
            return super().parse(content)
        except AuthError as error:
            raise error from ValueError(f"bad content: {content.decode()}")


class ShowsPart(JsonToken):
    def parse(self, content):
        try:
            return super().parse(content)
        except AuthError:
            raise AuthError(f"{self.file} is no JSON file with a token: {content[:35].decode()}...") from None


class KeptError(JsonToken):
    error = None

    def credential(self, **limits):
        if self.error is not None:
            raise self.error
        try:
            return super().credential(**limits)
        except AuthError as error:
            self.error = error
            raise


class OnlyCurrent(JsonToken):
    def remember(self, value):
        self.seen = [value]


class Forgetful(JsonToken):
    def remember(self, value):
        pass


class Growing(JsonToken):
    def credential(self, **limits):
        token = super().credential(**limits)
        self.seen.append(token.value)
        return token


class SecretList(JsonToken):
    def secrets(self):
        return list(self.seen)


class ShortSecrets(JsonToken):
    def secrets(self):
        return ("", *self.seen)


class Talking(JsonToken):
    def parse(self, content):
        token = super().parse(content)
        self.log.debug("token %s", token.value)
        return token


class TalkingHalf(JsonToken):
    def parse(self, content):
        token = super().parse(content)
        self.log.info("token %s...", token.value[:25])
        return token


class TalkingError(JsonToken):
    def parse(self, content):
        try:
            return super().parse(content)
        except AuthError:
            self.log.debug("content: %r", content)
            raise


class Showing(JsonToken):
    def __repr__(self):
        return f"JsonToken({vars(self)})"


@dataclass(frozen=True, kw_only=True)
class OpenToken(BearerToken):
    def __repr__(self):
        return f"OpenToken({self.value})"

    __str__ = __repr__


class Slow(JsonToken):
    def current(self):
        threading.Event().wait(0.03)
        return super().current()


class Racing(JsonToken):
    content = b""

    def credential(self, *, cancel, deadline):
        content = self.file.read_bytes() if self.file.exists() else b""
        if content != self.content:
            self.content = content
            threading.Event().wait(0.02)
            self.token = self.parse(content)
        return self.token


class Eager(JsonToken):
    def __init__(self, settings, context):
        super().__init__(settings, context)
        self.current()


class Leaking(JsonToken):
    def current(self):
        self.__dict__.setdefault("files", []).append(os.open(self.file.parent, os.O_RDONLY))
        return super().current()


class LeakingOnError(JsonToken):
    def parse(self, content):
        descriptor = os.open(self.file, os.O_RDONLY)
        token = super().parse(content)
        os.close(descriptor)
        return token


class Touching(JsonToken):
    def current(self):
        token = super().current()
        self.file.touch()
        return token


class Copying(JsonToken):
    def __init__(self, settings, context):
        super().__init__(settings, context)
        self.copy = context.work_dir / "token"

    def parse(self, content):
        self.copy.write_bytes(content)
        return super().parse(content)


class NothingWhenCancelled(JsonToken):
    def credential(self, *, cancel, deadline):
        return None if cancel.cancelled else super().credential(cancel=cancel, deadline=deadline)


class Waiting(JsonToken):
    def credential(self, *, cancel, deadline):
        self.clock.wait(until=self.clock.monotonic() + 30)
        return super().credential(cancel=cancel, deadline=deadline)


class OldEnd(JsonToken):
    def parse(self, content):
        token = super().parse(content)
        self.end = getattr(self, "end", token.expires)
        return replace(token, expires=self.end)


class HalfSecret(JsonToken):
    def remember(self, value):
        super().remember(value[:20])


RENEWED = ("test_a_renewed_credential_is_seen",)
ENDED = ("test_expiry_goes_by_the_injected_clock",)
MISSING = ("test_a_missing_credential_is_an_error",)
GARBLED = ("test_a_garbled_credential_is_an_error",)
USED = ("test_a_credential_can_be_used",)
END = ("test_it_says_when_the_credential_ends",)
SECRETS = ("test_everything_seen_is_known_as_secret",)
CLEAN = ("test_it_leaves_nothing_behind",)

SOURCES = {
    "read-once": ("a renewed token is not seen", NeverAgain, RENEWED),
    "by-second": ("a token renewed within a second is not seen", BySecond, RENEWED),
    "once-a-minute": ("a renewed token is seen a minute later", EveryMinute, RENEWED),
    "expired-given": ("an expired token is given", Unchecked, ("test_an_expired_credential_is_an_error",)),
    "worlds-time": ("expiry goes by the world's clock", WorldsTime, ENDED),
    "checked-when-read": ("expiry is looked at only when the file is read", CheckedWhenRead, ENDED),
    "a-minute-late": ("an expired token is given for another minute", Late, ENDED),
    "early": ("a token is refused minutes before its end", Early, ENDED),
    "last-known": ("where the file is gone the last token is given", LastKnown, MISSING + GARBLED),
    "raw-missing": ("a missing file is a FileNotFoundError", Raw, MISSING),
    "raw-permission": (
        "an unreadable file is a PermissionError",
        RawPermission,
        ("test_an_unreadable_credential_is_an_error",),
    ),
    "raw-parser": ("the parser's error gets through", RawParser, GARBLED),
    "content-shown": ("an error shows the content", ShowsContent, GARBLED),
    "content-shown-in-part": ("an error shows the beginning of the content", ShowsPart, GARBLED),
    "content-in-the-cause": ("the error behind an error shows the content", ShowsCause, GARBLED),
    "error-kept": ("an error is kept for good", KeptError, ("test_it_goes_on_after_an_error",)),
    "two-lines": ("an error has two lines", failing(lambda e: AuthError(f"{e}\nask your site")), MISSING),
    "no-place": (
        "an error does not say where",
        failing(lambda _: AuthError("no valid token: write a new one")),
        MISSING,
    ),
    "another-class": ("an error is no AuthError", failing(lambda e: ConfigError(str(e))), MISSING + GARBLED),
    "only-current-secret": ("replaced tokens are no secrets", OnlyCurrent, SECRETS),
    "no-secrets": ("nothing is known as secret", Forgetful, SECRETS),
    "half-secret": ("half of the token is known as secret", HalfSecret, SECRETS),
    "secrets-grow": ("each call adds a secret", Growing, SECRETS),
    "secrets-list": ("secrets are a list", SecretList, SECRETS),
    "empty-secret": ("an empty text is a secret", ShortSecrets, SECRETS),
    "logged": ("the token is logged", Talking, ("test_it_gives_the_current_credential",)),
    "half-logged": ("half of the token is logged", TalkingHalf, ("test_it_gives_the_current_credential",)),
    "logged-when-garbled": ("the content is logged where it is wrong", TalkingError, GARBLED),
    "source-repr": ("the source's repr shows the token", Showing, ("test_no_repr_shows_a_secret",)),
    "slow": ("each call waits", Slow, ("test_it_is_quick",)),
    "racing": ("threads get in each other's way", Racing, ("test_many_may_ask_at_once",)),
    "eager": ("it cannot be made without a token", Eager, ("test_making_it_needs_no_credential",)),
    "descriptor-kept": ("a descriptor stays open", Leaking, CLEAN),
    "descriptor-kept-on-error": ("a descriptor stays open after an error", LeakingOnError, CLEAN),
    "touched": ("the file is touched", Touching, CLEAN),
    "copied": ("the token is copied into the work directory", Copying, CLEAN),
    "nothing-when-cancelled": ("cancelled, it gives None", NothingWhenCancelled, ("test_a_cancelled_call_ends",)),
    "end-of-the-first": ("a renewed token has the first one's end", OldEnd, END),
}
TOKENS = {
    "relative-end": ("the end is seconds from now", lambda t: replace(t, expires=t.expires - 1.9e9), END),
    "milliseconds": ("the end is in milliseconds", lambda t: replace(t, expires=t.expires * 1000), END),
    "local-time": ("the end is local time", lambda t: replace(t, expires=t.expires + 3600), END),
    "no-end": ("the end is not told", lambda t: replace(t, expires=None), END),
    "newline": ("the token ends in a newline", lambda t: replace(t, value=f"{t.value}\n"), USED),
    "prefix": ("the token begins with Bearer", lambda t: replace(t, value=f"Bearer {t.value}"), USED),
    "cut": ("the token is cut", lambda t: replace(t, value=t.value[:30]), ("test_it_gives_the_current_credential",)),
    "no-origin": ("the origin is empty", lambda t: replace(t, origin=""), USED),
    "no-role": ("the origin has no role", lambda t: replace(t, origin="kit"), USED),
    "source-is-token": (
        "the field for messages holds the token",
        lambda t: replace(t, source=t.value),
        ("test_no_repr_shows_a_secret",),
    ),
    "token-repr": (
        "the token's repr shows it",
        lambda t: OpenToken(value=t.value, origin=t.origin, expires=t.expires, source=t.source),
        ("test_no_repr_shows_a_secret",),
    ),
}

MUTANTS = [
    Mutant(name=name, fault=fault, caught_by=caught_by, plugin=lambda source=source: Plugin(source))
    for name, (fault, source, caught_by) in (
        SOURCES | {name: (fault, told(change), caught_by) for name, (fault, change, caught_by) in TOKENS.items()}
    ).items()
]
