"""The conformance kit of credential sources: the one that is valid now, quickly, and never a word of it elsewhere."""

from __future__ import annotations

import logging
import re
import ssl
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

from pilot_core.api.cancel import CancelToken, Deadline
from pilot_core.api.clock import SystemClock
from pilot_core.api.credential import BearerToken, ClientCertificate, Credential, CredentialSource
from pilot_core.api.provider import Context
from pilot_core.errors import AuthError, Cancelled
from pilot_core.testing.clock import FakeClock
from pilot_core.testing.kits.base import Kit
from pilot_core.testing.kits.issuer import CredentialIssuer, Purse
from pilot_core.testing.kits.judging import Footprint, as_user, full_text, refused, tree
from pilot_core.testing.kits.within import at_once, within

if TYPE_CHECKING:
    from pilot_core.testing.kits.subject import Subject

__all__ = ["CredentialKit"]

Ask = Callable[[], Credential]

ORIGIN = re.compile(r"[A-Za-z0-9_-]+([.:][A-Za-z0-9_-]+)+")
QUICK = 2.0
"""Real seconds for a hundred questions: one is asked before every connection."""


class CredentialKit(Kit):
    """What a credential source has to do.

    Override `plugin` and `issuer`. The other side is a real one, made by the test::

        class TestVault(CredentialKit):
            @pytest.fixture
            def plugin(self):
                return "credential.vault"

            @pytest.fixture
            def issuer(self, tmp_path):
                return VaultIssuer(tmp_path)  # a pilot_core.testing.CredentialIssuer

    The plugin's clock is a `FakeClock`: its wall time is not the world's, and passes when the kit says so.
    """

    kind = "credential"

    # -- fixtures ------------------------------------------------------------------------------------------------

    @pytest.fixture
    def issuer(self, tmp_path: Path) -> CredentialIssuer:  # noqa: ARG002  (what authors' own will ask for)
        """Whoever puts credentials where the plugin finds them; override it."""
        what = "return a CredentialIssuer (pilot_core.testing.CredentialIssuer) of your own"
        return cast("CredentialIssuer", self.missing("issuer", what))

    @pytest.fixture
    def settings(self, issuer: CredentialIssuer) -> Mapping[str, Any]:
        """The plugin's settings: those of the issuer."""
        return issuer.settings

    @pytest.fixture
    def clock(self) -> SystemClock:
        """A clock whose time passes when a clause says so."""
        return cast("SystemClock", FakeClock(wall=1_900_000_000.0))

    @pytest.fixture
    def context(self, tmp_path: Path, clock: SystemClock, subject: Subject) -> Context:
        """The context that the plugin is given: without a credential, which is what it has to give."""
        work = tmp_path / "work"
        work.mkdir()
        return Context(clock=clock, log=logging.getLogger(f"pilot_core.{subject.entry_point}"), work_dir=work)

    @pytest.fixture
    def purse(self, issuer: CredentialIssuer, clock: SystemClock) -> Purse:
        """The issuer, with all that it issued."""
        return Purse(issuer, clock.wall())

    @pytest.fixture
    def source(self, subject: Subject, settings: Mapping[str, Any], context: Context) -> CredentialSource:
        """The source under test."""
        return cast("CredentialSource", self.made(subject.providers["pilot_credentials"], settings, context))

    @pytest.fixture
    def ask(self, source: CredentialSource, cancel: CancelToken, clock: SystemClock) -> Ask:
        """Ask for the credential, with a minute's time."""

        def ask() -> Credential:
            deadline = Deadline.after(clock, 60.0)
            return within(lambda: source.credential(cancel=cancel, deadline=deadline), "credential")

        return ask

    @pytest.fixture(autouse=True)
    def _nothing_tells_a_secret(self, _clause: None, purse: Purse, caplog: pytest.LogCaptureFixture) -> Iterator[None]:
        """See after every clause that no secret was logged."""
        yield
        records = [*caplog.get_records("setup"), *caplog.get_records("call")]
        texts = [record.getMessage() + str(record.exc_text or "") for record in records]
        shown = any(map(purse.shown_in, texts))
        assert not shown, "the plugin logged a credential, or a part of one"

    # -- what is valid -------------------------------------------------------------------------------------------

    def test_it_gives_the_current_credential(self, purse: Purse, ask: Ask) -> None:
        """It gives the credential that is there, and nothing more or less of it."""
        secret = purse.issue()
        self.check_is(ask(), secret, "the credential that was issued")

    def test_a_credential_can_be_used(self, purse: Purse, ask: Ask) -> None:
        """A token is one word with an origin; a certificate's files exist and OpenSSL loads them."""
        purse.issue()
        credential = ask()
        if isinstance(credential, BearerToken):
            assert re.fullmatch(r"[\x21-\x7e]+", credential.value), "the token is not one word of printable ASCII"
            right = ORIGIN.fullmatch(credential.origin)
            assert right, f"origin {credential.origin!r} is not VO.ROLE, which is sent beside every token"
            return
        assert isinstance(credential, ClientCertificate), f"{type(credential).__name__} is no credential"
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(credential.cert_file, credential.key_file)

    def test_it_says_when_the_credential_ends(self, purse: Purse, ask: Ask) -> None:
        """`expires` is the wall time at which the credential ends, to the second."""
        for lifetime in (3600.0, 90_000.0, 61.0):
            purse.issue(lifetime=lifetime)
            expires = ask().expires
            if not purse.issuer.tells_expiry:
                assert expires is None, f"expires is {expires}, though the credential does not say so itself"
                continue
            assert expires is not None, "expires is None, though the credential says when it ends"
            wrong = abs(expires - (purse.now + lifetime))
            assert wrong <= 1, f"expires is wrong by {wrong:.0f} s: it is wall time, seconds since 1970 (UTC)"

    def test_a_renewed_credential_is_seen(self, purse: Purse, ask: Ask) -> None:
        """Whoever renews the credential need not restart the pilot: the next call gives the new one, every time."""
        for number in range(6):
            secret = purse.issue(lifetime=3600.0 + number * 60)
            self.check_is(ask(), secret, f"after {number} renewals")

    def test_a_renewed_credential_counts_with_its_own_end(self, purse: Purse, ask: Ask, clock: FakeClock) -> None:
        """After the first credential's end the renewed one is given, and ends at its own time."""
        self.needs_expiry(purse)
        purse.issue(lifetime=60)
        ask()
        secret = purse.issue(lifetime=7200)
        clock.advance(600)
        self.check_is(ask(), secret, "after the end of the credential that was replaced")
        clock.advance(7200)
        self.refused(ask, purse, "a renewed credential that has expired, too")

    def test_asking_again_gives_the_same(self, purse: Purse, ask: Ask) -> None:
        """Asked again with nothing changed, it gives the same."""
        secret = purse.issue()
        first = ask()
        for _ in range(5):
            self.check_is(ask(), secret, "asked again")
        assert ask() == first, "asked again, it gives something that is not equal"

    # -- what is not ---------------------------------------------------------------------------------------------

    def test_an_expired_credential_is_an_error(self, purse: Purse, ask: Ask) -> None:
        """A credential that has expired is an `AuthError` that names the place; it is never given."""
        self.needs_expiry(purse)
        purse.issue(lifetime=-5)
        self.refused(ask, purse, "a credential that has expired")

    def test_expiry_goes_by_the_injected_clock(self, purse: Purse, ask: Ask, clock: FakeClock) -> None:
        """A credential ends at its end by the pilot's clock, though nothing of it has changed; not before."""
        self.needs_expiry(purse)
        secret = purse.issue(lifetime=3600)
        clock.advance(3590)
        self.check_is(ask(), secret, "ten seconds before its end")
        clock.advance(11)
        self.refused(ask, purse, "a credential a second after its end")
        self.refused(ask, purse, "a credential after its end, asked again")

    def test_a_missing_credential_is_an_error(self, purse: Purse, ask: Ask) -> None:
        """Where there is no credential, that is an `AuthError` that names the place; the last one is not given."""
        purse.issuer.remove()
        self.refused(ask, purse, "no credential")
        purse.issue()
        ask()
        purse.issuer.remove()
        self.refused(ask, purse, "a credential that was taken away")

    def test_a_garbled_credential_is_an_error(self, purse: Purse, ask: Ask) -> None:
        """What is no credential is an `AuthError` that names the place and shows nothing of the content."""
        purse.garble()
        self.refused(ask, purse, "something that is no credential")
        purse.issue()
        ask()
        purse.garble()
        self.refused(ask, purse, "something that is no credential, in the place of one")

    def test_an_unreadable_credential_is_an_error(
        self, purse: Purse, source: CredentialSource, cancel: CancelToken, deadline: Deadline
    ) -> None:
        """A credential that this user may not read is an `AuthError` that names the place."""
        purse.issue()
        if not purse.issuer.lock_out():
            self.does_not_apply("this credential has no permissions")
        ask = lambda: as_user(lambda: source.credential(cancel=cancel, deadline=deadline))  # noqa: E731
        self.refused(ask, purse, "a credential without the permission to read it")

    def test_it_goes_on_after_an_error(self, purse: Purse, ask: Ask) -> None:
        """Once the credential is there again, it is given: an error is not remembered."""
        purse.issuer.remove()
        self.refused(ask, purse, "no credential")
        purse.issue()
        self.check_is(ask(), purse.issued[-1], "after it was missing")
        purse.garble()
        self.refused(ask, purse, "something that is no credential")
        purse.issue()
        self.check_is(ask(), purse.issued[-1], "after it was garbled")
        if purse.issuer.tells_expiry:
            purse.issue(lifetime=-5)
            self.refused(ask, purse, "a credential that has expired")
            purse.issue()
            self.check_is(ask(), purse.issued[-1], "after it had expired")

    def test_making_it_needs_no_credential(self, subject: Subject, purse: Purse, context: Context) -> None:
        """The source can be made before the credential is there: the pilot asks for it when it needs it."""
        purse.issuer.remove()
        provider = subject.providers["pilot_credentials"]
        source: CredentialSource = within(lambda: self.made(provider, purse.issuer.settings, context), "the factory")
        until = Deadline.after(context.clock, 60.0)
        self.refused(lambda: source.credential(cancel=CancelToken(), deadline=until), purse, "no credential")
        purse.issue()
        given = within(lambda: source.credential(cancel=CancelToken(), deadline=until), "credential")
        self.check_is(given, purse.issued[-1], "a credential that came later")

    # -- what is secret ------------------------------------------------------------------------------------------

    def test_everything_seen_is_known_as_secret(self, purse: Purse, ask: Ask, source: CredentialSource) -> None:
        """`secrets` has all that was given so far, replaced ones included, so that logs can be redacted."""
        self.check_secrets(source.secrets())
        for _ in range(3):
            purse.issue()
            ask()
            ask()
            secrets = source.secrets()
            self.check_secrets(secrets)
            for number, secret in enumerate(purse.issued):
                left = purse.uncovered(secrets, secret)
                which = "the current credential" if number == len(purse.issued) - 1 else "a replaced credential"
                assert not left, f"secrets() leaves {len(left)} characters of {which} in the logs"

    def test_no_repr_shows_a_secret(self, purse: Purse, ask: Ask, source: CredentialSource) -> None:
        """Neither the credential's repr nor the source's shows what is secret."""
        purse.issue()
        credential = ask()
        for what, text in {"credential": f"{credential!r} {credential}", "source": f"{source!r} {source}"}.items():
            assert not purse.shown_in(text), f"the repr of the {what} shows what is secret"
        told = [str(value) for name, value in vars(credential).items() if name != "value"]
        assert not any(map(purse.shown_in, told)), "a field for messages shows what is secret"

    # -- how it is asked -----------------------------------------------------------------------------------------

    def test_it_is_quick(self, purse: Purse, ask: Ask) -> None:
        """It is asked before every connection: a hundred questions take less than two seconds."""
        purse.issue()
        ask()
        real = SystemClock()
        started = real.monotonic()
        for _ in range(100):
            ask()
        took = real.monotonic() - started
        assert took < QUICK, f"a hundred questions took {took:.1f} s: keep what has not changed, and wait for nothing"

    def test_many_may_ask_at_once(self, purse: Purse, ask: Ask, source: CredentialSource) -> None:
        """Threads that ask at the same time get the current credential each, also right after a renewal."""
        for _ in range(3):
            secret = purse.issue()
            for credential in at_once([ask] * 8, "credential"):
                self.check_is(credential, secret, "with other threads asking")
            at_once([source.secrets] * 4, "secrets")

    def test_a_cancelled_call_ends(self, purse: Purse, source: CredentialSource, deadline: Deadline) -> None:
        """With a cancelled token it answers at once all the same, or raises `Cancelled`."""
        secret = purse.issue()
        cancel = CancelToken()
        cancel.cancel("the kit says so")
        try:
            credential = within(lambda: source.credential(cancel=cancel, deadline=deadline), "credential", seconds=2.0)
        except Cancelled:
            return
        self.check_is(credential, secret, "with a cancelled token")

    def test_it_leaves_nothing_behind(self, purse: Purse, ask: Ask, tmp_path: Path) -> None:
        """Asking keeps no descriptors, threads or processes, and changes no file; errors neither."""
        purse.issue()
        before = tree(tmp_path)
        ask()
        footprint = Footprint.now()
        for _ in range(30):
            ask()
        changed = before.items() ^ tree(tmp_path).items()
        assert not changed, f"asking changes files: {', '.join(sorted({name for name, _ in changed}))}"
        for _ in range(10):
            purse.issuer.remove()
            self.refused(ask, purse, "no credential")
            purse.garble()
            self.refused(ask, purse, "something that is no credential")
        footprint.check("asking", slack=2)

    # -- helpers -------------------------------------------------------------------------------------------------

    @staticmethod
    def refused(ask: Callable[[], object], purse: Purse, what: str) -> None:
        """See that a question is refused by an `AuthError` that names the place and tells nothing of the content."""
        error = refused(ask, AuthError, what=what, secrets=purse.values())
        shown = purse.shown_in(full_text(error))
        assert not shown, f"{what}: the error, or one behind it, shows a part of what is secret"
        assert purse.issuer.place in str(error), f"{what}: the error does not name {purse.issuer.place!r}: {error}"

    @staticmethod
    def check_is(credential: Credential, secret: str, when: str) -> None:
        """See that a credential is the one that was issued."""
        if isinstance(credential, BearerToken):
            assert credential.value == secret, f"{when}: the token is not the one that was issued"
            return
        assert isinstance(credential, ClientCertificate), f"{when}: {type(credential).__name__} is no credential"
        for file in (credential.cert_file, credential.key_file):
            assert isinstance(file, Path), f"{when}: {file!r} is no Path"
            assert file.is_file(), f"{when}: the file {file} is not there"
        key = credential.key_file.read_text(encoding="latin-1")
        assert secret.strip() in key, f"{when}: the private key is not the one that was issued"

    @staticmethod
    def check_secrets(secrets: object) -> None:
        """See that these can be used for redaction."""
        assert isinstance(secrets, tuple), f"secrets() returned a {type(secrets).__name__}, not a tuple"
        for value in secrets:
            assert secrets.count(value) == 1, f"secrets() holds one value {secrets.count(value)} times, and grows"
            assert isinstance(value, str), f"secrets() holds a {type(value).__name__}, not only texts"
            assert len(value) >= 4, "secrets() holds a text so short that redaction would spoil every log"

    def needs_expiry(self, purse: Purse) -> None:
        """Leave a clause out for credentials that do not say when they end."""
        if not purse.issuer.tells_expiry:
            self.does_not_apply("the credential does not say itself when it ends")
