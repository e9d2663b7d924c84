"""What a site can set, in the table `[stager.s3]`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pilot_core import setting

__all__ = ["Settings"]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Each field is a key of the table, and `--set stager.s3.KEY=value`."""

    endpoint: str = setting(
        "",
        help="URL of the service that s3://BUCKET/KEY means, such as https://s3.example.org:443; "
        "without it URLs have to be s3://HOST:PORT/BUCKET/KEY",
        metavar="URL",
    )
    credentials_file: Path | None = setting(
        None,
        help="file with the keys, in the AWS format: sections with aws_access_key_id, aws_secret_access_key "
        "and, if need be, aws_session_token; without it requests are not signed (public buckets)",
        metavar="FILE",
    )
    profile: str = setting("default", help="section of the credentials file whose keys `endpoint` gets", metavar="NAME")
    region: str = setting("us-east-1", help="region that requests are signed for; most services but AWS take any")
    addressing: str = setting(
        "path",
        help="where the bucket's name goes: path = https://HOST/BUCKET/KEY, virtual = https://BUCKET.HOST/KEY",
        choices=("path", "virtual"),
    )
    plain_http: bool = setting(
        False, help="allow services without TLS (s3+http://, an endpoint with http://): for tests on this machine"
    )
    ca_file: Path | None = setting(
        None, help="PEM file with the certificate authorities to trust; without it those of the pilot", metavar="FILE"
    )
    ca_dir: Path | None = setting(
        None, help="directory with certificate authorities, named by hash as OpenSSL wants them", metavar="D"
    )
    part_size: int = setting(
        8, help="MiB of a part of a large file; smaller files are sent in one request", minimum=5, metavar="MIB"
    )
    parts_at_once: int = setting(
        4, help="parts that are sent at the same time; files share them, each has at least one", minimum=1, metavar="N"
    )
    tries: int = setting(
        4, help="tries of one part, and of going on with a read that broke off, without any progress", minimum=1
    )
    silence: float = setting(60.0, help="seconds without a byte after which a connection is given up", minimum=0.1)
    presigned_seconds: int = setting(900, help="seconds for which the URLs that files are read from hold", minimum=1)
    etag_is_md5: bool = setting(
        True, help="whether the service's ETag is the MD5 of what was sent, as S3 has it; then it is compared"
    )
