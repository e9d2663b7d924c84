"""What the clauses for stage-in and stage-out share: files, instances, and how errors are judged."""

from __future__ import annotations

import os
import random
import resource
import tempfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import new as new_hash
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import quote

import pytest

from pilot_core.api.cancel import CancelToken, Deadline
from pilot_core.api.checksums import DIGITS
from pilot_core.api.clock import SystemClock
from pilot_core.api.staging import FetchRequest, FileStat, StoreRequest, TransferResult
from pilot_core.errors import AuthError, Cancelled, HandledError, TransferError
from pilot_core.testing.kits.base import Kit
from pilot_core.testing.kits.canary import CANARY, shows_secret
from pilot_core.testing.kits.finding import finding
from pilot_core.testing.kits.storage import DirectoryStorage, Storage
from pilot_core.testing.kits.within import within

if TYPE_CHECKING:
    from pilot_core.api.provider import Context
    from pilot_core.testing.kits.subject import Subject

__all__ = [
    "ANY",
    "FILE",
    "MIDWAY",
    "NAMES",
    "NASTY",
    "ODD_NAMES",
    "REASON",
    "SIZES",
    "Bench",
    "JumpingClock",
    "StagerBase",
    "allowed",
    "check_result",
    "checksum_of",
    "data_of",
    "listing",
    "ran_programs",
    "refused",
]

FILE = "file.dat"

SIZES = (0, 1, 4097, 3 * 1024 * 1024 + 1)
"""Bytes: nothing, the least, more than a block, more than one block and not a multiple of any."""
MIDWAY = 16 * 1024 * 1024
"""Bytes of a file in whose midst something happens."""
REASON = "the kit says so"
"""Why clauses cancel."""
ANY = (TransferError, AuthError, Cancelled)
"""All that a stager may raise."""

NAMES = {
    "space": "with a space.dat",
    "accents": "ünïcödé.dat",
    "decomposed": "u\u0308.dat",
    "outer-spaces": " a.dat ",
    "upper-case": "FILE.DAT",
    "three-byte": "文" * 85,
    "longest": "n" * 255,
    "percent": "50%25.dat",
    "encoded-slash": "a%2Fb.dat",
    "query": "what?is=this&that",
    "fragment": "a#b.dat",
    "plus": "a+b.dat",
    "semicolon": "a;b=c,d.dat",
    "dash": "-rf.dat",
    "hidden": ".hidden",
    "shell": "$(id)`id`$HOME;id|id&.dat",
    "quotes": 'it\'s "quoted".dat',
    "backslash": "a\\b.dat",
    "glob": "*[a-z]?.dat",
    "tilde": "~root.dat",
    "dots": "...dat..",
    "folders": "a/b c/d.dat",
}
"""Names that files of jobs may have: all of them have to work."""
ODD_NAMES = {
    "newline": "a\nb.dat",
    "tab": "a\tb.dat",
    "escape": "a\x1b[31mb.dat",
    "delete": "a\x7fb.dat",
    "nul": "a\0b.dat",
}
"""Names that may be refused, and must not lead anywhere else."""


NASTY = b"\xef\xbb\xbfa\r\nb\n\x1a\0\xff" + bytes(3 * 1024 * 1024) + b"\r\n\r" + bytes(2 * 1024 * 1024)
"""Bytes that text modes, sparse copies and careless ends change."""


def data_of(size: int, seed: int = 0) -> bytes:
    """Return `size` bytes that repeat nowhere."""
    return random.Random(seed * 1_000_003 + size).randbytes(size)  # noqa: S311  (no secret)


def checksum_of(name: str, data: bytes) -> str:
    """Return `name:value` of some bytes."""
    if name == "adler32":
        return f"adler32:{zlib.adler32(data):08x}"
    return f"{name}:{new_hash(name, data, usedforsecurity=False).hexdigest()}"


def listing(folder: Path) -> set[str]:
    """Return everything below a directory."""
    return {os.fsencode(path.relative_to(folder)).decode("utf-8", "replace") for path in folder.rglob("*")}


class JumpingClock(SystemClock):
    """The real clock, which a test may put forward in the midst of something."""

    def __init__(self) -> None:
        super().__init__()
        self.jumped = 0.0

    def monotonic(self) -> float:
        """Return the real time and all jumps."""
        return super().monotonic() + self.jumped

    def wall(self) -> float:
        """Return the real time and all jumps."""
        return super().wall() + self.jumped


def ran_programs() -> int:
    """Return a number that grows with every process that this one has started and waited for."""
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_minflt


@dataclass(kw_only=True)
class Bench:
    """One stager, its storage, a job's directory: where a clause tries it. Every call here has to return."""

    subject: Subject
    settings: Mapping[str, Any]
    context: Context
    clock: JumpingClock
    storage: Storage
    here: Path
    """The job's directory."""
    stager: Any
    """The instance under test, a `StageIn` or a `StageOut`."""
    hook: str
    cancel: CancelToken = field(default_factory=CancelToken)
    deadline: Deadline
    programs: int = field(default_factory=ran_programs)
    """What `ran_programs` said when the clause began."""

    def fresh(self) -> Any:
        """Make another instance."""
        return Kit.made(self.subject.providers[self.hook], self.settings, self.context)

    @property
    def limits(self) -> dict[str, Any]:
        """What calls it off, as arguments."""
        return {"cancel": self.cancel, "deadline": self.deadline}

    def claims(self, capability: str) -> bool:
        """Say whether the provider claims a capability."""
        return capability in self.subject.providers[self.hook].capabilities

    def fetch(self, name: str = FILE, *, url: str | None = None, to: Path | None = None, **what: Any) -> TransferResult:
        """Fetch a file of the storage to `to`, by itself to its own name in the job's directory."""
        request = self.fetch_request(name, url=url, to=to, **what)
        result = within(lambda: self.stager.fetch(request, **self.limits), "fetch")
        assert isinstance(result, TransferResult), f"fetch returned {result!r}, which is no TransferResult"
        return result

    def fetch_request(
        self, name: str = FILE, *, url: str | None = None, to: Path | None = None, **what: Any
    ) -> FetchRequest:
        """Return the request for that."""
        return FetchRequest(
            url=self.storage.url(name) if url is None else url, destination=to or self.here / name, **what
        )

    def store(
        self, name: str = FILE, *, url: str | None = None, source: Path | None = None, **what: Any
    ) -> TransferResult:
        """Store `source`, by itself the file of that name in the job's directory."""
        request = self.store_request(name, url=url, source=source, **what)
        result = within(lambda: self.stager.store(request, **self.limits), "store")
        assert isinstance(result, TransferResult), f"store returned {result!r}, which is no TransferResult"
        return result

    def store_request(
        self, name: str = FILE, *, url: str | None = None, source: Path | None = None, **what: Any
    ) -> StoreRequest:
        """Return the request for that."""
        return StoreRequest(
            source=source or self.here / name, url=self.storage.url(name) if url is None else url, **what
        )

    def stat(self, name: str = FILE, *, url: str | None = None) -> FileStat:
        """Ask about a file."""
        place = self.storage.url(name) if url is None else url
        found = within(lambda: self.stager.stat(place, **self.limits), "stat")
        assert isinstance(found, FileStat), f"stat returned {found!r}, which is no FileStat"
        return found

    def remove(self, name: str = FILE, *, url: str | None = None) -> None:
        """Remove a file."""
        place = self.storage.url(name) if url is None else url
        within(lambda: self.stager.remove(place, **self.limits), "remove")

    def write(self, data: bytes, name: str = FILE) -> Path:
        """Have a file lie in the job's directory."""
        path = self.here / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return path

    def check_clean(self, *, here: bool = True) -> None:
        """See that nothing lies in the job's directory, in the work directory, or among temporary files."""
        for folder in (*((self.here,) if here else ()), self.context.work_dir, Path(tempfile.gettempdir())):
            left = listing(folder)
            assert not left, f"something is left in {folder.name}/: {', '.join(sorted(left))}"

    def bad_urls(self) -> list[str]:
        """Return URLs that name no file, or none of this stager's."""
        scheme = min(self.subject.providers[self.hook].schemes)
        odd = ("", "//", "///", "//[::1/x", "//" + "x" * 100_000, "///" + "x/" * 50_000)
        secret = f"//somebody:{quote(CANARY, safe='')}@host/x"
        none = ("", "/", "no-url", "other-scheme://host/x", f"other-scheme:{secret}")
        return [*none, *(f"{scheme}:{rest}" for rest in odd), self.storage.url("")]

    def doubtful_urls(self) -> list[str]:
        """Return URLs that a stager may refuse or make sense of: whatever it does, it does in good order."""
        scheme = min(self.subject.providers[self.hook].schemes)
        odd = ("//host:notaport/x", "//%zz/%zz", "//host/a\nb", "//host/a\0b", "//host/a%00b", "//ho st/\udcff")
        return [*(f"{scheme}:{rest}" for rest in odd), self.storage.url(FILE) + "/"]

    def saw_midst(self, told: Sequence[int], what: str) -> bool:
        """Say whether `progress` was called while bytes were still to be moved.

        It must have been, unless the stager has another program move the bytes, which was quicker than it looked.
        """
        assert told, f"{what}: progress was never called"
        if min(told) < MIDWAY:
            return True
        assert ran_programs() > self.programs, (
            f"{what}: progress was told at the end of {MIDWAY} bytes only: move files block by block"
        )
        return False

    @property
    def direct(self) -> DirectoryStorage | None:
        """The storage, if it is a directory that the stager itself reads and writes."""
        found = self.storage
        return found if isinstance(found, DirectoryStorage) and found.direct else None

    def with_password(self, name: str) -> str:
        """Return a file's URL with a user and a password in it."""
        scheme, _, rest = self.storage.url(name).partition("://")
        return f"{scheme}://somebody:{quote(CANARY, safe='')}@{rest}"


def refused(call: Callable[[], object], *expected: type[HandledError], what: str) -> HandledError:
    """Return the error that a call must raise: one of the expected classes, one line, no secret in it."""
    wanted = " or ".join(kind.__name__ for kind in expected)
    try:
        result = within(call, what)
    except HandledError as error:
        text, kind = str(error), type(error).__name__
        assert isinstance(error, expected), f"{what}: {kind} was raised where {wanted} is due: {text}"
        assert text.strip(), f"{what}: the {kind} says nothing: say what is wrong, and where"
        assert text.isprintable(), f"{what}: the {kind}'s text is not one line of printable text: {text!r}"
        assert not shows_secret(text + repr(error)), f"{what}: the {kind}'s text shows a password or token"
        lost = isinstance(error, Cancelled) and REASON not in text
        assert not lost, f"{what}: the text of `Cancelled` lacks the reason that the token gives: {text!r}"
        return error
    except Exception as error:  # noqa: BLE001  (that is the finding)
        told = f"{what}: {type(error).__name__} ({error}) was raised where {wanted} is due"
        raise finding(told, error) from None
    pytest.fail(f"{what}: {wanted} is due, and it returned {result!r}", pytrace=False)


def allowed(call: Callable[[], object], *, what: str) -> None:
    """See that a call either returns or is refused as it should be."""

    def tried() -> None:
        call()
        raise TransferError("returned")

    refused(tried, *ANY, what=what)


def check_result(result: TransferResult, data: bytes, what: str) -> None:
    """See that a result tells the truth about the bytes that were moved."""
    assert result.size == len(data), f"{what}: the result's size is {result.size}, {len(data)} bytes were moved"
    name, _, _ = result.checksum.partition(":")
    assert name in DIGITS, f"{what}: the result's checksum {result.checksum!r} is not name:value with a known name"
    right = checksum_of(name, data)
    assert result.checksum == right, f"{what}: the result's checksum is {result.checksum}, that of the bytes {right}"
    assert result.url, f"{what}: the result has no url"


class StagerBase(Kit):
    """The fixtures of the stager kit."""

    kind = "stager"
    capabilities: ClassVar[Mapping[str, tuple[str, ...]]] = {
        f"checksum:{name}": ("test_a_claimed_checksum_is_verified", "test_a_claimed_checksum_is_computed_and_verified")
        for name in DIGITS
    }

    @pytest.fixture
    def storage(self) -> Storage:
        """The storage that the stager reaches; override it."""
        storage: Storage = self.missing(
            "storage",
            "return a pilot_core.testing.Storage, e.g. DirectoryStorage(tmp_path / 'storage', 'tape://library')",
        )
        return storage

    @pytest.fixture
    def clock(self) -> JumpingClock:
        """A clock that clauses may put forward."""
        return JumpingClock()

    @pytest.fixture(autouse=True)
    def _own_temporary_files(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Have temporary files made where the clauses see them."""
        folder = tmp_path / "temporary"
        folder.mkdir()
        monkeypatch.setattr(tempfile, "tempdir", str(folder))

    @pytest.fixture
    def stage_in(
        self, subject: Subject, settings: Mapping[str, Any], context: Context, storage: Storage, tmp_path: Path
    ) -> Bench:
        """Where stage-in is tried."""
        return self._bench("pilot_stagein", subject, settings, context, storage, tmp_path)

    @pytest.fixture
    def stage_out(
        self, subject: Subject, settings: Mapping[str, Any], context: Context, storage: Storage, tmp_path: Path
    ) -> Bench:
        """Where stage-out is tried."""
        return self._bench("pilot_stageout", subject, settings, context, storage, tmp_path)

    def _bench(
        self,
        hook: str,
        subject: Subject,
        settings: Mapping[str, Any],
        context: Context,
        storage: Storage,
        tmp_path: Path,
    ) -> Bench:
        if hook not in subject.providers:
            self.does_not_apply(f"the plugin offers no {'stage-in' if hook == 'pilot_stagein' else 'stage-out'}")
        here = tmp_path / "job"
        here.mkdir()
        clock = context.clock
        assert isinstance(clock, JumpingClock)
        return Bench(
            subject=subject,
            settings=settings,
            context=context,
            clock=clock,
            storage=storage,
            here=here,
            stager=self.made(subject.providers[hook], settings, context),
            hook=hook,
            deadline=Deadline.after(clock, 60.0),
        )
