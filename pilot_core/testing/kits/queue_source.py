"""The conformance kit of queue sources: the whole queue, now, or none, or one line that says what is wrong where."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import quote, urlsplit

import pytest

from pilot_core.api.cancel import CancelToken, Deadline
from pilot_core.api.queue import STORAGE_ACTIVITIES, Queue, QueueSource, Storage
from pilot_core.errors import AuthError, Cancelled, CommunicationError, ConfigError, TransferTimeout
from pilot_core.testing.kits.base import Kit
from pilot_core.testing.kits.canary import CANARY, shows_secret
from pilot_core.testing.kits.finding import finding
from pilot_core.testing.kits.judging import Footprint, full_text, refused, tree, unlike
from pilot_core.testing.kits.queue_site import QUEUE, QueueSite, sample_queue
from pilot_core.testing.kits.within import at_once, within

if TYPE_CHECKING:
    from pilot_core.api.clock import SystemClock
    from pilot_core.api.provider import Context
    from pilot_core.testing.kits.subject import Subject

__all__ = ["QueueSourceKit"]

Ask = Callable[..., Queue | None]

STATES = ("online", "test", "brokeroff", "offline")
QUICK = 0.5
"""Real seconds that a question may take at a site nearby."""


class QueueSourceKit(Kit):
    """What a queue source has to do.

    Override `plugin` and `site`. The other side is a real one, made by the test: a file, a directory, a server::

        class TestLdap(QueueSourceKit):
            @pytest.fixture
            def plugin(self):
                return "queue-source.ldap"

            @pytest.fixture
            def site(self, tmp_path):
                return LdapSite(tmp_path)  # a pilot_core.testing.QueueSite
    """

    kind = "queue-source"

    # -- fixtures ------------------------------------------------------------------------------------------------

    @pytest.fixture
    def site(self, tmp_path: Path) -> QueueSite:  # noqa: ARG002  (what authors' own will ask for)
        """The site that the plugin asks; override it."""
        return cast("QueueSite", self.missing("site", "return a QueueSite (pilot_core.testing.QueueSite) of your own"))

    @pytest.fixture
    def settings(self, site: QueueSite) -> Mapping[str, Any]:
        """The plugin's settings: those of the site."""
        return site.settings

    @pytest.fixture
    def source(self, subject: Subject, settings: Mapping[str, Any], context: Context) -> QueueSource:
        """The source under test."""
        return cast("QueueSource", self.made(subject.providers["pilot_queue_sources"], settings, context))

    @pytest.fixture
    def ask(self, source: QueueSource, cancel: CancelToken, deadline: Deadline) -> Ask:
        """Ask for a queue, and look at the answer as at any."""

        def ask(name: str = QUEUE) -> Queue | None:
            queue = within(lambda: source.queue(name, cancel=cancel, deadline=deadline), f"queue({name[:40]!r})")
            self.check_sound(queue, name)
            return queue

        return ask

    # -- helpers -------------------------------------------------------------------------------------------------

    def known(self, ask: Ask, name: str = QUEUE) -> Queue:
        """Return a queue that must be known."""
        queue = ask(name)
        assert queue is not None, f"the queue {name!r} was published at the site, and is not known"
        return queue

    @staticmethod
    def same(answer: Queue, expected: Queue, when: str) -> None:
        """See that an answer is the expected queue."""
        wrong = unlike(_comparable(expected), _comparable(answer))
        assert not wrong, f"{when}: {wrong}"

    @staticmethod
    def check_sound(queue: Queue | None, name: str) -> None:
        """See that an answer is a queue that a pilot can work with, or None."""
        if queue is None:
            return
        assert isinstance(queue, Queue), f"{queue!r} is no Queue"
        assert queue.name == name, f"asked for the queue {name!r}, it answered with {queue.name!r}"
        _check_types(queue)
        assert queue.status in STATES, f"status {queue.status!r} is none of {', '.join(STATES)}"
        for rse, storage in queue.storages.items():
            _check_storage(rse, storage)
        assert queue.source.strip(), "Queue.source is empty: say where the queue was read (file, URL), for messages"
        assert queue.source.isprintable(), f"Queue.source is not one line: {queue.source!r}"
        assert math.isfinite(queue.heartbeat_seconds), "heartbeat_seconds is not finite"
        assert queue.heartbeat_seconds > 0, "heartbeat_seconds is not above 0"
        assert min(queue.max_memory_mb, queue.max_disk_mb, queue.kill_grace_seconds) >= 0, "a limit is below 0"

    # -- what is known -------------------------------------------------------------------------------------------

    def test_a_known_queue_is_right_in_every_field(self, site: QueueSite, ask: Ask) -> None:
        """A published queue is answered with every field as the site says it."""
        expected = [site.publish(sample_queue(f"{QUEUE}_{number}", number=number)) for number in range(4)]
        self.check_site(expected)
        for queue in expected:
            self.same(self.known(ask, queue.name), queue, f"the queue {queue.name}")

    def test_a_queue_that_says_little_has_the_defaults(self, site: QueueSite, ask: Ask) -> None:
        """What a site does not say has the default of the field in `Queue`."""
        disk = Storage(rse="DISK", url="file:///data")
        expected = site.publish(Queue(name=QUEUE, storages={"DISK": disk}, read=("DISK",), write=("DISK",)))
        self.same(self.known(ask), expected, "a queue of which only its storage is said")

    def test_used_storages_are_described(self, site: QueueSite, ask: Ask) -> None:
        """The storages to read from and write to are among the queue's storages, in the site's order."""
        expected = site.publish(sample_queue())
        queue = self.known(ask)
        for activity in ("read", "write", "log"):
            names = getattr(queue, activity)
            assert names == getattr(expected, activity), f"{activity} is {names}, not {getattr(expected, activity)}"
            missing = [rse for rse in names if rse not in queue.storages]
            assert not missing, f"{activity} names {missing}, which storages does not describe"

    def test_an_unknown_queue_is_none(self, site: QueueSite, ask: Ask) -> None:
        """A queue that the site does not have is None, which is no error: another source may know it."""
        assert ask("KIT_NOBODY") is None, "a queue was made up, where nothing was published"
        site.publish(sample_queue())
        assert ask("KIT_NOBODY") is None, "a queue was made up that the site does not have"

    def test_names_are_compared_exactly(self, site: QueueSite, ask: Ask) -> None:
        """A name that differs in case, in spaces, or is a part of a queue's name, is another queue."""
        site.publish(sample_queue())
        self.known(ask)
        for name in (QUEUE.lower(), QUEUE.title(), QUEUE[:-1], QUEUE[1:], f"{QUEUE}2", f" {QUEUE}", f"{QUEUE} "):
            assert self.unknown(ask, name), f"asked for {name!r}, it answered with {QUEUE!r}"
        other = site.publish(sample_queue(f"{QUEUE}2", number=2))
        self.same(self.known(ask, f"{QUEUE}2"), other, "of two queues with similar names")
        self.known(ask)

    @pytest.mark.parametrize("name", ["KIT-1.2_x", "kit:queue", "ANALY_KIT+x"])
    def test_usual_names_work(self, site: QueueSite, ask: Ask, name: str) -> None:
        """Dashes, dots, colons and plus signs are usual in queues' names."""
        expected = site.publish(sample_queue(name))
        self.same(self.known(ask, name), expected, f"the queue {name!r}")

    @pytest.mark.parametrize(
        "name",
        ["", " ", ".", "..", "../{q}", "./{q}", "{q}/", "/{q}", "x/../{q}", "{q}\0", "{q}\n", "\n{q}", "{q}\r\nX: y",
         "*", "?", "[a-z]*", "%", "%00", "{q}%00", "..%2f{q}", "{{}}", "{q}?x=y", "{q}#x", "{q};id", "$({q})", "`{q}`",
         "ünïcödé", "文", "\udcff", "\x1b[31m{q}", "(&(cn=*))", "' or ''='", "{q}'--", "-{q}", "__proto__", "queues"],
    )  # fmt: skip
    def test_hostile_names_lead_nowhere(self, site: QueueSite, ask: Ask, name: str) -> None:
        """A name that can be no queue's is None or a `ConfigError`; never another queue, never a traceback."""
        site.publish(sample_queue())
        asked = name.replace("{q}", QUEUE).replace("{{}}", "{}")
        assert self.unknown(ask, asked), f"asked for {asked!r}, it answered with a queue"

    def test_endless_names_lead_nowhere(self, site: QueueSite, ask: Ask) -> None:
        """A name of 10 kB is None or a `ConfigError` that does not repeat all of it."""
        site.publish(sample_queue())
        for name in ("x" * 10_000, f"{QUEUE}/" * 1000, "../" * 3000 + QUEUE, "." * 10_000):
            assert self.unknown(ask, name), f"asked for {len(name)} characters, it answered with a queue"

    def test_no_file_outside_is_read(self, site: QueueSite, ask: Ask, tmp_path: Path) -> None:
        """No name makes it read a queue from a file elsewhere: by an absolute path, `..` or a URL."""
        site.publish(sample_queue())
        planted = [path for path in tmp_path.rglob("*") if path.is_file()]
        outside = tmp_path / "outside"
        outside.mkdir()
        for number, path in enumerate(planted[:20]):
            copy = outside / f"{number}{path.suffix}"
            copy.write_bytes(path.read_bytes())
            for name in (copy, copy.with_suffix(""), f"../outside/{copy.name}", f"../outside/{number}", copy.as_uri()):
                for asked in (str(name), quote(str(name), safe="")):
                    assert self.unknown(ask, asked), f"asked for {asked!r}, it read the file {copy.name}"

    # -- what changes --------------------------------------------------------------------------------------------

    def test_changes_are_seen(self, site: QueueSite, ask: Ask) -> None:
        """A queue that was changed, taken away or added since is answered as it is now, without a restart."""
        assert ask() is None, "a queue was made up, where nothing was published"
        for number in (1, 5, 2, 1):  # 1 and 5 take the same number of bytes
            expected = site.publish(sample_queue(number=number))
            self.same(self.known(ask), expected, "a queue whose description was changed since the last question")
        moved = {rse: replace(each, url=f"{each.url}/moved") for rse, each in sample_queue().storages.items()}
        expected = site.publish(replace(sample_queue(), storages=moved))
        self.same(self.known(ask), expected, "a queue whose storages moved since the last question")
        site.withdraw(QUEUE)
        assert ask() is None, "a queue is still known that the site has withdrawn"

    def test_the_same_question_has_the_same_answer(self, site: QueueSite, ask: Ask) -> None:
        """Asked again, it answers the same; and nothing of one queue gets into another's answer."""
        first = site.publish(sample_queue(f"{QUEUE}_1", number=1))
        second = site.publish(sample_queue(f"{QUEUE}_2", number=2))
        for _ in range(3):
            self.same(self.known(ask, first.name), first, "asked in turn with another queue")
            self.same(self.known(ask, second.name), second, "asked in turn with another queue")

    def test_an_answer_is_nobody_elses(self, site: QueueSite, ask: Ask) -> None:
        """Whoever changes an answer's tables changes no later answer."""
        expected = site.publish(sample_queue())
        for table in (self.known(ask).environment, self.known(ask).storages, self.known(ask).stagers):
            if isinstance(table, dict):
                table.clear()
        self.same(self.known(ask), expected, "after somebody cleared the tables of an earlier answer")

    def test_many_may_ask_at_once(self, site: QueueSite, ask: Ask) -> None:
        """Threads that ask at the same time get each the queue it asked for."""
        expected = [site.publish(sample_queue(f"{QUEUE}_{number}", number=number)) for number in range(4)]
        answers = at_once([lambda queue=queue: self.known(ask, queue.name) for queue in expected * 3], "queue")  # type: ignore[misc]
        for answer, queue in zip(answers, expected * 3, strict=True):
            self.same(answer, queue, "with other threads asking")

    # -- what goes wrong -----------------------------------------------------------------------------------------

    def test_malformed_data_is_named_with_its_place(
        self, site: QueueSite, source: QueueSource, ask: Ask, cancel: CancelToken, deadline: Deadline
    ) -> None:
        """Data that cannot be used is a `ConfigError` in one line that names the place; never a half queue."""
        for fault in site.faults:
            site.publish(sample_queue())
            self.known(ask)
            place = site.spoil(QUEUE, fault)
            what = f"a queue whose data is {fault}"
            error = refused(lambda: source.queue(QUEUE, cancel=cancel, deadline=deadline), ConfigError, what=what)
            assert place in str(error), f"{what}: the error does not name {place!r}: {error}"

    def test_it_goes_on_after_an_error(
        self, site: QueueSite, source: QueueSource, ask: Ask, cancel: CancelToken, deadline: Deadline
    ) -> None:
        """Once the data is right again, so is the answer; the source need not be made anew."""
        site.publish(sample_queue())
        for fault in site.faults:
            site.spoil(QUEUE, fault)
            refused(lambda: source.queue(QUEUE, cancel=cancel, deadline=deadline), ConfigError, what=f"data {fault}")
            site.withdraw(QUEUE)
            expected = site.publish(sample_queue(number=2))
            self.same(self.known(ask), expected, f"after data that was {fault} was set right")

    def test_a_site_that_does_not_answer_is_told(
        self, site: QueueSite, source: QueueSource, cancel: CancelToken, clock: SystemClock
    ) -> None:
        """A site that does not answer is an error that says so, not a queue that is unknown."""
        site.publish(sample_queue())
        if not site.break_down():
            self.does_not_apply("the site is a local one, which always answers")
        kinds = (CommunicationError, ConfigError, AuthError, TransferTimeout)
        until = Deadline.after(clock, 3.0)
        refused(lambda: source.queue(QUEUE, cancel=cancel, deadline=until), *kinds, what="a site that is down")

    def test_cancellation_is_heeded(self, site: QueueSite, source: QueueSource, deadline: Deadline) -> None:
        """A cancelled token ends the question with `Cancelled`."""
        site.publish(sample_queue())
        cancel = CancelToken()
        cancel.cancel("the kit says so")
        refused(lambda: source.queue(QUEUE, cancel=cancel, deadline=deadline), Cancelled, what="a cancelled question")

    def test_a_deadline_is_heeded(
        self, site: QueueSite, source: QueueSource, cancel: CancelToken, clock: SystemClock
    ) -> None:
        """A deadline that has passed ends the question with an error that says so."""
        site.publish(sample_queue())
        late = Deadline.after(clock, -1.0)
        kinds = (CommunicationError, TransferTimeout)
        refused(lambda: source.queue(QUEUE, cancel=cancel, deadline=late), *kinds, what="a question past its deadline")

    def test_a_password_in_a_url_is_not_told(
        self, site: QueueSite, source: QueueSource, cancel: CancelToken, deadline: Deadline
    ) -> None:
        """A storage's URL with a password in it is answered or refused; no log and no error shows the password."""
        url = f"davs://kit:{quote(CANARY, safe='')}@storage.example.org:443/store"
        disk = Storage(rse="DISK", url=url)
        site.publish(Queue(name=QUEUE, storages={"DISK": disk}, read=("DISK",), write=("DISK",)))
        try:
            within(lambda: source.queue(QUEUE, cancel=cancel, deadline=deadline), "queue")
        except ConfigError as error:
            text = full_text(error)
        else:
            return  # the base fixture looks into the log
        assert not shows_secret(text), "the error, or one behind it, shows the password of a storage's URL"

    def test_without_its_data_it_knows_nothing_or_says_so(
        self, subject: Subject, context: Context, cancel: CancelToken, deadline: Deadline
    ) -> None:
        """With the default settings it knows nothing or says in one line what to set."""
        provider = subject.providers["pilot_queue_sources"]
        required = [item.name for item in fields(provider.settings) if _required(item)]
        if required:
            self.does_not_apply(f"these settings have no default: {', '.join(required)}")

        def ask(name: str = "KIT_NOBODY") -> Queue | None:
            source: QueueSource = self.made(provider, {}, context)
            return within(lambda: source.queue(name, cancel=cancel, deadline=deadline), "queue")

        assert self.unknown(ask, "KIT_NOBODY"), "a queue was made up"

    def test_it_only_reads(self, site: QueueSite, ask: Ask, context: Context) -> None:
        """It writes no file, at the site or in the pilot's work directory, and keeps no descriptors or threads."""
        site.publish(sample_queue())
        self.known(ask)
        before, footprint = tree(context.work_dir.parent), Footprint.now()
        for _ in range(20):
            self.known(ask)
            ask("KIT_NOBODY")
        footprint.check("asking", slack=2)
        changed = before.items() ^ tree(context.work_dir.parent).items()
        assert not changed, f"asking changes files: {', '.join(sorted({name for name, _ in changed}))}"

    # -- helpers of the clauses ----------------------------------------------------------------------------------

    @staticmethod
    def unknown(ask: Ask, name: str) -> bool:
        """Say whether a name is not known, in a way that is allowed: None, or a `ConfigError` in one short line."""
        try:
            return ask(name) is None
        except ConfigError as error:
            text = str(error)
        except Exception as error:  # noqa: BLE001  (that is the finding)
            told = f"{type(error).__name__}: {str(error)[:200]}"
            raise finding(f"asked for {name[:80]!r}: {told}; None or ConfigError is due", error) from None
        assert text.isprintable(), f"asked for {name[:80]!r}, the error is not one line: {text!r}"
        assert len(text) < 1000, f"asked for {len(name)} characters, the error has {len(text)}: shorten the name"
        return True

    @staticmethod
    def check_site(expected: list[Queue]) -> None:
        """See that the author's site is worth comparing with."""
        plain = [replace(queue, name="", source="", extra={}) for queue in expected]
        for queue, other in itertools.pairwise(plain):
            assert queue != other, "QueueSite.publish returns the same for different queues: what can its format carry?"
        assert any(queue.storages for queue in plain), "QueueSite.publish returns queues without any storage"


def _comparable(queue: Queue) -> Queue:
    """Return a queue without what a source says in its own way, and with plain tables."""
    storages = {rse: replace(each, url=each.url.rstrip("/")) for rse, each in queue.storages.items()}
    stagers = {activity: tuple(names) for activity, names in queue.stagers.items()}
    return replace(queue, source="", extra={}, storages=storages, stagers=stagers, environment=dict(queue.environment))


def _required(item: Any) -> bool:
    """Say whether a setting has no default."""
    from dataclasses import MISSING  # noqa: PLC0415

    return item.default is MISSING and item.default_factory is MISSING


def _check_types(queue: Queue) -> None:
    """See that the fields hold what they say."""
    defaults = Queue(name="x")
    for item in fields(Queue):
        value, sort = getattr(queue, item.name), type(getattr(defaults, item.name))
        right = isinstance(value, Mapping if sort is dict else (int, float) if sort is float else sort)
        right = right and (sort is bool or not isinstance(value, bool))
        assert right, f"Queue.{item.name} is {value!r}, where a {sort.__name__} is due"
        if isinstance(value, tuple):
            assert all(isinstance(part, str) for part in value), f"Queue.{item.name} holds something that is no text"
    for name, value in queue.environment.items():
        good = re.fullmatch(r"[^=\0]+", str(name)) is not None and "\0" not in str(value)
        assert good, f"environment: {name!r}={value!r} cannot be a variable"


def _check_storage(rse: str, storage: Storage) -> None:
    """See that a storage can be used."""
    assert isinstance(storage, Storage), f"the storage {rse} is {storage!r}, no Storage"
    assert storage.rse == rse, f"the storage of {rse} is called {storage.rse!r}"
    assert storage.layout in {"flat", "rucio"}, f"the storage {rse} has the layout {storage.layout!r}"
    for url in (storage.url, *(protocol.url for protocol in storage.protocols)):
        assert urlsplit(url).scheme, f"the storage {rse}: {url!r} is no URL: it has no scheme"
        assert not url.endswith("/"), f"the storage {rse}: {url!r} ends in a slash"
        assert url.isprintable(), f"the storage {rse}: {url!r} is not one line"
    for protocol in storage.protocols:
        wrong = set(protocol.activities) - set(STORAGE_ACTIVITIES)
        assert not wrong, f"the storage {rse}: a protocol is for {sorted(wrong)}, not of {STORAGE_ACTIVITIES}"
    assert isinstance(storage.stagers, tuple), f"the storage {rse}: stagers is {storage.stagers!r}, no tuple"
