"""A service that does what real ones cannot be made to do: over real sockets, each fault ends in its class."""

from __future__ import annotations

import hashlib
import re
import zlib
from dataclasses import dataclass, field

import pytest

from pilot_core import (
    AuthError,
    BackendUnavailable,
    ChecksumMismatch,
    NoSpace,
    SizeMismatch,
    SourceNotFound,
    TransferTimeout,
    TransientError,
)
from pilot_core.testing.loopback import Loopback, Reaction, response_bytes

MIB = 1 << 20
DATA = bytes(range(256)) * 4096
PARTS = bytes(range(253)) * (11 * MIB // 253)
TOKEN = "canary-session-token"


def answer(status=200, body=b"", **headers):
    return Reaction(
        data=response_bytes(status, body, "application/xml", {n.replace("_", "-"): v for n, v in headers.items()})
    )


def refusal(status, code, **headers):
    return answer(status, f"<Error><Code>{code}</Code><Message>no</Message></Error>".encode(), **headers)


@dataclass
class Service:
    """S3 for one object, as far as an upload and a read need it; `says` may answer in its place."""

    says: object = None
    asked: list = field(default_factory=list)
    parts: dict = field(default_factory=dict)
    stored: bytes | None = None
    etag: str = ""

    def __call__(self, request):
        kind = self.kind(request)
        self.asked.append(kind)
        reaction = self.says(kind, request, self.asked.count(kind)) if self.says else None
        return reaction or self.do(kind, request)

    @staticmethod
    def kind(request):
        query = request.target.partition("?")[2]
        if "tagging" in query:
            return "tag"
        if re.search(r"(^|&)uploads=", query):
            return "create"
        if "partNumber" in query:
            return "part"
        if "uploadId" in query:
            return {"POST": "complete", "DELETE": "abort"}[request.method]
        return request.method.lower()

    def do(self, kind, request):
        return getattr(self, f"do_{kind}")(request)

    def do_create(self, request):
        return answer(body=b"<R><UploadId>u/1+</UploadId></R>")

    def do_part(self, request):
        number = int(re.search(r"partNumber=(\d+)", request.target)[1])
        self.parts[number] = request.body
        return answer(ETag=f'"{hashlib.md5(request.body).hexdigest()}"')

    def do_complete(self, request):
        self.stored = b"".join(self.parts[number] for number in sorted(self.parts))
        joined = b"".join(hashlib.md5(self.parts[number]).digest() for number in sorted(self.parts))
        self.etag = f"{hashlib.md5(joined).hexdigest()}-{len(self.parts)}"
        return answer(body=f"<R><ETag>&quot;{self.etag}&quot;</ETag></R>".encode())

    def do_put(self, request):
        self.stored, self.etag = request.body, hashlib.md5(request.body).hexdigest()
        return answer(ETag=f'"{self.etag}"')

    def do_abort(self, request):
        return answer(204)

    def do_delete(self, request):
        self.stored = None
        return answer(204)

    def do_tag(self, request):
        return answer()

    def do_head(self, request):
        if self.stored is None:
            return Reaction(data=head_bytes(404, 0))
        return Reaction(data=head_bytes(200, len(self.stored), self.etag))

    def do_get(self, request):
        return refusal(404, "NoSuchKey") if self.stored is None else self.piece(request)

    def piece(self, request):
        """Answer a GET, of a part if that is asked for."""
        found = re.fullmatch(r"bytes=(\d+)-", request.headers.get("range", ""))
        start = int(found[1]) if found else 0
        size = len(self.stored)
        ranged = {"Content_Range": f"bytes {start}-{size - 1}/{size}"} if found else {}
        return answer(206 if found else 200, self.stored[start:], ETag='"e"', **ranged)


def head_bytes(status, length, etag=""):
    return f'HTTP/1.1 {status} X\r\nContent-Length: {length}\r\nETag: "{etag}"\r\n\r\n'.encode()


@pytest.fixture
def service():
    return Service()


@pytest.fixture
def loopback(service):
    with Loopback(service) as loopback:
        yield loopback


class Plain:
    """The URLs of the service's one bucket."""

    def __init__(self, loopback):
        self.loopback = loopback

    def url(self, name):
        return f"s3+http://127.0.0.1:{self.loopback.port}/bucket/{name}"


@pytest.fixture
def storage(loopback):
    return Plain(loopback)


@pytest.fixture
def settings(loopback, tmp_path):
    keys = tmp_path / "credentials"
    keys.write_text(
        f"[default]\naws_access_key_id = KEY\naws_secret_access_key = canary-secret\naws_session_token = {TOKEN}\n"
    )
    endpoint = f"http://127.0.0.1:{loopback.port}"
    return {"endpoint": endpoint, "plain_http": True, "credentials_file": keys, "part_size": 5, "tries": 3}


# -- reading -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reaction", "kind"),
    [
        (refusal(403, "AccessDenied"), AuthError),
        (refusal(400, "ExpiredToken"), AuthError),
        (refusal(404, "NoSuchKey"), SourceNotFound),
        (answer(429, Retry_After="7"), TransientError),
        (refusal(500, "InternalError"), TransientError),
        (refusal(503, "SlowDown", Retry_After="7"), TransientError),
        (answer(507), NoSpace),
        (answer(301), BackendUnavailable),
        (Reaction(data=b"SSH-2.0-OpenSSH\r\n\r\n", then="close"), BackendUnavailable),
        (Reaction(then="close"), TransientError),
        (Reaction(then="reset"), TransientError),
    ],
    ids=["403", "400", "404", "429", "500", "503", "507", "301", "no-http", "closed", "reset"],
)
@pytest.mark.parametrize("way", ["get", "head", "put", "create", "delete"])
def test_each_refusal_ends_in_its_class_and_leaves_nothing(bench, service, reaction, kind, way):
    service.stored = DATA
    service.says = lambda asked, request, count: reaction if asked == way else None
    if way == "head" and b"\r\n\r\n<" in reaction.data:
        service.says = lambda asked, *_: (
            Reaction(data=reaction.data.partition(b"\r\n\r\n")[0] + b"\r\n\r\n") if asked == "head" else None
        )
    calls = {
        "get": bench.fetch,
        "head": bench.stat,
        "put": lambda: bench.store(data=DATA),
        "create": lambda: bench.store(data=PARTS),
        "delete": lambda: bench.stager.remove(bench.storage.url("f.dat"), **bench.limits()),
    }
    if kind is SourceNotFound and way in {"put", "create"}:
        kind = BackendUnavailable
    with pytest.raises(kind) as error:
        calls[way]()
    if b"Retry-After" in reaction.data:
        assert error.value.retry_after == 7.0
    assert "canary" not in str(error.value)
    assert [path.name for path in bench.folder.iterdir()] == ([] if way in {"get", "head", "delete"} else ["local.dat"])


def test_a_truncated_answer_is_asked_for_again_and_never_taken(bench, service):
    service.stored = DATA
    whole = service.piece

    def truncated(asked, request, count):
        reaction = whole(request)
        return Reaction(data=reaction.data[:-100], then="close") if count < 3 else None

    service.says = truncated
    # what is missing gets shorter each time: the answers' last 100 bytes
    result = bench.fetch()
    assert bench.local.read_bytes() == DATA
    assert result.checksum == f"adler32:{zlib.adler32(DATA):08x}"
    service.says = lambda asked, request, count: Reaction(data=whole(request).data[:-100], then="close")
    with pytest.raises(TransientError, match="missing"):
        bench.fetch()


def test_half_an_answer_again_and_again_is_given_up(bench, service):
    service.stored = DATA
    half = answer(200, DATA, ETag='"e"').data[: len(DATA) // 2]
    service.says = lambda *_: Reaction(data=half, then="close")
    with pytest.raises(TransientError):
        bench.fetch()
    assert not bench.local.exists()
    assert service.asked.count("get") == 3


def test_a_wrong_length_is_noticed_at_once(bench, service):
    service.stored = DATA
    for size in (len(DATA) - 1, len(DATA) + 1, 0):
        with pytest.raises(SizeMismatch):
            bench.fetch(size=size)
    assert not bench.local.exists()


def test_a_wrong_checksum_is_not_asked_for_again(bench, service):
    service.stored = DATA
    with pytest.raises(ChecksumMismatch):
        bench.fetch(checksum="adler32:00000001")
    assert service.asked == ["get"]
    assert not bench.local.exists()


def test_an_answer_that_drips_arrives(bench, service):
    service.stored = DATA[:2000]
    whole = service.piece
    service.says = lambda asked, request, count: Reaction(data=whole(request).data, piece=10)
    bench.fetch()
    assert bench.local.read_bytes() == DATA[:2000]


def test_a_stall_is_a_timeout_after_so_many_tries(bench, service):
    service.stored = DATA
    service.says = lambda *_: Reaction(data=answer(200, DATA, ETag='"e"').data[:5000], then="hang")
    with pytest.raises(TransferTimeout, match="nothing moved"):
        bench.fetch(stager=bench.made(silence=0.2, tries=2))
    assert service.asked == ["get", "get"]


@pytest.mark.parametrize(
    "ranged",
    [
        {"Content_Range": "bytes 0-9/10"},
        {"Content_Range": f"bytes 5000-{len(DATA)}/{len(DATA) + 1}"},
        {"Content_Range": "nonsense"},
        {},
    ],
)
def test_another_part_than_the_one_asked_for_is_not_taken(bench, service, ranged):
    service.stored = DATA
    first = Reaction(data=answer(200, DATA, ETag='"e"').data[:6000], then="close")
    service.says = lambda asked, request, count: first if count == 1 else answer(206, DATA[:10], **ranged)
    with pytest.raises(TransientError, match="another part"):
        bench.fetch()
    assert not bench.local.exists()


def test_a_service_without_range_begins_again(bench, service):
    service.stored = DATA
    first = Reaction(data=answer(200, DATA, ETag='"e"').data[:6000], then="close")
    service.says = lambda asked, request, count: first if count == 1 else answer(200, DATA, ETag='"e"')
    bench.fetch(checksum=f"adler32:{zlib.adler32(DATA):08x}")
    assert bench.local.read_bytes() == DATA


def test_an_object_without_an_etag_is_not_joined_from_two(bench, service):
    service.stored = DATA
    service.says = lambda *_: Reaction(data=answer(200, DATA).data[:6000], then="close")
    with pytest.raises(TransientError):
        bench.fetch()
    assert service.asked == ["get"]


# -- redirects ---------------------------------------------------------------------------------------------------------


def test_a_read_that_is_redirected_takes_no_credential_along(bench, service):
    elsewhere = Service(stored=DATA)
    with Loopback(elsewhere) as other:
        where = f"http://localhost:{other.port}/data?token=theirs"
        service.says = lambda *_: answer(307, Location=where)
        result = bench.fetch()
        seen = other.seen().lower()
    assert bench.local.read_bytes() == DATA
    assert result.url == bench.storage.url("f.dat")
    for secret in ("authorization", "x-amz", TOKEN, "canary", "signature"):
        assert secret not in seen
    assert "get /data?token=theirs" in seen


def test_redirects_in_a_circle_end(bench, service):
    service.says = lambda *_: answer(302, Location="/bucket/f.dat")
    with pytest.raises(BackendUnavailable, match="more than 5 redirects"):
        bench.fetch()
    assert len(service.asked) == 6


@pytest.mark.parametrize("way", ["put", "create", "head"])
def test_what_is_signed_in_headers_is_never_redirected(bench, service, way):
    elsewhere = Service()
    with Loopback(elsewhere) as other:
        where = f"http://127.0.0.1:{other.port}/bucket/f.dat"
        service.says = lambda asked, *_: (
            Reaction(data=f"HTTP/1.1 307 X\r\nContent-Length: 0\r\nLocation: {where}\r\n\r\n".encode())
            if asked == way
            else None
        )
        with pytest.raises(BackendUnavailable, match=f"redirects to 127.0.0.1:{other.port}"):
            bench.stat() if way == "head" else bench.store(data=DATA if way == "put" else PARTS)
    assert elsewhere.asked == []


def test_a_redirect_to_another_region_says_what_to_set(bench, service):
    service.says = lambda *_: answer(
        301, b"<Error><Code>PermanentRedirect</Code></Error>", x_amz_bucket_region="eu-3", Location="http://x/"
    )
    with pytest.raises(BackendUnavailable, match=r"in region eu-3: set stager\.s3\.region"):
        bench.fetch()


# -- writing -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["put", "part", "complete"])
def test_an_etag_of_other_bytes_is_a_mismatch_and_the_object_is_removed(bench, service, way):
    def says(asked, request, count):
        if asked != way:
            return None
        service.do(asked, request)
        service.etag = "0" * 32
        return answer(body=f"<R><ETag>{service.etag}</ETag></R>".encode(), ETag=f'"{service.etag}"')

    service.says = says
    with pytest.raises(ChecksumMismatch, match="etag_is_md5"):
        bench.store(data=DATA if way == "put" else PARTS)
    assert service.stored is None
    if way != "put":
        assert service.asked[-1] == "abort"


def test_etags_that_are_no_md5_are_not_compared_where_the_site_says_so(bench, service):
    service.says = lambda asked, request, count: answer(ETag='"opaque"') if asked in {"put", "part"} else None
    stager = bench.made(etag_is_md5=False)
    bench.store(data=DATA, stager=stager)


@pytest.mark.parametrize("way", ["part", "complete"])
@pytest.mark.parametrize(
    "reaction",
    [refusal(503, "SlowDown", Retry_After="0"), refusal(500, "InternalError"), Reaction(then="reset")],
    ids=["slow-down", "internal", "reset"],
)
def test_passing_trouble_with_one_request_of_an_upload_does_not_end_it(bench, service, way, reaction):
    service.says = lambda asked, request, count: reaction if asked == way and count == 1 else None
    bench.store(data=PARTS)
    assert service.stored == PARTS
    assert "abort" not in service.asked


@pytest.mark.parametrize("way", ["part", "complete"])
def test_lasting_trouble_ends_an_upload_and_its_parts_are_given_up(bench, service, way):
    service.says = lambda asked, *_: refusal(503, "SlowDown", Retry_After="0") if asked == way else None
    with pytest.raises(TransientError):
        bench.store(data=PARTS)
    assert service.asked.count("abort") == 1
    assert service.asked.count("complete") == (3 if way == "complete" else 0)
    assert service.stored is None


def test_a_long_pause_is_left_to_who_asked(bench, service):
    service.says = lambda asked, *_: refusal(503, "SlowDown", Retry_After="3600") if asked == "part" else None
    with pytest.raises(TransientError) as error:
        bench.store(data=PARTS)
    assert error.value.retry_after == 3600.0
    assert service.asked[-1] == "abort"


def test_an_error_with_status_200_is_an_error(bench, service):
    service.says = lambda asked, *_: (
        answer(200, b"<?xml version='1.0'?>\n   <Error><Code>InternalError</Code></Error>")
        if asked == "complete"
        else None
    )
    with pytest.raises(TransientError, match="InternalError"):
        bench.store(data=PARTS)
    assert service.asked[-1] == "abort"


def test_parts_that_were_joined_before_the_answer_got_lost_are_a_success(bench, service):
    def says(asked, request, count):
        if asked == "complete":
            service.do(asked, request)
            return Reaction(then="reset")
        return None

    service.says = says
    bench.store(data=PARTS)
    assert service.stored == PARTS
    assert service.asked.count("complete") == 1


def test_a_service_without_tags_has_the_object_all_the_same(bench, service):
    service.says = lambda asked, *_: refusal(501, "NotImplemented") if asked == "tag" else None
    bench.store(data=PARTS)
    assert service.stored == PARTS


def test_a_cancelled_upload_removes_what_it_left_only_if_it_is_its_own(bench, service):
    service.says = lambda asked, request, count: (
        service.do(asked, request) and Reaction(then="hang") if asked == "put" else None
    )
    with pytest.raises(TransferTimeout):
        bench.store(data=DATA, seconds=0.5)
    assert service.stored is None

    def somebody_elses(asked, request, count):
        if asked == "put":
            service.stored, service.etag = b"theirs", "e"
            return Reaction(then="hang")
        return None

    service.says = somebody_elses
    with pytest.raises(TransferTimeout):
        bench.store(data=DATA, seconds=0.5)
    assert service.stored == b"theirs"


def test_expired_keys_are_told_where_the_answer_has_no_document(bench, service):
    service.says = lambda *_: Reaction(data=head_bytes(400, 0))
    with pytest.raises(AuthError, match="may have expired"):
        bench.stat()


def test_the_environment_is_not_looked_at(bench, service, monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "AWS_REGION"):
        monkeypatch.setenv(name, "somebody-elses")
    bench.store(data=DATA, stager=bench.made())
    assert service.stored == DATA


# -- the clock, and secrets --------------------------------------------------------------------------------------------


def test_a_clock_that_is_wrong_after_all_is_said_clearly(bench, service):
    service.says = lambda *_: refusal(403, "RequestTimeTooSkewed", Date="Sat, 01 Jan 2000 00:00:00 GMT")
    with pytest.raises(AuthError, match=r"this machine's clock is \d+ s ahead of the service's: set it right"):
        bench.fetch()
    assert len(service.asked) == 2


def test_secrets_are_in_no_log_and_no_request_but_the_signed_one(bench, service, loopback, caplog):
    caplog.set_level(0)
    bench.store(data=PARTS)
    bench.fetch()
    bench.stat()
    assert "canary" not in caplog.text
    assert "canary-secret" not in loopback.seen()
    assert "canary" not in repr(bench.stager) + repr(vars(bench.stager))
