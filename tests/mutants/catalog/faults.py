"""Faults of catalogues' plugins."""

from __future__ import annotations

import contextlib
import os
import random
import sqlite3
import threading
from dataclasses import replace

from catalog.reference import Database, Plugin
from harness import Mutant

from pilot_core import CommunicationError, ConfigError, Deadline, Replica, RequestRefused


def query(text, *, order=lambda position: position, names=lambda file: (file.scope, file.lfn)):
    """Return a catalogue that asks another question."""

    class Asking(Database):
        def replicas_of(self, connection, file):
            rows = connection.execute(f"select url, rse, position from replicas {text}", names(file))
            return tuple(Replica(url=url, rse=rse, order=order(position)) for url, rse, position in rows)

    return Asking


def changed(change):
    """Return a catalogue whose answers are changed."""

    class Changed(Database):
        def replicas(self, files, **limits):
            return change(files, super().replicas(files, **limits))

    return Changed


def entering(change):
    """Return a catalogue that enters something else than what was reported."""

    class Entering(Database):
        def enter(self, connection, scope, file):
            super().enter(connection, *change(scope, file))

    return Entering


class FirstHundred(Database):
    def replicas(self, files, **limits):
        return super().replicas(files[:100], **limits)


class UnknownIsError(Database):
    def replicas(self, files, **limits):
        found = super().replicas(files, **limits)
        for lfn, replicas in found.items():
            if not replicas:
                raise RequestRefused(f"{self.file}: {lfn!r} is not known")
        return found


class StopsAtUnknown(Database):
    def replicas(self, files, **limits):
        found = super().replicas(files, **limits)
        kept = {}
        for lfn, replicas in found.items():
            if not replicas:
                break
            kept[lfn] = replicas
        return kept


class Everything(Database):
    def replicas(self, files, *, cancel, deadline):
        if files:
            return super().replicas(files, cancel=cancel, deadline=deadline)
        with self.connected(cancel, deadline) as connection:
            rows = connection.execute("select lfn, url from replicas").fetchall()
        return {lfn: [Replica(url=url)] for lfn, url in rows}


class Kept(Database):
    def replicas(self, files, **limits):
        known = self.__dict__.setdefault("known", {})
        asked = [file for file in files if not known.get((file.scope, file.lfn))]
        found = super().replicas(asked, **limits)
        known.update({(file.scope, file.lfn): found[file.lfn] for file in asked})
        return {file.lfn: known[file.scope, file.lfn] for file in files}


class Encoded(Database):
    def replicas(self, files, **limits):
        for file in files:
            file.lfn.encode()
        return super().replicas(files, **limits)

    def replicas_of(self, connection, file):
        return super().replicas_of(connection, file)


class DownIsUnknown(Database):
    def replicas(self, files, *, cancel, deadline):
        cancel.raise_if_cancelled()
        deadline.raise_if_passed("catalogue")
        try:
            return super().replicas(files, cancel=cancel, deadline=deadline)
        except CommunicationError:
            return {}


class DownIsRegistered(Database):
    def register(self, job, files, **limits):
        try:
            super().register(job, files, **limits)
        except CommunicationError:
            self.log.warning("not registered")


class Raw(Database):
    @contextlib.contextmanager
    def connected(self, cancel, deadline):
        cancel.raise_if_cancelled()
        deadline.raise_if_passed("catalogue")
        with contextlib.closing(sqlite3.connect(self.file, timeout=0.5, isolation_level=None)) as connection:
            yield connection


class OtherClass(Database):
    @contextlib.contextmanager
    def connected(self, cancel, deadline):
        try:
            with super().connected(cancel, deadline) as connection:
                yield connection
        except CommunicationError as error:
            raise ConfigError(str(error)) from None


class Patient(Database):
    @contextlib.contextmanager
    def connected(self, cancel, deadline):
        while True:
            try:
                with super().connected(cancel, Deadline.after(deadline.clock, 100)) as connection:
                    yield connection
                return
            except CommunicationError:
                threading.Event().wait(0.1)


class Uncancelled(Database):
    @contextlib.contextmanager
    def connected(self, cancel, deadline):
        class Never:
            def raise_if_cancelled(self):
                pass

        with super().connected(Never(), deadline) as connection:
            yield connection

    def replicas(self, files, *, cancel, deadline):
        class Never:
            def raise_if_cancelled(self):
                pass

        return super().replicas(files, cancel=Never(), deadline=deadline)


class CancelledAfter(Database):
    def register(self, job, files, *, cancel, deadline):
        from pilot_core import CancelToken

        super().register(job, files, cancel=CancelToken(), deadline=deadline)
        cancel.raise_if_cancelled()


class Endless(Database):
    @contextlib.contextmanager
    def connected(self, cancel, deadline):
        cancel.raise_if_cancelled()
        with contextlib.closing(sqlite3.connect(self.file, isolation_level=None)) as connection:
            yield connection


class Twice(Database):
    def enter(self, connection, scope, file):
        super().enter(connection, scope, file)
        where = (scope, file.lfn, random.randrange(100, 10**9), f"{file.surl}", file.rse)
        connection.execute("insert into replicas values (?, ?, ?, ?, ?)", where)


class TwiceWhenAgain(Database):
    def enter(self, connection, scope, file):
        known = connection.execute("select 1 from files where scope = ? and lfn = ?", (scope, file.lfn)).fetchone()
        super().enter(connection, scope, file)
        if known:
            where = (scope, file.lfn, random.randrange(100, 10**9), file.surl, file.rse)
            connection.execute("insert into replicas values (?, ?, ?, ?, ?)", where)


class AgainIsError(Database):
    def enter(self, connection, scope, file):
        if connection.execute("select 1 from files where scope = ? and lfn = ?", (scope, file.lfn)).fetchone():
            raise RequestRefused(f"{self.file}: {scope}:{file.lfn} is known")
        super().enter(connection, scope, file)


class Overwriting(Database):
    def enter(self, connection, scope, file):
        connection.execute("delete from files where scope = ? and lfn = ?", (scope, file.lfn))
        super().enter(connection, scope, file)


class IgnoresOther(Database):
    def enter(self, connection, scope, file):
        with contextlib.suppress(RequestRefused):
            super().enter(connection, scope, file)


class SizeOnly(Database):
    def enter(self, connection, scope, file):
        known = connection.execute(
            "select size, checksum from files where scope = ? and lfn = ?", (scope, file.lfn)
        ).fetchone()
        super().enter(connection, scope, replace(file, checksum=known[1]) if known else file)


class AllOutputs(Database):
    def register(self, job, files, **limits):
        named = {file.lfn for file in files}
        rest = [replace(files[0], lfn=output.lfn) for output in job.outputs if output.lfn not in named] if files else []
        super().register(job, [*files, *rest], **limits)


class OnlyOutputs(Database):
    def register(self, job, files, **limits):
        logs = {job.log.lfn} if job.log else set()
        super().register(job, [file for file in files if file.lfn not in logs], **limits)


class LogAssumed(Database):
    def register(self, job, files, **limits):
        scopes = {output.lfn: output.scope for output in (*job.outputs, job.log)}
        super().register(job, [file for file in files if file.lfn in scopes], **limits)


class FirstOnly(Database):
    def register(self, job, files, **limits):
        super().register(job, files[:1], **limits)


class StrayEntered(Database):
    def register(self, job, files, **limits):
        from pilot_core import OutputFile

        known = {output.lfn for output in job.files_out}
        more = tuple(OutputFile(lfn=file.lfn, scope="") for file in files if file.lfn not in known)
        super().register(replace(job, outputs=(*job.outputs, *more)), files, **limits)


class FilesOnly(Database):
    def enter(self, connection, scope, file):
        super().enter(connection, scope, file)
        connection.execute("delete from replicas where scope = ? and lfn = ?", (scope, file.lfn))


class Racing(Database):
    def replicas(self, files, **limits):
        self.files = files
        threading.Event().wait(0.02)
        return super().replicas(self.files, **limits)


class NotIgnored(Database):
    def register(self, job, files, **limits):
        scopes = {output.lfn: output.scope for output in job.files_out}
        limits["cancel"].raise_if_cancelled()
        with self.connected(**limits) as connection:
            known = {
                file.lfn: connection.execute("select 1 from files where lfn = ?", (file.lfn,)).fetchone()
                for file in files
            }
            threading.Event().wait(0.02)
            for file in files:
                if not known[file.lfn]:
                    row = (scopes[file.lfn], file.lfn, file.guid, file.size, file.checksum)
                    connection.execute("insert into files values (?, ?, ?, ?, ?)", row)
                    place = (scopes[file.lfn], file.lfn, 0, file.surl, file.rse)
                    connection.execute("insert into replicas values (?, ?, ?, ?, ?)", place)


class Leaking(Database):
    @contextlib.contextmanager
    def connected(self, cancel, deadline):
        self.__dict__.setdefault("files", []).append(os.open(self.file.parent, os.O_RDONLY))
        with super().connected(cancel, deadline) as connection:
            yield connection


class Writing(Database):
    def __init__(self, settings, context):
        super().__init__(settings, context)
        self.work = context.work_dir

    def register(self, job, files, **limits):
        super().register(job, files, **limits)
        (self.work / "registered.json").write_text(repr(files))


def naming(change):
    """Return a catalogue whose places to write to are changed."""

    class NamingOther(Database):
        def destinations(self, rse, files, **limits):
            return change(rse, files, lambda some: super(NamingOther, self).destinations(rse, some, **limits))

    return NamingOther


class MadeUp(Database):
    def destinations(self, rse, files, **limits):
        try:
            return super().destinations(rse, files, **limits)
        except RequestRefused:
            return {file.lfn: [self.place(rse, "davs://guess.example.org", file)] for file in files}


class PlacesRegardless(Database):
    def destinations(self, rse, files, *, cancel, deadline):
        from pilot_core import CancelToken

        return super().destinations(rse, files, cancel=CancelToken(), deadline=deadline)


class PlacesAnyTime(Database):
    def destinations(self, rse, files, *, cancel, deadline):
        return super().destinations(rse, files, cancel=cancel, deadline=Deadline.after(deadline.clock, 60))


class OnePlace(Database):
    def place(self, rse, prefix, file):
        return super().place(rse, prefix, replace(file, lfn="file"))


class SeenEmpty(Database):
    def seen_from(self, queue):
        seen = super().seen_from(queue)
        seen.replicas = lambda files, **_: {file.lfn: () for file in files}
        return seen


class SeenLess:
    """What a queue sees of a catalogue that forgets most of itself."""

    def __init__(self, whole):
        self.replicas, self.register = whole.replicas, whole.register
        self.seen_from = whole.seen_from


class SeenPoor(Database):
    def seen_from(self, queue):
        return SeenLess(super().seen_from(queue))


class Telling(Database):
    def attempted(self, job, attempt):
        with self.connected(CancelTokenAlways(), Deadline.after(self.clock, 60)) as connection:
            connection.execute("insert into files values ('trace', ?, '', 0, '')", (attempt.lfn,))

    def __init__(self, settings, context):
        super().__init__(settings, context)
        self.clock = context.clock


class CancelTokenAlways:
    def raise_if_cancelled(self):
        pass


class Choosy(Database):
    def attempted(self, job, attempt):
        self.log.info("scope %s", next(each.scope for each in job.files_out if each.lfn == attempt.lfn))


class Unsettled(Database):
    def settle(self, *, cancel, deadline):
        threading.Event().wait()


class SettledLate(Database):
    def settle(self, *, cancel, deadline):
        deadline.wait()


def backwards(_, found):
    return {lfn: tuple(reversed(replicas)) for lfn, replicas in found.items()}


def by_url(_, found):
    ordered = {lfn: sorted(replicas, key=lambda each: each.url) for lfn, replicas in found.items()}
    return {lfn: [replace(each, order=n) for n, each in enumerate(replicas)] for lfn, replicas in ordered.items()}


FOUND = ("test_replicas_are_found_by_name",)
ORDER = ("test_replicas_come_in_the_catalogues_order",)
ONLY = ("test_only_what_was_reported_is_registered",)
UNKNOWN = ("test_an_unknown_file_is_no_error",)
SCOPES = ("test_scopes_are_kept_apart",)
NAMES = ("test_names_are_compared_exactly",)
MANY = ("test_many_files_in_one_call",)
REPORTED = ("test_outputs_are_registered_as_reported",)
AGAIN = ("test_registering_again_changes_nothing",)
OTHER = ("test_another_file_is_not_overwritten",)
DOWN = ("test_a_catalogue_that_does_not_answer_is_told",)
CLEAN = ("test_it_leaves_nothing_behind",)
PLACES = ("test_places_to_write_to_are_named",)
ENDS = ("test_the_question_for_places_ends_as_any",)
HEARD = ("test_no_job_waits_for_what_it_tells_of_transfers",)
EXACT = "where scope = ? and lfn = ? order by position"

CATALOGS = {
    "first-only": ("only the best replica is told", changed(lambda _, f: {n: r[:1] for n, r in f.items()}), FOUND),
    "rse-dropped": (
        "the storage is not told",
        changed(lambda _, f: {n: [replace(each, rse="") for each in r] for n, r in f.items()}),
        FOUND,
    ),
    "backwards": ("the worst replica comes first", changed(backwards), ORDER),
    "by-url": ("replicas are sorted by URL", changed(by_url), ORDER),
    "order-counts-down": ("Replica.order counts down", query(EXACT, order=lambda n: -n), ORDER),
    "a-set": ("replicas have no order", changed(lambda _, f: {n: set(r) for n, r in f.items()}), FOUND),
    "a-list": ("the answer is no mapping", changed(lambda _, f: list(f.values())), FOUND),
    "urls": ("replicas are texts", changed(lambda _, f: {n: [each.url for each in r] for n, r in f.items()}), FOUND),
    "by-scope-and-name": (
        "the answer's keys have the scope",
        changed(lambda files, f: {f"{file.scope}:{file.lfn}": f[file.lfn] for file in files}),
        FOUND,
    ),
    "unknown-is-an-error": ("an unknown file is an error", UnknownIsError, UNKNOWN),
    "stops-at-unknown": ("an unknown file hides those after it", StopsAtUnknown, UNKNOWN),
    "scope-ignored": (
        "the scope is not looked at",
        query("where lfn = ? order by position", names=lambda file: (file.lfn,)),
        SCOPES,
    ),
    "scope-pattern": ("the scope is a pattern", query("where scope like ? and lfn = ? order by position"), SCOPES),
    "lfn-pattern": ("the LFN is a pattern", query("where scope = ? and lfn like ? order by position"), NAMES),
    "lfn-glob": ("the LFN is a glob", query("where scope = ? and lfn glob ? order by position"), NAMES),
    "any-case": (
        "case does not count",
        query("where scope = ? and lfn = ? collate nocase order by position"),
        NAMES,
    ),
    "blanks": (
        "blanks at the end do not count",
        query(EXACT, names=lambda file: (file.scope, file.lfn.rstrip())),
        NAMES,
    ),
    "name-in-the-question": (
        "the LFN is put into the question as it is",
        type(
            "Injected",
            (Database,),
            {
                "replicas_of": lambda self, connection, file: tuple(
                    Replica(url=url, rse=rse, order=position)
                    for url, rse, position in connection.execute(
                        "select url, rse, position from replicas"
                        f" where scope = '{file.scope}' and lfn = '{file.lfn}' order by position"
                    )
                )
            },
        ),
        ("test_unusual_names_work",),
    ),
    "raw-encoding-error": (
        "a UnicodeError gets through",
        Encoded,
        ("test_impossible_names_lead_nowhere",),
    ),
    "a-hundred-at-most": ("of many files only a hundred are asked for", FirstHundred, MANY),
    "everything": ("no files are all files", Everything, ("test_no_files_are_no_question",)),
    "kept-for-good": ("an answer is kept for good", Kept, ("test_changes_are_seen",)),
    "down-is-unknown": ("where the catalogue is down files are unknown", DownIsUnknown, DOWN),
    "down-is-registered": ("where the catalogue is down outputs are lost", DownIsRegistered, DOWN),
    "raw-error": ("the database's error gets through", Raw, DOWN),
    "another-class": ("an error is of another class", OtherClass, DOWN),
    "patient": ("it waits for a catalogue that is down", Patient, DOWN),
    "cancel-ignored": ("cancellation is not heeded", Uncancelled, ("test_cancellation_is_heeded",)),
    "cancelled-after": ("cancellation is heeded after the work", CancelledAfter, ("test_cancellation_is_heeded",)),
    "deadline-ignored": ("the deadline is not heeded", Endless, ("test_a_deadline_is_heeded",)),
    "size-wrong": ("the size is not registered", entering(lambda s, f: (s, replace(f, size=0))), REPORTED),
    "checksum-bare": (
        "the checksum is registered without its name",
        entering(lambda s, f: (s, replace(f, checksum=f.checksum.partition(":")[2]))),
        REPORTED,
    ),
    "guid-made": ("another GUID is registered", entering(lambda s, f: (s, replace(f, guid=f.guid[::-1]))), REPORTED),
    "scope-of-the-first": ("one scope serves for all", entering(lambda _, f: ("kit_out", f)), REPORTED),
    "rse-lost": ("the storage is not registered", entering(lambda s, f: (s, replace(f, rse=""))), REPORTED),
    "twice": ("a file is entered twice", Twice, REPORTED),
    "twice-when-again": ("registered again, a file has two entries", TwiceWhenAgain, AGAIN),
    "again-is-an-error": ("registered again, a file is an error", AgainIsError, AGAIN),
    "overwriting": ("another file replaces the known one", Overwriting, OTHER),
    "other-ignored": ("another file is passed over without a word", IgnoresOther, OTHER),
    "size-only": ("a known file's checksum is not compared", SizeOnly, OTHER),
    "all-outputs": (
        "outputs that were not stored are entered",
        AllOutputs,
        ("test_only_what_was_reported_is_registered",),
    ),
    "log-assumed": ("a job without a log is an error", LogAssumed, ("test_a_job_without_a_log_is_registered",)),
    "log-left-out": ("the log is not entered", OnlyOutputs, ("test_the_log_is_registered_too",)),
    "first-file-only": ("only the first file is entered", FirstOnly, REPORTED),
    "stray-entered": ("what is no output is entered", StrayEntered, ("test_a_file_of_nobody_is_refused",)),
    "not-found-after": ("a registered file has no replica", FilesOnly, ("test_what_was_registered_is_found",)),
    "threads-mixed": ("threads mix up their files", Racing, ("test_many_may_ask_at_once",)),
    "not-atomic": (
        "two threads enter one file twice",
        NotIgnored,
        ("test_many_may_ask_at_once",),
    ),
    "places-first-only": ("only the first file has a place", naming(lambda _, f, ask: ask(f[:1])), PLACES),
    "places-many-dropped": ("of many files only twenty have places", naming(lambda _, f, ask: ask(f[:20])), PLACES),
    "places-rse-lost": (
        "a place has no storage",
        naming(lambda _, f, ask: {n: [replace(each, rse="") for each in r] for n, r in ask(f).items()}),
        PLACES,
    ),
    "places-none": ("files have no place", naming(lambda _, f, ask: {n: [] for n in ask(f)}), PLACES),
    "places-by-did": (
        "places are told by scope and name",
        naming(lambda _, f, ask: {f"x:{n}": r for n, r in ask(f).items()}),
        PLACES,
    ),
    "places-one-for-all": ("all files have one place", OnePlace, PLACES),
    "places-made-up": (
        "places are made up on an unknown storage",
        MadeUp,
        ("test_a_storage_that_is_not_known_is_refused",),
    ),
    "places-cancel-ignored": ("cancellation is not heeded", PlacesRegardless, ENDS),
    "places-deadline-ignored": ("the deadline is not heeded", PlacesAnyTime, ENDS),
    "seen-empty": ("seen from a queue there are no replicas", SeenEmpty, ("test_it_is_seen_from_a_queue",)),
    "seen-poor": ("seen from a queue it names no places", SeenPoor, ("test_it_is_seen_from_a_queue",)),
    "transfers-in-the-way": ("a job waits for what is told of transfers", Telling, HEARD),
    "transfers-choosy": ("a transfer of an unknown file is an error", Choosy, HEARD),
    "settle-for-ever": ("it settles never", Unsettled, HEARD),
    "settle-cancel-ignored": ("it settles though cancelled", SettledLate, HEARD),
    "descriptor-kept": ("a descriptor stays open", Leaking, CLEAN),
    "file-written": ("a file is written into the work directory", Writing, CLEAN),
}

MUTANTS = [
    Mutant(name=name, fault=fault, caught_by=caught_by, plugin=lambda catalog=catalog: Plugin(catalog))
    for name, (fault, catalog, caught_by) in CATALOGS.items()
]
