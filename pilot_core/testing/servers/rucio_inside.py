"""What runs inside the Rucio server that `rucio.py` starts: Rucio's own application, and a door for the tests.

Gunicorn imports this in the Python that has Rucio, where pilot-core is not installed. `application` is Rucio's WSGI
application as it is. Two things that stand in front of it elsewhere are done here: the client certificate's name is
handed in as Apache does it, and a `POST` to `DOOR` reaches what Rucio's REST interface has no call for.
"""

from __future__ import annotations

import json
import logging
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any
from urllib.parse import urlsplit

from rucio.common.types import (  # type: ignore[import-not-found,import-untyped,unused-ignore]
    InternalAccount,
    InternalScope,
)
from rucio.core import account as accounts  # type: ignore[import-not-found,import-untyped,unused-ignore]
from rucio.core import authentication  # type: ignore[import-not-found,import-untyped,unused-ignore]
from rucio.core import did as dids  # type: ignore[import-not-found,import-untyped,unused-ignore]
from rucio.core import rse as rses  # type: ignore[import-not-found,import-untyped,unused-ignore]
from rucio.core import scope as scopes  # type: ignore[import-not-found,import-untyped,unused-ignore]
from rucio.db.sqla import models, util  # type: ignore[import-not-found,import-untyped,unused-ignore]
from rucio.db.sqla.constants import (  # type: ignore[import-not-found,import-untyped,unused-ignore]
    DatabaseOperationType,
    DIDType,
)
from rucio.db.sqla.session import (  # type: ignore[import-not-found,import-untyped,unused-ignore]
    db_session,
    get_engine,
)
from rucio.rse import rsemanager  # type: ignore[import-not-found,import-untyped,unused-ignore]
from rucio.web.rest.flaskapi.v1.main import (  # type: ignore[import-not-found,import-untyped,unused-ignore]
    application as rucio,
)
from sqlalchemy import (  # type: ignore[import-not-found,unused-ignore]
    delete,
    event,
    inspect,
    select,
)

__all__ = ["DOOR", "application"]

DOOR = "/pilot-core-tests"
"""Path of the tests' own calls: `{"do": NAME, ...}`, which no Rucio has."""
ROOT = InternalAccount("root")
IMPLEMENTATIONS = {"file": "posix.Default", "root": "xrootd.Default"}
"""Rucio's protocol classes by scheme; all others are gfal's, as in ATLAS."""
REQUESTS: deque[str] = deque()
EMPTIED = (
    models.DataIdentifierAssociation,
    models.RSEFileAssociation,
    models.UpdatedDID,
    models.UpdatedRSECounter,
    models.DidMeta,
    models.Token,
)


def quick(connection: Any, _: object) -> None:
    """Let SQLite not wait for the disk: what tests write need not outlive the machine."""
    connection.execute("pragma synchronous=OFF")


def prepare() -> None:
    """Make the database and Rucio's root account, which may do everything, unless they are there."""
    event.listen(get_engine(), "connect", quick)
    if inspect(get_engine()).has_table("accounts"):
        return
    with get_engine().connect() as connection:  # so that a reader does not lock out a writer; it stays so
        connection.exec_driver_sql("pragma journal_mode=WAL")
    util.build_database()
    for name in list(logging.root.manager.loggerDict):  # alembic has switched off every logger that was there
        logging.getLogger(name).disabled = False
    util.create_base_vo()
    util.create_root_account()
    with db_session(DatabaseOperationType.WRITE) as session:
        accounts.add_account_attribute(account=ROOT, key="admin", value=True, session=session)


def add_scope(session: Any, *, scope: str, account: str = "root") -> None:
    """Have a scope, if it is not there."""
    if not scopes.check_scope(InternalScope(scope), session=session):
        scopes.add_scope(InternalScope(scope), InternalAccount(account), session=session)


def add_rse(
    session: Any, *, rse: str, deterministic: bool, protocols: Sequence[dict[str, Any]], attributes: dict[str, Any]
) -> None:
    """Have a storage with just these protocols: `url` and, by operation (`read_lan` ...), the priority."""
    if not rses.rse_exists(rse, session=session):
        rses.add_rse(rse, deterministic=deterministic, session=session)
    rse_id = rses.get_rse_id(rse, session=session)
    for name, value in attributes.items():
        if rses.get_rse_attribute(rse_id, name, session=session) != value:
            rses.add_rse_attribute(rse_id, name, value, session=session)
    session.execute(delete(models.RSEProtocol).where(models.RSEProtocol.rse_id == rse_id))
    session.flush()
    for protocol in protocols:
        url = urlsplit(protocol["url"])
        told = {
            "scheme": url.scheme,
            "hostname": url.hostname or "localhost",
            "port": url.port or 0,
            "prefix": url.path or "/",
            "impl": f"rucio.rse.protocols.{IMPLEMENTATIONS.get(url.scheme, 'gfal.NoRename')}",
            **{name: value for name, value in protocol.items() if name != "url"},
        }
        rses.add_protocol(rse_id, told, session=session)


def add_file(
    session: Any, *, scope: str, name: str, size: int, adler32: str | None, md5: str | None, places: Sequence[list[str]]
) -> None:
    """Have a file that lies in just these places, each an RSE and a path below its prefix (empty = Rucio's own)."""
    add_scope(session, scope=scope)
    key = {"scope": InternalScope(scope), "name": name}
    session.execute(delete(models.RSEFileAssociation).filter_by(**key))
    session.flush()
    if not session.execute(select(models.DataIdentifier).filter_by(**key)).first():
        told = {"account": ROOT, "did_type": DIDType.FILE, "bytes": size, "adler32": adler32, "md5": md5}
        models.DataIdentifier(**key, **told).save(session=session)
    for rse, path in places:
        told = {"bytes": size, "adler32": adler32, "md5": md5, "path": path or None, "state": "A"}
        session.execute(
            models.RSEFileAssociation.__table__.insert().values(
                rse_id=rses.get_rse_id(rse, session=session), **key, **told
            )
        )


def add_dataset(session: Any, *, scope: str, name: str) -> None:
    """Have a dataset."""
    add_scope(session, scope=scope)
    key = {"scope": InternalScope(scope), "name": name}
    if not session.execute(select(models.DataIdentifier).filter_by(**key)).first():
        dids.add_did(did_type=DIDType.DATASET, account=ROOT, session=session, **key)


def entries(session: Any) -> list[dict[str, Any]]:
    """Return every replica there is, with what Rucio knows of its file, and its URL by Rucio's own rules."""
    found = []
    file = models.DataIdentifier
    for replica in session.execute(select(models.RSEFileAssociation)).scalars():
        known = session.execute(select(file).filter_by(scope=replica.scope, name=replica.name)).scalar_one()
        info = rsemanager.get_rse_info(rse_id=replica.rse_id, session=session)
        named = {"scope": replica.scope.external, "name": replica.name, "path": replica.path}
        protocol = rsemanager.create_protocol(info, "read", domain="wan")
        told = {
            "scope": replica.scope.external,
            "name": replica.name,
            "rse": info["rse"],
            "url": next(iter(protocol.lfns2pfns([named]).values())),
            "guid": known.guid,
            "sizes": [known.bytes, replica.bytes],
            "adler32": [known.adler32, replica.adler32],
            "md5": [known.md5, replica.md5],
            "state": replica.state.value,
        }
        found.append(told)
    return found


def contents(session: Any, *, scope: str, name: str) -> list[str]:
    """Return what a dataset holds, as `scope:name`."""
    query = select(models.DataIdentifierAssociation).filter_by(scope=InternalScope(scope), name=name)
    return sorted(f"{row.child_scope.external}:{row.child_name}" for row in session.execute(query).scalars())


def empty(session: Any) -> None:
    """Forget every file and token, and what datasets hold; datasets, storages, scopes and accounts stay."""
    for model in EMPTIED:
        session.execute(delete(model))
    authentication.TOKENREGION.invalidate()
    session.execute(delete(models.DataIdentifier).where(models.DataIdentifier.did_type == DIDType.FILE))


def asked(session: Any) -> list[str]:  # noqa: ARG001  (every call has one)
    """Return the requests since the last time, without the tests' own."""
    told = [REQUESTS.popleft() for _ in range(len(REQUESTS))]
    return [request for request in told if request != "GET /ping"]


CALLS: dict[str, Callable[..., Any]] = {
    call.__name__: call for call in (add_scope, add_rse, add_file, add_dataset, entries, contents, empty, asked)
}


def door(environ: dict[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
    """Carry out one of `CALLS`, each in a transaction of its own."""
    told = json.loads(environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])))
    with db_session(DatabaseOperationType.WRITE) as session:
        answer = CALLS[told.pop("do")](session, **told)
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(answer).encode()]


def application(environ: dict[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
    """Answer one request."""
    if environ["PATH_INFO"] == DOOR:
        return door(environ, start_response)
    REQUESTS.append(f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}")
    wire: Any = environ.get("gunicorn.socket")
    certificate = wire.getpeercert() if hasattr(wire, "getpeercert") else None
    if certificate:
        # as mod_ssl tells it: the name's parts, the last one first
        parts = [f"{'CN' if name == 'commonName' else name}={value}" for ((name, value),) in certificate["subject"]]
        environ["SSL_CLIENT_S_DN"] = ",".join(reversed(parts))
    answer: Iterable[bytes] = rucio(environ, start_response)
    return answer


prepare()
